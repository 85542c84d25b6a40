"""Misskey: `POST /v1/detect-images`, as sensitive-detector answers it.

In: a multipart request with pictures in order. Out: HTTP 200 with one item a part, each with
predictions by class. Misskey compares `Porn`, `Hentai` and `Sexy` with a threshold, 0.5 by default,
and `Porn` with 0.75. It takes an item with an error, a missing item and any other status for "not
sensitive". So a picture that could not be judged gets predictions that say sensitive, and beside
them the error, unless the operator wants the error alone.

Sources: docs/api-detect-images.md and apps/server in misskey-dev/sensitive-detector;
SensitiveMediaDetectionService.ts and FileInfoService.ts in misskey-dev/misskey.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from nsfwscan.serve import openapi
from nsfwscan.serve.adapters.bodies import whole_body
from nsfwscan.serve.adapters.judged import (
    Cause,
    JudgedPicture,
    UnjudgedPicture,
    is_unjudged,
    judge_all,
)
from nsfwscan.serve.adapters.options import ClassNames
from nsfwscan.serve.adapters.scale import CLASSES, HANAMISSKEY, MISSKEY, classes
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.serve.parts import is_multipart, split
from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.serve.adapters.judged import AdapterAnswer
    from nsfwscan.serve.problems import Problem
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings
    from nsfwscan.system.json_lines import Json

_PATIENCE_S = 50.0
"""Misskey waits 60 seconds by default."""
_MANY = 1000
"""More pictures than anybody sends at once."""


class Code(StrEnum):
    """The protocol's error codes."""

    UNAUTHORISED = "AUTHENTICATION_REQUIRED"
    INVALID = "INVALID_REQUEST"
    UNSUPPORTED = "UNSUPPORTED_MEDIA_TYPE"
    TOO_LARGE = "REQUEST_TOO_LARGE"
    UNDECODABLE = "IMAGE_DECODE_FAILED"
    UNAVAILABLE = "MODEL_UNAVAILABLE"
    FAILED = "DETECTION_FAILED"


_CODES = {
    Cause.EMPTY: Code.INVALID,
    Cause.TOO_BIG: Code.TOO_LARGE,
    Cause.UNREADABLE: Code.UNDECODABLE,
    Cause.OVERLOADED: Code.FAILED,
    Cause.UNAVAILABLE: Code.UNAVAILABLE,
}
_STATUSES = {
    400: Code.INVALID,
    401: Code.UNAUTHORISED,
    413: Code.TOO_LARGE,
    415: Code.UNSUPPORTED,
    503: Code.UNAVAILABLE,
}


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the route: `/v1/detect-images`."""
    limits, ours = settings.limits, settings.adapters
    say = partial(answer, names=ours.misskey_classes, flag_unjudged=ours.flag_unjudged)

    async def detect(request: Request) -> Response:
        # In this order, sensitive-detector refuses: 401, 413, 415, 400, 413 for too many parts.
        body = await whole_body(request, limits)
        content_type = request.headers.get("content-type", "")
        if not is_multipart(content_type):
            raise RequestRefused(415, "bad-type", "content-type must be multipart/form-data")
        parts = split(body, content_type, most_parts=limits.parts)
        if not parts:
            raise RequestRefused(400, "bad-request", "no parts in the multipart body")
        pictures = [
            part.data if part.filename else UnjudgedPicture(Cause.EMPTY, "the part is not a file")
            for part in parts
        ]
        return JSONResponse(say(await judge_all(service, pictures, patience_s=_PATIENCE_S)))

    def refused(problem: Problem) -> Response:
        if ours.flag_unjudged and is_unjudged(problem):
            # Misskey reads as many items as it sent pictures, which nobody has counted.
            count = _MANY if problem.status == 413 else limits.parts
            return JSONResponse(say([UnjudgedPicture(Cause.UNAVAILABLE, problem.message)] * count))
        code = _STATUSES.get(problem.status, Code.FAILED)
        return JSONResponse(refusal(code, problem.message), problem.status)

    return [Endpoints(service, settings, refused).route("/v1/detect-images", detect, ["POST"])]


PATHS: dict[str, openapi.Json] = {
    "/v1/detect-images": {
        "post": openapi.operation(
            "For Misskey: classes of each part, which is a picture.",
            {
                "type": "object",
                "required": ["success", "result"],
                "properties": {
                    "success": {"const": True},
                    "result": {
                        "type": "object",
                        "required": ["results"],
                        "properties": {"results": {"type": "array", "items": {"type": "object"}}},
                    },
                },
            },
            body={"multipart/form-data": openapi.PICTURES},
            errors=[415, 501],
            failure={"type": "object", "required": ["error"]},
        )
    }
}


def answer(
    items: Sequence[AdapterAnswer], *, names: ClassNames, flag_unjudged: bool
) -> dict[str, Json]:
    """Return the whole answer; items are in the order of the request's parts."""
    results: list[Json] = [_item(item, names, flag_unjudged=flag_unjudged) for item in items]
    return {"success": True, "result": {"results": results}}


def refusal(code: Code, message: str) -> dict[str, Json]:
    """Return the answer to a request that is wrong as a whole; its status is not 200."""
    return {"success": False, "error": {"code": code.value, "message": message}}


def _item(item: AdapterAnswer, names: ClassNames, *, flag_unjudged: bool) -> dict[str, Json]:
    if isinstance(item, JudgedPicture):
        return {"success": True, "predictions": _predictions(item, names)}
    error: dict[str, Json] = {"code": _CODES[item.cause].value, "message": item.message}
    if not flag_unjudged:
        return {"success": False, "error": error}
    return {"success": True, "predictions": _unjudged(names), "error": error}


def _predictions(item: JudgedPicture, names: ClassNames) -> list[Json]:
    if names is ClassNames.BINARY:
        unsafe = HANAMISSKEY.score(item)
        return _listed({"safe": 1 - unsafe, "nsfw": unsafe})
    return _listed(classes(MISSKEY, item))


def _unjudged(names: ClassNames) -> list[Json]:
    """Return predictions that say sensitive, but not porn: nobody knows what the picture shows."""
    if names is ClassNames.BINARY:
        return _listed({"safe": 0.0, "nsfw": 1.0})
    return _listed(dict.fromkeys(CLASSES, 0.0) | {"Sexy": 1.0})


def _listed(scores: dict[str, float]) -> list[Json]:
    """Most probable first, as sensitive-detector lists them."""
    ranked = sorted(scores.items(), key=lambda score: -score[1])
    return [{"className": name, "probability": score} for name, score in ranked]

"""OpenAI: `POST /v1/moderations`, for the openai clients and what is built on them.

In: JSON whose `input` is one picture as a data URL. Out: one moderation. The model judges nudity
and sex and nothing else, so text is refused and never called harmless, and of the thirteen
categories only `sexual` was applied to the picture. Errors are objects, because clients show
`error.message`; they repeat requests after 408, 409, 429 and 5xx, so refusals have other statuses.

Source: types/moderation*.py in openai-python. That the service takes one picture a request, and its
error when there are more, is from a bug report (antiwork/gumroad#4709).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from nsfwscan.serve import openapi
from nsfwscan.serve.adapters.bodies import json_object
from nsfwscan.serve.adapters.data_urls import NotInline, picture_in
from nsfwscan.serve.adapters.judged import Cause, UnjudgedPicture, judge, retry_after
from nsfwscan.serve.adapters.scale import OPENAI
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.serve.problems import RequestRefused
from nsfwscan.values.results import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.serve.adapters.judged import JudgedPicture
    from nsfwscan.serve.problems import Problem
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings
    from nsfwscan.system.json_lines import Json

SEXUAL = "sexual"
CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit",
    "illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", SEXUAL,
    "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip

_ERRORS = {
    Cause.EMPTY: (400, "invalid_image"),
    Cause.TOO_BIG: (413, "image_too_large"),
    Cause.UNREADABLE: (400, "invalid_image"),
    Cause.OVERLOADED: (429, "rate_limit_exceeded"),
    Cause.UNAVAILABLE: (503, "model_unavailable"),
}


_PATIENCE_S = 60.0


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the route: `/v1/moderations`."""

    async def moderate(request: Request) -> Response:
        picture = picture_of(await json_object(request, settings.limits))
        item = await judge(service, picture, patience_s=_PATIENCE_S)
        if isinstance(item, UnjudgedPicture):
            status, body = unjudged(item)
            passing = retry_after(item.retry_after_s) if item.cause.is_passing else None
            return JSONResponse(body, status, passing)
        return JSONResponse(answer(item, service.manifest))

    def refused(problem: Problem) -> Response:
        status = 400 if problem.status == 408 else problem.status  # clients repeat a 408
        return JSONResponse(error_body(problem.message, problem.code, status), status)

    return [Endpoints(service, settings, refused).route("/v1/moderations", moderate, ["POST"])]


PATHS: dict[str, openapi.Json] = {
    "/v1/moderations": {
        "post": openapi.operation(
            "For OpenAI's clients: a moderation of one picture, which is a data URL.",
            {"type": "object", "required": ["id", "model", "results"]},
            body={
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["input"],
                        "properties": {
                            "model": {"type": "string"},
                            "input": {"type": "array", "items": {"type": "object"}},
                        },
                    }
                }
            },
            failure={"type": "object", "required": ["error"]},
        )
    }
}


def picture_of(document: Mapping[str, object]) -> bytes:
    """Return the picture of a request. Raises `RequestRefused` (400)."""
    model = document.get("model")
    if model is not None and not isinstance(model, str):
        raise _wrong("model must be a string", "invalid_type")
    parts = document.get("input")
    parts = [parts] if isinstance(parts, str | dict) else parts
    if not isinstance(parts, list) or not parts:
        raise _wrong("input must be a list with one picture", "invalid_input")
    if any(isinstance(part, str) or _type(part) == "text" for part in parts):
        raise _wrong(
            "text cannot be judged by this server, only a picture: send one image_url",
            "text_not_supported",
        )
    if len(parts) > 1:
        raise _wrong(f"Number of images ({len(parts)}) exceeds maximum of 1", "too_many_images")
    return _picture(parts[0])


def _type(part: object) -> object:
    return part.get("type") if isinstance(part, dict) else None


def _picture(part: object) -> bytes:
    image = part.get("image_url") if isinstance(part, dict) else None
    url = image.get("url") if isinstance(image, dict) else image
    if _type(part) != "image_url" or not isinstance(url, str):
        raise _wrong(
            'input must be {"type": "image_url", "image_url": {"url": ...}}', "invalid_input"
        )
    try:
        return picture_in(url)
    except NotInline as problem:
        code = "image_url_not_supported" if problem.is_address else "invalid_image_url"
        raise _wrong(str(problem), code) from None


def answer(item: JudgedPicture, manifest: ModelManifest) -> dict[str, Json]:
    """Return the moderation of one picture."""
    flagged = item.decision is Decision.NSFW
    moderation: dict[str, Json] = {
        "flagged": flagged,
        "categories": {name: name == SEXUAL and flagged for name in CATEGORIES},
        "category_scores": {
            name: OPENAI.score(item) if name == SEXUAL else 0.0 for name in CATEGORIES
        },
        "category_applied_input_types": {
            name: ["image"] if name == SEXUAL else [] for name in CATEGORIES
        },
    }
    number = f"modr-{uuid.uuid4().hex}"
    return {"id": number, "model": manifest.package, "results": [moderation]}


def unjudged(item: UnjudgedPicture) -> tuple[int, dict[str, Json]]:
    """Return status and body for a picture that could not be judged."""
    status, code = _ERRORS[item.cause]
    return status, error_body(item.message, code, status)


def error_body(message: str, code: str, status: int) -> dict[str, Json]:
    """Return an error as the clients read it."""
    kind = "server_error" if status >= 429 else "invalid_request_error"
    param = "input" if status == 400 else None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _wrong(message: str, code: str) -> RequestRefused:
    return RequestRefused(400, code, message)

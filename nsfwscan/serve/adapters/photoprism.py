"""PhotoPrism: `POST /api/v1/vision/nsfw`, as its own vision service answers it.

In: JSON with `images`, data URLs. Out: JSON with one result an image. Versions before the field
`status` compare class scores with 0.75 for uploads and 0.98 for the index, and take `Neutral` above
0.25 for safe; later ones compare the scores with 0.75, or take `status` where there are none. All
ignore the HTTP status and take a missing result for safe, or did: so there is always a result for
each image, and one that could not be judged has scores that no version reads as safe.

Sources: internal/ai/vision (api_request.go, api_response.go, api_client.go, nsfw.go) and
internal/ai/nsfw/nsfw.go in photoprism/photoprism.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import JSONResponse, Response

from nsfwscan.serve import openapi
from nsfwscan.serve.adapters.bodies import json_object
from nsfwscan.serve.adapters.data_urls import NotInline, picture_in
from nsfwscan.serve.adapters.judged import (
    Cause,
    JudgedPicture,
    UnjudgedPicture,
    is_unjudged,
    judge_all,
    retry_after,
)
from nsfwscan.serve.adapters.scale import CLASSES, PHOTOPRISM, PORN, classes
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.serve.problems import RequestRefused, Unavailable
from nsfwscan.values.results import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.serve.adapters.judged import AdapterAnswer
    from nsfwscan.serve.problems import Problem
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings
    from nsfwscan.system.json_lines import Json

_PATIENCE_S = 60.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the route: `/api/v1/vision/nsfw`."""
    limits, flagged = settings.limits, settings.adapters.flag_unjudged

    async def vision(request: Request) -> Response:
        asked = request_of(await json_object(request, limits), limits.parts)
        items = await judge_all(service, asked.images, patience_s=_PATIENCE_S)
        try:
            manifest = service.manifest
        except Unavailable:
            manifest = None
        said = answer(
            asked.number,
            items,
            manifest,
            flag_unjudged=flagged,
            with_score="score" in request.query_params,
        )
        waits = [item.retry_after_s for item in items if isinstance(item, UnjudgedPicture)]
        code = 503 if said["code"] == 503 else 200
        return JSONResponse(said, code, retry_after(min(waits)) if code == 503 else None)

    def refused(problem: Problem) -> Response:
        unjudged = UnjudgedPicture(Cause.UNAVAILABLE, problem.message)
        if flagged and is_unjudged(problem):
            # PhotoPrism asks about one image at a time; it takes a missing result for a safe one.
            said = answer("", [unjudged], None, flag_unjudged=True) | {"code": problem.status}
        else:
            said = refusal("", problem.status, problem.message)
        return JSONResponse(said, problem.status)

    return [Endpoints(service, settings, refused).route("/api/v1/vision/nsfw", vision, ["POST"])]


_IMAGES = {"type": "array", "minItems": 1, "items": {"type": "string"}}
PATHS: dict[str, openapi.Json] = {
    "/api/v1/vision/nsfw": {
        "post": openapi.operation(
            "For PhotoPrism: a status and classes for each image, which is a data URL.",
            {
                "type": "object",
                "required": ["id", "code", "result"],
                "properties": {"id": {"type": "string"}, "code": {"type": "integer"}},
            },
            body={
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["images"],
                        "properties": {"id": {"type": "string"}, "images": _IMAGES},
                    }
                }
            },
            parameters=[
                openapi.query("score", "If given, results have a score.", {"type": "string"})
            ],
            failure={"type": "object", "required": ["error"]},
        )
    }
}


class VisionRequest(NamedTuple):
    """What is used of a request."""

    number: str
    """Its `id`, which the answer repeats; empty if there is none that can be repeated."""
    images: list[bytes | UnjudgedPicture]
    """The pictures, in order; those that cannot be read from the request say why."""


def request_of(document: Mapping[str, object], most: int) -> VisionRequest:
    """Read a request. Raises `RequestRefused` (400) if it has no images, or more than `most`."""
    number = document.get("id")
    number = number if isinstance(number, str) and _ID.match(number) else ""
    images = document.get("images")
    if images is None and isinstance(document.get("url"), str):
        images = [document["url"]]
    if not isinstance(images, list) or not images:
        raise RequestRefused(400, "bad-request", "the request has no images")
    if len(images) > most:
        raise RequestRefused(413, "too-many-parts", f"the request has more than {most} images")
    return VisionRequest(number, [_image(image) for image in images])


def _image(image: object) -> bytes | UnjudgedPicture:
    if not isinstance(image, str):
        return UnjudgedPicture(Cause.UNREADABLE, "the image is not text")
    try:
        return picture_in(image, bare=True)
    except NotInline as problem:
        hint = " (set FileScheme: data for this model)" if problem.is_address else ""
        return UnjudgedPicture(Cause.UNREADABLE, f"{problem}{hint}")


def answer(
    number: str,
    items: Sequence[AdapterAnswer],
    manifest: ModelManifest | None,
    *,
    flag_unjudged: bool,
    with_score: bool = False,
) -> dict[str, Json]:
    """Return the answer; its `code` is also the HTTP status.

    `with_score` adds the number that later versions compare with their threshold.
    """
    results: list[Json] = [
        _judged(item, with_score=with_score)
        if isinstance(item, JudgedPicture)
        else _unjudged(item, flagged=flag_unjudged)
        for item in items
    ]
    waiting = [
        item for item in items if isinstance(item, UnjudgedPicture) and item.cause.is_passing
    ]
    code = 503 if len(waiting) == len(items) else 200
    body: dict[str, Json] = {"id": number, "code": code}
    if waiting and code != 200:
        body["error"] = waiting[0].message
    if manifest is not None:
        body["model"] = _model(manifest)
    return body | {"result": {"nsfw": results}}


def refusal(number: str, code: int, message: str) -> dict[str, Json]:
    """Return the answer to a request without images."""
    return {"id": number, "code": code, "error": message, "result": {}}


def _model(manifest: ModelManifest) -> dict[str, Json]:
    return {
        "type": "nsfw",
        "name": manifest.package,
        "version": manifest.fingerprint[:12],
        "resolution": manifest.input.geometry.crop_width,
    }


def _judged(item: JudgedPicture, *, with_score: bool) -> dict[str, Json]:
    scores: dict[str, Json] = dict(classes(PHOTOPRISM, item))
    status = "unsafe" if item.decision is Decision.NSFW else "safe"
    said: dict[str, Json] = {"status": status}
    if with_score:
        said |= {"score": PHOTOPRISM.score(item), "threshold": PHOTOPRISM.lowest}
    return said | scores


def _unjudged(item: UnjudgedPicture, *, flagged: bool) -> dict[str, Json]:
    said: dict[str, Json] = {"status": "unavailable", "reason": item.message}
    scores: dict[str, Json] = dict.fromkeys(CLASSES, 0.0)
    if flagged:
        scores[PORN] = 1.0
    return said | scores

"""nsfwscan's own API: many pictures in one request, records as the command line writes them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from nsfwscan.report.record import Recorder
from nsfwscan.serve import openapi
from nsfwscan.serve.bodies import read_body
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.serve.parts import FormPart, is_multipart, split
from nsfwscan.serve.problems import RequestRefused
from nsfwscan.serve.service import Ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings

_FALSE = frozenset({"false", "0", "no"})


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the route: `/v1/scan`."""
    limits = settings.limits

    async def scan(request: Request) -> Response:
        body = await read_body(request, limits.body_bytes)
        pictures = _pictures(body, request.headers.get("content-type"), limits.parts)
        answers = await service.answer([one.data for one in pictures], _ask(request))
        recorder = Recorder(service.manifest)
        records = [
            recorder.record(dataclasses.replace(answer.result, path=one.filename))
            for one, answer in zip(pictures, answers, strict=True)
        ]
        return JSONResponse({"results": records})

    return [Endpoints(service, settings).route("/v1/scan", scan, ["POST"])]


PATHS: dict[str, openapi.Json] = {
    "/v1/scan": {
        "post": openapi.operation(
            "Full records of one or many pictures, as `nsfwscan scan --format json` writes them.",
            {
                "type": "object",
                "required": ["results"],
                "properties": {"results": {"type": "array", "items": {"type": "object"}}},
            },
            body={
                "application/octet-stream": openapi.PICTURE,
                "multipart/form-data": openapi.PICTURES,
            },
            parameters=[
                openapi.header("x-use-cache", "Without, pictures are scored again."),
                openapi.header("x-wait-for-model", "Without, a model that is loading gives 503."),
            ],
            errors=[501],
        )
    }
}


def _pictures(body: bytes, content_type: str | None, most: int) -> Sequence[FormPart]:
    """Return the pictures of a body: its parts, or the whole body as one picture."""
    if not is_multipart(content_type):
        return [FormPart("", "", "", body)]
    parts = split(body, content_type or "", most_parts=most)
    if not parts:
        raise RequestRefused(400, "bad-multipart", "the body has no parts")
    return parts


def _ask(request: Request) -> Ask:
    def wants(header: str) -> bool:
        return request.headers.get(header, "").strip().lower() not in _FALSE

    return Ask(use_cache=wants("x-use-cache"), patience=None if wants("x-wait-for-model") else 0.0)

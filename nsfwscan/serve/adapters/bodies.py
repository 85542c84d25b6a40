"""Reading the requests of other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsfwscan.serve.bodies import json_of, read_body
from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from starlette.requests import Request

    from nsfwscan.serve.settings import Limits


async def whole_body(request: Request, limits: Limits) -> bytes:
    """Return the body. Raises as `read_body` does."""
    return await read_body(request, limits.body_bytes)


async def json_object(request: Request, limits: Limits) -> dict[str, Any]:
    """Return the body, an object in JSON. Raises `RequestRefused`."""
    try:
        document = json_of(await whole_body(request, limits))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RequestRefused(400, "bad-request", "the body is not an object in JSON")
    return document

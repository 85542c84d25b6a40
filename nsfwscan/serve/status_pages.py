"""Pages about the server itself: /health, /info, /metrics, /openapi.json, and one to try it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from nsfwscan._version import __version__
from nsfwscan.models.manifest import OutputKind
from nsfwscan.serve import openapi
from nsfwscan.serve.adapters.scale import scales
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.serve.models import Phase
from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings

_FUNCTIONS = {
    OutputKind.LOGITS: ["softmax", "sigmoid", "none"],
    OutputKind.INDEPENDENT_LOGITS: ["softmax", "sigmoid", "none"],
    OutputKind.PROBABILITIES: ["softmax"],
}
_WHY = "only clients with a token are told why"


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the routes."""

    async def health(request: Request) -> Response:
        try:
            settings.tokens.caller(request.headers.get("authorization"))
        except RequestRefused:
            return _health(service, _WHY)  # the reason may name a path of this machine
        return _health(service)

    async def front(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return _page()
        return await health(request)

    async def info(_request: Request) -> Response:
        return JSONResponse(_info(service, settings))

    async def metrics(_request: Request) -> Response:
        if not service.metrics.available:
            said = "/metrics needs an extra: pip install 'nsfwscan[serve]'"
            raise RequestRefused(501, "no-metrics", said)
        text, media_type = service.metrics.text()
        return Response(text, media_type=media_type)

    make = Endpoints(service, settings)
    return [
        make.route("/", front, ["GET"], public=True),
        make.route("/health", health, ["GET"], public=True),
        make.route("/info", info, ["GET"]),
        make.route("/metrics", metrics, ["GET"]),
    ]


def _health(service: ScoringService, reason: str = "") -> Response:
    """Return whether pictures can be scored; if not, why, or `reason` instead."""
    state = service.state
    if state.phase is Phase.READY:
        return JSONResponse({"status": "ok", "model": service.manifest.package})
    if state.phase is Phase.LOADING:
        reason = "the model is being loaded"
    reason = reason or "; ".join(filter(None, (state.reason, state.hint)))
    body = {"status": state.phase.value, "error": reason}
    return JSONResponse(body, 503, {"Retry-After": str(max(1, round(state.retry_after)))})


def _info(service: ScoringService, settings: ServeSettings) -> dict[str, Any]:
    manifest, policy, limits = service.manifest, service.policy, settings.limits
    return {
        "model_id": manifest.source,
        "model_sha": manifest.fingerprint,
        "served_model_name": manifest.package,
        "model_type": {"classifier": {"labels": manifest.output.labels}},
        "functions_to_apply": _FUNCTIONS[manifest.output.kind],
        "thresholds": {"review_at": policy.review_at, "flag_at": policy.flag_at},
        "scales": scales(policy.flag_at),
        "max_concurrent_requests": limits.waiting + service.lanes.count,
        "max_client_batch_size": limits.parts,
        "max_body_bytes": limits.body_bytes,
        "version": __version__,
    }


def _page() -> Response:
    """Return the page to try the server. It loads nothing, and only what is in it may run."""
    page = resources.files("nsfwscan.serve").joinpath("page.html").read_text("utf-8")
    style, script = (_hash(page, tag) for tag in ("style", "script"))
    rules = (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; "
        "img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": rules,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return Response(page, media_type="text/html", headers=headers)


def _hash(page: str, tag: str) -> str:
    """Return the hash, for a content security policy, of what the page has in a tag."""
    found = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    inside = found[1] if found else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


_HEALTH = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"type": "string"}, "model": {"type": "string"}},
}
PATHS: dict[str, openapi.Json] = {
    "/": {
        "get": openapi.operation(
            "The same as /health; for browsers, a page to try it.",
            _HEALTH,
            public=True,
            errors=[503],
        )
    },
    "/health": {
        "get": openapi.operation(
            "Whether pictures can be scored.", _HEALTH, public=True, errors=[503]
        )
    },
    "/info": {"get": openapi.operation("The model, thresholds and limits.", {"type": "object"})},
    "/metrics": {
        "get": openapi.operation(
            "Counters, for Prometheus.", {"type": "string"}, errors=[501], media_type="text/plain"
        )
    },
}

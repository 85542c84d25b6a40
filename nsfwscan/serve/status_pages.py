"""Pages about the server itself: /health, /info, /metrics, /openapi.json, and one to try it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from nsfwscan._version import __version__
from nsfwscan.serve.adapters.scale import scales
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.serve.models import Phase
from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the routes."""

    async def health(_request: Request) -> Response:
        state = service.state
        if state.phase is Phase.READY:
            return JSONResponse({"status": "ok"})
        headers = {"Retry-After": str(max(1, round(state.retry_after)))}
        body = {"status": state.phase.value, "error": state.reason or "the model is being loaded"}
        return JSONResponse(body, 503, headers)

    async def info(_request: Request) -> Response:
        manifest, policy = service.manifest, service.policy
        return JSONResponse(
            {
                "model_id": manifest.source,
                "model_sha": manifest.fingerprint,
                "served_model_name": manifest.package,
                "model_type": {"classifier": {"labels": manifest.output.labels}},
                "thresholds": {"review_at": policy.review_at, "flag_at": policy.flag_at},
                "scales": scales(policy.flag_at),
                "max_concurrent_requests": settings.limits.waiting + service.lanes.count,
                "max_client_batch_size": settings.limits.parts,
                "max_body_bytes": settings.limits.body_bytes,
                "version": __version__,
            }
        )

    async def metrics(_request: Request) -> Response:
        if not service.metrics.available:
            said = "/metrics needs an extra: pip install 'nsfwscan[serve]'"
            raise RequestRefused(501, "no-metrics", said)
        text, media_type = service.metrics.text()
        return Response(text, media_type=media_type)

    make = Endpoints(service, settings)
    return [
        make.route("/health", health, ["GET"], public=True),
        make.route("/info", info, ["GET"]),
        make.route("/metrics", metrics, ["GET"]),
    ]

"""`build_app`: the routes of all protocols behind the same checks.

In: a `ScoringService` and `ServeSettings`. Out: an ASGI application. Each protocol is a module with
a function `routes(service, settings)`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

from nsfwscan.serve import hugging_face, openapi, status_pages, v1
from nsfwscan.serve.adapters import misskey, openai_moderations, photoprism, pict_rs
from nsfwscan.serve.bodies import Memory
from nsfwscan.serve.endpoint import Endpoints, plain_problem
from nsfwscan.serve.guard import Departures, Doorkeeper
from nsfwscan.serve.jobs import routes as job_routes
from nsfwscan.serve.jobs.jobs import Jobs
from nsfwscan.serve.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings

PROTOCOLS = (
    hugging_face, v1, status_pages, misskey, photoprism, pict_rs, openai_moderations, job_routes
)  # fmt: skip
"""Each has `routes(service, settings)`, and `PATHS`, which describes them."""


class _Application(Starlette):
    """Starlette without its two layers that catch errors, which `Endpoints` answers itself."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return what answers: the middleware, and then the routes."""
        app: ASGIApp = self._routed
        for kind, arguments, options in reversed(self.user_middleware):
            app = kind(app, *arguments, **options)
        return app

    async def _routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.router(scope, receive, send)
        except HTTPException as error:
            await _no_route(Request(scope), error)(scope, receive, send)


def build_app(service: ScoringService, settings: ServeSettings) -> Starlette:
    """Return the application, which starts the service when it starts and closes it at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        jobs = None if settings.jobs is None else Jobs(service, settings.jobs)
        app.state.jobs = jobs
        try:
            service.start()
        except Exception as error:
            app.state.failure = error  # uvicorn keeps it to itself
            raise
        try:
            async with jobs.running() if jobs else contextlib.nullcontext():
                yield
        finally:
            service.close()

    async def described(_request: Request) -> Response:
        return JSONResponse(openapi.document([module.PATHS for module in PROTOCOLS]))

    app = _Application(
        routes=[
            *(route for module in PROTOCOLS for route in module.routes(service, settings)),
            Endpoints(service, settings).route("/openapi.json", described, ["GET"], public=True),
        ],
        middleware=[
            Middleware(Departures, most_drained=settings.limits.body_bytes),
            Middleware(Doorkeeper, hosts=settings.hosts, origins=settings.origins),
            *([_readable_by(settings.origins)] if settings.origins else []),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a POST that is redirected loses its body
    app.state.memory = Memory(settings.limits.memory_bytes)
    return app


def _readable_by(origins: frozenset[str]) -> Middleware:
    """Return what lets the pages that may ask also read the answers."""
    return Middleware(
        CORSMiddleware,
        allow_origins=sorted(origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "X-Use-Cache", "X-Wait-For-Model"],
        expose_headers=["Retry-After", "Link", "X-Job-State", "X-Next-After"],
    )


def _no_route(request: Request, error: HTTPException) -> Response:
    status = error.status_code
    said = {
        404: f"there is no {request.url.path} here; /openapi.json lists what there is",
        405: f"{request.url.path} does not take {request.method}",
    }
    message = said.get(status, "the request cannot be answered")
    response = plain_problem(Problem(status, "no-route", message))
    if status == 405:  # several routes may share a path, and Starlette names the methods of one
        response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
    return response


def _methods_at(request: Request) -> set[str]:
    """Return the methods that this server takes at the path of a request."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found

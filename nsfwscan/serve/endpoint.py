"""`endpoint`: what every route does around its own work, whatever protocol it speaks.

It checks the token and its limits, lends memory for the body, turns errors into the protocol's own
form, and counts. So a protocol's module holds only the translation.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nsfwscan.serve.problems import Problem, RequestRefused, problem_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from nsfwscan.serve.bodies import Memory
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings

    Handler = Callable[[Request], Awaitable[Response]]
    Formats = Callable[[Problem], Response]

log = logging.getLogger("nsfwscan.serve")
TURNED_AWAY = "nsfwscan.turned_away"
"""Where a request's scope has the `Problem` for which it must not be answered, if any."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class PathsJson(JSONResponse):
    """JSON that may name files. As on the command line, surrogates stand for what is no UTF-8."""

    def render(self, content: object) -> bytes:
        """Return ASCII: UTF-8 has no surrogates."""
        return json.dumps(content, allow_nan=False).encode("ascii")


class Endpoints:
    """Makes the routes of one protocol."""

    def __init__(
        self, service: ScoringService, settings: ServeSettings, formats: Formats | None = None
    ) -> None:
        """Set up. `formats` writes a problem as the protocol does; the default is plain JSON."""
        self._service, self._settings = service, settings
        self._formats = formats or plain_problem

    def route(
        self, path: str, handler: Handler, methods: Sequence[str], *, public: bool = False
    ) -> Route:
        """Return a route; a `public` one needs no token."""

        async def answer(request: Request) -> Response:
            request.state.began = time.monotonic()
            try:
                response = await self._admitted(request, handler, public=public)
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it
            except Exception as error:
                problem = problem_of(error)
                if problem.code == "internal":
                    log.exception("%s %s failed", request.method, path)
                response = self._formats(problem)
                response.headers.update(problem.headers)
            response.raw_headers.append((b"x-request-id", _request_id(request).encode()))
            self._service.metrics.request(path, response.status_code)
            return response

        return Route(path, _Answering(answer), methods=list(methods))

    async def _admitted(self, request: Request, handler: Handler, *, public: bool) -> Response:
        """Answer a request if it may be asked. Raises what `problem_of` knows."""
        _let_in(request)
        caller = None
        if not public:
            caller = self._settings.tokens.caller(request.headers.get("authorization"))
        memory: Memory = request.app.state.memory
        with memory.lent() as request.state.loan:
            if caller is None:
                return await handler(request)
            with caller.admitted():
                return await handler(request)


class _Answering:
    """An ASGI application that a handler of requests is.

    Starlette's own for functions catches errors, which a handler of `Endpoints` answers itself.
    """

    def __init__(self, answer: Handler) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def _let_in(request: Request) -> None:
    """Raise `RequestRefused` if the request was turned away."""
    problem: Problem | None = request.scope.get(TURNED_AWAY)
    if problem is not None:
        raise RequestRefused(problem.status, problem.code, problem.message)


def _request_id(request: Request) -> str:
    """Return the client's id for a request if it is harmless, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else secrets.token_hex(16)


def plain_problem(problem: Problem) -> JSONResponse:
    """Return a problem as JSON: `error` as a sentence, `code` and `reason` as stable words."""
    body: dict[str, object] = {"error": problem.message, "code": problem.code}
    if problem.reason is not None:
        body["reason"] = problem.reason.value
    if problem.loading and problem.retry_after is not None:
        body["estimated_time"] = problem.retry_after
    return JSONResponse(body, problem.status)

"""Middleware for all requests: foreign pages are refused, and clients that leave are noticed.

A browser lets any page on the web send requests to this machine. `Doorkeeper` refuses those whose
`Host` or `Origin` is not this server's. Tokens are checked by `endpoint`, in the protocol's form.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nsfwscan.serve.connection import CONNECTION
from nsfwscan.serve.endpoint import TURNED_AWAY, plain_problem
from nsfwscan.serve.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nsfwscan.serve.connection import GuardedConnection

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_DRAIN_S = 2.0
"""How long the rest of a refused body is read, so that its client can read why."""


class Doorkeeper:
    """Refuses requests meant for another host, or sent by a foreign page."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts | {"localhost"}
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and (problem := self._problem(scope)):
            if scope["method"] != "POST":
                await plain_problem(problem)(scope, receive, send)
                return
            # Some programs take any error for "safe": the route answers, in its protocol's form.
            scope[TURNED_AWAY] = problem
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        hosts: list[str] = []
        origins: list[str] = []
        site = b""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
            elif name == b"sec-fetch-site":
                site = site or value
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            said = "this server is not called that; add the name with --allow-host"
            return Problem(421, "foreign-host", said)
        foreign = any(not self._may_ask(origin, hosts[0]) for origin in origins)
        if foreign or (
            not origins and scope["method"] not in _READS and site in {b"cross-site", b"same-site"}
        ):
            return Problem(403, "foreign-origin", "pages of another origin may not ask")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.rstrip(".").lower() in self._hosts:
            return True
        # A page's own address cannot be made to point here, unlike its name (DNS rebinding).
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return False

    def _may_ask(self, origin: str, host: str) -> bool:
        if origin in self._origins:
            return True
        scheme, _, rest = origin.partition("://")
        return scheme in {"http", "https"} and rest.lower() == host.lower()


class Departures:
    """Cancels the work for a client that leaves, and reads on what it may not finish sending.

    The connection says that a client has left (`connection`): to await that here would take a task
    for each request.
    """

    def __init__(self, app: ASGIApp, *, most_drained: int) -> None:
        """`most_drained` bytes of a refused body are read and dropped."""
        self._app, self._most_drained = app, most_drained

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection: GuardedConnection = scope[CONNECTION]
        body = _Body(receive, expects=b"100-continue" in dict(scope["headers"]).get(b"expect", b""))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 400:
                    # A connection closed with unread bytes is reset, and the answer lost with it.
                    await body.drain(self._most_drained)
            elif not message.get("more_body", False):
                connection.working = None  # what is left to do, it may do
            await send(message)

        connection.working = task = asyncio.current_task()
        try:
            await self._app(scope, body.receive, answer)
        except asyncio.CancelledError:
            if connection.working is task and connection.has_left:
                return
            raise  # the server stops
        finally:
            if connection.working is task:
                connection.working = None


class _Body:
    """A request's body, and whether all of it has come."""

    def __init__(self, receive: Receive, *, expects: bool) -> None:
        self._receive = receive
        self._expects = expects
        """Whether the client waits to be asked for the body."""
        self._whole = False

    async def receive(self) -> Message:
        """Return the next part, or that the client has left."""
        self._expects = False
        message = await self._receive()
        if not message.get("more_body", False):
            self._whole = True
        return message

    async def drain(self, most: int) -> None:
        """Read and drop the rest of the body, for a while."""
        if self._expects:
            return  # it will not be sent
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self._whole and most > 0:
                    most -= len((await self.receive()).get("body", b""))

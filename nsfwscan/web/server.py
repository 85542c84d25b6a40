"""Runs an ASGI application on a loopback socket, silently. The only module that imports uvicorn.

In: an application and a bound socket. Out: nothing, until the server was told to stop. Fails with
OSError if there is no port, and with whatever the application did not expect.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, MutableMapping

    from nsfwscan.web.guard import Application, Receive, Send

LOOPBACK = "127.0.0.1"
_LEAVING_S = 2
"""Seconds for answers under way when the server stops."""
_MOST_CONNECTIONS = 32
"""A browser opens six. Any program of this computer may connect, and must not use up the
descriptors: then nothing could be stored, either."""
_AT_ONCE = 8
"""Connections accepted in one turn of the event loop; it takes some turns to abort others."""


def loopback_socket(port: int = 0) -> socket.socket:
    """Return a listening socket on a loopback address; with port 0 the system chooses one.

    It listens before the server runs, so that its address can be told first. Raises OSError.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.bind((LOOPBACK, port))
        bound.listen()  # a browser that is faster than the server waits and is not refused
    except BaseException:
        bound.close()
        raise
    return bound


class _Silent(uvicorn.Server):
    """A server that leaves signals to the command."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections; those beyond a turn's wait and are not refused."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal: uvicorn's own handlers would raise them again at the end."""
        yield


class _Connection(H11Protocol):
    """A connection that makes room for a newer one when it is idle and there are too many."""

    @property
    def is_idle(self) -> bool:
        """Whether no answer is under way, as at first."""
        cycle: Any = self.cycle  # None until the first request, which its type does not say
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, and abort the one that has been idle for longest."""
        super().connection_made(transport)
        known: dict[_Connection, None] = self.app_state.setdefault("connections", {})
        known[self] = None  # the oldest first
        if len(known) > _MOST_CONNECTIONS:
            oldest = next(one for one in known if one.is_idle)
            del known[oldest]  # it is only lost at a later turn of the loop
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.app_state["connections"].pop(self, None)
        super().connection_lost(exc)


class LocalServer:
    """One application on one socket: `run` blocks, `stop` ends it, from any thread."""

    def __init__(self, app: Application, bound: socket.socket) -> None:
        self._app = app
        self._socket = bound
        self._crash: Exception | None = None
        config = uvicorn.Config(
            self._answer,
            loop="asyncio",
            http=_Connection,
            backlog=_AT_ONCE,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            log_level="critical",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_LEAVING_S,
        )
        self._server = _Silent(config)

    def run(self) -> None:
        """Answer requests until `stop` is called. Raises what the application did not expect."""
        self._server.run([self._socket])
        if self._crash is not None:
            raise self._crash

    def stop(self) -> None:
        """End the server once the answers under way are sent. A signal handler may call this."""
        self._server.should_exit = True

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            # uvicorn would log it and go on; a bug has to end the command like any other.
            self._crash = self._crash or error
            self.stop()
            raise

"""One connection, with bounds on what its client may send and deadlines for one that is slow.

uvicorn on its own waits for ever for the rest of a header or body, keeps a header of any size, and
queues any number of requests that are sent before their answers. Programs that could be put in
front do better, but most people put none. So this extends uvicorn's protocol. It also cancels the
work for a client that has left, and keeps what comes of a body as it comes, without copies.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from nsfwscan.serve.settings import Limits

CONNECTION = "nsfwscan.connection"
"""Where a request's scope has its `GuardedConnection`."""
_LOOK_S = 0.5
"""How often connections are looked at."""
_UPLOADS = "/v1/jobs"
"""Where a body may take longer, if it keeps coming."""
_READ_ANSWER_S = 20.0
"""How long a client may take to read what does not fit into the buffers of its connection."""
_MOST_HELD = 256 << 10
"""Bytes of a body that may wait for the application; as many as asyncio reads at once."""
_MOST_PIPELINED = 32
"""Requests that may wait for the answer to an earlier one of the same connection."""


class GuardedConnection(HttpToolsProtocol):
    """An HTTP connection that is closed if its client is too slow or sends too much."""

    limits: Limits
    """This and `sweep` are set by `guarded`."""
    sweep: asyncio.TimerHandle | None
    """The timer of the next check of all connections; None while there are none."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.working: asyncio.Task[Any] | None = None
        """What answers a request, while its client waits for that; `Departures` sets it."""
        self.has_left = False
        self._waits_since = 0.0
        """When the header or body that is awaited began; 0 if none is."""
        self._in_header = True
        self._received = 0
        """Bytes since then."""
        self._refusal = ""
        """Why the request is refused; empty if it is not."""
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many, and begin to wait for a header."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "too many connections")
            return
        self._wait(in_header=True)
        if self.sweep is None:
            self._sweep_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel work that no client is waiting for."""
        super().connection_lost(exc)
        self.has_left, self._waits_since = True, 0.0
        self.resume_writing()
        if self.working is not None:
            self.working.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._waits_since:
            self._wait(in_header=True)
        self._received += len(data)
        self._unset_keepalive_if_required()
        rest: bytes | None = data
        while rest is not None:
            rest = self._parse(rest)
        if self._in_header and self._received > self.limits.header_bytes and self._waits_since:
            self._refuse(400, "the header is too long")

    def on_message_begin(self) -> None:
        """Tell the application which connection a request comes from."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Begin to wait for the body. What this raises is answered with 400."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.header_bytes:
            self._refusal = "the header is too long"
        elif len(self.pipeline) >= _MOST_PIPELINED:
            self._refusal = "too many requests were sent before their answers"
        elif self.parser.get_method() == b"CONNECT":
            self._refusal = "this server is not a proxy"
        if self._refusal:
            raise ValueError(self._refusal)
        if self.parser.should_upgrade():
            return  # `_parse` begins again
        super().on_headers_complete()
        self._wait(in_header=False)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body for the application."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        held = cast("bytes | bytearray", cycle.body)
        if not held:
            cycle.body = body  # type: ignore[assignment]  # as it is: most pictures come in few parts
        elif isinstance(held, bytearray):
            held += body
        else:
            cycle.body = bytearray().join((held, body))
        if len(cycle.body) > _MOST_HELD:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that nothing is awaited any more."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._waits_since = 0.0

    def on_response_complete(self) -> None:
        """Go on with a request that came early, and read no more before that has its answer."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON as everything else."""
        self._refuse(400, self._refusal or msg)

    def pause_writing(self) -> None:
        """Begin to wait for a client to read its answer."""
        super().pause_writing()
        if self._sending is None:
            self._sending = self.loop.call_later(_READ_ANSWER_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _parse(self, data: bytes) -> bytes | None:
        """Take what has come; return what is to be taken after it, if anything.

        A client may offer another protocol, as Java's does with every request, and the parser
        would skip the body. So the request is taken once more without that offer.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("this is not HTTP")
        except httptools.HttpParserUpgrade as offer:
            version = self.parser.get_http_version().encode()
            head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
            for name, value in self.headers:
                if name != b"upgrade":
                    head += [name, b": ", value, b"\r\n"]
            self.parser = httptools.HttpRequestParser(self)
            return b"".join([*head, b"\r\n", data[offer.args[0] :]])
        return None

    def _wait(self, *, in_header: bool) -> None:
        self._waits_since, self._received = time.monotonic(), 0
        self._in_header = in_header

    def _sweep_later(self) -> None:
        type(self).sweep = self.loop.call_later(_LOOK_S, self._sweep)

    def _sweep(self) -> None:
        """Look at all connections of this server. A timer for each request would cost more."""
        now = time.monotonic()
        for one in list(self.connections):
            if isinstance(one, GuardedConnection) and one._waits_since:
                one._check(now)
        if self.connections:
            self._sweep_later()
        else:
            type(self).sweep = None

    def _check(self, now: float) -> None:
        """Close the connection if its client is too slow."""
        if self.transport.is_closing():
            return
        unanswered = bool(self.cycle) and not self.cycle.response_complete
        if self.flow.read_paused or (self._in_header and unanswered):
            # The client cannot send, or waits itself.
            self._wait(in_header=self._in_header)
            return
        limits, waited = self.limits, now - self._waits_since
        if self._in_header:
            slow = waited >= limits.header_s
        else:
            least = limits.slow_bytes_per_s * waited
            upload = self.scope["path"] == _UPLOADS
            longest = limits.upload_s if upload else limits.body_s
            slow = waited >= longest or (waited >= limits.slow_s and self._received < least)
        if not slow:
            return
        if self._in_header or self.cycle.response_started:
            self.transport.close()  # a request that was never whole needs no answer
        else:
            self._refuse(408, "the request did not arrive in time")

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the application, and close the connection."""
        if not self.transport.is_closing():
            body = json.dumps({"error": message, "code": "refused"}).encode()
            head = (
                f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()
        self._waits_since = 0.0


def guarded(limits: Limits) -> type[GuardedConnection]:
    """Return a protocol class for the connections of one uvicorn server with these limits."""
    return type("GuardedConnection", (GuardedConnection,), {"limits": limits, "sweep": None})

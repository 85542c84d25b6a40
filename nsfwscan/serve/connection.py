"""One connection, with deadlines for whoever sends or reads slowly.

uvicorn on its own waits for ever for the rest of a header or body (its h11 protocol bounds the
header's size, its httptools protocol not even that). So this extends the h11 one: a header must
be whole within seconds, a body must come at a least rate, and an answer must be read. Programs
that could be put in front do the same, but most people put none.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from nsfwscan.serve.settings import Limits

_LOOK_S = 0.5
"""How often a connection is looked at while something is awaited from its client."""
_UPLOADS = "/v1/jobs"
"""Where a body may take longer, if it keeps coming."""
_READ_ANSWER_S = 20.0
"""How long a client may take to read what does not fit into the buffers of its connection."""


class GuardedConnection(H11Protocol):
    """An HTTP connection that is closed if its client is too slow."""

    limits: Limits
    """Set by `guarded`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._look: asyncio.TimerHandle | None = None
        self._waits_since = 0.0
        """When the header or body that is awaited began; 0 if none is."""
        self._received = 0
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many, and begin to wait for a header."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "too many connections")
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        self._wait_no_more()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._received += len(data)
        in_body = self.conn.their_state is h11.SEND_BODY
        super().data_received(data)
        state = self.conn.their_state
        if state not in {h11.IDLE, h11.SEND_BODY}:
            self._wait_no_more()
        elif not self._waits_since or (state is h11.SEND_BODY) != in_body:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON as everything else."""
        self._refuse(400, msg)

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

    def _wait(self) -> None:
        self._wait_no_more()
        self._waits_since, self._received = time.monotonic(), 0
        self._look = self.loop.call_later(_LOOK_S, self._check)

    def _wait_no_more(self) -> None:
        self._waits_since = 0.0
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _check(self) -> None:
        """Close the connection if its client is too slow."""
        if self.transport.is_closing():
            return
        limits, waited = self.limits, time.monotonic() - self._waits_since
        if self.conn.their_state is h11.IDLE:
            slow = waited >= limits.header_s
        else:
            least = limits.slow_bytes_per_s * waited
            upload = self.scope["path"] == _UPLOADS
            longest = limits.upload_s if upload else limits.body_s
            slow = waited >= longest or (waited >= limits.slow_s and self._received < least)
        if not slow:
            self._look = self.loop.call_later(_LOOK_S, self._check)
        elif self.conn.their_state is h11.IDLE or self.cycle.response_started:
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
        self._wait_no_more()


def guarded(limits: Limits) -> type[GuardedConnection]:
    """Return a protocol class for uvicorn with these limits."""
    return type("GuardedConnection", (GuardedConnection,), {"limits": limits})

"""Knows whether the page is open: it holds one request open for as long as it is.

The connection ends with the page, its window or its browser, also when these crash, and timers in
hidden pages, which browsers slow down, play no part. Reloading a page leaves a moment without a
connection, so the end comes only after `grace_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from nsfwscan.web.guard import Receive, Send

GRACE_S = 8.0
_BREATH_S = 20.0
"""How often something is sent, so that a connection that died silently is noticed."""


class OpenPages:
    """Counts open pages; calls `gone` when the last one has been closed for `grace_s`."""

    def __init__(self, gone: Callable[[], None], grace_s: float = GRACE_S) -> None:
        self._gone = gone
        self._grace_s = grace_s
        self._open = 0
        self._ending: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Let go of all pages, because the server stops. Any thread or signal handler may call."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._over.set)

    async def __call__(
        self, _scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Answer a request, an ASGI application's way, until the page is closed."""
        self._loop = asyncio.get_running_loop()
        self._open += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"application/octet-stream")],
                }
            )
            await self._hold(receive, send)
        finally:
            self._open -= 1
            if not self._open:
                self._ending = self._loop.call_later(self._grace_s, self._gone)

    async def _hold(self, receive: Receive, send: Send) -> None:
        left = asyncio.ensure_future(_until_left(receive))
        over = asyncio.ensure_future(self._over.wait())
        try:
            while True:
                await send({"type": "http.response.body", "body": b".", "more_body": True})
                done, _ = await asyncio.wait(
                    {left, over}, timeout=_BREATH_S, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    break
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b""})
        finally:
            left.cancel()
            over.cancel()


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""Who may talk to a local page: this computer's browser, at the page's own address.

Any website can make a browser send requests to a loopback address, and DNS rebinding even lets it
read the answers. Such requests name the website's host in `Host`, or the website in `Origin`, or
say in `Sec-Fetch-Site` that another site made them. All are refused before the application sees
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]
    Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
OWN_PAGE_ONLY: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(f"{what} {where}" for what, where in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of a page that loads nothing from elsewhere, runs no inline script, and is not kept."""


class LocalOnly:
    """An ASGI application that passes on what a browser's own page asks, and refuses the rest."""

    def __init__(
        self, app: Application, authority: str, headers: Mapping[str, str] = OWN_PAGE_ONLY
    ) -> None:
        """Take what `Host` must be as `authority`, such as `127.0.0.1:8000`.

        `headers` are added to every answer, also to refusals.
        """
        self._app = app
        self._host = authority.encode()
        self._origin = b"http://" + self._host
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        if self._is_own(scope["method"], scope["headers"]):
            await self._app(scope, receive, send_with_headers)
            return
        body = (
            b"This page only answers the browser of this computer, at its own address. If you "
            b"followed a link to it, copy the address into the address bar instead.\n"
        )
        start = {
            "type": "http.response.start",
            "status": 403,
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
            ],
        }
        await send_with_headers(start)
        await send({"type": "http.response.body", "body": body})

    def _is_own(self, method: str, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        def values(name: bytes) -> list[bytes]:
            return [value for key, value in headers if key == name]

        if values(b"host") != [self._host]:
            return False
        origins = values(b"origin")
        # Browsers send `Origin` with everything but plain navigation and same-origin GETs.
        if origins != [self._origin] and (origins or method not in {"GET", "HEAD"}):
            return False
        sites = values(b"sec-fetch-site")  # older browsers do not send it
        return sites in ([], [b"same-origin"], [b"none"])

"""Who may see the page: whoever opened the address that the command printed.

The address holds a token that works once. It is exchanged for a cookie, without which nothing is
answered, and for a key that only the page knows. Browsers send cookies to every port of a host, so
another program on this computer could see the cookie; the key stays with the page's origin, port
included, and everything about pictures needs both.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LASTS_S = 7 * 24 * 3600
"""How long the browser keeps the cookie. It is worth nothing once the command has ended."""
KEY_HEADER = "x-review-key"


class Access:
    """The secrets of one review."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self.cookie_name = f"nsfwscan-review-{secrets.token_hex(4)}"
        """Another for each review: those of all ports are kept together."""
        self._cookie = secrets.token_urlsafe(32)
        self._key = secrets.token_urlsafe(32)
        self._used = False

    def enter(self, token: str) -> tuple[str, str] | None:
        """Return cookie and key for the token, the first time; None for anything else."""
        # Compared also when it was used, so that the answer takes as long.
        right = secrets.compare_digest(token.encode(), self.token.encode())
        if not right or self._used:
            return None
        self._used = True
        return self._cookie, self._key

    def has_cookie(self, cookies: Mapping[str, str]) -> bool:
        """Return True if the right cookie is among those that were sent."""
        cookie = cookies.get(self.cookie_name, "")
        return secrets.compare_digest(cookie.encode(), self._cookie.encode())

    def has_key(self, key: str | None) -> bool:
        """Return True for the right key."""
        return secrets.compare_digest((key or "").encode(), self._key.encode())

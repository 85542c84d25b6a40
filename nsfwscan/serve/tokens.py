"""Tokens: who may ask, and how much each may ask for.

In: the lines of a token file. Out: `Tokens`, which recognise a token in constant time. Only a
token's SHA-256 is kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.serve.problems import Overloaded, RequestRefused
from nsfwscan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LEAST_LENGTH = 16
"""Characters below which a token could be guessed over the network."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One token: its digest and its limits. 0 means no limit of its own."""

    name: str
    sha256: bytes
    at_once: int = 0
    """Requests under way at the same time."""
    per_minute: int = 0
    """Requests a minute, which may come in one burst."""


@dataclass(slots=True, eq=False)
class Caller:
    """Who asks, and what they have used of their limits."""

    grant: Grant
    _under_way: int = 0
    _left: float = 0.0
    _counted_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._left = float(self.grant.per_minute)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request for as long as the block lasts. Raises `Overloaded`."""
        grant = self.grant
        if grant.at_once and self._under_way >= grant.at_once:
            raise Overloaded(1.0, f"this token may have {grant.at_once} requests at once")
        if grant.per_minute:
            now = time.monotonic()
            refilled = self._left + (now - self._counted_at) * grant.per_minute / 60
            self._left, self._counted_at = min(refilled, grant.per_minute), now
            if self._left < 1:
                wait = (1 - self._left) * 60 / grant.per_minute
                raise Overloaded(wait, f"this token may send {grant.per_minute} requests a minute")
            self._left -= 1
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


class Tokens:
    """The known tokens. With none, anybody may ask."""

    def __init__(self, grants: tuple[Grant, ...] = ()) -> None:
        self._callers = [Caller(grant) for grant in grants]

    def __bool__(self) -> bool:
        return bool(self._callers)

    def caller(self, authorization: str | None) -> Caller | None:
        """Return who asks, by the `Authorization` header; None if tokens are not used.

        Raises `RequestRefused` (401) for a missing or unknown token. Takes the same time for all.
        """
        if not self._callers:
            return None
        token = _token(authorization or "")
        given = hashlib.sha256(token).digest()
        known = None
        for caller in self._callers:  # all of them, so that time says nothing
            if hmac.compare_digest(given, caller.grant.sha256):
                known = caller
        if known is None:
            raise RequestRefused(
                401,
                "unauthorized",
                "a token is missing or unknown: send `Authorization: Bearer TOKEN`",
            )
        return known


def _token(authorization: str) -> bytes:
    """Return the token of a header; nothing if there is none.

    As the password of `Basic` it may stand in a URL, where some programs have no other place.
    """
    scheme, _, rest = authorization.partition(" ")
    token = rest.strip().encode("utf-8", "surrogateescape")
    match scheme.lower():
        case "bearer":
            return token
        case "basic":
            try:
                return base64.b64decode(token, validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
        case _:
            return b""


NO_TOKENS = Tokens()


def parse(lines: Iterable[str], where: str) -> Tokens:
    """Return the tokens of a file: `NAME TOKEN [at-once=N] [per-minute=N]`, one a line.

    `#` begins a comment line. Raises `UsageError`, which never quotes a token.
    """
    grants: list[Grant] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            grants.append(_grant(words))
        except ValueError as error:
            raise UsageError(
                f"{where}, line {number}: {error}",
                hint="write a name and a token, then at-once=N or per-minute=N if you like",
            ) from None
    names = [grant.name for grant in grants]
    if len(set(names)) < len(names):
        raise UsageError(f"{where} gives two tokens the same name", hint="names must differ")
    if len({grant.sha256 for grant in grants}) < len(grants):
        raise UsageError(
            f"{where} gives one token two names", hint="each name needs a token of its own"
        )
    return Tokens(tuple(grants))


def _grant(words: list[str]) -> Grant:
    if len(words) == 1:
        raise ValueError("there is a name, but no token")
    name, token, *rest = words
    if len(token) < _LEAST_LENGTH:
        raise ValueError(f"the token of {name} has fewer than {_LEAST_LENGTH} characters")
    limits = {"at-once": 0, "per-minute": 0}
    for word in rest:
        key, _, value = word.partition("=")
        if key not in limits or not value.isascii() or not value.isdigit() or int(value) == 0:
            raise ValueError(f"the limits of {name} are not at-once=N or per-minute=N")
        limits[key] = int(value)
    digest = hashlib.sha256(token.encode()).digest()
    return Grant(name, digest, at_once=limits["at-once"], per_minute=limits["per-minute"])

"""Reading a request's body: bounded in bytes, in time, and by what all requests hold together."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from nsfwscan.serve.problems import Overloaded, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

_MOST_VALUES = 10_000
"""In one JSON body. Each takes up to thirty times as much memory as it is long."""


class Memory:
    """The bytes that all bodies may take together."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0

    @contextmanager
    def lent(self) -> Iterator[Loan]:
        """Give what was taken inside the block back at its end."""
        loan = Loan(self)
        try:
            yield loan
        finally:
            self.used -= loan.taken


class Loan:
    """One request's part of a `Memory`."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self.taken = memory, 0

    def take(self, count: int) -> None:
        """Take `count` bytes more. Raises `Overloaded`."""
        if self._memory.used + count > self._memory.most:
            raise Overloaded(1.0, "too many pictures are being received")
        self._memory.used += count
        self.taken += count


def too_large(limit: int) -> RequestRefused:
    """Return the error for a body of more than `limit` bytes."""
    return RequestRefused(413, "too-large", f"the body has more than {limit:,} bytes")


def refuse_announced(request: Request, limit: int) -> None:
    """Raise `RequestRefused` (413) if a request says that its body has more than `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(limit)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, at most `limit` bytes. Its `connection` knows how long it may take.

    A length that is announced too long is refused before anything is read. Raises `RequestRefused`
    (413), `Overloaded` if all bodies together take too much memory, and `ClientDisconnect`.
    """
    refuse_announced(request, limit)
    loan: Loan | None = getattr(request.state, "loan", None)
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > limit:
            raise too_large(limit)
        if loan is not None:
            loan.take(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def json_of(body: bytes) -> Any:
    """Return a body's JSON. Raises ValueError, and `RequestRefused` (400) for very many values.

    Millions of them would take gigabytes, and stop everybody else for seconds.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise RequestRefused(400, "bad-request", f"the JSON has more than {_MOST_VALUES:,} values")
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


__all__ = [
    "ClientDisconnect",
    "Loan",
    "Memory",
    "json_of",
    "read_body",
    "refuse_announced",
    "too_large",
]

"""The SHA-256 of what is read: a file, a part of one, or whatever else comes in pieces."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE_BYTES = 1 << 20


class Readable(Protocol):
    """A stream whose `read` returns nothing at the end, and only there."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes. Raises OSError."""


class Sha256:
    """A checksum that goes on with what comes."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        """How many bytes it is of."""

    def take(self, pieces: Iterable[bytes], *outs: Callable[[bytes], object]) -> Self:
        """Go on with `pieces`, after giving each to `outs`. Raises what those raise."""
        for piece in pieces:
            for out in outs:
                out(piece)
            self._sha256.update(piece)
            self.bytes += len(piece)
        return self

    def digest(self) -> bytes:
        """Return the 32 bytes."""
        return self._sha256.digest()

    def hexdigest(self) -> str:
        """Return the 64 hexadecimal digits."""
        return self._sha256.hexdigest()


def pieces(stream: Readable, most: int | None = None) -> Iterator[bytes]:
    """Yield what a stream holds from here on, but at most `most` bytes. Raises OSError."""
    left = most
    while left is None or left > 0:
        piece = stream.read(_PIECE_BYTES if left is None else min(_PIECE_BYTES, left))
        if not piece:
            return
        yield piece
        if left is not None:
            left -= len(piece)


def held_by(file: int) -> Iterator[bytes]:
    """Yield what an open file holds, from its beginning; of one that grows, a little more.

    So a file to which somebody writes for ever has an end, and not the content it had. `file` is a
    descriptor. Raises OSError.
    """
    os.lseek(file, 0, os.SEEK_SET)
    left = os.fstat(file).st_size
    while data := os.read(file, _PIECE_BYTES):
        yield data
        left -= len(data)
        if left < 0:
            return

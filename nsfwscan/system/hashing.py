"""SHA-256 of data that is read in pieces, such as a file or a part of one."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE_BYTES = 1 << 20


class Readable(Protocol):
    """A stream whose `read` returns nothing only at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes. Raises OSError."""


class Sha256:
    """A running checksum."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        """Number of bytes hashed so far."""

    def take(self, pieces: Iterable[bytes], *outs: Callable[[bytes], object]) -> Self:
        """Pass each of `pieces` to all `outs`, then hash it. Raises what those raise."""
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
    """Yield the rest of a stream, but at most `most` bytes. Raises OSError."""
    left = most
    while left is None or left > 0:
        piece = stream.read(_PIECE_BYTES if left is None else min(_PIECE_BYTES, left))
        if not piece:
            return
        yield piece
        if left is not None:
            left -= len(piece)


def held_by(file: int) -> Iterator[bytes]:
    """Yield the content of an open file from its beginning; if it grows, a little more.

    So reading a file that another program keeps writing to ends, with a different checksum. `file`
    is a descriptor. Raises OSError.
    """
    os.lseek(file, 0, os.SEEK_SET)
    left = os.fstat(file).st_size
    while data := os.read(file, _PIECE_BYTES):
        yield data
        left -= len(data)
        if left < 0:
            return

"""Opening files so that a failed read never looks like the end of the file.

For EAGAIN, which network and FUSE file systems may return, Python's own files return None, part of
a line, or nothing. Files opened here raise `BlockingIOError`, an `OSError` like other failures.
"""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")


class File(io.FileIO):
    """An unbuffered file."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read once, at most `size` bytes; without `size`, to the end. Raises OSError."""
        if size is None or size < 0:
            return self.readall()
        data: bytes | None = super().read(size)
        return _answered(data)

    def readall(self) -> bytes:
        """Read up to the end. Raises OSError."""
        return b"".join(iter(lambda: self.read(1 << 20), b""))

    def readinto(self, buffer: Buffer, /) -> int:
        """Read once into `buffer` and return the number of bytes read. Raises OSError."""
        count: int | None = super().readinto(buffer)
        return _answered(count)


def _answered(result: _T | None) -> _T:
    if result is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return result


def open_bytes(file: str | int) -> io.BufferedReader:
    """Open a path, or take an open descriptor, to read bytes. Raises OSError."""
    return io.BufferedReader(File(file))


def open_text(
    path: str, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
) -> io.TextIOWrapper:
    """Open a path to read text; the arguments are those of `open`. Raises OSError."""
    return io.TextIOWrapper(open_bytes(path), encoding, errors, newline)


def open_to_change(path: str, mode: str) -> io.BufferedRandom:
    """Open a path to read and write bytes; `mode` as in `open`, such as "a+b". Raises OSError."""
    return io.BufferedRandom(File(path, mode))

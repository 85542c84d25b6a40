"""Reads a list of paths, from `find` or from a file saved by a person.

The list may be endless, so lines and lists have a limit, above which the scan is refused.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import UsageError

_MOST_LINE = 64 << 10
"""Bytes of one path. Linux takes 4096, Windows 32,767 characters."""
_MOST_PATHS = 10_000_000
"""Lines of one list, including empty ones."""
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


class _EndOfList(Exception):
    """Raised by the Ctrl-C handler to end a read that may block forever."""


class PathList:
    """The paths listed in a file or on standard input. Can be iterated once."""

    def __init__(self, source: str, *, null: bool) -> None:
        """`source` is a file or `-`. With `null`, paths end with a NUL byte, else a newline."""
        self._source = source
        self._null = null
        self._waiting = False
        """Whether a read is in progress, which only an exception can end."""

    def __iter__(self) -> Iterator[str]:
        """Yield the paths as they are read. Raises `UsageError` if they cannot be read."""
        for number, path in enumerate(self._lines()):
            if number >= _MOST_PATHS:
                raise UsageError(
                    f"{self._called} has more than {_MOST_PATHS:,} lines",
                    hint="scan the folders that contain the files",
                )
            if path:
                yield os.fsdecode(path if self._null else _without_marks(path, first=not number))

    def interrupt(self) -> None:
        """End a read that is waiting. Called by a signal handler."""
        if self._waiting:
            raise _EndOfList

    @property
    def _called(self) -> str:
        return "the list on standard input" if self._source == "-" else self._source

    def _lines(self) -> Iterator[bytes]:
        end, rest = b"\0" if self._null else b"\n", b""
        try:
            with contextlib.ExitStack() as stack:
                stream = sys.stdin.buffer
                if self._source != "-":
                    stream = stack.enter_context(open_bytes(self._source))
                while chunk := self._read(stream):
                    *whole, rest = (rest + chunk).split(end)
                    for line in whole:
                        self._check(line)
                        yield line
                    self._check(rest)
        except OSError as error:
            raise UsageError(
                f"cannot read {self._source}: {error.strerror or error}",
                hint="--files-from takes a file with one path per line, or - for standard input",
            ) from error
        if rest:
            yield rest

    def _check(self, line: bytes) -> None:
        if not self._null and line.startswith(_UTF16_MARKS):
            raise UsageError(f"{self._called} is in UTF-16", hint="save it in UTF-8")
        if b"\0" in line:
            raise UsageError(f"{self._called} contains NUL bytes", hint="add -0")
        if len(line) > _MOST_LINE:
            raise UsageError(
                f"{self._called} has a line over {_MOST_LINE >> 10} KiB, which is not a path",
                hint="give one path per line"
                if not self._null
                else "end each path with a NUL byte",
            )

    def _read(self, stream: BinaryIO) -> bytes:
        self._waiting = True
        try:
            return os.read(stream.fileno(), 1 << 16)
        except _EndOfList:
            return b""
        finally:
            self._waiting = False


def _without_marks(line: bytes, *, first: bool) -> bytes:
    """Strip a BOM and CR added by Windows editors, unless a path with them exists."""
    plain = line.removesuffix(b"\r")
    if first:
        plain = plain.removeprefix(_UTF8_MARK)
    return line if plain == line or os.path.lexists(line) else plain

"""A bounded reader of ISO BMFF boxes (ISO/IEC 14496-12, 4.2).

Every count is bounded by `MAX_BOXES` or `MAX_ENTRIES`; inconsistent data raises `DecodeError`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BOXES = 10_000
"""In one parent."""

MAX_ENTRIES = 100_000
"""In one table. A 200 MP grid has 800 tiles."""


class Box(NamedTuple):
    """Where a box lies in the file, in bytes."""

    kind: bytes
    start: int
    body: int
    end: int


class Extent(NamedTuple):
    """A run of bytes; `offset` counts from the file's start if `method` is 0, from `idat` if 1."""

    method: int
    offset: int
    length: int
    """0 means up to the end."""


class Cursor:
    """Reads big-endian numbers in sequence, and nothing beyond `end`."""

    def __init__(self, data: bytes, box: Box) -> None:
        self._data, self.at, self.end = data, box.body, box.end

    def number(self, size: int) -> int:
        """Read a number of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        """Read `size` bytes."""
        if size > self.end - self.at:
            raise broken("a box ends within a field")
        self.at += size
        return self._data[self.at - size : self.at]

    def version(self) -> tuple[int, int]:
        """Read version and flags, with which most boxes begin."""
        return self.number(1), self.number(3)

    def count(self, size: int) -> int:
        """Read the number of entries that follow."""
        entries = self.number(size)
        if entries > MAX_ENTRIES:
            raise broken(f"a table of {entries} entries")
        return entries


def broken(what: str) -> DecodeError:
    """Return the error for inconsistent boxes."""
    return DecodeError(FailReason.CORRUPT, f"broken boxes: {what}")


def boxes(data: bytes, start: int, end: int) -> list[Box]:
    """Return the sibling boxes from `start` to `end`. Raises `DecodeError`."""
    found: list[Box] = []
    while start < end:
        box = read_box(data, start, end)
        if box is None or box.end > end:
            raise broken("a box is larger than its parent")
        found.append(box)
        if len(found) > MAX_BOXES:
            raise broken("too many boxes in one")
        start = box.end
    return found


def find(data: bytes, parent: Box, *path: bytes) -> Box | None:
    """Return the first box at the end of a path of plain boxes."""
    for kind in path:
        inner = next(iter(of_kind(boxes(data, parent.body, parent.end), kind)), None)
        if inner is None:
            return None
        parent = inner
    return parent


def of_kind(found: Iterable[Box], kind: bytes) -> list[Box]:
    """Return the boxes of one kind."""
    return [box for box in found if box.kind == kind]


def read_box(data: bytes, at: int, end: int) -> Box | None:
    """Read the header of a box, which may end beyond `end`; None if there is no box."""
    if end - at < 8:
        return None
    size, kind = struct.unpack_from(">I4s", data, at)
    body = at + 8
    if size == 1:
        if end - at < 16:
            return None
        size = int.from_bytes(data[body : body + 8], "big")
        body += 8
    elif size == 0:
        size = end - at
    return Box(kind, at, body, at + size) if size >= body - at else None

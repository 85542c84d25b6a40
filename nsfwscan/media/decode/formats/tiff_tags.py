"""The directories of a TIFF file: their tags, and where the next directory is.

TIFF 6.0, section 2, and BigTIFF (https://libtiff.gitlab.io/libtiff/specification/bigtiff.html).
The cost of reading a file is bounded, whatever its directories say: a table has at most `_MAX_TAGS`
entries, a value is only read on request, and the chain of directories ends at the first one already
visited.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

_MAX_TAGS = 4096
"""libtiff also treats a longer table as garbage."""

_MAX_DIRECTORIES = 65_536

_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""The `struct` code of each integer type; 7, undefined, is read as bytes only."""

_RATIONAL, _FLOAT = 5, 11

_BYTES = (1, 2, 6, 7)

_SIZES = {**{kind: struct.calcsize(code) for kind, code in _INTEGERS.items()}, 2: 1, 5: 8, 7: 1}
_SIZES |= {10: 8, 11: 4, 12: 8}


class _Tag(NamedTuple):
    """One entry in a directory's table."""

    kind: int
    values: int
    at: int
    """Position of the value in the file."""


class Directory:
    """One directory, which describes one picture in the file."""

    def __init__(self, file: TiffFile, entries: dict[int, _Tag]) -> None:
        self._file = file
        self._entries = entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def integers(self, tag: int, most: int) -> tuple[int, ...]:
        """Return the first `most` integers of a tag, or none if the tag is missing.

        Raises `DecodeError` for a value of another type, or one beyond the end of the file.
        """
        entry = self._entries.get(tag)
        if entry is None:
            return ()
        code = _INTEGERS.get(entry.kind)
        if code is None:
            raise DecodeError(FailReason.CORRUPT, f"tag {tag} is not a whole number")
        count = min(entry.values, most)
        return struct.unpack(f"{self._file.order}{count}{code}", self._value(tag, entry, count))

    def integer(self, tag: int, default: int) -> int:
        """Return the single integer of a tag, or `default` if the tag is missing.

        Also raises `DecodeError` for several values: readers disagree on which one counts.
        """
        entry = self._entries.get(tag)
        if entry is None:
            return default
        if entry.values != 1:
            raise DecodeError(FailReason.CORRUPT, f"tag {tag} has {entry.values} values")
        return self.integers(tag, 1)[0]

    def lenient(self, tag: int) -> int:
        """Return the single integer of a tag; 0 if it is missing or broken."""
        try:
            return self.integer(tag, 0)
        except DecodeError:
            return 0

    def count(self, tag: int) -> int:
        """Return how many values a tag claims to have; 0 if it is missing."""
        entry = self._entries.get(tag)
        return 0 if entry is None else entry.values

    def numbers(self, tag: int, count: int) -> tuple[float, ...]:
        """Return `count` rationals, floats or integers, or none if the tag is missing."""
        entry = self._entries.get(tag)
        if entry is None:
            return ()
        if entry.values < count:
            raise DecodeError(FailReason.CORRUPT, f"tag {tag} has too few values")
        if entry.kind == _FLOAT:
            return struct.unpack(f"{self._file.order}{count}f", self._value(tag, entry, count))
        if entry.kind != _RATIONAL:
            return tuple(map(float, self.integers(tag, count)))
        both = struct.unpack(f"{self._file.order}{2 * count}I", self._value(tag, entry, count))
        return tuple(top / (below or 1) for top, below in zip(both[::2], both[1::2], strict=True))

    def data(self, tag: int, most: int) -> bytes:
        """Return the bytes of a tag; none if it is missing, longer, or of another type."""
        entry = self._entries.get(tag)
        if entry is None or entry.kind not in _BYTES or entry.values > most:
            return b""
        return self._value(tag, entry, entry.values)

    def _value(self, tag: int, entry: _Tag, count: int) -> bytes:
        end = entry.at + count * _SIZES[entry.kind]
        if end > len(self._file.content):
            raise DecodeError(FailReason.TRUNCATED, f"tag {tag} lies beyond the end of the file")
        return self._file.content[entry.at : end]


class TiffFile:
    """A TIFF or BigTIFF file of either byte order."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.order = "<" if content[:2] == b"II" else ">"
        big = struct.unpack_from(f"{self.order}H", content, 2)[0] == 43
        self._count, self._entry, self._offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
        self._inline = struct.calcsize(self._offset)
        if len(content) < 2 * self._inline:
            raise DecodeError(FailReason.TRUNCATED, "the header is cut off")
        self.missing = ""
        """Why the chain of directories ends early; empty if it ends properly."""
        self.directories = self._chain(self._unpack(self._offset, self._inline))
        """Offsets of the pages' directories, in order; the first one is complete."""

    def directory(self, at: int) -> Directory:
        """Read the table of the directory at this offset. If a tag is repeated, the first wins."""
        count, start, _ = self._table(at)
        step = struct.calcsize(f"={self._entry}") + self._inline
        table = self.content[start : start + count * step]
        entries: dict[int, _Tag] = {}
        lines = struct.iter_unpack(f"{self.order}{self._entry}{self._offset}", table)
        for number, (tag, kind, values, value) in enumerate(lines):
            if kind not in _SIZES or tag in entries:
                continue
            inline = values * _SIZES[kind] <= self._inline
            here = start + (number + 1) * step - self._inline
            entries[tag] = _Tag(kind, values, here if inline else value)
        return Directory(self, entries)

    def _unpack(self, code: str, at: int) -> int:
        found: int = struct.unpack_from(self.order + code, self.content, at)[0]
        return found

    def _table(self, at: int) -> tuple[int, int, int]:
        """Return the number of entries in the table at this offset, and its start and end."""
        start = at + struct.calcsize(f"={self._count}")
        if start > len(self.content):
            raise DecodeError(FailReason.TRUNCATED, "a directory lies beyond the end of the file")
        count = self._unpack(self._count, at)
        if not 0 < count <= _MAX_TAGS:
            raise DecodeError(FailReason.CORRUPT, f"a directory of {count} tags")
        end = start + count * (struct.calcsize(f"={self._entry}") + self._inline)
        if end + self._inline > len(self.content):
            raise DecodeError(FailReason.TRUNCATED, "a directory is cut off")
        return count, start, end

    def _chain(self, first: int) -> list[int]:
        """Follow the links from directory to directory, as far as they lead to directories."""
        found: dict[int, None] = {}
        at = first
        while at or not found:
            if at in found or len(found) == _MAX_DIRECTORIES:
                self.missing = (
                    f"the pages after page {len(found)}, whose chain of directories does not end"
                )
                break
            try:
                _, _, end = self._table(at)
            except DecodeError as error:
                if not found:
                    raise
                self.missing = f"what follows page {len(found)}: {error.detail}"
                break
            found[at] = None
            at = self._unpack(self._offset, end)
        return list(found)

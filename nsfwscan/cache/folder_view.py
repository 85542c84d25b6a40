"""`FolderView`: everything in the cache about the files directly in one folder.

Re-scans of unchanged folders are the common case, so a view holds columns, and creates an object
for a file only on request: 100,000 files are loaded and compared in a tenth of a second. The same
columns are stored as a snapshot. They hold facts that never change, (path, stat) -> digest and
(digest, scorer) -> outcome, so a view can be incomplete but never out of date.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeGuard, TypeVar

from nsfwscan.cache.rows import SHA256_BYTES, Known, decode_outcome, encode_outcome
from nsfwscan.values.facts import IN_COLUMNS, ContentFacts, FactKind
from nsfwscan.values.file_key import KEY_BYTES, FileKey
from nsfwscan.values.outcome import Outcome, Scored
from nsfwscan.values.results import ImageFacts, Scores

_T = TypeVar("_T")
_LENGTHS = struct.Struct("<II")
_NOT_HERE = 0
"""The format number of a file whose outcome is not in the columns."""


class ViewRow(NamedTuple):
    """One file from the tables: bytes, already checked against their checksums."""

    name: str
    stat: bytes
    sha256: bytes
    written_at: int
    outcome: bytes | None
    """From `encode_outcome`; None if this scorer has no outcome for the file."""
    facts: tuple[bytes | None, ...] = (None,) * len(IN_COLUMNS)
    """One fact for each kind in `IN_COLUMNS`."""


class FolderView(Mapping[str, Known]):
    """File name -> `Known`, in columns.

    All columns are in the order of `names`, which is sorted.
    """

    __slots__ = (
        "_details",
        "_facts",
        "_formats",
        "_frames",
        "_index",
        "_labels",
        "_others",
        "digests",
        "names",
        "stats",
        "stored",
        "unsafe",
        "written_at",
    )

    def __init__(self) -> None:
        self.names: list[str] = []
        self.stats = b""
        """The packed `FileKey` of each file, concatenated."""
        self.digests = b""
        """SHA-256 of each file, 32 bytes each, concatenated."""
        self.written_at = array("q")
        """When each file was read, in seconds since the epoch."""
        self.unsafe = array("d")
        """The unsafe score of each file, 0 to 1; NaN if there is no score or it is unknown."""
        self.stored = False
        """Whether this was read from a snapshot; if not, the next scan would benefit from one."""
        self._facts: dict[FactKind, bytes] = {}
        """For each kind kept in columns, the facts of all files, concatenated; zeros for none."""
        self._labels = 0
        self._formats: list[str] = []
        self._details = b""
        """A `_record` for each file."""
        self._frames: dict[int, int] = {}
        """`Scored.frame` of the few files that have one, by index."""
        self._others: dict[int, bytes] = {}
        """Encoded outcomes that do not fit the columns, by index."""
        self._index: dict[str, int] | None = None

    @classmethod
    def from_rows(cls, rows: list[ViewRow]) -> FolderView:
        """Return a view of a folder's rows, given in any order."""
        view = cls()
        rows.sort()
        view.names = [row.name for row in rows]
        view.stats = b"".join([row.stat for row in rows])
        view.digests = b"".join([row.sha256 for row in rows])
        view.written_at = array("q", [row.written_at for row in rows])
        for at, kind in enumerate(IN_COLUMNS):
            unknown = bytes(kind.width)
            view._facts[kind] = b"".join([row.facts[at] or unknown for row in rows])
        view._take_outcomes([row.outcome for row in rows])
        return view

    @classmethod
    def from_bytes(cls, body: bytes) -> FolderView | None:
        """Read a snapshot whose checksum was right; None if its byte order is not ours."""
        header_bytes, names_bytes = _LENGTHS.unpack_from(body)
        at = _LENGTHS.size
        header = json.loads(body[at : at + header_bytes])
        if header["byteorder"] != sys.byteorder:
            return None
        at += header_bytes
        view = cls()
        view.stored = True
        count = header["count"]
        view.names = os.fsdecode(body[at : at + names_bytes]).split("\0") if count else []
        at += names_bytes
        view.stats = body[at : (at := at + KEY_BYTES * count)]
        view.digests = body[at : (at := at + SHA256_BYTES * count)]
        view.written_at.frombytes(body[at : (at := at + 8 * count)])
        view.unsafe.frombytes(body[at : (at := at + 8 * count)])
        kinds = {kind[:3]: kind for kind in IN_COLUMNS}
        for kept in map(tuple, header["facts"]):
            column = body[at : (at := at + kept[2] * count)]
            if kept in kinds:  # another version may compute a kind differently
                view._facts[kinds[kept]] = column
        view._labels = header["labels"]
        view._formats = header["formats"]
        view._details = body[at:]
        view._frames = {int(index): frame for index, frame in header["frames"].items()}
        view._others = {int(index): text.encode() for index, text in header["others"].items()}
        return view

    def to_bytes(self) -> bytes:
        """Return the columns as bytes for `from_bytes`."""
        header = json.dumps(
            {
                "byteorder": sys.byteorder,
                "count": len(self.names),
                "facts": [kind[:3] for kind in self._facts],
                "labels": self._labels,
                "formats": self._formats,
                "frames": self._frames,
                "others": {index: body.decode() for index, body in self._others.items()},
            }
        ).encode()
        names = os.fsencode("\0".join(self.names))
        lengths = _LENGTHS.pack(len(header), len(names))
        numbers = (self.written_at.tobytes(), self.unsafe.tobytes())
        facts = self._facts.values()
        return b"".join(
            (lengths, header, names, self.stats, self.digests, *numbers, *facts, self._details)
        )

    def only(self, names: Collection[str]) -> FolderView:
        """Return the view restricted to the files in `names`."""
        wanted = set(names)
        gone = [index for index, name in enumerate(self.names) if name not in wanted]
        if not gone:
            return self
        # Runs between the files to drop are copied in one go.
        bounds = zip((0, *(index + 1 for index in gone)), (*gone, len(self.names)), strict=True)
        runs = [slice(start, end) for start, end in bounds if start < end]
        view = FolderView()
        view.stored, view._labels, view._formats = self.stored, self._labels, self._formats
        for run in runs:
            view.names += self.names[run]
            view.written_at += self.written_at[run]
            view.unsafe += self.unsafe[run]
        view.stats = _cut(self.stats, runs, KEY_BYTES)
        view.digests = _cut(self.digests, runs, SHA256_BYTES)
        view._facts = {kind: _cut(one, runs, kind.width) for kind, one in self._facts.items()}
        view._details = _cut(self._details, runs, _record(self._labels).size)
        view._frames = _without(self._frames, gone)
        view._others = _without(self._others, gone)
        return view

    def __getitem__(self, name: str) -> Known:
        if self._index is None:
            self._index = {name: index for index, name in enumerate(self.names)}
        index = self._index[name]
        record = _record(self._labels)
        return Known(
            FileKey.unpack(self.stats[KEY_BYTES * index : KEY_BYTES * (index + 1)]),
            self.digests[SHA256_BYTES * index : SHA256_BYTES * (index + 1)],
            self._outcome(index, record.unpack_from(self._details, index * record.size)),
            self.written_at[index],
            self._facts_of(index),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def column(self, kind: FactKind) -> bytes:
        """Return the facts of one kind, `kind.width` bytes per file, zeros where unknown."""
        return self._facts.get(kind) or bytes(kind.width * len(self.names))

    def _facts_of(self, index: int) -> ContentFacts:
        facts = {}
        for kind, column in self._facts.items():
            fact = column[kind.width * index : kind.width * (index + 1)]
            if any(fact):
                facts[kind] = fact
        return facts

    def _outcome(self, index: int, record: tuple[Any, ...]) -> Outcome | None:
        if record[0] != _NOT_HERE:
            which, width, height, frames, *probabilities = record
            return Scored(
                ImageFacts(self._formats[which - 1], width, height, frames),
                Scores(tuple(probabilities), self.unsafe[index]),
                self._frames.get(index),
            )
        body = self._others.get(index)
        return None if body is None else decode_outcome(body)

    def _fits(self, outcome: Outcome | None) -> TypeGuard[Scored]:
        """Return True if an outcome can be kept in columns, as most can."""
        return (
            isinstance(outcome, Scored)
            and len(outcome.scores.probabilities) == self._labels
            and not outcome.facts.missing
        )

    def _take_outcomes(self, bodies: Iterable[bytes | None]) -> None:
        outcomes = [None if body is None else decode_outcome(body) for body in bodies]
        self._labels = max(
            (len(one.scores.probabilities) for one in outcomes if isinstance(one, Scored)),
            default=0,
        )
        record = _record(self._labels)
        details = []
        for index, outcome in enumerate(outcomes):
            if self._fits(outcome):
                facts = outcome.facts
                if facts.format not in self._formats:
                    self._formats.append(facts.format)
                if outcome.frame is not None:
                    self._frames[index] = outcome.frame
                self.unsafe.append(outcome.scores.unsafe)
                details.append(
                    record.pack(
                        self._formats.index(facts.format) + 1,
                        *facts[1:4],
                        *outcome.scores.probabilities,
                    )
                )
            else:
                if outcome is not None:
                    self._others[index] = encode_outcome(outcome)
                self.unsafe.append(math.nan)
                details.append(record.pack(_NOT_HERE, 0, 0, 0, *[0.0] * self._labels))
        self._details = b"".join(details)


def _without(column: dict[int, _T], gone: list[int]) -> dict[int, _T]:
    """Return a sparse column without the entries at `gone`, which is in order."""
    left = set(gone)
    return {
        index - bisect_left(gone, index): value
        for index, value in column.items()
        if index not in left
    }


def _cut(column: bytes, runs: Iterable[slice], width: int) -> bytes:
    """Return these runs of a column whose entries have `width` bytes."""
    return b"".join([column[width * run.start : width * run.stop] for run in runs])


@cache
def _record(labels: int) -> struct.Struct:
    """Return the layout of format number, width, height, frames, and a probability per label."""
    return struct.Struct(f"<HIII{labels}d")

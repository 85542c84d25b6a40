"""A bounded reader of ISO BMFF, the boxes of AVIF and HEIF, as far as pictures need it.

It says what the codecs do not: which picture is which, how each is cropped and turned, what its
samples mean, and whether the file is whole. Sources: ISO/IEC 14496-12 (boxes, tracks) and ISO/IEC
23008-12 (items and their properties). Every count is bounded by `MAX_BOXES` or `MAX_ENTRIES`; a
structure that does not add up raises `DecodeError`.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.errors import DecodeError
from nsfwscan.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BOXES = 10_000
"""Of one parent."""

MAX_ENTRIES = 100_000
"""Of one table. A 200 MP grid has 800 tiles."""

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_VISUAL_SAMPLE_ENTRY = 78
"""The bytes before the boxes of a sample entry."""


class Box(NamedTuple):
    """Where a box lies in the file, in bytes."""

    kind: bytes
    start: int
    body: int
    end: int


class Extent(NamedTuple):
    """A run of bytes; `method` 0 counts `offset` from the start of the file, 1 from `idat`."""

    method: int
    offset: int
    length: int
    """0 for all that follows."""


@dataclass(slots=True)
class Item:
    """A picture, or a part of one, or metadata."""

    kind: bytes
    extents: list[Extent] = field(default_factory=list)
    properties: list[Box] = field(default_factory=list)
    """In the order of their association, which is that in which transformations apply."""
    links: list[int] = field(default_factory=list)
    """For each property its number in `ipco`, from 1, and 0x8000 where it is essential."""


@dataclass(slots=True)
class Track:
    """An image sequence, its first sample description only."""

    kind: bytes
    """The coding of its samples, such as av01."""
    properties: list[Box]
    samples: list[Extent]
    alone: list[int]
    """The numbers of the samples, from 0, that can be decoded without others."""
    size: tuple[int, int]
    """Width and height in pixels."""
    auxiliary: bool
    """Whether it belongs to another track, as alpha does."""


class _Cursor:
    """Reads big-endian numbers one after the other, and nothing beyond `end`."""

    def __init__(self, data: bytes, box: Box) -> None:
        self._data, self.at, self.end = data, box.body, box.end

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        if size > self.end - self.at:
            raise broken("a box ends within a field")
        self.at += size
        return self._data[self.at - size : self.at]

    def version(self) -> tuple[int, int]:
        """Return version and flags, with which most boxes begin."""
        return self.number(1), self.number(3)

    def count(self, size: int) -> int:
        entries = self.number(size)
        if entries > MAX_ENTRIES:
            raise broken(f"a table of {entries} entries")
        return entries


class Meta:
    """The `meta` box of a file: its items."""

    def __init__(self, data: bytes, box: Box) -> None:
        self.items: dict[int, Item] = {}
        self._inputs: dict[int, list[int]] = {}
        self._auxiliary: dict[int, list[int]] = {}
        self._data = data
        self._properties: list[Box] = []
        self.primary = 0
        self.children = boxes(data, box.body + 4, box.end)
        known = {b"iinf": self._iinf, b"iloc": self._iloc, b"iref": self._iref, b"iprp": self._iprp}
        parts = {child.kind: child for child in reversed(self.children)}  # the first one counts
        self.idat = parts.get(b"idat")
        if b"pitm" in parts:
            cursor = _Cursor(data, parts[b"pitm"])
            version, _ = cursor.version()
            self.primary = cursor.number(2 if version == 0 else 4)
        for kind, read in known.items():  # in this order: items come first
            if kind in parts:
                read(data, parts[kind])

    @property
    def properties(self) -> list[bytes]:
        """Return all properties as whole boxes."""
        return [self._data[one.start : one.end] for one in self._properties]

    def coded_parts(self, item: int) -> list[Item]:
        """Return the pictures that an item is made of and that are made of no others."""
        found = [self.items[part] for part in self.parts_of(item) if part in self.items]
        return [one for one in found if one.kind not in DERIVED]

    def alpha_of(self, item: int) -> int | None:
        """Return the item that holds the alpha of another one."""
        for source in self._auxiliary.get(item, ()):
            alpha = self.items.get(source)
            if alpha is not None and any(one.kind == b"auxC" for one in alpha.properties):
                return source
        return None

    def parts_of(self, item: int) -> list[int]:
        """Return the item and all that it is derived from, each once."""
        found = {item: None}
        waiting = [item]
        while waiting:  # each item is added once at most
            for part in self._inputs.get(waiting.pop(), ()):
                if part not in found:
                    found[part] = None
                    waiting.append(part)
        return list(found)

    def codings(self, item: int) -> set[bytes]:
        """Return the types of the coded pictures that an item is made of."""
        return {one.kind for one in self.coded_parts(item)}

    def _iinf(self, data: bytes, box: Box) -> None:
        cursor = _Cursor(data, box)
        version, _ = cursor.version()
        cursor.count(2 if version == 0 else 4)
        for entry in boxes(data, cursor.at, box.end):
            inner = _Cursor(data, entry)
            version, _ = inner.version()
            if entry.kind == b"infe" and version >= 2:
                number = inner.number(2 if version == 2 else 4)
                inner.take(2)
                self.items.setdefault(number, Item(inner.take(4)))

    def _iloc(self, data: bytes, box: Box) -> None:
        cursor = _Cursor(data, box)
        version, _ = cursor.version()
        sizes = cursor.number(2)
        offset_size, length_size, base_size, index_size = (sizes >> at & 15 for at in (12, 8, 4, 0))
        wide = 2 if version < 2 else 4
        entries = 0
        for _ in range(cursor.count(wide)):
            number = cursor.number(wide)
            method = cursor.number(2) & 15 if version else 0
            cursor.take(2)  # in which file
            base = cursor.number(base_size)
            extents = []
            for _ in range(cursor.number(2)):
                if version:
                    cursor.take(index_size)
                offset = base + cursor.number(offset_size)
                extents.append(Extent(method, offset, cursor.number(length_size)))
                entries += 1
                if entries > MAX_ENTRIES:
                    raise broken("too many extents")
            if number in self.items:
                self.items[number].extents = extents

    def _iref(self, data: bytes, box: Box) -> None:
        cursor = _Cursor(data, box)
        wide = 2 if cursor.version()[0] == 0 else 4
        for entry in boxes(data, cursor.at, box.end):
            inner = _Cursor(data, entry)
            source = inner.number(wide)
            targets = tuple(inner.number(wide) for _ in range(inner.count(2)))
            if entry.kind == b"dimg":
                self._inputs.setdefault(source, []).extend(targets)
            elif entry.kind == b"auxl":
                for target in targets:
                    self._auxiliary.setdefault(target, []).append(source)

    def _iprp(self, data: bytes, box: Box) -> None:
        children = boxes(data, box.body, box.end)
        properties = self._properties = [
            one for ipco in _of(children, b"ipco") for one in boxes(data, ipco.body, ipco.end)
        ]
        entries = 0
        for ipma in _of(children, b"ipma"):
            cursor = _Cursor(data, ipma)
            version, flags = cursor.version()
            for _ in range(cursor.count(4)):
                item = self.items.get(cursor.number(2 if version == 0 else 4))
                for _ in range(cursor.number(1)):
                    link = cursor.number(2) if flags & 1 else cursor.number(1)
                    if not flags & 1:
                        link = (link & 0x80) << 8 | link & 0x7F
                    index = link & 0x7FFF
                    entries += 1
                    if index > len(properties) or entries > MAX_ENTRIES:
                        raise broken("a property is associated that is not there")
                    if item is not None and index:
                        item.properties.append(properties[index - 1])
                        item.links.append(link)


class Bmff:
    """The boxes of one file. Raises `DecodeError` where they do not add up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.cut = False
        """Whether a box at the top ends beyond the file."""
        self.meta: Meta | None = None
        self.tracks: list[Track] = []
        self.moov: Box | None = None
        self.top = list(self._top())
        self.kinds = {box.kind for box in self.top}
        if not self.top or self.top[0].kind != b"ftyp" or self.top[0].end - self.top[0].body < 8:
            raise broken("no ftyp at the start")
        self.ftyp = self.top[0]
        try:
            for box in self.top:
                if box.kind == b"meta":
                    if self.meta is not None:
                        raise broken("two meta boxes")
                    self.meta = Meta(data, box)
                elif box.kind == b"moov":
                    if self.moov is not None:
                        raise broken("two moov boxes")
                    self.moov = box
                    self.tracks = list(_tracks(data, box))
        except DecodeError as error:
            if self.cut:
                raise self.truncated() from error
            raise
        if self.meta is None and not self.tracks and self.cut:
            raise self.truncated()

    @property
    def primary(self) -> Item | None:
        """The item that is to be shown; None in a file that is a sequence only."""
        return None if self.meta is None else self.meta.items.get(self.meta.primary)

    @property
    def sequence(self) -> Track | None:
        """The track that is to be shown; None in a still picture."""
        return next((track for track in self.tracks if not track.auxiliary), None)

    def brands(self) -> list[bytes]:
        """Return the major brand and the compatible ones."""
        _, _, body, end = self.ftyp
        return [self.data[at : at + 4] for at in (body, *range(body + 8, end - 3, 4))]

    def with_brand(self, new: bytes, *old: bytes) -> bytes:
        """Return the file with `new` as its major brand and in the place of `old` ones."""
        changed = bytearray(self.data)
        place = self.ftyp.body
        changed[place : place + 4] = new
        for at, brand in enumerate(self.brands()[1:]):
            if brand in old:
                place = self.ftyp.body + 8 + 4 * at
                changed[place : place + 4] = new
        return bytes(changed)

    def bytes_of(self, extents: Iterable[Extent], limit: int | None = None) -> bytes:
        """Return the bytes of an item or a sample, the first `limit` of them, where they are."""
        found, room = [], len(self.data) if limit is None else limit
        for method, offset, length in extents:
            start, end = offset, len(self.data)
            if method == 1 and self.meta is not None and self.meta.idat is not None:
                start, end = offset + self.meta.idat.body, self.meta.idat.end
            part = self.data[start : min(end, start + (length or end), start + room)]
            found.append(part)
            room -= len(part)
        return b"".join(found)

    def needed(self, number: int) -> list[int]:
        """Return the items whose bytes a picture needs: its parts and their alpha."""
        if self.meta is None:
            return []
        parts = self.meta.parts_of(number)
        alphas = [self.meta.alpha_of(part) for part in parts]
        found = [*parts, *(alpha for alpha in alphas if alpha is not None)]
        return [item for item in dict.fromkeys(found) if item in self.meta.items]

    def short_parts(self) -> tuple[int, int]:
        """Return how many parts of the picture lie beyond the end of the file, and of how many."""
        parts = [track.samples[:1] for track in self.tracks]
        if self.meta is not None:
            needed = self.needed(self.meta.primary)
            parts += [self.meta.items[number].extents for number in needed]
        beyond = [
            any(one.method == 0 and one.offset + one.length > len(self.data) for one in extents)
            for extents in parts
        ]
        return sum(beyond), len(beyond)

    def shortage(self) -> str:
        """Say what of the picture lies beyond the end of the file; empty where nothing does.

        libheif leaves such tiles of a grid empty.
        """
        short, parts = self.short_parts()
        return (
            f"{short} of {parts} parts of the picture, beyond the end of the file" if short else ""
        )

    def truncated(self) -> DecodeError:
        """Return the error for a file that is short."""
        return DecodeError(FailReason.TRUNCATED, "the file ends before its picture does")

    @contextlib.contextmanager
    def truncation_named(self) -> Iterator[None]:
        """Give a codec's complaint about a file that is short its right reason."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            other = isinstance(error, DecodeError) and error.reason is not FailReason.CORRUPT
            if other or "memory" in str(error) or not (self.cut or self.short_parts()[0]):
                raise
            raise self.truncated() from error

    def _top(self) -> Iterator[Box]:
        """Read the boxes of the file. What follows them and is no box does not count."""
        at, end = 0, len(self.data)
        for _ in range(MAX_BOXES):
            box = _box(self.data, at, end)
            if box is None:
                return
            if box.end > end:
                self.cut = True
                yield box._replace(end=end)
                return
            yield box
            at = box.end
        raise broken("too many boxes")


DERIVED = frozenset({b"grid", b"iden", b"iovl", b"tmap"})
"""Items that are made of other items (ISO/IEC 23008-12, 6.6.2)."""


def broken(what: str) -> DecodeError:
    """Return the error for boxes that do not add up."""
    return DecodeError(FailReason.CORRUPT, f"broken boxes: {what}")


def boxes(data: bytes, start: int, end: int) -> list[Box]:
    """Return the boxes side by side from `start` to `end`. Raises `DecodeError`."""
    found: list[Box] = []
    while start < end:
        box = _box(data, start, end)
        if box is None or box.end > end:
            raise broken("one is larger than its parent")
        found.append(box)
        if len(found) > MAX_BOXES:
            raise broken("too many")
        start = box.end
    return found


def find(data: bytes, parent: Box, *path: bytes) -> Box | None:
    """Return the first box at the end of a path of plain boxes."""
    for kind in path:
        inner = next(iter(_of(boxes(data, parent.body, parent.end), kind)), None)
        if inner is None:
            return None
        parent = inner
    return parent


def nclx(data: bytes, properties: Iterable[Box]) -> tuple[int, int] | None:
    """Return the code points of primaries and transfer function (ITU-T H.273), None without."""
    for box in _of(properties, b"colr"):
        if data[box.body : box.body + 4] == b"nclx" and box.end - box.body >= 8:
            return struct.unpack_from(">HH", data, box.body + 4)
    return None


def size_of(data: bytes, properties: Iterable[Box]) -> tuple[int, int] | None:
    """Return width and height in pixels as stored (`ispe`)."""
    for box in _of(properties, b"ispe"):
        if box.end - box.body >= 12:
            return struct.unpack_from(">II", data, box.body + 4)
    return None


def peak_nits(data: bytes, properties: Iterable[Box]) -> int:
    """Return the light of the brightest pixel in cd/m2 (`clli`), 0 where the file is silent."""
    for box in _of(properties, b"clli"):
        if box.end - box.body >= 4:
            return int.from_bytes(data[box.body : box.body + 2], "big")
    return 0


def _of(found: Iterable[Box], kind: bytes) -> list[Box]:
    return [box for box in found if box.kind == kind]


def _box(data: bytes, at: int, end: int) -> Box | None:
    """Read the head of a box; None where there is none. It may end beyond `end`."""
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


def _tracks(data: bytes, moov: Box) -> Iterator[Track]:
    for trak in _of(boxes(data, moov.body, moov.end), b"trak"):
        table = find(data, trak, b"mdia", b"minf", b"stbl")
        description = table and find(data, table, b"stsd")
        if table is None or description is None:
            continue
        # The first sample description is the one that holds in every picture sequence.
        entry = _box(data, description.body + 8, description.end)
        if entry is None or entry.end > description.end:
            raise broken("a sample entry is larger than its table")
        inner = entry.body + _VISUAL_SAMPLE_ENTRY
        if inner > entry.end:  # no picture: sound, or a text
            continue
        properties = boxes(data, inner, entry.end)
        size = struct.unpack_from(">HH", data, entry.body + 24)
        auxiliary = find(data, trak, b"tref", b"auxl") is not None
        yield Track(entry.kind, properties, *_samples(data, table), size, auxiliary)


def _samples(data: bytes, table: Box) -> tuple[list[Extent], list[int]]:
    """Return the samples of a track and the numbers, from 0, of those that stand alone."""
    sizes, chunks, wide = find(data, table, b"stsz"), find(data, table, b"stco"), 4
    if chunks is None:
        chunks, wide = find(data, table, b"co64"), 8
    runs, alone = find(data, table, b"stsc"), find(data, table, b"stss")
    if sizes is None or chunks is None or runs is None:
        return [], []
    cursor = _Cursor(data, sizes)
    cursor.version()
    size = cursor.number(4)
    count = cursor.count(4)
    lengths = [size or cursor.number(4) for _ in range(count)]
    places = [at for (at,) in _rows(data, chunks, wide)]
    spans = _rows(data, runs, 4, 4, 4)
    samples: list[Extent] = []
    for at, (first, many, _) in enumerate(spans):
        last = spans[at + 1][0] - 1 if at + 1 < len(spans) else len(places)
        for chunk in places[max(0, first - 1) : last]:
            offset = chunk
            for length in lengths[len(samples) : len(samples) + many]:
                samples.append(Extent(0, offset, length))
                offset += length
    numbers = range(1, count + 1) if alone is None else [at for (at,) in _rows(data, alone, 4)]
    return samples, [at - 1 for at in numbers if 0 < at <= len(samples)]


def _rows(data: bytes, table: Box, *sizes: int) -> list[tuple[int, ...]]:
    """Read a table of rows of numbers of these sizes in bytes."""
    cursor = _Cursor(data, table)
    cursor.version()
    return [tuple(cursor.number(size) for size in sizes) for _ in range(cursor.count(4))]

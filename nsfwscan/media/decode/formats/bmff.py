"""AVIF and HEIF files, for what the codecs do not report: items, properties, references.

These say which picture is which, how each is cropped and turned, what its samples mean, and whether
the file is complete (ISO/IEC 23008-12). Inconsistent files raise `DecodeError`.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats.boxes import (
    MAX_BOXES,
    MAX_ENTRIES,
    Box,
    Cursor,
    Extent,
    boxes,
    broken,
    of_kind,
    read_box,
)
from nsfwscan.media.decode.formats.tracks import READ, Track, tracks_of
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DERIVED = frozenset({b"grid", b"iden", b"iovl", b"tmap"})
"""Items that are derived from other items (ISO/IEC 23008-12, 6.6.2)."""

_ALPHA = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0",
    b"urn:mpeg:hevc:2015:auxid:1\0",
    b"urn:mpeg:avc:2015:auxid:1\0",
)
"""The type of alpha in `auxC`. Depth and gain maps are auxiliary pictures, too."""


@dataclass(slots=True)
class Item:
    """A picture, or a part of one, or metadata."""

    kind: bytes
    extents: list[Extent] = field(default_factory=list)
    properties: list[Box] = field(default_factory=list)
    """In the order of their association, in which transformations apply."""
    links: list[int] = field(default_factory=list)
    """For each property, its number in `ipco`, from 1, plus 0x8000 if it is essential."""
    hidden: bool = False


class Meta:
    """The `meta` box of a file: its items."""

    def __init__(self, data: bytes, box: Box) -> None:
        self.items: dict[int, Item] = {}
        self._inputs: dict[int, list[int]] = {}
        self._auxiliary: dict[int, list[int]] = {}
        self._attached: set[int] = set()
        self._data = data
        self._properties: list[Box] = []
        self.primary = 0
        self.children = boxes(data, box.body + 4, box.end)
        known = {b"iinf": self._iinf, b"iloc": self._iloc, b"iref": self._iref, b"iprp": self._iprp}
        parts = {
            child.kind: child for child in reversed(self.children)
        }  # the first of a kind counts
        self.idat = parts.get(b"idat")
        self.pitm = parts.get(b"pitm")
        if self.pitm is not None:
            cursor = Cursor(data, self.pitm)
            version, _ = cursor.version()
            self.primary = cursor.number(2 if version == 0 else 4)
        for kind, read in known.items():  # in this order: items come first
            if kind in parts:
                read(data, parts[kind])

    @property
    def properties(self) -> list[bytes]:
        """Return all properties as complete boxes."""
        return [self._data[prop.start : prop.end] for prop in self._properties]

    def others(self) -> list[int]:
        """Return the independent pictures beside the main one that are not hidden."""
        inputs = {part for parts in self._inputs.values() for part in parts}
        parts = inputs | self._attached | {self.primary}
        return [
            number
            for number, item in self.items.items()
            if number not in parts and not item.hidden and item.kind in (b"grid", *READ)
        ]

    def coded_parts(self, item: int) -> list[Item]:
        """Return the pictures an item is made of that are not themselves derived."""
        found = [self.items[part] for part in self.parts_of(item) if part in self.items]
        return [part for part in found if part.kind not in DERIVED]

    def alpha_of(self, item: int) -> int | None:
        """Return the item with the alpha of this item."""
        return next(iter(self.alphas_of(item)), None)

    def alphas_of(self, item: int) -> list[int]:
        """Return the items that claim to be the alpha of this item."""
        sources = [source for source in self._auxiliary.get(item, ()) if source in self.items]
        return [source for source in sources if self._is_alpha(self.items[source])]

    def derived_from(self, item: int, kind: bytes) -> list[Item]:
        """Return the items of one kind whose first input is `item`."""
        return [
            self.items[number]
            for number, inputs in self._inputs.items()
            if inputs[:1] == [item] and number in self.items and self.items[number].kind == kind
        ]

    def _is_alpha(self, item: Item) -> bool:
        return any(
            self._data[prop.body + 4 : prop.end].startswith(_ALPHA)
            for prop in item.properties
            if prop.kind == b"auxC"
        )

    def parts_of(self, item: int) -> list[int]:
        """Return the item and everything it is derived from, each once."""
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
        return {part.kind for part in self.coded_parts(item)}

    def _iinf(self, data: bytes, box: Box) -> None:
        cursor = Cursor(data, box)
        version, _ = cursor.version()
        cursor.count(2 if version == 0 else 4)
        for entry in boxes(data, cursor.at, box.end):
            inner = Cursor(data, entry)
            version, flags = inner.version()
            if entry.kind == b"infe" and version >= 2:
                number = inner.number(2 if version == 2 else 4)
                inner.take(2)
                self.items.setdefault(number, Item(inner.take(4), hidden=bool(flags & 1)))

    def _iloc(self, data: bytes, box: Box) -> None:
        cursor = Cursor(data, box)
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
        cursor = Cursor(data, box)
        wide = 2 if cursor.version()[0] == 0 else 4
        for entry in boxes(data, cursor.at, box.end):
            inner = Cursor(data, entry)
            source = inner.number(wide)
            targets = tuple(inner.number(wide) for _ in range(inner.count(2)))
            if entry.kind == b"dimg":
                self._inputs.setdefault(source, []).extend(targets)
            elif entry.kind in (b"auxl", b"thmb"):
                self._attached.add(source)
            if entry.kind == b"auxl":
                for target in targets:
                    self._auxiliary.setdefault(target, []).append(source)

    def _iprp(self, data: bytes, box: Box) -> None:
        children = boxes(data, box.body, box.end)
        properties = self._properties = [
            prop for ipco in of_kind(children, b"ipco") for prop in boxes(data, ipco.body, ipco.end)
        ]
        entries = 0
        for ipma in of_kind(children, b"ipma"):
            cursor = Cursor(data, ipma)
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
                        raise broken("a property is associated that does not exist")
                    if item is not None and index:
                        item.properties.append(properties[index - 1])
                        item.links.append(link)


class Bmff:
    """The boxes of one file. Raises `DecodeError` if they are inconsistent."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.cut = False
        """Whether a top-level box ends beyond the file."""
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
                    self.tracks = tracks_of(data, box)
        except DecodeError as error:
            if self.cut:
                raise self.truncated() from error
            raise
        if self.meta is None and not self.tracks and self.cut:
            raise self.truncated()

    @property
    def primary(self) -> Item | None:
        """The item to show; None if the file has only a sequence."""
        return None if self.meta is None else self.meta.items.get(self.meta.primary)

    @property
    def sequence(self) -> Track | None:
        """The track to show; None if the file has only a still picture."""
        shown = [track for track in self.tracks if not track.auxiliary]
        return next((track for track in shown if track.kind in READ), shown[0] if shown else None)

    def brands(self) -> list[bytes]:
        """Return the major brand and the compatible brands."""
        _, _, body, end = self.ftyp
        return [self.data[at : at + 4] for at in (body, *range(body + 8, end - 3, 4))]

    def with_primary(self, number: int) -> Bmff:
        """Return the file with another item as its main picture."""
        box = None if self.meta is None else self.meta.pitm
        if box is None:
            raise broken("no main picture")
        changed = bytearray(self.data)
        place = box.body + 4
        changed[place : box.end] = number.to_bytes(box.end - place, "big")
        return Bmff(bytes(changed))

    def with_brand(self, new: bytes, *old: bytes) -> bytes:
        """Return the file with `new` as its major brand and in place of `old` brands."""
        changed = bytearray(self.data)
        place = self.ftyp.body
        changed[place : place + 4] = new
        for at, brand in enumerate(self.brands()[1:]):
            if brand in old:
                place = self.ftyp.body + 8 + 4 * at
                changed[place : place + 4] = new
        return bytes(changed)

    def bytes_of(self, extents: Iterable[Extent], limit: int | None = None) -> bytes:
        """Return the bytes of an item or a sample, up to `limit`, as far as the file has them."""
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
        """Return how many parts of the picture lie beyond the end of the file, and the total."""
        parts = [[track.first] for track in self.tracks]
        if self.meta is not None:
            needed = self.needed(self.meta.primary)
            parts += [self.meta.items[number].extents for number in needed]
        beyond = [
            any(run.method == 0 and run.offset + run.length > len(self.data) for run in extents)
            for extents in parts
        ]
        return sum(beyond), len(beyond)

    def shortage(self) -> str:
        """Describe what lies beyond the end of the file; empty if nothing does.

        libheif leaves such tiles of a grid empty.
        """
        short, parts = self.short_parts()
        return f"{short} of {parts} parts of the picture are missing" if short else ""

    def truncated(self) -> DecodeError:
        """Return the error for a file that is cut off."""
        return DecodeError(FailReason.TRUNCATED, "the file ends before its picture does")

    @contextlib.contextmanager
    def truncation_named(self) -> Iterator[None]:
        """Give a codec's error the right reason if the file is cut off."""
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
        """Read the top-level boxes. Trailing data that is not a box is ignored."""
        at, end = 0, len(self.data)
        for _ in range(MAX_BOXES):
            box = read_box(self.data, at, end)
            if box is None:
                return
            if box.end > end:
                self.cut = True
                yield box._replace(end=end)
                return
            yield box
            at = box.end
        raise broken("too many boxes")


def nclx(data: bytes, properties: Iterable[Box]) -> tuple[int, int] | None:
    """Return the code points of primaries and transfer function (ITU-T H.273), or None."""
    for box in of_kind(properties, b"colr"):
        if data[box.body : box.body + 4] == b"nclx" and box.end - box.body >= 8:
            return struct.unpack_from(">HH", data, box.body + 4)
    return None


def profile_of(data: bytes, properties: Iterable[Box]) -> bytes:
    """Return the ICC profile, or b"" if there is none."""
    for box in of_kind(properties, b"colr"):
        if data[box.body : box.body + 4] in (b"prof", b"rICC"):
            return data[box.body + 4 : box.end]
    return b""


def size_of(data: bytes, properties: Iterable[Box]) -> tuple[int, int] | None:
    """Return width and height in pixels as stored (`ispe`)."""
    for box in of_kind(properties, b"ispe"):
        if box.end - box.body >= 12:
            return struct.unpack_from(">II", data, box.body + 4)
    return None


def peak_nits(data: bytes, properties: Iterable[Box]) -> int:
    """Return the luminance of the brightest pixel in cd/m2 (`clli`); 0 if not given."""
    for box in of_kind(properties, b"clli"):
        if box.end - box.body >= 4:
            return int.from_bytes(data[box.body : box.body + 2], "big")
    return 0

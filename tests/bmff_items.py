"""AVIF and HEIC files put together from items: grids, alpha, gain maps and other derivations."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import bmff_files as files
import bmff_shown
import pictures
from bmff_files import box, boxes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

ALPHA = box(b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
DEPTH = box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0")

_CODED = (b"av1C", b"hvcC", b"ispe", b"pixi")
_ESSENTIAL = (b"av1C", b"clap", b"hvcC", b"imir", b"irot")
_BRANDS = {b"av01": b"avif", b"hvc1": b"heic"}


@dataclass(frozen=True)
class Item:
    """A picture, or how one is made of others; `properties` are whole boxes."""

    kind: bytes
    data: bytes
    properties: tuple[bytes, ...] = ()
    hidden: bool = False

    def part(self, *properties: bytes) -> Item:
        """Return the item as a hidden part of another one, with more properties."""
        return replace(self, properties=(*self.properties, *properties), hidden=True)

    def with_(self, *properties: bytes) -> Item:
        """Return the item with more properties."""
        return replace(self, properties=(*self.properties, *properties))


def coded(image: Image.Image, format_: str = "AVIF") -> Item:
    """Encode a picture with little loss, without a colour space."""
    if format_ == "AVIF":
        options = {"quality": 92, "speed": 9, "subsampling": "4:4:4"}
        data, kind = pictures.encode(image, format_, **options), b"av01"
    else:
        data, kind = pictures.encode(image, format_, quality=92, chroma=444), b"hvc1"
    top = dict(boxes(data))
    properties = dict(boxes(dict(boxes(top[b"meta"][4:]))[b"iprp"]))[b"ipco"]
    known = tuple(box(*one) for one in boxes(properties) if one[0] in _CODED)
    return Item(kind, top[b"mdat"], known)


def size(width: int, height: int) -> bytes:
    """Return the property that gives a size (ispe)."""
    return box(b"ispe", struct.pack(">III", 0, width, height))


def grid(width: int, height: int, columns: int, *properties: bytes) -> Item:
    """Return a grid of one row."""
    data = struct.pack(">BBBBHH", 0, 0, 0, columns - 1, width, height)
    return Item(b"grid", data, (size(width, height), *properties))


def gain_map(headroom: int) -> Item:
    """Return a gain map for a picture of this headroom (ISO 21496-1), for displays of another."""
    head = struct.pack(">BHHB4I", 0, 0, 0, 0x40, headroom, 1, 0 if headroom else 2, 1)
    channel = struct.pack(">iIiI6I", -4, 1, -4, 1, 1, 1, 0, 1, 0, 1)
    return Item(b"tmap", head + channel, (size(128, 96), files.nclx(1, 13)))


def file_of(
    items: Mapping[int, Item],
    *links: tuple[bytes, int, Sequence[int]],
    primary: int = 1,
) -> bytes:
    """Put a file together. A link is its kind, an item and those to which it refers."""
    brand = next(_BRANDS[one.kind] for one in items.values() if one.kind in _BRANDS)
    known: dict[bytes, int] = {}
    for item in items.values():
        for one in item.properties:
            known.setdefault(one, len(known) + 1)
    lines = b"".join(
        struct.pack(
            f">HB{len(item.properties)}H",
            number,
            len(item.properties),
            *(0x8000 * (one[4:8] in _ESSENTIAL) | known[one] for one in item.properties),
        )
        for number, item in items.items()
    )
    entries = b"".join(
        box(b"infe", struct.pack(">BxxBHH", 2, item.hidden, number, 0) + item.kind + b"\0")
        for number, item in items.items()
    )
    references = b"".join(
        box(kind, struct.pack(f">HH{len(to)}H", number, len(to), *to)) for kind, number, to in links
    )
    head = box(b"ftyp", brand + bytes(4) + brand + b"mif1miaf")

    def meta(start: int) -> bytes:
        places = b""
        for number, item in items.items():
            places += struct.pack(">HHHII", number, 0, 1, start, len(item.data))
            start += len(item.data)
        parts = (
            box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, primary)),
            box(b"iloc", struct.pack(">IHH", 0, 0x4400, len(items)) + places),
            box(b"iinf", struct.pack(">IH", 0, len(items)) + entries),
            box(b"iref", bytes(4) + references) if references else b"",
            box(
                b"iprp",
                box(b"ipco", b"".join(known))
                + box(b"ipma", struct.pack(">II", 1, len(items)) + lines),
            ),
        )
        return box(b"meta", bytes(4) + b"".join(parts))

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"".join(item.data for item in items.values()))


def with_two_tracks(handler: bytes) -> bytes:
    """Write two sequences of 3 frames of 128 x 96, the first of which has this handler."""
    sources = [bmff_shown.sequence(3, (128, 96), seed) for seed in (1, 4)]
    moovs = [dict(boxes(source))[b"moov"] for source in sources]
    tracks = [dict(boxes(moov))[b"trak"] for moov in moovs]
    tracks[0] = tracks[0].replace(b"pict", handler)
    head = box(b"ftyp", b"avis" + bytes(4) + b"avismsf1miaf")
    front = box(b"mvhd", dict(boxes(moovs[0]))[b"mvhd"])
    data = [box(b"mdat", dict(boxes(source))[b"mdat"]) for source in sources]
    length = sum(map(len, (head, front, *tracks))) + 8 + 8 + 8
    moved, at = [], length
    for source, track, coded_data in zip(sources, tracks, data, strict=True):
        moved.append(box(b"trak", files.shifted(b"trak", track, at + 4 - source.index(b"mdat"))))
        at += len(coded_data)
    return b"".join((head, box(b"moov", front + b"".join(moved)), *data))

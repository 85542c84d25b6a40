"""Files remade so that a codec shows a part that it would pass over or refuse.

Nothing in the file moves: a new `meta` is appended, and what it stands in for becomes `free`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.images.formats.bmff import Bmff, Extent

_HANDLER = bytes(8) + b"pict" + bytes(13)


@dataclass(frozen=True, slots=True)
class Part:
    """An item of the new file."""

    kind: bytes
    extents: Sequence[Extent]
    properties: Sequence[bytes]
    """Whole boxes; all of them are essential."""


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def with_picture(file: Bmff, part: Part) -> bytes:
    """Return the file with `part` as its only picture."""
    extents = b"".join(struct.pack(">QQ", one.offset, one.length) for one in part.extents)
    location = struct.pack(
        ">IHHHHHH", 1 << 24, 0x8800, 1, 1, part.extents[0].method, 0, len(part.extents)
    )
    numbers = bytes(0x80 | at + 1 for at in range(len(part.properties)))
    meta = box(
        b"meta",
        bytes(4),
        box(b"hdlr", _HANDLER),
        box(b"pitm", bytes(4), b"\0\1"),
        box(b"iloc", location, extents),
        box(b"iinf", bytes(4), b"\0\1", box(b"infe", b"\2\0\0\0\0\1\0\0", part.kind, b"\0")),
        box(
            b"iprp",
            box(b"ipco", *part.properties),
            box(b"ipma", struct.pack(">IIHB", 0, 1, 1, len(numbers)), numbers),
        ),
    )
    return _with_meta(file, meta)


def with_alpha_size(file: Bmff, content: bytes) -> bytes:
    """Give an alpha item without a size (`ispe`) that of its picture, as browsers do.

    `content` is the file, or a copy of it with other brands.
    """
    meta, primary = file.meta, file.primary
    alpha = meta.items.get(meta.alpha_of(meta.primary) or 0) if meta is not None else None
    if meta is None or primary is None or alpha is None:
        return content
    if any(one.kind == b"ispe" for one in alpha.properties):
        return content
    size = [
        link
        for link, one in zip(primary.links, primary.properties, strict=True)
        if one.kind == b"ispe"
    ]
    entries = []
    for number, item in sorted(meta.items.items()):
        links = (size[:1] if item is alpha else []) + item.links
        if links:
            entries.append(struct.pack(f">IB{len(links)}H", number, len(links), *links))
    association = struct.pack(">II", 1 << 24 | 1, len(entries)) + b"".join(entries)
    children = [file.data[one.start : one.end] for one in meta.children if one.kind != b"iprp"]
    properties = box(b"iprp", box(b"ipco", *meta.properties), box(b"ipma", association))
    return _with_meta(file, box(b"meta", bytes(4), *children, properties), content)


def without_apertures(file: Bmff, size: tuple[int, int]) -> bytes:
    """Return the file with the clean apertures of its main picture as large as its raster."""
    changed = bytearray(file.data)
    width, height = size
    for one in file.primary.properties if file.primary is not None else ():
        if one.kind == b"irot" and file.data[one.body] & 1:
            width, height = height, width
        elif one.kind == b"clap" and one.end - one.body >= 32:
            whole = struct.pack(">8I", width, 1, height, 1, 0, 1, 0, 1)
            changed[one.body : one.body + 32] = whole
    return bytes(changed)


def _with_meta(file: Bmff, meta: bytes, content: bytes | None = None) -> bytes:
    """Append a `meta`; those that were there, and tracks, become `free`."""
    last = file.top[-1]
    changed = bytearray((file.data if content is None else content)[: last.end])
    for one in file.top:
        if one.kind in (b"meta", b"moov"):
            changed[one.start + 4 : one.start + 8] = b"free"
    if not any(changed[last.start : last.start + 4]):  # "to the end of the file"
        changed[last.start : last.start + 4] = struct.pack(">I", last.end - last.start)
    return bytes(changed) + meta

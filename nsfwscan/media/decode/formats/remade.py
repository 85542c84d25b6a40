"""Rewritten files, which make a codec show a part that it would otherwise skip or refuse."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.media.decode.formats.bmff import Bmff

_HANDLER = bytes(8) + b"pict" + bytes(13)


@dataclass(frozen=True, slots=True)
class RemadePart:
    """An item for a new file."""

    kind: bytes
    data: bytes
    properties: Sequence[bytes]
    """Complete boxes."""


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def picture_of(main: RemadePart, inputs: Sequence[RemadePart] = ()) -> bytes:
    """Return a HEIC with one picture, which may be derived from others."""
    parts = [main, *inputs]
    known: dict[bytes, int] = {}
    for part in parts:
        for prop in part.properties:
            known.setdefault(prop, len(known) + 1)
    links = b"".join(
        struct.pack(
            f">HB{len(part.properties)}H",
            number,
            len(part.properties),
            *(0x8000 | known[prop] for prop in part.properties),
        )
        for number, part in enumerate(parts, 1)
    )
    entries = b"".join(
        box(b"infe", struct.pack(">BxxBHH", 2, number > 1, number, 0), part.kind, b"\0")
        for number, part in enumerate(parts, 1)  # inputs are hidden
    )
    numbers = range(2, len(parts) + 1)
    derived = box(b"dimg", struct.pack(f">HH{len(numbers)}H", 1, len(numbers), *numbers))
    head = box(b"ftyp", b"heic", bytes(4), b"heicmif1")

    def meta(start: int) -> bytes:
        places = []
        for number, part in enumerate(parts, 1):
            places.append(struct.pack(">HHHII", number, 0, 1, start, len(part.data)))
            start += len(part.data)
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", _HANDLER),
            box(b"pitm", bytes(4), b"\0\1"),
            box(b"iloc", bytes(4), struct.pack(">HH", 0x4400, len(parts)), *places),
            box(b"iinf", bytes(4), struct.pack(">H", len(parts)), entries),
            box(b"iref", bytes(4), derived) if inputs else b"",
            box(
                b"iprp",
                box(b"ipco", *known),
                box(b"ipma", struct.pack(">II", 1, len(parts)), links),
            ),
        )

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *(part.data for part in parts))


def with_alpha_sizes(file: Bmff, content: bytes) -> bytes:
    """Give alpha items that have no size (`ispe`) that of their pictures.

    `content` is the file, or a copy of it with other brands.
    """
    meta = file.meta
    if meta is None:
        return content
    sizes: dict[int, int] = {}
    for number, item in meta.items.items():
        alpha = meta.alpha_of(number)
        if alpha is not None and all(prop.kind != b"ispe" for prop in meta.items[alpha].properties):
            pairs = zip(item.links, item.properties, strict=True)
            sizes.update((alpha, link) for link, prop in pairs if prop.kind == b"ispe")
    if not sizes:
        return content
    entries = []
    for number, item in sorted(meta.items.items()):
        links = ([sizes[number]] if number in sizes else []) + item.links
        if links:
            entries.append(struct.pack(f">IB{len(links)}H", number, len(links), *links))
    association = struct.pack(">II", 1 << 24 | 1, len(entries)) + b"".join(entries)
    children = [
        file.data[child.start : child.end] for child in meta.children if child.kind != b"iprp"
    ]
    properties = box(b"iprp", box(b"ipco", *meta.properties), box(b"ipma", association))
    return _with_meta(file, box(b"meta", bytes(4), *children, properties), content)


def without_apertures(file: Bmff, size: tuple[int, int]) -> bytes:
    """Return the file with the clean apertures of its main picture enlarged to its raster."""
    changed = bytearray(file.data)
    width, height = size
    for prop in file.primary.properties if file.primary is not None else ():
        if prop.kind == b"irot" and file.data[prop.body] & 1:
            width, height = height, width
        elif prop.kind == b"clap" and prop.end - prop.body >= 32:
            whole = struct.pack(">8I", width, 1, height, 1, 0, 1, 0, 1)
            changed[prop.body : prop.body + 32] = whole
    return bytes(changed)


def _with_meta(file: Bmff, meta: bytes, content: bytes | None = None) -> bytes:
    """Append a `meta` box; the old one becomes `free`, so that nothing moves."""
    last = file.top[-1]
    changed = bytearray((file.data if content is None else content)[: last.end])
    for child in file.top:
        if child.kind == b"meta":
            changed[child.start + 4 : child.start + 8] = b"free"
    # The last box may reach to the end of the file, or beyond.
    at, size = (last.start, 4) if last.body - last.start == 8 else (last.start + 8, 8)
    changed[at : at + size] = (last.end - last.start).to_bytes(size, "big")
    return bytes(changed) + meta

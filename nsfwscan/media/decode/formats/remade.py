"""Files remade so that a codec shows a part that it would pass over or refuse."""

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
    """An item of a new file."""

    kind: bytes
    data: bytes
    properties: Sequence[bytes]
    """Whole boxes."""


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def picture_of(main: RemadePart, inputs: Sequence[RemadePart] = ()) -> bytes:
    """Return a HEIC of one picture, which may be derived from others."""
    parts = [main, *inputs]
    known: dict[bytes, int] = {}
    for one in parts:
        for each in one.properties:
            known.setdefault(each, len(known) + 1)
    links = b"".join(
        struct.pack(
            f">HB{len(one.properties)}H",
            number,
            len(one.properties),
            *(0x8000 | known[each] for each in one.properties),
        )
        for number, one in enumerate(parts, 1)
    )
    entries = b"".join(
        box(b"infe", struct.pack(">BxxBHH", 2, number > 1, number, 0), one.kind, b"\0")
        for number, one in enumerate(parts, 1)  # inputs are hidden
    )
    numbers = range(2, len(parts) + 1)
    derived = box(b"dimg", struct.pack(f">HH{len(numbers)}H", 1, len(numbers), *numbers))
    head = box(b"ftyp", b"heic", bytes(4), b"heicmif1")

    def meta(start: int) -> bytes:
        places = []
        for number, one in enumerate(parts, 1):
            places.append(struct.pack(">HHHII", number, 0, 1, start, len(one.data)))
            start += len(one.data)
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
    return head + meta(start) + box(b"mdat", *(one.data for one in parts))


def with_alpha_sizes(file: Bmff, content: bytes) -> bytes:
    """Give alpha items without a size (`ispe`) that of their pictures.

    `content` is the file, or a copy of it with other brands.
    """
    meta = file.meta
    if meta is None:
        return content
    sizes: dict[int, int] = {}
    for number, item in meta.items.items():
        alpha = meta.alpha_of(number)
        if alpha is not None and all(one.kind != b"ispe" for one in meta.items[alpha].properties):
            pairs = zip(item.links, item.properties, strict=True)
            sizes.update((alpha, link) for link, one in pairs if one.kind == b"ispe")
    if not sizes:
        return content
    entries = []
    for number, item in sorted(meta.items.items()):
        links = ([sizes[number]] if number in sizes else []) + item.links
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
    """Append a `meta`; the one that was there becomes `free`, so that nothing moves."""
    last = file.top[-1]
    changed = bytearray((file.data if content is None else content)[: last.end])
    for one in file.top:
        if one.kind == b"meta":
            changed[one.start + 4 : one.start + 8] = b"free"
    # The last box may reach to the end of the file, or beyond it.
    at, size = (last.start, 4) if last.body - last.start == 8 else (last.start + 8, 8)
    changed[at : at + size] = (last.end - last.start).to_bytes(size, "big")
    return bytes(changed) + meta

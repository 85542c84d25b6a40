"""TIFF files written by hand: any tags, any bytes, whether they make sense or not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 3, 4, 5, 7, 16
CODES = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", LONG8: "Q"}

Tags = "Mapping[int, tuple[int, Sequence[int]] | int]"

TILE_WIDTH, STRIP_OFFSETS, TILE_OFFSETS = 322, 273, 324


def tiff(
    *pages: tuple[Tags, Sequence[bytes]],
    order: str = "<",
    big: bool = False,
    after: int = 0,
) -> bytes:
    """Write pages of tags and segments; offsets and lengths of the segments are added to the tags.

    A tag's value is a type and its numbers, or one number, which becomes a LONG. `after` is where
    the last directory's link leads to.
    """
    word, count_code = ("Q", "Q") if big else ("I", "H")
    width = struct.calcsize(word)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}H", 43 if big else 42)
    if big:
        head += struct.pack(f"{order}HH", 8, 0)
    link = len(head)
    body = bytearray(head + bytes(width))
    for tags, segments in pages:
        offsets = []
        for segment in segments:
            offsets.append(len(body))
            body += segment
        places = (TILE_OFFSETS, 325) if TILE_WIDTH in tags else (STRIP_OFFSETS, 279)
        lengths = [len(segment) for segment in segments]
        entries = {places[0]: (LONG, offsets), places[1]: (LONG, lengths), **tags}
        table = b""
        for tag, value in sorted(entries.items()):
            kind, numbers = (LONG, [value]) if isinstance(value, int) else value
            packed = struct.pack(f"{order}{len(numbers)}{CODES[kind]}", *numbers)
            count = len(numbers) // 2 if kind == RATIONAL else len(numbers)
            table += struct.pack(f"{order}HH{word}", tag, kind, count)
            if len(packed) <= width:
                table += packed.ljust(width, b"\0")
            else:
                body += bytes(len(body) % 2)
                table += struct.pack(f"{order}{word}", len(body))
                body += packed
        body += bytes(len(body) % 2)
        struct.pack_into(f"{order}{word}", body, link, len(body))
        body += struct.pack(f"{order}{count_code}", len(entries)) + table
        link = len(body)
        body += bytes(width)
    struct.pack_into(f"{order}{word}", body, link, after)
    return bytes(body)


def shorts(*numbers: int) -> tuple[int, Sequence[int]]:
    """Return a value of SHORTs."""
    return SHORT, numbers

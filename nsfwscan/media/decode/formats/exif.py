"""The orientation in an EXIF block, by Chromium's rule.

Pillow would also take it from XMP, and accept values of any type. Browsers only read the tag in the
first directory, and only as the single SHORT that EXIF 2.32 (section 4.6.4) requires.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORIENTATION, _EXIF_DIRECTORY = 0x0112, 0x8769
_SHORT, _LONG = 3, 4
_ENTRY_BYTES = 12
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def orientation_of(block: bytes) -> int:
    """Return the orientation, 1 to 8, in an EXIF block that begins with its TIFF header.

    1 if it is missing or invalid: broken metadata does not make the pixels unreadable.
    """
    order = _ORDERS.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (at,) = struct.unpack_from(f"{order}I", block, 4)
    return next(_orientations(block, order, at), 1)


def _orientations(block: bytes, order: str, at: int, *, nested: bool = False) -> Iterator[int]:
    """Yield orientations in a directory and its EXIF directory, which Chromium also reads."""
    try:
        (entries,) = struct.unpack_from(f"{order}H", block, at)
        for entry in range(at + 2, at + 2 + entries * _ENTRY_BYTES, _ENTRY_BYTES):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIHxx", block, entry)
            if (tag, kind, count) == (_ORIENTATION, _SHORT, 1) and 1 <= value <= 8:
                yield value
            if (tag, kind, count) == (_EXIF_DIRECTORY, _LONG, 1) and not nested:
                (inner,) = struct.unpack_from(f"{order}I", block, entry + 8)
                yield from _orientations(block, order, inner, nested=True)
    except struct.error:  # an offset beyond the block
        return

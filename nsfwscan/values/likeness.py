"""Likeness: 64 bits that pictures which look the same have nearly in common.

The bits are the well-known pHash: a picture's brightness at 32 x 32, its cosine transform, and of
the 64 lowest frequencies which are above their median. They survive another size, format or
quality, and tell nothing of what a picture shows. Measured in `benchmarks/likeness.py`, next to the
other well-known one, dHash.

In: brightness. Out: an int. No I/O, and nothing but the standard library, for the processes that
decode pictures compute it.
"""

from __future__ import annotations

import math
import operator
import statistics
import struct
import sys
from array import array
from functools import cache

SIDE = 32
"""Pixels of each edge of what a likeness is computed from."""
UNKNOWN = 0
"""Nobody computed the likeness yet."""
NONE = (1 << 64) - 1
"""The picture has no likeness: it is plain, or an animation, and can only be known by content."""
ALGORITHM = "phash64-1"
"""Stands beside each likeness that is kept for good: others cannot be compared with it."""
DEFAULT_WITHIN = 6
"""Bits. Chosen by measurement; see `benchmarks/README.md`."""
MOST_WITHIN = 16
"""Bits. Beyond this different photographs are taken for the same by the dozen."""

BYTES = 8
"""The length of a likeness as `pack` gives it."""

_PACKED = struct.Struct("<Q")
_EDGE = 8
_LEAST_DETAIL = 2.0
"""Grey levels, of 255. With less between a picture's areas the bits would be noise."""


def of_luma(luma: bytes) -> int:
    """Return the likeness of a picture, or `NONE` when it is too plain to have one.

    `luma` is the brightness of the whole picture, stretched to `SIDE` x `SIDE`, one byte a pixel.
    32 bits of a likeness are set, so that none looks like `UNKNOWN` or `NONE`.
    """
    rows = [list(map(float, luma[at : at + SIDE])) for at in range(0, SIDE * SIDE, SIDE)]
    basis = _basis()
    across = [[_product(row, wave) for row in rows] for wave in basis]
    frequencies = [_product(column, wave) for wave in basis for column in across]
    # The first is the mean brightness, which says nothing of what is where.
    if math.sqrt(sum(one * one for one in frequencies[1:])) < _LEAST_DETAIL:
        return NONE
    middle = statistics.median(frequencies)
    bits = 0
    for one in frequencies:
        bits = bits << 1 | (one > middle)
    return bits if is_sound(bits) else NONE


def distance(one: int, other: int) -> int:
    """Return in how many bits two likenesses differ: 0 for the same, about 32 for strangers."""
    return (one ^ other).bit_count()


def is_sound(bits: int) -> bool:
    """Tell whether a number that comes from a file can be a likeness.

    Half of the bits of one are set, fewer only where frequencies are equal. With hardly any or
    nearly all of them set it would be close to `UNKNOWN` or `NONE`.
    """
    return MOST_WITHIN < bits.bit_count() < 64 - MOST_WITHIN


def is_comparable(likeness: int) -> bool:
    """Tell whether a likeness is one, and not `UNKNOWN` or `NONE`."""
    return likeness not in {UNKNOWN, NONE}


def pack(bits: int) -> bytes:
    """Return a likeness as `BYTES` bytes, little-endian."""
    return _PACKED.pack(bits)


def unpack(packed: bytes | None) -> int:
    """Return the likeness that `pack` gave; `UNKNOWN` for None."""
    if packed is None:
        return UNKNOWN
    (bits,) = _PACKED.unpack(packed)
    return int(bits)


def unpack_all(packed: bytes) -> array[int]:
    """Return the likenesses of several packed ones, joined."""
    column = array("Q", packed)
    if sys.byteorder == "big":
        column.byteswap()
    return column


@cache
def _basis() -> list[list[float]]:
    """Return the waves of the cosine transform, so scaled that a product is a mean of products."""
    return [
        [math.cos(math.pi * wave * (2 * at + 1) / (2 * SIDE)) / SIDE for at in range(SIDE)]
        for wave in range(_EDGE)
    ]


def _product(values: list[float], wave: list[float]) -> float:
    return float(sum(map(operator.mul, values, wave)))

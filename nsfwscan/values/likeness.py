"""Likeness: 64 bits that are nearly the same for pictures that look the same.

The bits are the well-known pHash: take a picture's brightness at 32 x 32, its cosine transform, and
for each of the 64 lowest frequencies, whether it is above their median. The bits survive resizing,
re-encoding and another quality, and reveal nothing of what a picture shows. Measured in
`benchmarks/likeness.py`, beside the other well-known hash, dHash.

In: brightness. Out: an int. No I/O, and standard library only, because the decode processes compute
it.
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
"""Pixels on each edge of the picture from which a likeness is computed."""
UNKNOWN = 0
"""The likeness has not been computed yet."""
NONE = (1 << 64) - 1
"""The picture has no likeness: it is plain or an animation, and only matches by content."""
ALGORITHM = "phash64-1"
"""Stored beside each likeness; likenesses of different algorithms cannot be compared."""
DEFAULT_WITHIN = 6
"""Bits. Chosen by measurement; see `benchmarks/README.md`."""
MOST_WITHIN = 16
"""Bits. Beyond this, dozens of different photographs are taken for the same."""

BYTES = 8
"""The length of a likeness as `pack` gives it."""

_PACKED = struct.Struct("<Q")
_EDGE = 8
_LEAST_DETAIL = 2.0
"""Grey levels, of 255. If a picture varies less than this, the bits would be noise."""


def of_luma(luma: bytes) -> int:
    """Return the likeness of a picture, or `NONE` if it is too plain to have one.

    `luma` is the brightness of the whole picture, stretched to `SIDE` x `SIDE`, one byte per pixel.
    32 bits are set (fewer if frequencies are equal), so none is close to `UNKNOWN` or `NONE`.
    """
    rows = [list(map(float, luma[at : at + SIDE])) for at in range(0, SIDE * SIDE, SIDE)]
    basis = _basis()
    across = [[_product(row, wave) for row in rows] for wave in basis]
    frequencies = [_product(column, wave) for wave in basis for column in across]
    # The first is the mean brightness, which says nothing about the layout.
    if math.sqrt(sum(value * value for value in frequencies[1:])) < _LEAST_DETAIL:
        return NONE
    middle = statistics.median(frequencies)
    bits = 0
    for value in frequencies:
        bits = bits << 1 | (value > middle)
    return bits if is_sound(bits) else NONE


def distance(one: int, other: int) -> int:
    """Return how many bits two likenesses differ in: 0 if equal, about 32 if unrelated."""
    return (one ^ other).bit_count()


def is_sound(bits: int) -> bool:
    """Return True if a number read from a file can be a likeness.

    Half of a likeness's bits are set, or fewer if frequencies are equal. With hardly any or nearly
    all of them set it would be close to `UNKNOWN` or `NONE`.
    """
    return MOST_WITHIN < bits.bit_count() < 64 - MOST_WITHIN


def is_comparable(likeness: int) -> bool:
    """Return True unless `likeness` is `UNKNOWN` or `NONE`."""
    return likeness not in {UNKNOWN, NONE}


def pack(bits: int) -> bytes:
    """Return a likeness as `BYTES` bytes, little-endian."""
    return _PACKED.pack(bits)


def unpack(packed: bytes | None) -> int:
    """Return the likeness that `pack` packed; `UNKNOWN` for None."""
    if packed is None:
        return UNKNOWN
    (bits,) = _PACKED.unpack(packed)
    return int(bits)


def unpack_all(packed: bytes) -> array[int]:
    """Return the likenesses in a concatenation of packed likenesses."""
    column = array("Q", packed)
    if sys.byteorder == "big":
        column.byteswap()
    return column


@cache
def _basis() -> list[list[float]]:
    """Return the cosine transform's waves, scaled so that a product is a mean of products."""
    return [
        [math.cos(math.pi * wave * (2 * at + 1) / (2 * SIDE)) / SIDE for at in range(SIDE)]
        for wave in range(_EDGE)
    ]


def _product(values: list[float], wave: list[float]) -> float:
    return float(sum(map(operator.mul, values, wave)))

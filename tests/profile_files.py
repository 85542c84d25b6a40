"""ICC profiles with the tags that a test wants."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

import pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Tag = tuple[bytes, bytes]
Table: TypeAlias = "Callable[[float, float, float], tuple[float, float, float]]"

CURVES = (b"rTRC", b"gTRC", b"bTRC")
_NODES = 5


def profile(
    *tags: Tag, space: bytes = b"RGB ", pcs: bytes = b"XYZ ", version: int = 0x04300000
) -> bytes:
    """Put a display profile together, with a white point."""
    found = [(b"wtpt", xyz(0.9642, 1.0, 0.8249)), *tags]
    start = 132 + 12 * len(found)
    table, body = struct.pack(">I", len(found)), b""
    for name, data in found:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">II", 128 + len(table) + len(body), 0) + struct.pack(">I", version)
    head += b"mntr" + space + pcs + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp"
    return head.ljust(68, b"\0") + xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48) + table + body


def xyz(*values: float) -> bytes:
    """Return a colour (XYZType)."""
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(*points: int) -> bytes:
    """Return a curve by its points of 16 bits (curveType)."""
    return b"curv" + struct.pack(f">II{len(points)}H", 0, len(points), *points)


def gamma(value: float) -> bytes:
    """Return a curve by its exponent."""
    return b"curv" + struct.pack(">IIH", 0, 1, round(value * 256))


def formula(kind: int, *values: float) -> bytes:
    """Return a curve by its parameters (parametricCurveType)."""
    fixed = [round(value * 65536) for value in values]
    return b"para" + struct.pack(f">IHH{len(fixed)}i", 0, kind, 0, *fixed)


def matrix(each: bytes, colorants: Sequence[Sequence[float]] = pictures.SRGB) -> list[Tag]:
    """Return the tags of a profile with the same curve for all channels."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    found = [(name, xyz(*one)) for name, one in zip(names, colorants, strict=True)]
    return found + [(name, each) for name in CURVES]


def table(shown: Table) -> bytes:
    """Return a table from RGB to L*a*b*, all of them 0 to 1 (lut8Type)."""
    at = [node / (_NODES - 1) for node in range(_NODES)]
    nodes = b"".join(
        bytes(round(255 * value) for value in shown(red, green, blue))
        for red in at
        for green in at
        for blue in at
    )
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256)) * 3
    return b"mft1" + bytes((0, 0, 0, 0, 3, 3, _NODES, 0)) + unit + straight + nodes + straight


def code_points(primaries: int, transfer: int) -> bytes:
    """Return a cicp tag."""
    return b"cicp" + bytes((0, 0, 0, 0, primaries, transfer, 0, 1))

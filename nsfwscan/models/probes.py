"""Harmless generated pictures with recorded scores, for `nsfwscan selftest`.

They are computed, so the pixels are the same on every machine. A score that differs from the
recorded one means another decoder, another onnxruntime kernel or a damaged model.
"""

from __future__ import annotations

import random
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_EDGE = 96
_Pixel = tuple[int, int, int]


def _sunset(x: int, y: int) -> _Pixel:
    return 255 - y // 2, 96 + (x * y) % 64, 40 + 2 * y


def _checks(x: int, y: int) -> _Pixel:
    return (230, 190, 170) if (x // 12 + y // 12) % 2 else (30, 60, 90)


def _disc(x: int, y: int) -> _Pixel:
    inside = (x - 48) ** 2 + (y - 48) ** 2 < 34**2
    return (224, 172 - x // 3, 150 - y // 3) if inside else (20 + y, 120, 60 + x)


def _noise(x: int, y: int) -> _Pixel:
    bits = (x * 2654435761 + y * 40503 + 12345) * 2246822519 & 0xFFFFFFFF
    return bits >> 24, bits >> 16 & 0xFF, bits >> 8 & 0xFF


PROBES: Mapping[str, Callable[[int, int], _Pixel]] = {
    "sunset": _sunset,
    "checks": _checks,
    "disc": _disc,
    "noise": _noise,
}
"""By name: a function from (x, y) to an RGB colour, 0 to 255."""


def noise(bytes_: int, seed: int) -> bytes:
    """Return random pixels, the same for the same seed. A bundle has no `numpy.random`."""
    return random.Random(seed).randbytes(bytes_)  # noqa: S311 - not a secret


def render(name: str) -> bytes:
    """Return the probe `name` as a 96 x 96 RGB PNG file. Raises KeyError if there is none."""
    colour = PROBES[name]
    rows = b"".join(
        b"\0" + bytes(value for x in range(_EDGE) for value in colour(x, y)) for y in range(_EDGE)
    )
    header = struct.pack(">IIBBBBB", _EDGE, _EDGE, 8, 2, 0, 0, 0)
    # The bytes may differ between versions of zlib; the pixels do not.
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )

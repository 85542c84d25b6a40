"""`Neighbours`: finds the ruling about a picture that looks like a given one.

A re-scan asks for every picture, so few comparisons are made. Two likenesses that differ in at most
n bits are equal in at least one of n + 1 bands of bits; only rulings that share a band with a
picture are compared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.values import likeness
from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from nsfwscan.judge.ruled import Ruled

_BITS = 64
_FEW = 6


class _Near(NamedTuple):
    bits: int
    within: int
    ruled: Ruled


class Neighbours:
    """Rulings that also apply to pictures that look alike."""

    def __init__(self, ruled: Iterable[Ruled]) -> None:
        """Keep those rulings from `ruled` that apply to similar pictures."""
        found = [_Near(*entry.near, entry) for entry in ruled if entry.near is not None]
        # A few rulings are compared with every picture, which is faster: an empty band matches all.
        bands = 1 if len(found) <= _FEW else 1 + max(near.within for near in found)
        width = 0 if len(found) <= _FEW else _BITS // bands
        self._mask = (1 << width) - 1
        self._bands: list[tuple[int, dict[int, list[_Near]]]] = []
        """For each band, its first bit, and the rulings by the value of their bits there."""
        for band in range(bands if found else 0):
            shift = band * width
            table: dict[int, list[_Near]] = {}
            for one in found:
                table.setdefault(one.bits >> shift & self._mask, []).append(one)
            self._bands.append((shift, table))

    def __bool__(self) -> bool:
        return bool(self._bands)

    def nearest(self, bits: int) -> tuple[Ruled, int] | None:
        """Return the ruling about the picture most like this one, and the distance in bits.

        If two are equally far, one that denies wins over one that allows, then the later over the
        earlier. None if every ruling is farther away than it allows.
        """
        if not likeness.is_comparable(bits):
            return None
        found = [
            (away, one.ruled.ruling is Ruling.ALLOWED, -one.ruled.at, one.ruled)
            for shift, table in self._bands
            for one in table.get(bits >> shift & self._mask, ())
            if (away := likeness.distance(one.bits, bits)) <= one.within
        ]
        if not found:
            return None
        away, _, _, ruled = min(found, key=lambda one: one[:3])
        return ruled, away

    def touch(self, likenesses: array[int]) -> bool:
        """Return True if a ruling applies to any of these pictures.

        `UNKNOWN` and `NONE` match no ruling: they are about 32 bits away from any likeness.
        """
        mask = self._mask
        for shift, table in self._bands:
            # In this order the inner loop is a comprehension: a third of the time `nearest` takes.
            for bits in [one for one in likenesses if one >> shift & mask in table]:
                for near in table[bits >> shift & mask]:
                    if (near.bits ^ bits).bit_count() <= near.within:
                        return True
        return False

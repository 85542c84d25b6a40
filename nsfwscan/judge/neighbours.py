"""`Neighbours`: which of many decisions is about a picture that looks like this one.

A re-scan asks for every picture, so nothing is compared that need not be. Two likenesses that
differ in at most n bits are equal in at least one of n + 1 bands of theirs; only decisions that
share a band with a picture are compared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.values import likeness
from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from nsfwscan.judge.rule import Ruled

_BITS = 64
_FEW = 6


class _Near(NamedTuple):
    bits: int
    within: int
    ruled: Ruled


class Neighbours:
    """Decisions that hold for pictures which look alike."""

    def __init__(self, ruled: Iterable[Ruled]) -> None:
        """Take those that do from `ruled`."""
        found = [_Near(*one.near, one) for one in ruled if one.near is not None]
        # A few are sooner compared with everything: in no bits at all, all are equal.
        bands = 1 if len(found) <= _FEW else 1 + max(one.within for one in found)
        width = 0 if len(found) <= _FEW else _BITS // bands
        self._mask = (1 << width) - 1
        self._bands: list[tuple[int, dict[int, list[_Near]]]] = []
        """For each band: where its bits begin, and the decisions by what they have there."""
        for band in range(bands if found else 0):
            shift = band * width
            table: dict[int, list[_Near]] = {}
            for one in found:
                table.setdefault(one.bits >> shift & self._mask, []).append(one)
            self._bands.append((shift, table))

    def __bool__(self) -> bool:
        return bool(self._bands)

    def nearest(self, bits: int) -> tuple[Ruled, int] | None:
        """Return the decision about the picture most like this one, and how far it is, in bits.

        Of two as far, one that denies goes before one that allows, and then the later one. None
        when no picture that was decided about is as near as its decision asks for.
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
        """Tell whether any of these pictures is near one that was decided about.

        `UNKNOWN` and `NONE` are near none: from each likeness they are about 32 bits away.
        """
        mask = self._mask
        for shift, table in self._bands:
            # In this order the inner loop is a comprehension: a third of the time of `nearest`.
            for bits in [one for one in likenesses if one >> shift & mask in table]:
                for near in table[bits >> shift & mask]:
                    if (near.bits ^ bits).bit_count() <= near.within:
                        return True
        return False

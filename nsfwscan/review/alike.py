"""`Alike`: which of some pictures look like a given one, asked for a hundred thousand pictures.

As in `judge.neighbours`: two likenesses that differ in at most n bits are equal in at least one of
n + 1 bands of bits, so only pictures that share a band are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.values import likeness

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

_BITS = 64


class Alike:
    """Likenesses to compare with."""

    def __init__(self, likenesses: Iterable[int], within: int = likeness.DEFAULT_WITHIN) -> None:
        """Pictures look alike if their likenesses differ in at most `within` bits."""
        self._within = within
        width = _BITS // (within + 1)
        self._mask = (1 << width) - 1
        self._bands: dict[int, dict[int, list[int]]] = {
            band * width: {} for band in range(within + 1)
        }
        """For each band, its first bit, and the likenesses by the value of their bits there."""
        for one in set(likenesses):
            for shift, table in self._bands.items():
                table.setdefault(one >> shift & self._mask, []).append(one)

    def touched(self, likenesses: array[int]) -> list[tuple[int, int]]:
        """Return (index, likeness) of those that may be near one of these."""
        found: dict[int, int] = {}
        for shift, table in self._bands.items():
            mask = self._mask
            found.update(
                (index, bits)
                for index, bits in enumerate(likenesses)
                if bits >> shift & mask in table
            )
        return [one for one in sorted(found.items()) if likeness.is_comparable(one[1])]

    def near(self, bits: int) -> list[tuple[int, int]]:
        """Return (distance in bits, likeness) of those that are near this one."""
        found = {
            (away, other)
            for shift, table in self._bands.items()
            for other in table.get(bits >> shift & self._mask, ())
            if (away := likeness.distance(bits, other)) <= self._within
        }
        return sorted(found)

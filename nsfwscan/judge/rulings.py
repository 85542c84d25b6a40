"""`Rulings`: all rulings, indexed so that they can be looked up for a hundred thousand pictures.

A ruling about the same content comes first. Otherwise the ruling about the most similar picture
applies, and of two equally similar ones the one that denies: wrongly flagging a picture is a
nuisance, wrongly passing one is what this program is there to prevent.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nsfwscan.judge.neighbours import Neighbours
from nsfwscan.judge.policy import overrule
from nsfwscan.values import likeness
from nsfwscan.values.results import NearMatch, Verdict

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator

    from nsfwscan.judge.ruled import Ruled

_DIGESTS = struct.Struct("32s")


class Rulings:
    """Rulings, one for each content, in the order they were made.

    Immutable, so any thread may use it.
    """

    def __init__(self, ruled: Iterable[Ruled] = ()) -> None:
        self._by_content = {ruling.sha256: ruling for ruling in ruled}
        # In the form that `Struct.iter_unpack` yields, to compare a whole folder without a loop.
        self._packed = frozenset((sha256,) for sha256 in self._by_content)
        self._near = Neighbours(self._by_content.values())

    def __len__(self) -> int:
        return len(self._by_content)

    def __iter__(self) -> Iterator[Ruled]:
        return iter(self._by_content.values())

    @property
    def compare_likeness(self) -> bool:
        """Whether any ruling applies to similar pictures."""
        return bool(self._near)

    def by_content(self, sha256: bytes) -> Ruled | None:
        """Return the ruling about this content, if there is one."""
        return self._by_content.get(sha256)

    def judge(self, verdict: Verdict, sha256: bytes, bits: int) -> Verdict:
        """Return `verdict`, overruled if a ruling applies.

        `bits` is the picture's likeness, or `likeness.UNKNOWN` where it does not matter.
        """
        ruled = self._by_content.get(sha256)
        if ruled is not None:
            return overrule(verdict, ruled.ruling, None)
        match = self._near.nearest(bits)
        if match is None:
            return verdict
        ruled, away = match
        return overrule(verdict, ruled.ruling, NearMatch(ruled.sha256, away, ruled.path))

    def touch(self, digests: bytes, likenesses: array[int]) -> bool:
        """Return True if any of these pictures has to be judged on its own.

        `digests` are their SHA-256, 32 bytes each, concatenated; `likenesses` has one for each. A
        picture has to be if its likeness matters but is unknown.
        """
        if not self._by_content:
            return False
        if not self._packed.isdisjoint(_DIGESTS.iter_unpack(digests)):
            return True
        return bool(self._near) and (likeness.UNKNOWN in likenesses or self._near.touch(likenesses))


NO_RULINGS = Rulings()
"""When there are no rulings."""

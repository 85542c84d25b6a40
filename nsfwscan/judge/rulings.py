"""`Rulings`: all that people decided, made ready to be asked for a hundred thousand pictures.

A decision about the very content comes first. Of decisions about pictures that look like it the
most alike comes first, and of two as much alike the one that denies: a picture that is flagged
although it may be looked at is a nuisance, the other way round is what this program is there to
prevent.
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

    from nsfwscan.judge.rule import Ruled

_DIGESTS = struct.Struct("32s")


class Rulings:
    """Decisions, one for each content, in the order they were made.

    Immutable, so that any thread may ask.
    """

    def __init__(self, ruled: Iterable[Ruled] = ()) -> None:
        self._by_content = {one.sha256: one for one in ruled}
        # As `Struct.iter_unpack` gives them, so that a whole folder is compared without a loop.
        self._packed = frozenset((sha256,) for sha256 in self._by_content)
        self._near = Neighbours(self._by_content.values())

    def __len__(self) -> int:
        return len(self._by_content)

    def __iter__(self) -> Iterator[Ruled]:
        return iter(self._by_content.values())

    @property
    def compare_likeness(self) -> bool:
        """Whether the likeness of pictures matters at all."""
        return bool(self._near)

    def by_content(self, sha256: bytes) -> Ruled | None:
        """Return the decision about this very content, if there is one."""
        return self._by_content.get(sha256)

    def judge(self, verdict: Verdict, sha256: bytes, bits: int) -> Verdict:
        """Return the verdict of a model, or what a person made of it.

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
        """Tell whether any of these pictures needs a look of its own.

        `digests` are their SHA-256, 32 bytes each, joined; `likenesses` one for each. A picture
        whose likeness matters and is unknown needs one, too.
        """
        if not self._by_content:
            return False
        if not self._packed.isdisjoint(_DIGESTS.iter_unpack(digests)):
            return True
        return bool(self._near) and (likeness.UNKNOWN in likenesses or self._near.touch(likenesses))


NO_RULINGS = Rulings()
"""Where nobody decided anything."""

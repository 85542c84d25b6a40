"""The latest decision about a content: restored, deleted, denied, allowed, and so on.

Each quarantine's journal and the file of rulings gives its own latest decision, by the order in
which it was written; between them the time decides. If the latest one says that a picture stays, it
is not moved unless a person asks again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsfwscan.judge.ruled import Ruled


_TICK_S = 0.001
"""Seconds between a decision and one that follows it."""


class Said(StrEnum):
    """What can be decided about a content."""

    MOVED = "moved"
    """It was moved to quarantine, for the first time or because a person asked again."""
    RESTORED = "restored"
    DELETED = "deleted"
    DENIED = "denied"
    ALLOWED = "allowed"


_STAYS = {
    Said.RESTORED: "it was restored from quarantine earlier",
    Said.ALLOWED: "a person allowed it",
}


class Word(NamedTuple):
    """One decision about a content."""

    at: float
    """Seconds since the epoch."""
    said: Said


def why_it_stays(words: Iterable[Word]) -> str:
    """Return why these decisions keep a picture where it is; empty if it may be moved.

    The latest decision counts. Of two at the same time, the one that keeps the picture counts.
    """
    last = max(words, key=lambda one: (one.at, one.said in _STAYS), default=None)
    return "" if last is None else _STAYS.get(last.said, "")


def word_of(ruled: Ruled) -> Word:
    """Return a ruling as a decision. Rulings have whole seconds, so the end of that second."""
    said = Said.DENIED if ruled.ruling is Ruling.DENIED else Said.ALLOWED
    return Word(ruled.at + 0.999999, said)


def time_after(now: float, words: Iterable[Word | None]) -> float:
    """Return the time for a decision that is made now, and so after `words`.

    It differs from `now` if one of them is a ruling of the same second, or was dated by a clock
    that was ahead.
    """
    return max(now, max((one.at for one in words if one is not None), default=0.0) + _TICK_S)

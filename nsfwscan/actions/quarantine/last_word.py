"""What was last said about a content, by whomever: it was restored, deleted, denied, allowed...

Each journal, and the file of people's decisions, gives its own last word, by the order in which it
was written; between them the time decides. A picture whose last word is that it should stay is not
moved, unless a person says so once more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsfwscan.judge.rule import Ruled


_TICK_S = 0.001
"""How much later than another a word is that follows it."""


class Said(StrEnum):
    """What can be said about a content."""

    MOVED = "moved"
    """It was moved to quarantine: for the first time, or because somebody wanted that again."""
    RESTORED = "restored"
    DELETED = "deleted"
    DENIED = "denied"
    ALLOWED = "allowed"


_STAYS = {
    Said.RESTORED: "it was restored from quarantine before",
    Said.ALLOWED: "a person allowed it",
}


class Word(NamedTuple):
    """One thing said about a content."""

    at: float
    """Seconds since the epoch."""
    said: Said


def why_it_stays(words: Iterable[Word]) -> str:
    """Return why a picture about whose content this was said stays; empty when it may be moved.

    The latest word holds. Of two at the very same time the one that lets the picture stay does.
    """
    last = max(words, key=lambda one: (one.at, one.said in _STAYS), default=None)
    return "" if last is None else _STAYS.get(last.said, "")


def word_of(ruled: Ruled) -> Word:
    """Return a person's decision as a word. Its time is only kept to the second: the end of it."""
    said = Said.DENIED if ruled.ruling is Ruling.DENIED else Said.ALLOWED
    return Word(ruled.at + 0.999999, said)


def time_after(now: float, words: Iterable[Word | None]) -> float:
    """Return the time for a word that is said now, and so after `words`.

    It differs from `now` where one of them is a decision of the same second, or was said by a clock
    that was ahead.
    """
    return max(now, max((one.at for one in words if one is not None), default=0.0) + _TICK_S)

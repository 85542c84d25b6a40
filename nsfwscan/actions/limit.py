"""How many pictures may be moved before a person is asked, and how many were."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.actions.quarantine.entries import State
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.actions.quarantine.held import Quarantines

WATCHER, SCAN = "watch", "scan"
"""Who moves a picture, as the quarantine's journal has it."""
_SLACK_S = 300.0
"""How far ahead of the clock a move may lie: clocks are set right by a little all the time."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many pictures may be moved before a person is asked; either number alone stops."""

    files: int = 200
    share: float = 0.05
    """Of the pictures that the run has a verdict for, 0 to 1."""
    least: int = 10
    """So many may be moved whatever share they are: 5 % of a small folder is no picture at all."""
    window_s: float | None = None
    """None: the limit is for one run. Seconds: for all that a watcher moved in the last so many."""


class Budget:
    """Knows what was moved, and what a run may still move."""

    def __init__(self, limit: Limit, quarantines: Quarantines, warn: Callable[[str], None]) -> None:
        self._limit = limit
        self._quarantines = quarantines
        self._warn = warn
        self._moved: deque[float] | None = None
        """When pictures were moved by `_elapsed`, oldest first, for a limit with a window."""

    @property
    def who(self) -> str:
        """Whom the limit is for."""
        return SCAN if self._limit.window_s is None else WATCHER

    def question(self, what: str, moving: int, among: int) -> str:
        """Return what to ask before so many are moved; empty when it is within the limit."""
        limit = self._limit
        before = 0 if limit.window_s is None else self._before(limit.window_s)
        total = before + moving
        share_is_fine = total <= limit.share * among or total <= limit.least
        if not moving or (total <= limit.files and share_is_fine):
            return ""
        share = f" ({total / among:.1%})" if among else ""
        hours = "" if limit.window_s is None else f" within {limit.window_s / 3600:g} hours"
        if before:
            text = f"This would {what} {moving:,}, after {before:,} already: {total:,} "
        else:
            text = f"This would {what} {total:,} "
        text += f"of {among:,} pictures{share}{hours}. "
        return text + f"The limit is {limit.files:,} or {limit.share * 100:g} % of them."

    def note(self, number: int) -> None:
        """Note that pictures were moved."""
        if self._moved is not None:
            self._moved.extend([_elapsed()] * number)

    def _before(self, window_s: float) -> int:
        """Return how many the watcher moved lately; after a restart the journals tell."""
        now = _elapsed()
        if self._moved is None:
            today = time.time()
            ages = (today - at for at in self._told())
            # What was moved while the clock was ahead seems to come yet. It says nothing of when
            # that was, and would count until the clock has caught up: for years, maybe.
            recent = sorted((one for one in ages if -_SLACK_S <= one <= window_s), reverse=True)
            self._moved = deque(now - max(age, 0.0) for age in recent)
        while self._moved and now - self._moved[0] > window_s:
            self._moved.popleft()
        return len(self._moved)

    def _told(self) -> Iterator[float]:
        """Yield when a watcher moved each picture, as the journals have it."""
        for vault in self._quarantines.existing():
            try:
                entries = vault.peek().entries.values()
            except (OSError, NsfwscanError) as error:
                self._warn(f"{error}; what was moved there does not count for the limit")
                continue
            for one in entries:
                if one.by == WATCHER and one.state is not State.NOT_HELD:
                    yield one.at


def _elapsed() -> float:
    """Return seconds since some moment, by a clock that nobody sets and that runs in sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere sleep makes the day longer
    return time.monotonic() if boot is None else time.clock_gettime(boot)

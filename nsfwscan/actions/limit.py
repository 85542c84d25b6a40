"""How many pictures may be moved before a person is asked, and how many have been."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.actions.quarantine.entries import State
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.actions.quarantine.held import Quarantines

WATCHER, SCAN = "watch", "scan"
"""The values of `by` in the quarantine's journal: who moved a picture."""
_SLACK_S = 300.0
"""How far ahead of the clock a move may be dated: clocks are adjusted a little all the time."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many pictures may be moved before a person is asked. Either number alone is enough."""

    files: int = 200
    share: float = 0.05
    """Share of the pictures with a verdict, 0 to 1."""
    least: int = 10
    """This many may always be moved: 5 % of a small folder is less than one picture."""
    window_s: float | None = None
    """None: the limit is for one run. Otherwise it is for what a watcher moved in the last
    `window_s` seconds."""


class Budget:
    """Counts what was moved, and decides whether a run may move more."""

    def __init__(self, limit: Limit, quarantines: Quarantines, warn: Callable[[str], None]) -> None:
        self._limit = limit
        self._quarantines = quarantines
        self._warn = warn
        self._moved: deque[float] | None = None
        """When pictures were moved, in `_elapsed` seconds, oldest first; for a limit with a
        window."""

    @property
    def who(self) -> str:
        """Return whose moves the limit counts."""
        return SCAN if self._limit.window_s is None else WATCHER

    def question(self, what: str, moving: int, among: int) -> str:
        """Return the question to ask before `moving` pictures are moved; empty within the limit."""
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
        text += f"of {count(among, 'picture')}{share}{hours}. "
        return text + f"The limit is {limit.files:,} or {limit.share * 100:g} % of them."

    def note(self, number: int) -> None:
        """Count pictures that were moved."""
        if self._moved is not None:
            self._moved.extend([_elapsed()] * number)

    def _before(self, window_s: float) -> int:
        """Return how many the watcher moved in the window; after a restart, from the journals."""
        now = _elapsed()
        if self._moved is None:
            today = time.time()
            ages = (today - at for at in self._told())
            # Moves made while the clock was ahead lie in the future. Their real time is unknown,
            # and they would count until the clock catches up, perhaps for years.
            recent = sorted((one for one in ages if -_SLACK_S <= one <= window_s), reverse=True)
            self._moved = deque(now - max(age, 0.0) for age in recent)
        while self._moved and now - self._moved[0] > window_s:
            self._moved.popleft()
        return len(self._moved)

    def _told(self) -> Iterator[float]:
        """Yield the time at which a watcher moved each picture, from the journals."""
        for vault in self._quarantines.existing():
            try:
                entries = vault.peek().entries.values()
            except (OSError, NsfwscanError) as error:
                self._warn(f"{error}; pictures moved there do not count towards the limit")
                continue
            for one in entries:
                if one.by == WATCHER and one.state is not State.NOT_HELD:
                    yield one.at


def _elapsed() -> float:
    """Return seconds since some moment, by a clock that is never set and that counts sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere sleep is not counted
    return time.monotonic() if boot is None else time.clock_gettime(boot)

"""Actions on what a watcher tells.

In: results, and how the watcher is doing. Out: a line for each action, and a tally. What can fail:
what the outlet raises; what is not done when the watcher ends stays owed, for the next one.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from nsfwscan.values.actions import ActTally

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.actions.act import Actor
    from nsfwscan.cli.watch_lines import ChangeLines
    from nsfwscan.values.changes import WatchState
    from nsfwscan.values.results import ScanResult
    from nsfwscan.watch.watcher import Watcher

_LAST_ACTS_S = 5.0
"""How long a watcher that was told to stop goes on to act; then it leaves the rest to the next."""


class WatchActs:
    """Acts on pictures once everything has been listed and scanned.

    Until then it is unknown how many pictures there are, and what share of them would be moved.
    """

    def __init__(
        self,
        watcher: Watcher,
        lines: ChangeLines,
        actor: Actor,
        confirm: Callable[[str], bool],
        beat: Callable[[WatchState], None],
    ) -> None:
        """`beat` is told how the watcher is doing while it acts."""
        self._watcher, self._owed = watcher, watcher.owed
        self._lines, self._actor, self._confirm = lines, actor, confirm
        self._beat = beat
        self.tally = ActTally()
        self._waiting = False

    def consider(self, result: ScanResult) -> None:
        """Remember a picture for the next actions."""
        self._actor.consider(result)
        self._waiting = True

    def batch_done(self) -> None:
        """Act on what came, once everything has been scanned."""
        if not self._waiting:
            return
        if self._owed is not None:
            self._owed.keep(self._actor.waiting)
        self.act_if_complete(self._watcher.state())

    def act_if_complete(self, state: WatchState) -> None:
        """Act on what came while not everything had been scanned, when it has been."""
        if self._waiting and state.complete:
            self._act(state)

    def finish(self) -> None:
        """Act on what is left, when the watcher ended by itself."""
        if self._waiting:
            self._act(self._watcher.state())

    def _act(self, state: WatchState) -> None:
        self._waiting = False
        left = self._actor.waiting
        if self._owed is not None:
            self._owed.keep(left)
        stop_at = math.inf
        for act in self._actor.carry_out(self._confirm, among=state.pictures):
            self.tally.count(act)
            left[act.path] = left.get(act.path, 1) - 1
            if self._owed is not None and not left[act.path]:
                self._owed.done([act.path])
            self._lines.act(act)
            self._beat(self._watcher.state())
            if self._watcher.stopping:
                stop_at = min(stop_at, time.monotonic() + _LAST_ACTS_S)
            if time.monotonic() > stop_at:
                return  # the rest is owed
        if self._owed is not None:
            self._owed.done(left)

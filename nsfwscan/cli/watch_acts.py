"""Actions on the pictures that a watcher reports.

In: results and the watcher's state. Out: a line for each action, and a tally. Raises what the
outlet raises. Actions that are not done when the watcher ends are left to the next watcher.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from nsfwscan.values.actions import ActTally

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.actions.runner import ActionRunner
    from nsfwscan.cli.watch_lines import ChangeLines
    from nsfwscan.values.changes import WatchState
    from nsfwscan.values.results import ScanResult
    from nsfwscan.watch.watcher import Watcher

_LAST_ACTS_S = 5.0
"""How long a watcher that is stopping still takes actions; the rest is left to the next one."""


class WatchActs:
    """Acts on pictures once everything has been listed and scanned.

    Before that, the number of pictures is not known, nor the share of them that would be moved.
    """

    def __init__(
        self,
        watcher: Watcher,
        lines: ChangeLines,
        actor: ActionRunner,
        confirm: Callable[[str], bool],
        beat: Callable[[WatchState], None],
    ) -> None:
        """`beat` is called with the watcher's state during actions."""
        self._watcher, self._owed = watcher, watcher.owed
        self._lines, self._actor, self._confirm = lines, actor, confirm
        self._beat = beat
        self.tally = ActTally()
        self._waiting = False

    def consider(self, result: ScanResult) -> None:
        """Add a picture for the next actions."""
        self._actor.consider(result)
        self._waiting = True

    def batch_done(self) -> None:
        """Act on the pictures of a batch, if everything has been scanned."""
        if not self._waiting:
            return
        if self._owed is not None:
            self._owed.keep(self._actor.waiting)
        self.act_if_complete(self._watcher.state())

    def act_if_complete(self, state: WatchState) -> None:
        """Act on waiting pictures, if everything has been scanned."""
        if self._waiting and state.complete:
            self._act(state)

    def finish(self) -> None:
        """Act on waiting pictures, if the watcher ended without a signal."""
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

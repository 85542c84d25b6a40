"""Pictures that were told while the cache did not work: each is scanned once more when it does.

Otherwise the next watcher would not know them: it would tell them again, and not that they are
gone. In: the paths of each batch, and whether the cache took what the batch found out. Out: files
that wait for a silent look, which tells nothing and saves all. What can fail: nothing.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from nsfwscan.watch.inventory import NO_DIGEST, NO_PICTURE
from nsfwscan.watch.settle import Waiting, later_delay_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsfwscan.watch.tracker import Tracker

_AT_A_TIME = 64
"""Pictures that are scanned once more while it is not certain that the cache works again."""


class Unsaved:
    """What the cache does not know, although it was told."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._paths: dict[str, None] = {}
        self._trial = ""
        """The picture that is scanned to find out whether the cache works again."""
        self._failures = 0

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, paths: Iterable[str]) -> None:
        """Take note of files that the cache may not know."""
        self._paths.update(dict.fromkeys(filter(self._was_told, paths)))

    def batch_ended(self, paths: Iterable[str], *, saved: bool) -> None:
        """Take note of a batch; `saved` says whether the cache took all of it."""
        if saved:
            for path in paths:
                self._paths.pop(path, None)
            self._failures = 0
            self._look_again(_AT_A_TIME, 0.0)
            self._trial = ""
            return
        self.add(paths)
        if not self._waits(self._trial):
            self._trial = self._look_again(1, later_delay_s(self._failures))
            self._failures += 1

    def _look_again(self, most: int, delay_s: float) -> str:
        """Look at up to so many of them again, after a while, and return the last of these."""
        last, trial = "", self._trial
        due = time.monotonic() + delay_s
        for path in list(islice(self._paths, _AT_A_TIME)):
            entry = self._tracker.inventory.get(path)
            if entry is None:  # gone, or moved
                del self._paths[path]
            elif most and (path == trial or not self._waits(path)):
                self._tracker.settling.later(path, Waiting(entry.key, due, silent=True))
                most, last = most - 1, path
        return last

    def _waits(self, path: str) -> bool:
        return path in self._tracker.settling or path in self._tracker.ready

    def _was_told(self, path: str) -> bool:
        entry = self._tracker.inventory.get(path)
        return entry is not None and entry.sha256 not in {NO_DIGEST, NO_PICTURE}

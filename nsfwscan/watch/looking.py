"""From paths that the system names, or whose time has come, to a look at the files themselves.

In: hints from `Events`, and files that should have settled. Out: the tracker, up to date for these
paths, and a `Change` for each picture that is no longer opened.
What can fail: nothing; a hint that turns out wrong puts the observers in doubt.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from nsfwscan.media.discover import discover_some, join
from nsfwscan.values.results import Skipped
from nsfwscan.watch.tracker import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.media.discover import WalkOptions
    from nsfwscan.values.changes import Told, WatchState
    from nsfwscan.watch.events import Events, Hints
    from nsfwscan.watch.names import Names
    from nsfwscan.watch.observation import Observation
    from nsfwscan.watch.tracker import Tracker

GATHER_S = 0.05
"""Hints that come within this are handled together."""
_MOST_DUE = 4096


class Looking:
    """Looks at what may have changed."""

    def __init__(
        self,
        events: Events,
        names: Names,
        walk: WalkOptions,
        tracker: Tracker,
        observation: Observation,
    ) -> None:
        self._events, self._names, self._walk_options = events, names, walk
        self._tracker, self._observation = tracker, observation
        self.gathered_at = -math.inf
        """By `time.monotonic`: when hints were taken last."""

    def gather(
        self, want: Callable[[str], None], beat: Callable[[], Iterator[WatchState]]
    ) -> Iterator[Told]:
        """Look at what hints name; `want` is told why everything has to be listed instead."""
        now = time.monotonic()
        if now - self.gathered_at < GATHER_S:
            return
        self.gathered_at = now
        hints = self._events.take()
        if hints.lost:
            want(hints.lost)
            self._observation.doubt(now)
        yield from self._look_at(hints, beat)

    def _look_at(self, hints: Hints, beat: Callable[[], Iterator[WatchState]]) -> Iterator[Told]:
        now = time.monotonic()
        settling = self._tracker.settling
        for path, writing in hints.written.items():
            note = settling.written if writing else settling.closed
            note(self._names.usual(path), now)
        paths: list[str] = []
        by_root: dict[str, dict[str, set[str]]] = {}
        for path in {self._names.usual(path) for path in hints.paths}:
            holding = self._names.holding(path)
            roots = [root for root in holding if root not in self._observation.away]
            paths += [path] if roots else []
            for root in roots:  # each by its own rules: what one excludes another may want
                if path != root:
                    folder, name = os.path.split(path)
                    by_root.setdefault(root, {}).setdefault(folder, set()).add(name)
        for root, wanted in by_root.items():
            if not all(map(os.path.isdir, wanted)):
                self._observation.doubt(now)  # deleted; or moved, and watched by its old name
            for listing in discover_some(root, wanted, self._walk_options):
                yield from self._tracker.take(listing)
                yield from beat()
        # Folders before what they held: of a tree that is gone, the first takes all along.
        for path in sorted(paths):
            self._tracker.miss(path)

    def look_at_due(self) -> Iterator[Told]:
        """Look again at what should have settled; what has is ready to be scanned."""
        tracker = self._tracker
        now = time.monotonic()
        due = tracker.settling.due(now, _MOST_DUE)
        by_root: dict[str, dict[str, list[str]]] = {}
        for path in due:
            folder, name = os.path.split(path)
            for root in self._names.holding(path):
                by_root.setdefault(root, {}).setdefault(folder, []).append(name)
        for root, wanted in by_root.items():
            for listing in discover_some(root, wanted, self._walk_options):
                if not listing.incomplete:
                    yield from tracker.take(listing)
                    continue
                for passed in listing.not_opened:
                    if isinstance(passed, Skipped):
                        yield from tracker.skip(passed)
                for name, key in zip(listing.names, listing.keys, strict=True):
                    path = join(listing.folder, name)
                    waiting = due.pop(path, None)
                    if waiting is None:  # another root had it
                        continue
                    same, overdue = waiting.key == key, waiting.is_overdue(now)
                    if same or overdue:
                        silent = waiting.silent and same
                        look = Look(key, listing.loose, silent, waiting.tries)
                        tracker.ready[path] = look._replace(overdue=overdue and not same)
                    else:
                        since = waiting.since
                        tracker.see(path, name, key, loose=listing.loose, since=since)
        for path in due:
            tracker.miss(path)

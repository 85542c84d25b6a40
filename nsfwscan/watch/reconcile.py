"""Listing everything below the roots, a slice at a time: it finds whatever the hints missed.

In: reasons to do it, and the clock. Out: the tracker, up to date for all that can be listed, and a
`Change` for each picture that is no longer opened.
What can fail: folders that cannot be listed are counted in `unlisted` and become a condition, and
nothing below them is said to be missing; nor where something else was mounted than before. As that
may pass, with a shortage of descriptors, say, another reconcile follows soon; then ever later, as
long as it is always the same that cannot be examined.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.media.discover import WalkTally, discover, join
from nsfwscan.values.results import Failed, FailReason
from nsfwscan.values.text import count
from nsfwscan.watch.places import Presence, is_below, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsfwscan.media.discover import Listing, WalkOptions
    from nsfwscan.values.changes import Change
    from nsfwscan.values.results import Skipped
    from nsfwscan.watch.cache_sync import CacheSync
    from nsfwscan.watch.conditions import Conditions
    from nsfwscan.watch.names import Names
    from nsfwscan.watch.observation import Observation
    from nsfwscan.watch.owed import Owed
    from nsfwscan.watch.places import WatchedPlaces
    from nsfwscan.watch.tracker import Tracker

_log = logging.getLogger(__name__)
_IN_TIME = "the schedule"
SLICE_S = 0.25
"""How long a reconcile may walk before others have their turn."""
_LEAST_POLL_S = 5.0
_POLL_SHARE = 0.01
"""Polling may take this share of the time."""
_LEAST_AGAIN_S = 5.0
"""How long after something could not be examined the next one begins, the first time."""


@dataclass(slots=True)
class _RootWalk:
    """A reconcile that is under way."""

    why: str
    listings: Iterator[Listing]
    roots: tuple[str, ...]
    strange: dict[str, str]
    """Places where something else was than before, and what: nothing is said to be gone there."""
    visited: set[str] = field(default_factory=set)
    closed: list[str] = field(default_factory=list)
    """Folders that cannot be listed: what is below them is unknown."""
    took_s: float = 0.0
    """Without the time in which it waited for others to have their turn."""


class Reconcile:
    """When everything is to be listed, and how far that is."""

    def __init__(
        self,
        roots: Sequence[str],
        options: WalkOptions,
        tracker: Tracker,
        observation: Observation,
        places: WatchedPlaces,
        names: Names,
        ledger: CacheSync,
        conditions: Conditions,
        owed: Owed | None,
        *,
        every_s: float,
    ) -> None:
        """`every_s` is how often it is done, come what may."""
        self._roots, self._walk_options, self._every_s = tuple(roots), options, every_s
        self._tracker, self._observation = tracker, observation
        self._places, self._names, self._ledger = places, names, ledger
        self._conditions, self._owed = conditions, owed
        self._walk: _RootWalk | None = None
        self._wanted: dict[str, None] = {}
        """Reasons for a reconcile that has not begun."""
        self._next = self._next_poll = math.inf
        self._unexamined: set[str] = set()
        """What could not be examined, when the next one was scheduled because of that."""
        self._again_s = _LEAST_AGAIN_S
        self.took_s = 0.0
        """How long the last one walked: what another will cost."""
        self.ended_at: float | None = None
        """When the last one ended, in seconds since the epoch."""
        self.unlisted = 0
        """Folders that the last one could not list, and roots that were not there."""

    @property
    def is_running(self) -> bool:
        """Whether one is under way."""
        return self._walk is not None

    @property
    def is_wanted(self) -> bool:
        """Whether one is to begin."""
        return bool(self._wanted)

    @property
    def next_due(self) -> float:
        """When the next one begins by schedule, by `time.monotonic`."""
        return min(self._next, self._next_poll)

    @property
    def strange(self) -> frozenset[str]:
        """The places about whose files the reconcile under way decides."""
        return frozenset() if self._walk is None else frozenset(self._walk.strange)

    def want(self, why: str) -> None:
        """Begin one soon, because of `why`."""
        self._wanted[why] = None

    def poll_soon(self) -> None:
        """Begin one as soon as if the roots were polled."""
        self._next_poll = min(self._next_poll, time.monotonic() + self._poll_s)

    def begin_afresh(self, why: str) -> None:
        """Give up the one under way, and want another."""
        self._walk = None
        self.want(why)

    def go_on(self, enough: Callable[[], bool]) -> Iterator[Change]:
        """Begin one that is wanted; go on with it for a moment, or until `enough`."""
        if self._walk is None and self._tracker.refused:
            self._schedule_again()
        if time.monotonic() >= self.next_due:
            self.want(_IN_TIME)
            self.schedule()
        if self._walk is None and self._wanted:
            self._walk = self._begin()
        walk = self._walk
        if walk is None or enough():
            return
        began = time.monotonic()
        for listing in walk.listings:
            if listing.inode:
                walk.visited.add(listing.folder)
            elif not any(_has_vanished(passed) for passed in listing.not_opened):
                walk.closed.append(listing.folder)
            yield from self._tracker.take(listing)
            now = time.monotonic()
            if enough() or now > began + SLICE_S:
                walk.took_s += now - began
                return
        walk.took_s += time.monotonic() - began
        self._end(walk)

    def _begin(self) -> _RootWalk:
        why = ", ".join(self._wanted)
        self._wanted.clear()
        self._tracker.unreached.clear()
        self._tracker.unlisted.clear()
        self._places.look()
        present, strange = [], dict[str, str]()
        for root in self._roots:
            for place in (root, *self._places.inner(root)):
                presence = self._places.presence(place)
                if presence is Presence.OTHER:
                    strange[place] = self._places.identity(place)
                    self._tracker.inventory.forget_below(place)
                    self._tracker.load(place)
                if place == root and presence is not Presence.AWAY:
                    present.append(root)
        listings = discover(present, self._walk_options, WalkTally())
        return _RootWalk(why, listings, tuple(present), strange)

    def _end(self, walk: _RootWalk) -> None:
        self._walk = None
        self._names.look(walk.visited)
        self._miss_unvisited(walk)
        if self._owed is not None:
            self._owed.done(self._lost(walk, self._owed))
        self._accept(walk.strange)
        self.took_s = walk.took_s
        self.ended_at = time.time()
        if walk.why != _IN_TIME:  # a watcher that polls would fill the log with it
            folders = count(len(walk.visited), "folder")
            _log.info("looked at %s in %.1f s, because of: %s", folders, self.took_s, walk.why)
        closed = len(walk.closed)
        self.unlisted = closed + len(self._roots) - len(walk.roots)
        reason = f"{count(closed, 'folder')} cannot be listed" if closed else ""
        self._conditions.note("closed", reason)
        self.count_watches()
        asked = self._next_poll  # while this one walked, which may have been there before
        self.schedule()
        self._next_poll = min(self._next_poll, asked)
        self._schedule_again()

    def _miss_unvisited(self, walk: _RootWalk) -> None:
        """Miss what is in folders that are not there any more, or go by another name."""
        inventory, absent = self._tracker.inventory, self._tracker.absent
        for alias in self._names.aliases:  # an earlier run may have known it by that name
            for path in absent.below(alias):
                absent.drop(path)
            inventory.forget_below(alias)
        for root in walk.roots:
            for folder in list(inventory.folders_below(root)):
                if folder in walk.visited or any(is_below(folder, shut) for shut in walk.closed):
                    continue
                for name in list(inventory.names(folder)):
                    self._tracker.miss(join(folder, name))
            for folder in [known for known in inventory.inodes if is_below(known, root)]:
                if folder not in walk.visited and not os.path.isdir(folder):
                    del inventory.inodes[folder]

    def _lost(self, walk: _RootWalk, owed: Owed) -> Iterator[str]:
        """Yield what is owed and neither found by the reconcile nor known to the cache."""
        tracker = self._tracker
        unseen = (*walk.closed, *walk.strange)
        for root in walk.roots:
            for path in owed.below(root):
                waits = path in tracker.ready or path in tracker.settling
                hidden = any(is_below(path, folder) for folder in unseen)
                if not (tracker.inventory.get(path) or waits or hidden or is_there(path)):
                    yield path

    def _accept(self, strange: dict[str, str]) -> None:
        """Expect from now on what was found in places that held something else before."""
        tracker = self._tracker
        for place, identity in strange.items():
            self._places.accept(place, identity)
            for path in tracker.absent.below(place):
                tracker.absent.drop(path)
                tracker.inventory.drop(path)  # and the cache remembers it
        if strange:
            self._ledger.remember_places(self._places.identities)

    def count_watches(self) -> None:
        """Find out how many folders the system watches, and poll if it is not all of them."""
        self._observation.count(self._tracker.inventory.inodes)
        if self._observation.must_poll and self._next_poll == math.inf:
            self.schedule()

    def schedule(self) -> None:
        """Decide when the next one begins."""
        now = time.monotonic()
        # Spread out, so that not all the computers of a house begin at the same second.
        self._next = now + self._every_s * random.uniform(0.8, 1.2)  # noqa: S311  no secret
        self._next_poll = now + self._poll_s if self._observation.must_poll else math.inf

    def _schedule_again(self) -> None:
        """Begin the next one before long where something could not be examined."""
        self._tracker.refused = False
        found = self._tracker.unlisted | self._tracker.unreached
        is_new = not self._unexamined >= found
        self._again_s = _LEAST_AGAIN_S if is_new else min(2 * self._again_s, self._every_s)
        self._unexamined = found
        if found:
            self._next = min(self._next, time.monotonic() + self._again_s)

    @property
    def _poll_s(self) -> float:
        return min(max(self.took_s / _POLL_SHARE, _LEAST_POLL_S), self._every_s)


def _has_vanished(result: Skipped | Failed) -> bool:
    return isinstance(result, Failed) and result.reason is FailReason.VANISHED

"""The watcher's loop: events are hints, looking is the truth.

In: a `Workshop` that scans, and what the system hints at. Out: `Change`s, each once, to a `Sink`.
One thread does all of it, in short turns:

    hints     -> which paths to look at      (events)
    a look    -> is the file as it is known? (discover, inventory)
    settling  -> has it stood still?         (settle)
    scanning  -> what is it?                 (scanner, in batches)
    absence   -> has it moved, or is it gone (absent, places)

A reconcile is a look at everything. It runs at the start, when hints were lost, when the watched
file systems or the clock changed, and every hour in any case; whatever the hints missed, it finds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import random
import stat
import time
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, assert_never

from nsfwscan.media.discover import (
    Listing,
    Symlinks,
    WalkTally,
    discover,
    discover_some,
    is_named_like_a_picture,
    join,
)
from nsfwscan.scanning.workers import is_racy
from nsfwscan.values.changes import Change, Event
from nsfwscan.values.errors import ModelError, NsfwscanError, ResourcesExhausted
from nsfwscan.values.file_key import FileKey, pack_key, stamped
from nsfwscan.values.results import Decision, Failed, FailReason, Scanned, ScanResult, Skipped
from nsfwscan.values.text import count
from nsfwscan.watch.absent import Absent
from nsfwscan.watch.cache_sync import NEVER, CacheSync
from nsfwscan.watch.conditions import Conditions
from nsfwscan.watch.events import Events
from nsfwscan.watch.inventory import NO_DIGEST, NO_PICTURE, Inventory, Tracked
from nsfwscan.watch.manners import Pace, When
from nsfwscan.watch.names import Names
from nsfwscan.watch.observation import CHECK_S, Observation
from nsfwscan.watch.places import Presence, WatchedPlaces, is_below
from nsfwscan.watch.settle import UNFINISHED, Settling, Waiting, is_unfinished, retry_delay_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nsfwscan.scanning.scanner import ScanOptions
    from nsfwscan.scanning.session import Workshop
    from nsfwscan.watch.changes import Sink
    from nsfwscan.watch.owed import Owed

_log = logging.getLogger(__name__)
_IN_TIME = "the schedule"
_TRUSTED_S = 3.1
"""A file that has stood still for this long is trusted by its stat; see `lanes.is_racy`."""
_MOST_SILENT_LOOKS = 5
_GATHER_S = 0.05
"""Hints that come within this are looked at together."""
_BATCH_GAP_S = 0.2
"""Scans begin this far apart at least: a burst of files makes a few scans and not a thousand."""
_BATCH_AIM_S = 2.0
"""How long a scan should take: what is new meanwhile waits for it."""
_LEAST_BATCH, _MOST_BATCH = 64, 4096
_SLICE_S = 0.25
"""How long a reconcile may walk before others have their turn."""
_LEAST_POLL_S = 5.0
_POLL_SHARE = 0.01
"""Polling may take this share of the time."""
_ABSENCE_S = 1.5
"""Beyond the settling time: how long a moved picture may take to turn up."""
_COPIED_S = 60.0
"""How long before its original is missed a copy on another disk may have been written."""
_LAST_ARRANGE_S = 2.0
"""Whoever ends a watcher does not want to wait for long."""
_RESTART_S = 30.0
"""How long to wait after decoders or library would not work."""
_LAST_WAIT_S = 60.0
"""How long `once` waits, after its first complete look, for files that do not settle."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How the watcher goes about its work."""

    scan: ScanOptions
    settle_ms: int = 1000
    """How long a file must have stood still before it is read."""
    reconcile_minutes: float = 60.0
    """How often everything is looked at, come what may."""
    idle_unload_minutes: float = 5.0
    """How long nothing was scored before the model is unloaded."""
    poll: bool = False
    """Do without the system's events."""
    once: bool = False
    """End when everything has been looked at and has settled."""


class WatchState(NamedTuple):
    """How the watcher is, for whoever asks."""

    since: float
    """Seconds since the epoch."""
    roots: tuple[str, ...]
    watched: int
    """Folders below the roots that the system watches for us."""
    folders: int
    pictures: int
    """Files that are known or wait to be looked at, each counted once."""
    queue: int
    scanned: int
    flagged: int
    failed: int
    reconciled_at: float | None
    complete: bool
    """Whether everything has been looked at, and scanned, at least once."""
    unread: int
    """Folders that the last look at everything could not list, roots that were not there, and
    pictures that have no verdict yet."""
    degraded: tuple[str, ...]
    paused: str
    loaded: bool


class _Judged(Enum):
    """What became of the result of a scan."""

    TOLD = "told"
    """Or nobody needs to be told."""
    SAME = "same"
    """It is the very content that was told of before."""
    LATER = "later"
    """It is of no use: the file will be looked at again."""


class _Look(NamedTuple):
    """A settled file that is to be scanned."""

    key: bytes
    loose: int
    silent: bool
    tries: int
    overdue: bool = False
    """It goes on changing: what is found is believed although it may hold something else now."""


@dataclass(slots=True)
class _RootWalk:
    """A reconcile that is under way."""

    why: str
    began: float
    listings: Iterator[Listing]
    roots: tuple[str, ...]
    strange: dict[str, str]
    """Places where something else was than before, and what: nothing is said to be gone there."""
    visited: set[str] = field(default_factory=set)
    closed: list[str] = field(default_factory=list)
    """Folders that cannot be listed: nobody knows what is below them."""
    missing: list[str] = field(default_factory=list)


class Watcher:
    """Watches folders until it is stopped."""

    def __init__(
        self,
        workshop: Workshop,
        roots: Sequence[str],
        options: WatchOptions,
        sink: Sink,
        *,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        beat: Callable[[WatchState], None] = lambda _state: None,
        pace: Callable[[], Pace] = lambda: Pace(When.RUN, ""),
        owed: Owed | None = None,
    ) -> None:
        """Prepare; nothing is read or started yet.

        `beat` is called every second or two, also in the middle of work; `pace` tells whether
        pictures may be scored now. `owed` is kept for a sink that acts.
        """
        self._workshop = workshop
        self._options = options
        self._sink = sink
        self._beat, self._pace = beat, pace
        self._roots = tuple(dict.fromkeys(os.path.abspath(root) for root in roots))
        walk = options.scan.walk
        self._walk_options = walk
        self._follow = walk.symlinks is Symlinks.FOLLOW
        self._scan_options = replace(options.scan, arrange=False, count_known_safe=False)
        self._events = Events(lambda name: walk.any_name or is_named_like_a_picture(name))
        self._inventory = Inventory()
        self._settling = Settling(options.settle_ms / 1000)
        self._absent = Absent(options.settle_ms / 1000 + _ABSENCE_S)
        self._conditions = Conditions(say, warn)
        self._ledger = CacheSync(workshop, self._conditions)
        self._owed = owed
        if owed is not None:
            owed.problem = functools.partial(self._conditions.note, "owed")
        self._names = Names(self._roots)
        self._places = WatchedPlaces(self._roots, self._ledger.places())
        self._observation = Observation(
            self._roots, self._events, self._places, self._conditions, without_events=options.poll
        )
        self._ready: dict[str, _Look] = {}
        self._walk: _RootWalk | None = None
        self._wanted: dict[str, None] = {}
        """Reasons for a reconcile that has not begun."""
        self._stopping = self._is_scanning = False
        self._scanner_stop: Callable[[], None] = lambda: None
        self._since = time.time()
        self._last_beat = self._last_gather = -math.inf
        self._not_before = -math.inf
        self._next_reconcile = self._next_poll = math.inf
        self._walk_s = 0.0
        self._rate = 0.0
        self._reconciled_at: float | None = None
        self._complete = False
        self._unlisted = 0
        self._unreached: set[str] = set()
        """Files that `stat` refused since the last reconcile began."""
        self._scanned = self._flagged = self._failed = 0
        self._paused = ""
        self._complete_at = math.inf

    # From outside, also from signal handlers

    def stop(self) -> None:
        """End soon: the pictures in hand are finished, told and saved."""
        self._stopping = True
        self._scanner_stop()
        self._events.wake()

    def abandon(self) -> None:
        """Kill the processes that decode; the caller is about to exit without tidying up."""
        self._workshop.engine.abandon()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    @property
    def is_busy(self) -> bool:
        """Whether pictures are being looked at, or wait for it."""
        return self._walk is not None or bool(self._ready) or self._is_scanning

    def wait_for_reader(self, reason: str) -> bool:
        """Go on saying how it is while the reader of the output takes nothing; True to give up."""
        self._conditions.note("output", reason)
        self._report()
        return self._stopping

    # The loop

    def run(self) -> None:
        """Watch until `stop`, or with `once` until all is settled.

        Raises `ModelError` when the model cannot be loaded, and what the sink raises.
        """
        try:
            self._begin()
            while not self._stopping:
                try:
                    self._turn()
                except (MemoryError, RuntimeError) as error:
                    exhausted = ResourcesExhausted.because(error)
                    if exhausted is None:
                        raise
                    self._begin_afresh(str(exhausted))
                    continue
                self._conditions.note("resources", "")
                if self._options.once and self._is_done():
                    left = self._unjudged()
                    reason = f"{count(left, 'picture')} did not settle and got no verdict"
                    self._conditions.note("unsettled", reason if left else "")
                    break
                self._sleep()
        finally:
            self._events.close()
            self._ledger.close(_LAST_ARRANGE_S)
            self._report()

    def _begin(self) -> None:
        for root in self._roots:
            if self._places.presence(root) is not Presence.OTHER:
                self._load(root)  # else the reconcile does
        self._observation.begin()
        self._wanted["the start"] = None
        self._schedule()

    def _load(self, place: str) -> None:
        """Begin with what the library knows at and below `place`; look again at what is owed."""
        self._ledger.load(self._inventory, place)
        if self._owed is None:
            return
        for path, told in self._owed.below(place).items():
            entry = self._inventory.get(path)
            if told:  # another content, which a scan found, may never have been told
                self._inventory.put(path, Tracked(NEVER.pack(), told, math.nan))
            elif entry is not None:
                self._inventory.put(path, entry._replace(key=NEVER.pack()))

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._observation.checked_at >= CHECK_S:
            self._check(now)
        if now - self._last_gather >= _GATHER_S:
            self._last_gather = now
            hints = self._events.take()
            if hints.lost:
                self._wanted[hints.lost] = None
                self._observation.doubt(now)
            self._take_hints(hints.paths, hints.written)
        if now >= min(self._next_reconcile, self._next_poll):
            self._wanted[_IN_TIME] = None
            self._schedule()
        if self._walk is None and self._wanted:
            self._begin_walk()
        if self._walk is not None and len(self._ready) < self._batch_size():
            self._walk_on()
        self._take_due()
        if self._ready and time.monotonic() >= self._not_before:
            self._scan_at_pace()
        self._say_gone()
        self._tidy()
        self._report()

    def _sleep(self) -> None:
        if self._walk is not None and len(self._ready) < self._batch_size():
            return
        now = time.monotonic()
        when = [self._observation.checked_at + CHECK_S, self._next_reconcile, self._next_poll]
        when += filter(None, [self._settling.next_due()])
        if self._ready:
            when.append(self._not_before)
        if self._walk is None or not self._walk.strange:  # else the reconcile decides
            when += filter(None, [self._absent.next_due()])
        seconds = min(when) - now
        if seconds > 0 and not self._stopping:
            self._events.wait(seconds)
            # What comes together is looked at together.
            pause = self._last_gather + _GATHER_S - time.monotonic()
            if pause > 0 and not self._stopping:
                time.sleep(min(pause, _GATHER_S))

    # Looking

    def _take_hints(self, reported: Iterable[str], written: dict[str, bool]) -> None:
        now = time.monotonic()
        for path, writing in written.items():
            if writing:
                self._settling.written(self._names.usual(path), now)
            else:
                self._settling.closed(self._names.usual(path), now)
        paths: list[str] = []
        by_root: dict[str, dict[str, set[str]]] = {}
        for path in {self._names.usual(path) for path in reported}:
            roots = [one for one in self._names.holding(path) if one not in self._observation.away]
            paths += [path] if roots else []
            for root in roots:  # each by its own rules: what one passes over another may want
                if path != root:
                    folder, name = os.path.split(path)
                    by_root.setdefault(root, {}).setdefault(folder, set()).add(name)
        for root, wanted in by_root.items():
            if not all(map(os.path.isdir, wanted)):
                self._observation.doubt(now)  # deleted; or moved, and watched by its old name
            for listing in discover_some(root, wanted, self._walk_options):
                self._take(listing)
                self._report()
        # Folders before what they held: of a tree that is gone, the first takes all along.
        for path in sorted(paths):
            self._miss(path)

    def _take(self, listing: Listing) -> None:
        """Compare one folder, or some names of it, with what is known."""
        folder = listing.folder
        if not listing.partial and listing.inode:
            if folder not in self._inventory.inodes:
                self._observation.count_soon()
            self._inventory.inodes[folder] = listing.inode
            if self._inventory.is_unchanged(listing) and not listing.passed:
                return
        for name, key in zip(listing.names, listing.keys, strict=True):
            self._see(join(folder, name), name, key, loose=listing.loose)
        for passed in listing.passed:
            if isinstance(passed, Skipped):
                self._skip(passed)
            elif listing.inode and passed.reason is FailReason.UNREADABLE:
                self._unreached.add(passed.path)
        if not listing.partial and listing.inode:  # else it could not be listed
            here = set(listing.names)
            for name in self._inventory.names(folder):
                if name not in here:
                    self._miss(join(folder, name), listed=True)

    def _see(
        self, path: str, name: str, key: bytes, *, loose: int, since: float = math.inf
    ) -> None:
        """Take a file as it is now; find out whether that is news.

        `since` is when it was seen to change, if it has been changing since.
        """
        self._absent.drop(path)
        self._unreached.discard(path)
        if is_unfinished(name):
            return
        entry = self._inventory.get(path)
        if entry is not None and entry.key == key:
            waiting = self._settling.get(path)
            if waiting is not None and not waiting.silent and not waiting.writing:
                self._settling.drop(path)
            return
        if path in self._ready:
            look = self._ready[path]
            if look.key == key:
                return
            if look.overdue:
                self._ready[path] = look._replace(key=key)
                return
            del self._ready[path]
        still_s = 0.0 if loose else _still_s(key)
        before = self._settling.get(path)
        if still_s >= self._settling.settle_s and before is None:
            self._ready[path] = _Look(key, loose, silent=False, tries=0)
        else:
            self._settling.note(path, key, time.monotonic(), still_s, since)

    def _skip(self, skipped: Skipped) -> None:
        """Take note of what will not be opened: a picture that became a link, say."""
        entry = self._inventory.get(skipped.path)
        if entry is not None:
            self._drop(skipped.path)
            if entry.sha256 != NO_PICTURE:
                self._sink.change(Change(Event.CHANGED, skipped.path, skipped))
        self._settling.drop(skipped.path)

    def _miss(self, path: str, *, listed: bool = False) -> None:
        """Look whether `path`, a file or a folder, is missing; note it and all that was below it.

        With `listed` its folder was listed without it.
        """
        entry = self._inventory.get(path)
        if entry is not None:
            if _is_there(path):
                if listed:  # there, and none of ours: excluded by the options of this run
                    self._inventory.drop(path)
                return
            self._settling.drop(path)
            self._ready.pop(path, None)
            self._absent.add(path, entry.sha256, time.monotonic())
        elif path in self._settling and not _is_there(path):
            self._settling.drop(path)
        if path in self._inventory.inodes and not os.path.isdir(path):
            self._miss_folder(path)

    def _miss_folder(self, path: str) -> None:
        now = time.monotonic()
        for folder in self._inventory.folders_below(path):
            for name in self._inventory.names(folder):
                below = join(folder, name)
                entry = self._inventory.get(below)
                if entry is not None and not _is_there(below):
                    self._absent.add(below, entry.sha256, now)
        for folder in [one for one in self._inventory.inodes if is_below(one, path)]:
            del self._inventory.inodes[folder]

    # Everything

    def _begin_walk(self) -> None:
        why = ", ".join(self._wanted)
        self._wanted.clear()
        self._unreached.clear()
        self._places.look()
        present, strange = [], dict[str, str]()
        for root in self._roots:
            for place in (root, *self._places.inner(root)):
                presence = self._places.presence(place)
                if presence is Presence.OTHER:
                    strange[place] = self._places.identity(place)
                    self._inventory.forget_below(place)
                    self._load(place)
                if place == root and presence is not Presence.AWAY:
                    present.append(root)
        listings = discover(present, self._walk_options, WalkTally())
        self._walk = _RootWalk(why, time.monotonic(), listings, tuple(present), strange)

    def _walk_on(self) -> None:
        """Go on with a reconcile for a moment."""
        walk = self._walk
        if walk is None:
            return
        until = time.monotonic() + _SLICE_S
        size = self._batch_size()
        for listing in walk.listings:
            if listing.inode:
                walk.visited.add(listing.folder)
            elif not any(_has_vanished(one) for one in listing.passed):
                walk.closed.append(listing.folder)
            self._take(listing)
            if len(self._ready) >= size or time.monotonic() > until or self._stopping:
                return
        self._end_walk(walk)

    def _end_walk(self, walk: _RootWalk) -> None:
        self._walk = None
        self._names.look(walk.visited)
        for alias in self._names.aliases:  # an earlier run may have known it by that name
            for path in self._absent.below(alias):
                self._absent.drop(path)
            self._inventory.forget_below(alias)
        for root in walk.roots:
            for folder in list(self._inventory.folders_below(root)):
                if folder in walk.visited or any(is_below(folder, one) for one in walk.closed):
                    continue
                for name in list(self._inventory.names(folder)):
                    self._miss(join(folder, name))
            for folder in [one for one in self._inventory.inodes if is_below(one, root)]:
                if folder not in walk.visited and not os.path.isdir(folder):
                    del self._inventory.inodes[folder]
        if self._owed is not None:
            self._owed.done(self._lost(walk, self._owed))
        for place, identity in walk.strange.items():
            self._places.accept(place, identity)
            for path in self._absent.below(place):
                self._absent.drop(path)
                self._inventory.drop(path)  # and the cache remembers it
        if walk.strange:
            self._ledger.remember_places(self._places.identities)
        self._walk_s = time.monotonic() - walk.began
        self._reconciled_at = time.time()
        if walk.why != _IN_TIME:  # a watcher that polls would fill the log with it
            folders = count(len(walk.visited), "folder")
            _log.info("looked at %s in %.1f s, because of: %s", folders, self._walk_s, walk.why)
        closed = len(walk.closed)
        self._unlisted = closed + len(self._roots) - len(walk.roots)
        reason = f"{count(closed, 'folder')} cannot be listed" if closed else ""
        self._conditions.note("closed", reason)
        self._count_watches()
        self._schedule()

    def _lost(self, walk: _RootWalk, owed: Owed) -> Iterator[str]:
        """Yield what is owed and was neither found by a reconcile nor is known to the library."""
        unseen = (*walk.closed, *walk.strange)
        for root in walk.roots:
            for path in owed.below(root):
                known = self._inventory.get(path) or path in self._ready or path in self._settling
                hidden = any(is_below(path, one) for one in unseen)
                if not (known or hidden or _is_there(path)):
                    yield path

    def _schedule(self) -> None:
        now = time.monotonic()
        every = self._options.reconcile_minutes * 60
        # Not all the computers of a house at the same second.
        self._next_reconcile = now + every * random.uniform(0.8, 1.2)  # noqa: S311  no secret
        self._next_poll = now + self._poll_s if self._observation.must_poll else math.inf

    @property
    def _poll_s(self) -> float:
        every = self._options.reconcile_minutes * 60
        return min(max(self._walk_s / _POLL_SHARE, _LEAST_POLL_S), every)

    # Scanning

    def _take_due(self) -> None:
        """Look once more at what should have settled; what has is ready."""
        now = time.monotonic()
        due = self._settling.due(now, _MOST_BATCH)
        by_root: dict[str, dict[str, list[str]]] = {}
        for path in due:
            folder, name = os.path.split(path)
            for root in self._names.holding(path):
                by_root.setdefault(root, {}).setdefault(folder, []).append(name)
        for root, wanted in by_root.items():
            for listing in discover_some(root, wanted, self._walk_options):
                if not listing.partial:
                    self._take(listing)
                    continue
                for passed in listing.passed:
                    if isinstance(passed, Skipped):
                        self._skip(passed)
                for name, key in zip(listing.names, listing.keys, strict=True):
                    path = join(listing.folder, name)
                    waiting = due.pop(path, None)
                    if waiting is None:  # another root had it
                        continue
                    same, overdue = waiting.key == key, waiting.is_overdue(now)
                    if same or overdue:
                        silent = waiting.silent and same
                        look = _Look(key, listing.loose, silent, waiting.tries)
                        self._ready[path] = look._replace(overdue=overdue and not same)
                    else:
                        since = waiting.since
                        self._see(path, name, key, loose=listing.loose, since=since)
        for path in due:
            self._miss(path)

    def _scan_at_pace(self) -> None:
        """Scan what is ready, if this is the time for it."""
        pace = self._pace()
        self._paused = pace.reason if pace.when is When.PAUSE else ""
        began = time.monotonic()
        match pace.when:
            case When.PAUSE:
                self._not_before = began + CHECK_S
            case When.SLOW:
                self._scan()
                now = time.monotonic()
                self._not_before = max(self._not_before, now + (now - began))
            case When.RUN:
                self._scan()
            case _:
                assert_never(pace.when)

    def _scan(self) -> None:
        """Scan a batch, and tell what came out."""
        paths = list(self._ready)[: self._batch_size()]
        batch = {path: self._ready.pop(path) for path in paths}
        again = any(look.tries and not look.silent for look in batch.values())
        options = replace(self._scan_options, retry_failed=again)
        began, began_wall = time.monotonic(), time.time_ns()
        self._not_before = began + _BATCH_GAP_S
        left = dict(batch)
        settled: list[str] = []
        self._ledger.begin_batch()
        owed_before = self._owed_before(batch)
        try:
            scanner = self._workshop.scanner(options, self._ledger.failed)
            self._scanner_stop = scanner.stop
            if self._stopping:
                scanner.stop()
            self._is_scanning = True
            with contextlib.closing(scanner.scan_listings(_listings(batch))) as results:
                for result in results:
                    look = left.get(result.path)
                    if look is not None:
                        if self._take_result(look, result, began_wall, owed_before):
                            settled.append(result.path)
                        del left[result.path]
                    self._ledger.locate_in_time()
                    self._report()
            self._ledger.end_batch()  # not before: only now the scan has saved all of its own
        except ModelError:
            if not self._scanned:
                raise
            self._cannot_score(left, "the model cannot be loaded")
        except NsfwscanError as error:
            self._cannot_score(left, str(error))
        except BaseException:  # of the sink: what was not told must not be known
            for path in left:
                self._withhold(path)
            raise
        else:
            self._conditions.note("score", "")
            self._ledger.note_works()
            if not self._stopping:
                for path in left:
                    self._miss(path)
                settled += [path for path in left if path not in self._absent]
        finally:
            self._scanner_stop = lambda: None
            self._is_scanning = False
        took = time.monotonic() - began
        self._rate = len(batch) / max(took, 0.001)
        self._ledger.note_changed(map(os.path.dirname, batch))
        self._ledger.forget_gone()
        self._sink.batch_done()
        if self._owed is not None:
            self._owed.end(settled)

    def _take_result(
        self, look: _Look, result: ScanResult, began_ns: int, owed: frozenset[str]
    ) -> bool:
        """Tell what a scan found out of one file; return False if it has to be looked at again."""
        judged = self._judge(look, result, began_ns)
        if judged is _Judged.SAME and result.path in owed:
            self._sink.again(result)
        return judged is not _Judged.LATER

    def _owed_before(self, batch: Iterable[str]) -> frozenset[str]:
        """Owe a batch to whoever watches next, in case it is cut short; return what was owed."""
        if self._owed is None:
            return frozenset()
        known = ((path, self._inventory.get(path)) for path in batch)
        return self._owed.begin({path: one.sha256 if one else b"" for path, one in known})

    def _judge(self, look: _Look, result: ScanResult, began_ns: int) -> _Judged:
        """Make what a scan found out of one file into a change, if it is one."""
        path = result.path
        now = time.monotonic()
        try:
            found = os.stat(path, follow_symlinks=self._follow)
        except OSError:
            self._withhold(path)
            self._miss(path)
            return _Judged.LATER if path in self._absent else _Judged.TOLD
        key = stamped(pack_key(found), look.loose) if look.loose else pack_key(found)
        if key != look.key:
            self._settling.note(path, key, now, 0.0 if look.loose else _still_s(key))
            if not (look.overdue and isinstance(result, Scanned)):
                self._withhold(path)  # what was found out is of no use
                return _Judged.LATER
        if isinstance(result, Failed) and self._hopes(look, result):
            self._withhold(path)
            return _Judged.LATER
        young_s = _TRUSTED_S - _still_s(key, began_ns)
        if 0 < young_s < 2 * _TRUSTED_S and look.tries < _MOST_SILENT_LOOKS:
            tries = look.tries + 1 if look.silent else 0
            self._settling.later(path, Waiting(key, now + young_s, silent=True, tries=tries))
        before = self._inventory.get(path)
        if isinstance(result, Skipped):
            self._inventory.put(path, Tracked(key, NO_PICTURE, math.nan))
            if before is not None and before.sha256 != NO_PICTURE:
                self._sink.change(Change(Event.CHANGED, path, result))
            return _Judged.TOLD
        if before is not None and before.sha256 == NO_PICTURE:
            before = None
        sha256 = result.sha256 or NO_DIGEST
        if is_racy(FileKey.unpack(key), began_ns, look.loose) and not look.silent and result.sha256:
            self._ledger.note_young(path, result.sha256)
        unsafe = result.scores.unsafe if isinstance(result, Scanned) else math.nan
        entry = Tracked(key, sha256, unsafe)
        if before is not None and before.sha256 == sha256:
            self._inventory.put(path, entry)
            return _Judged.SAME
        if found.st_nlink > 1:
            # The system tells of one name only, and others may be ours, too.
            self._next_poll = min(self._next_poll, now + self._poll_s)
        came_from = ""
        if before is None:
            came_from = self._absent.earlier_path(
                path, sha256, lambda one, since: self._may_be_from(one, since, look)
            )
        if came_from:
            self._drop(came_from)  # counted under its earlier path
            event = Event.MOVED
        else:
            self._count(result)
            event = Event.NEW if before is None else Event.CHANGED
        self._sink.change(Change(event, path, result, came_from))
        self._inventory.put(path, entry)  # not before: the sink may fail
        return _Judged.TOLD

    def _may_be_from(self, earlier: str, since: float, look: _Look) -> bool:
        """Return True if the file `look` is about may be the one that was at `earlier`.

        Equal content is not enough: it may be another copy that has been there for long. A rename
        keeps the inode; a move to another disk makes a file that is about as new as the loss of
        the old one, which was missed at `since`.
        """
        entry = self._inventory.get(earlier)
        if entry is None:
            return False
        before, now = FileKey.unpack(entry.key), FileKey.unpack(look.key)
        if look.loose:  # no inode numbers to rely on
            return before.mtime_ns == now.mtime_ns
        if before.inode == now.inode:
            return True
        return _still_s(look.key) <= time.monotonic() - since + _COPIED_S

    def _withhold(self, path: str) -> None:
        """Let the library know no more of a file than was told; its scan located what was not."""
        entry = self._inventory.get(path)
        told = entry.sha256 if entry is not None else NO_DIGEST
        self._ledger.withhold(path, None if told in {NO_DIGEST, NO_PICTURE} else told)

    def _hopes(self, look: _Look, failed: Failed) -> bool:
        """Try a failed picture again later, if there is hope; tell whether there is."""
        now = time.monotonic()
        if failed.reason is FailReason.EMPTY and any(
            os.path.lexists(failed.path + ending) for ending in UNFINISHED
        ):
            # A browser reserves the name while it downloads into another file.
            self._settling.later(failed.path, Waiting(look.key, now + 10.0))
            return True
        delay_s = retry_delay_s(failed.reason, _still_s(look.key), look.tries)
        if delay_s is None or look.silent:
            return False
        again = Waiting(look.key, now + delay_s, tries=look.tries + 1)
        self._settling.later(failed.path, again)
        return True

    def _cannot_score(self, left: dict[str, _Look], why: str) -> None:
        """Put back what was not scored, and start afresh a little later."""
        self._workshop.engine.unload()
        self._not_before = time.monotonic() + _RESTART_S
        self._conditions.note("score", f"pictures cannot be scored: {why}")
        for path, look in left.items():
            self._ready.setdefault(path, look)
        if self._options.once:
            self._stopping = True  # there is no later

    def _begin_afresh(self, why: str) -> None:
        """Give back what can be, wait, and look at everything: what was in hand is lost."""
        now = time.monotonic()
        self._workshop.engine.unload()
        self._not_before = now + _RESTART_S
        self._walk = None
        self._wanted[why] = None
        self._observation.doubt(now)
        self._conditions.note("resources", why)
        if self._options.once:
            self._stopping = True  # there is no later
        else:
            self._events.wait(_RESTART_S)

    def _batch_size(self) -> int:
        return int(min(max(self._rate * _BATCH_AIM_S, _LEAST_BATCH), _MOST_BATCH))

    # What is gone

    def _say_gone(self) -> None:
        """Tell of pictures that have been missing for so long that they did not move."""
        overdue = self._absent.overdue(time.monotonic())
        presence: dict[str, bool] = {}
        listable: dict[str, bool] = {}
        for path in overdue:
            entry = self._inventory.get(path)
            if entry is None or _is_there(path):
                self._absent.drop(path)
                continue
            if entry.sha256 == NO_PICTURE:
                self._absent.drop(path)
                self._inventory.drop(path)
                continue
            place = self._places.holding(path)
            if self._walk is not None and place in self._walk.strange:
                continue  # the reconcile decides
            if place not in presence:
                presence[place] = self._places.presence(place) is Presence.SAME
            folder = os.path.dirname(path)
            if folder not in listable:
                listable[folder] = _can_be_listed(folder, place)
            self._absent.drop(path)
            if not (presence[place] and listable[folder]):
                continue  # the next reconcile will look again
            decision = self._decide(entry)
            sha256 = None if entry.sha256 == NO_DIGEST else entry.sha256
            self._sink.change(Change(Event.GONE, path, None, sha256=sha256, decision=decision))
            self._drop(path)

    def _decide(self, entry: Tracked) -> Decision | None:
        ruled = self._workshop.rulings().by_content(entry.sha256)
        if ruled is not None:
            return ruled.ruling.decision
        return None if math.isnan(entry.unsafe) else self._workshop.policy.decide(entry.unsafe)

    def _drop(self, path: str) -> None:
        self._inventory.drop(path)
        self._absent.drop(path)
        self._ledger.forget(path)
        if self._owed is not None:
            self._owed.done([path])

    # How it is

    def _check(self, now: float) -> None:
        """Look whether hints still flow, and whether all there is is watched."""
        reasons = self._observation.check(
            now,
            last_beat=self._last_beat,
            walk_s=self._walk_s,
            may_change=self._walk is None and self._reconciled_at is not None,
        )
        self._wanted.update(dict.fromkeys(reasons))
        if self._observation.is_time_to_count(now):
            self._count_watches()

    def _count_watches(self) -> None:
        self._observation.count(self._inventory.inodes)
        if self._observation.must_poll and self._next_poll == math.inf:
            self._schedule()

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._last_beat < 1.0:
            return
        self._last_beat = now
        self._beat(self.state())

    def state(self) -> WatchState:
        """Return how the watcher is."""
        return WatchState(
            self._since,
            self._roots,
            self._observation.watched,
            len(self._inventory.inodes),
            len(self._inventory) + self._unknown(),
            len(self._settling) + len(self._ready) + len(self._absent),
            self._scanned,
            self._flagged,
            self._failed,
            self._reconciled_at,
            self._is_complete(),
            self._unlisted + len(self._unreached) + self._unjudged(),
            self._conditions.reasons,
            self._paused,
            self._workshop.engine.loaded,
        )

    def _unknown(self) -> int:
        """Return how many paths wait that are not in the inventory."""
        waiting = {*self._ready, *self._settling.unjudged()}
        return sum(self._inventory.get(path) is None for path in waiting)

    def _unjudged(self) -> int:
        return len({*self._ready, *self._settling.unjudged()})

    def _is_complete(self) -> bool:
        """Return True once there was a first look at everything, and what it found is scanned."""
        if self._reconciled_at is not None and not self.is_busy:
            self._complete = True
        return self._complete

    def _count(self, result: ScanResult) -> None:
        if isinstance(result, Failed):
            self._failed += 1
        elif isinstance(result, Scanned):
            self._scanned += 1
            self._flagged += result.verdict.decision is Decision.NSFW

    def _is_done(self) -> bool:
        """Return True when all there is has been told, for `once`.

        A tree that goes on changing has had its look when that was complete for the first time,
        and some time to settle.
        """
        now = time.monotonic()
        if self._is_complete():
            self._complete_at = min(self._complete_at, now)
        if now - self._complete_at > _LAST_WAIT_S:
            return True
        busy = self._walk is not None or self._wanted or self._ready
        return not (busy or len(self._settling) or len(self._absent))

    def _tidy(self) -> None:
        """Do what can wait until there is nothing else to do."""
        if self._ledger.forget_gone():
            self._sink.batch_done()
        if self._walk is not None or self._ready:
            return
        engine = self._workshop.engine
        if engine.idle_s >= self._options.idle_unload_minutes * 60:
            if engine.loaded:
                engine.unload()
            self._ledger.arrange(_SLICE_S)


def _still_s(key: bytes, now_ns: int | None = None) -> float:
    """Return for how long a file has stood still: neither written nor renamed nor replaced."""
    known = FileKey.unpack(key)
    now_ns = time.time_ns() if now_ns is None else now_ns
    return (now_ns - max(known.mtime_ns, known.ctime_ns)) / 1e9


def _has_vanished(result: Skipped | Failed) -> bool:
    return isinstance(result, Failed) and result.reason is FailReason.VANISHED


def _is_there(path: str) -> bool:
    """Tell whether something that is no folder is at `path`; in doubt it is."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _can_be_listed(folder: str, place: str) -> bool:
    """Tell whether `folder`, or the nearest one above it that is left, can be listed."""
    while is_below(folder, place):
        try:
            with os.scandir(folder):
                return True
        except (FileNotFoundError, NotADirectoryError):
            upper = os.path.dirname(folder)
            if upper == folder:
                return False
            folder = upper
        except OSError:
            return False
    return False


def _listings(batch: dict[str, _Look]) -> Iterable[Listing]:
    """Arrange files as the scanner wants them: by folder."""
    folders: dict[tuple[str, int], Listing] = {}
    for path, look in batch.items():
        folder, name = os.path.split(path)
        listing = folders.get((folder, look.loose))
        if listing is None:
            listing = folders[folder, look.loose] = Listing(folder, loose=look.loose, partial=True)
        listing.names.append(name)
        listing.keys.append(look.key)
    return folders.values()

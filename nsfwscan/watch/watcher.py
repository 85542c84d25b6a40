"""The watcher's loop: events are hints, looking is the truth.

In: a `Session` that scans, and what the system hints at. Out: `run`, a generator of what is to be
told: each `Change` once, and between them `Again`, `BatchDone` and `WatchState`.
One thread does all of it, in short turns:

    hints     -> which paths to look at      (events, looking)
    a look    -> is the file as it is known? (tracker, inventory)
    settling  -> has it stood still?         (settle)
    scanning  -> what is it?                 (batches, judging)
    absence   -> has it moved, or is it gone (absent, places, missing)

A reconcile is a look at everything. It runs at the start, when hints were lost, when the watched
file systems or the clock changed, and every hour in any case; whatever the hints missed, it finds.

A change becomes known after its consumer took it: when the generator is asked for the next value. A
consumer that fails raises its error at the `yield`, by `throw` or `close`, and what it did not take
stays untold. What can fail: `ModelError` when the model cannot be loaded at all. Memory or threads
that are refused, also to a consumer, are waited for, and everything is listed again.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.media.discover import Symlinks, is_named_like_a_picture
from nsfwscan.values.changes import BatchDone, WatchState
from nsfwscan.values.errors import ResourcesExhausted
from nsfwscan.values.text import count
from nsfwscan.watch.batches import Batches, Stop
from nsfwscan.watch.cache_sync import CacheSync
from nsfwscan.watch.conditions import Conditions
from nsfwscan.watch.events import Events
from nsfwscan.watch.judging import Judging
from nsfwscan.watch.looking import GATHER_S, Looking
from nsfwscan.watch.manners import Pace, When
from nsfwscan.watch.missing import Missing
from nsfwscan.watch.names import Names
from nsfwscan.watch.observation import CHECK_S, Observation
from nsfwscan.watch.owed import Owed
from nsfwscan.watch.places import Presence, WatchedPlaces
from nsfwscan.watch.reconcile import SLICE_S, Reconcile
from nsfwscan.watch.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from nsfwscan.scanning.scanner import ScanOptions
    from nsfwscan.scanning.session import Session
    from nsfwscan.values.changes import Told

_BEAT_S = 1.0
_LAST_ARRANGE_S = 2.0
"""Whoever ends a watcher does not want to wait for long."""
_LAST_WAIT_S = 60.0
"""How long `once` waits, after everything was listed and scanned, for files that do not settle."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How the watcher goes about its work."""

    scan: ScanOptions
    settle_ms: int = 1000
    """How long a file must have stood still before it is read."""
    reconcile_minutes: float = 60.0
    """How often everything is listed, come what may."""
    idle_unload_minutes: float = 5.0
    """How long nothing was scored before the model is unloaded."""
    poll: bool = False
    """Do without the system's events."""
    once: bool = False
    """End when everything has been scanned and has settled."""


class Watcher:
    """Watches folders until it is stopped."""

    def __init__(
        self,
        session: Session,
        roots: Sequence[str],
        options: WatchOptions,
        *,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        pace: Callable[[], Pace] = lambda: Pace(When.RUN, ""),
        owed_file: str | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        `pace` tells whether pictures may be scored now. `owed_file` is where pictures are noted
        about which a consumer may still have to act; without it nothing is noted.
        """
        self._session, self._options = session, options
        self._roots = roots = tuple(dict.fromkeys(os.path.abspath(root) for root in roots))
        walk = options.scan.walk
        self._events = Events(lambda name: walk.any_name or is_named_like_a_picture(name))
        self._conditions = conditions = Conditions(say, warn)
        self._ledger = ledger = CacheSync(session, conditions)
        self.owed: Owed | None = None
        """The pictures about which a consumer may still have to act."""
        if owed_file is not None:
            self.owed = Owed(owed_file, functools.partial(conditions.note, "owed"))
        names = Names(roots)
        self._places = places = WatchedPlaces(roots, ledger.places())
        self._observation = observation = Observation(
            roots, self._events, places, conditions, without_events=options.poll
        )
        self._tracker = tracker = Tracker(
            ledger,
            self.owed,
            settle_s=options.settle_ms / 1000,
            new_folder=observation.count_soon,
        )
        self._looking = Looking(self._events, names, walk, tracker, observation)
        self._reconcile = Reconcile(
            roots,
            walk,
            tracker,
            observation,
            places,
            names,
            ledger,
            conditions,
            self.owed,
            every_s=options.reconcile_minutes * 60,
        )
        self._judging = Judging(
            tracker,
            ledger,
            follow_links=walk.symlinks is Symlinks.FOLLOW,
            poll_soon=self._reconcile.poll_soon,
        )
        self._stop = Stop()
        self._batches = Batches(
            session,
            options.scan,
            tracker,
            self._judging,
            ledger,
            conditions,
            self.owed,
            pace=pace,
            stop=self._stop,
            once=options.once,
        )
        self._missing = Missing(session, tracker, places)
        self._since = time.time()
        self._last_beat = -math.inf
        self._complete = False
        self._complete_at = math.inf

    # From outside, also from signal handlers

    def stop(self) -> None:
        """End soon: the pictures in hand are finished, told and saved."""
        self._stop.asked = True
        self._batches.stop_scanning()
        self._events.wake()

    def abandon(self) -> None:
        """Kill the processes that decode; the caller is about to exit without tidying up."""
        self._session.engine.abandon()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.asked

    @property
    def is_busy(self) -> bool:
        """Whether pictures are being scanned, or wait for it."""
        waits = bool(self._tracker.ready)
        return self._reconcile.is_running or waits or self._batches.is_scanning

    def note_output(self, reason: str) -> None:
        """Let `reason` be what is wrong with where changes are written; empty when nothing is."""
        self._conditions.note("output", reason)

    # The loop

    def run(self) -> Generator[Told]:
        """Watch until `stop`, or with `once` until all is settled, and yield what is to be told.

        A `WatchState` comes every second or two, also in the middle of work, and at the end.
        Raises `ModelError` when the model cannot be loaded.
        """
        begun = False
        try:
            while not self.stopping:
                try:
                    if not begun:
                        self._begin()
                        begun = True
                    yield from self._turn()
                except (MemoryError, RuntimeError) as error:
                    exhausted = ResourcesExhausted.because(error)
                    if exhausted is None:
                        raise
                    self._begin_afresh(str(exhausted))
                    continue
                self._conditions.note("resources", "")
                if self._options.once and self._is_done():
                    left = len(self._tracker.unjudged())
                    reason = f"{count(left, 'picture')} did not settle and got no verdict"
                    self._conditions.note("unsettled", reason if left else "")
                    break
                self._sleep()
        finally:
            self._events.close()
            self._ledger.close(_LAST_ARRANGE_S)
        yield from self.beat()

    def _begin(self) -> None:
        for root in self._roots:
            if self._places.presence(root) is not Presence.OTHER:
                self._tracker.load(root)  # else the reconcile does
        self._observation.begin()
        self._reconcile.want("the start")
        self._reconcile.schedule()

    def _turn(self) -> Iterator[Told]:
        now = time.monotonic()
        if now - self._observation.checked_at >= CHECK_S:
            self._check(now)
        yield from self._looking.gather(self._reconcile.want, self.beat)
        yield from self._reconcile.go_on(self._has_enough)
        yield from self._looking.look_at_due()
        yield from self._batches.scan_due(self.beat)
        yield from self._missing.gone(self._reconcile.strange)
        yield from self._tidy()
        yield from self.beat()

    def _has_enough(self) -> bool:
        """Return True if the reconcile has to wait: a whole batch is ready."""
        return len(self._tracker.ready) >= self._batches.size or self.stopping

    def _sleep(self) -> None:
        if self._reconcile.is_running and not self._has_enough():
            return
        now = time.monotonic()
        when = [self._observation.checked_at + CHECK_S, self._reconcile.next_due]
        when += filter(None, [self._tracker.settling.next_due()])
        if self._tracker.ready:
            when.append(self._batches.not_before)
        if not self._reconcile.strange:  # else the reconcile decides
            when += filter(None, [self._tracker.absent.next_due()])
        seconds = min(when) - now
        if seconds > 0 and not self.stopping:
            self._events.wait(seconds)
            # What comes together is looked at together.
            pause = self._looking.gathered_at + GATHER_S - time.monotonic()
            if pause > 0 and not self.stopping:
                time.sleep(min(pause, GATHER_S))

    def _check(self, now: float) -> None:
        """Check whether hints still flow, and whether every folder is watched."""
        reasons = self._observation.check(
            now,
            last_beat=self._last_beat,
            walk_s=self._reconcile.took_s,
            may_change=not self._reconcile.is_running and self._reconcile.ended_at is not None,
        )
        for reason in reasons:
            self._reconcile.want(reason)
        if self._observation.is_time_to_count(now):
            self._reconcile.count_watches()

    def _tidy(self) -> Iterator[Told]:
        """Do what can wait until there is nothing else to do."""
        self._ledger.end_batch()  # also of one that failed, which may not be tried again for long
        if self._ledger.forget_gone():
            yield BatchDone()
        if self._reconcile.is_running or self._tracker.ready:
            return
        engine = self._session.engine
        if engine.idle_s >= self._options.idle_unload_minutes * 60:
            if engine.loaded:
                engine.unload()
            self._ledger.arrange(SLICE_S)

    def _begin_afresh(self, why: str) -> None:
        """Give back what can be, wait, and list everything: what was in hand is lost."""
        now = time.monotonic()
        self._reconcile.begin_afresh(why)
        self._observation.doubt(now)
        with contextlib.suppress(MemoryError):  # also giving back, and saying so, takes some
            self._ledger.end_batch()
            self._batches.rest()
            self._conditions.note("resources", why)
        if not self.stopping:
            self._events.wait(self._batches.not_before - now)

    # How it is doing

    def beat(self) -> Iterator[WatchState]:
        """Yield how the watcher is doing, unless it was asked less than a second ago."""
        now = time.monotonic()
        if now - self._last_beat >= _BEAT_S:
            self._last_beat = now
            yield self.state()

    def state(self) -> WatchState:
        """Return how the watcher is doing."""
        tracker, judging = self._tracker, self._judging
        return WatchState(
            since=self._since,
            roots=self._roots,
            watched=self._observation.watched,
            folders=len(tracker.inventory.inodes),
            pictures=tracker.pictures(),
            queue=len(tracker.settling) + len(tracker.ready) + len(tracker.absent),
            scanned=judging.scanned,
            flagged=judging.flagged,
            failed=judging.failed,
            reconciled_at=self._reconcile.ended_at,
            complete=self._is_complete(),
            unread=self._reconcile.unlisted + len(tracker.unreached) + len(tracker.unjudged()),
            degraded=self._conditions.reasons,
            paused=self._batches.paused,
            loaded=self._session.engine.loaded,
        )

    def _is_complete(self) -> bool:
        """Return True once everything has been listed, and what was found is scanned."""
        if self._reconcile.ended_at is not None and not self.is_busy:
            self._complete = True
        return self._complete

    def _is_done(self) -> bool:
        """Return True when all there is has been told, for `once`.

        In a tree that never rests that is some time after it was complete for the first time.
        """
        now = time.monotonic()
        if self._is_complete():
            self._complete_at = min(self._complete_at, now)
        if now - self._complete_at > _LAST_WAIT_S:
            return True
        tracker = self._tracker
        busy = self._reconcile.is_running or self._reconcile.is_wanted or tracker.ready
        return not (busy or len(tracker.settling) or len(tracker.absent))

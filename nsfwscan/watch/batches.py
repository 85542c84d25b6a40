"""Scanning what is ready, a batch at a time, no faster than the pace allows.

In: the files that are ready, from the tracker. Out: a `Change` for each that is news, `Again` for
those that were told before and are owed an action, and `BatchDone`.
What can fail: if decoders do not work, or the model cannot be loaded any more, the batch is put
back and tried later, with a condition; a model that never could be loaded raises `ModelError`. If
a consumer fails, or stops asking, the rest of the batch stays untold.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from nsfwscan.media.discover import Listing
from nsfwscan.system.threads import require_room
from nsfwscan.values.changes import Again, BatchDone
from nsfwscan.values.errors import ModelError, NsfwscanError, ResourcesExhausted
from nsfwscan.watch.inventory import NO_PICTURE
from nsfwscan.watch.judging import Judged, News
from nsfwscan.watch.manners import When
from nsfwscan.watch.observation import CHECK_S
from nsfwscan.watch.unsaved import Unsaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nsfwscan.scanning.scanner import ScanOptions
    from nsfwscan.scanning.session import Session
    from nsfwscan.values.changes import Told, WatchState
    from nsfwscan.values.results import ScanResult
    from nsfwscan.watch.cache_sync import CacheSync
    from nsfwscan.watch.conditions import Conditions
    from nsfwscan.watch.judging import Judging
    from nsfwscan.watch.manners import Pace
    from nsfwscan.watch.owed import Owed
    from nsfwscan.watch.tracker import Look, Tracker

_BATCH_GAP_S = 0.2
"""Scans begin this far apart at least: a burst of files makes a few scans and not a thousand."""
_BATCH_AIM_S = 2.0
"""How long a scan should take: what is new meanwhile waits for it."""
_LEAST_BATCH, _MOST_BATCH = 64, 4096
_RESTART_S = 30.0
"""How long to wait after decoders, memory or threads were not to be had."""


@dataclass(slots=True)
class Stop:
    """Whether the watcher is to end soon. Signal handlers set it, and whoever sees no way on."""

    asked: bool = False


@dataclass(slots=True)
class _Batch:
    """A batch that is being scanned."""

    looks: dict[str, Look]
    left: dict[str, Look]
    """Those without a result that was told."""
    owed: frozenset[str]
    """Those to which an action was owed before."""
    began_ns: int
    settled: list[str]
    """Those that need no other look."""

    @property
    def told(self) -> list[str]:
        """Those with a result; it was told if it was news."""
        return [path for path in self.looks if path not in self.left]


class Batches:
    """When the next batch may be scanned, how large it is, and the scan of it."""

    def __init__(
        self,
        session: Session,
        options: ScanOptions,
        tracker: Tracker,
        judging: Judging,
        ledger: CacheSync,
        conditions: Conditions,
        owed: Owed | None,
        *,
        pace: Callable[[], Pace],
        stop: Stop,
        once: bool,
    ) -> None:
        """With `once` a batch that cannot be scanned is not tried later: `stop` is asked for."""
        self._session = session
        self._options = replace(options, arrange=False, count_known_safe=False, locate_young=False)
        self._tracker, self._judging, self._ledger = tracker, judging, ledger
        self._conditions, self._owed = conditions, owed
        self._pace, self._stop, self._once = pace, stop, once
        self._scanner_stop: Callable[[], None] = lambda: None
        self._unsaved = Unsaved(tracker)
        self._rate = 0.0
        """Pictures a second."""
        self.is_scanning = False
        self.not_before = -math.inf
        """By `time.monotonic`: when the next scan may begin."""
        self.paused = ""
        """Why nothing is scanned now."""

    @property
    def size(self) -> int:
        """How many pictures a batch holds at most."""
        return int(min(max(self._rate * _BATCH_AIM_S, _LEAST_BATCH), _MOST_BATCH))

    def stop_scanning(self) -> None:
        """End the scan under way, if any; the pictures in hand are finished. Async-signal safe."""
        self._scanner_stop()

    def rest(self) -> None:
        """Give back what can be, and wait."""
        self.not_before = time.monotonic() + _RESTART_S
        self._session.engine.unload()
        if self._once:
            self._stop.asked = True  # there is no later

    def scan_due(self, beat: Callable[[], Iterator[WatchState]]) -> Iterator[Told]:
        """Scan a batch if one is ready and may be scanned now. `beat` is due in the middle, too."""
        if not self._tracker.ready or time.monotonic() < self.not_before:
            return
        pace = self._pace()
        self.paused = pace.reason if pace.when is When.PAUSE else ""
        began = time.monotonic()
        match pace.when:
            case When.PAUSE:
                self.not_before = began + CHECK_S
            case When.SLOW:
                yield from self._scan(beat)
                now = time.monotonic()
                self.not_before = max(self.not_before, now + (now - began))
            case When.RUN:
                yield from self._scan(beat)
            case _:
                assert_never(pace.when)

    def _scan(self, beat: Callable[[], Iterator[WatchState]]) -> Iterator[Told]:
        """Scan a batch, and tell what came out."""
        began = time.monotonic()
        self.not_before = began + _BATCH_GAP_S
        batch = self._begin()
        try:
            yield from self._results(batch, beat)
        except ModelError:
            if not self._judging.scanned:
                raise
            self._cannot_score(batch.left, "the model cannot be loaded")
        except NsfwscanError as error:
            self._cannot_score(batch.left, str(error))
        except BaseException:  # of a consumer: what was not told must not be known
            for path in batch.left:
                self._tracker.withhold(path)
            self._unsaved.add(batch.told)
            raise
        else:
            self._conditions.note("score", "")
            if not self._stop.asked:
                for path in batch.left:
                    self._tracker.miss(path)
                batch.settled += [path for path in batch.left if path not in self._tracker.absent]
        finally:
            self._scanner_stop = lambda: None
            self.is_scanning = False
        took = time.monotonic() - began
        self._rate = len(batch.looks) / max(took, 0.001)
        self._note_saved(batch)
        self._ledger.note_changed(map(os.path.dirname, batch.looks))
        self._ledger.forget_gone()
        yield BatchDone()
        if self._owed is not None:
            self._owed.end(batch.settled)

    def _note_saved(self, batch: _Batch) -> None:
        """Find out whether the cache knows what was told, and see to it that it will."""
        self._ledger.end_batch()  # not before: only now the scan has saved all of its own
        saved = self._ledger.works
        if not self._once:
            self._unsaved.batch_ended(batch.told, saved=saved)
        if saved and not self._unsaved:
            self._ledger.note_works()

    def _begin(self) -> _Batch:
        """Take a batch out of what is ready, and owe it to the next watcher until it is told."""
        ready = self._tracker.ready
        began_ns = self._session.clock()
        looks = {path: ready.pop(path) for path in list(ready)[: self.size]}
        self._ledger.begin_batch()
        owed: frozenset[str] = frozenset()
        if self._owed is not None:
            known = ((path, self._tracker.inventory.get(path)) for path in looks)
            told = {path: entry.sha256 if entry else NO_PICTURE for path, entry in known}
            owed = self._owed.begin(told)
        return _Batch(looks, dict(looks), owed, began_ns, [])

    def _results(self, batch: _Batch, beat: Callable[[], Iterator[WatchState]]) -> Iterator[Told]:
        try:
            require_room()  # for the threads of the scan
        except MemoryError as error:
            raise ResourcesExhausted.because(error) or error from None
        again = any(look.tries and not look.silent for look in batch.looks.values())
        options = replace(self._options, retry_failed=again)
        scanner = self._session.scanner(options, self._ledger.failed)
        self._scanner_stop = scanner.stop
        if self._stop.asked:
            scanner.stop()
        self.is_scanning = True
        with contextlib.closing(scanner.scan_listings(_listings(batch.looks))) as results:
            for result in results:
                look = batch.left.get(result.path)
                if look is not None:
                    yield from self._tell(batch, look, result)
                    del batch.left[result.path]
                self._ledger.locate_in_time()
                yield from beat()

    def _tell(self, batch: _Batch, look: Look, result: ScanResult) -> Iterator[Told]:
        """Tell what a scan found in one file."""
        judged = self._judging.judge(look, result, batch.began_ns)
        if isinstance(judged, News):
            yield judged.change
            self._judging.know(judged)
        elif judged is Judged.SAME and result.path in batch.owed:
            yield Again(result)
        if judged is not Judged.LATER:
            batch.settled.append(result.path)

    def _cannot_score(self, left: dict[str, Look], why: str) -> None:
        """Put back what was not scored, to be tried a little later."""
        self._conditions.note("score", f"pictures cannot be scored: {why}")
        for path, look in left.items():
            self._tracker.ready.setdefault(path, look)
            self._tracker.withhold(path)  # the scan may have located it
        self.rest()


def _listings(batch: dict[str, Look]) -> Iterable[Listing]:
    """Arrange files as the scanner wants them: by folder."""
    folders: dict[tuple[str, int], Listing] = {}
    for path, look in batch.items():
        folder, name = os.path.split(path)
        listing = folders.get((folder, look.loose))
        if listing is None:
            listing = folders[folder, look.loose] = Listing(
                folder, loose=look.loose, incomplete=True
            )
        listing.names.append(name)
        listing.keys.append(look.key)
    return folders.values()

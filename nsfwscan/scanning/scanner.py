"""`Scanner`: from paths to results, with as little work per picture as possible.

A picture's way is `discover` -> `identify` -> `examine` -> `Judge.result`. A cached path skips the
two in the middle, and cached content is not examined. Results come in discovery order, whatever
order they finished in.
"""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nsfwscan.media.discover import (
    Listing,
    WalkOptions,
    discover,
    is_named_like_a_picture,
    join,
)
from nsfwscan.scanning.examine import Read, identify
from nsfwscan.scanning.path_scan import Done, PathScan
from nsfwscan.scanning.scan_cache import ScanCache, is_current
from nsfwscan.scanning.workers import ThreadWorkers, Workers
from nsfwscan.values.errors import NsfwscanError, ResourcesExhausted
from nsfwscan.values.facts import NO_FACTS, ContentFacts, FactKind
from nsfwscan.values.outcome import Scored, Scorer
from nsfwscan.values.results import (
    Failed,
    Origin,
    Scanned,
    ScanResult,
    Skipped,
)
from nsfwscan.values.tally import ScanTally

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from nsfwscan.cache.cache import Cache
    from nsfwscan.cache.rows import Known
    from nsfwscan.judge import Judge
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.scanning.engine import Engine
    from nsfwscan.values.outcome import Outcome

_T = TypeVar("_T")
_WINDOW = 1024
"""How many results may wait for an earlier one. A picture that takes the decoder's whole time limit
then delays the output, but no work until about a thousand others are done."""
_PATIENCE_S = 0.5
"""How long to wait for one picture before checking whether something has to be saved."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How a scan goes about its work. No option changes a score."""

    walk: WalkOptions = field(default_factory=WalkOptions)
    jobs: int = 0
    """Pictures at a time; 0 means one per core."""
    rescan: bool = False
    """Score pictures again that are in the cache."""
    retry_failed: bool = False
    """Retry pictures that failed before according to the cache."""
    count_known_safe: bool = False
    """Only count pictures that are safe according to the cache, if a whole folder is, instead of
    giving a result for each: this makes a re-scan several times as fast."""
    arrange: bool = True
    """At the end, write the snapshots that make the next scan of the changed folders fast. A caller
    that scans a few files of a large folder every second should do this later, with
    `Cache.snapshot`."""
    locate_young: bool = True
    """Let the cache also know where pictures are that were written moments before they were read,
    although each must be read again to be recognised. Not for a caller that locates them itself."""


class Scanner:
    """Scans paths with one model and one policy. Use it once; `tally` counts the results.

    Creating one is cheap. The `Engine` is not; it may serve many scanners, one after the other.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        engine: Engine,
        judge: Judge,
        *,
        decoder: int,
        cache: Cache | None,
        options: ScanOptions,
        warn: Callable[[str], None],
        workers: Workers | None = None,
        read: Read = identify,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare a scan; nothing is read or started yet.

        `engine` examines with the model of `manifest`; its creator closes it. `decoder` is the
        decoder's version. `warn` is called once if the cache fails; the scan then continues without
        it. `workers` do the work, by default as many threads as `engine` takes pictures; the
        scanner closes them. `read` reads a path, `clock` returns nanoseconds since the epoch.
        """
        self._process = os.getpid()
        self.tally = ScanTally()
        self._judge = judge
        self.options = options
        self._cache = ScanCache(
            cache,
            Scorer(manifest.fingerprint, decoder),
            rescan=options.rescan,
            retry_failed=options.retry_failed,
            needed=judge.needed_facts,
            arrange=options.arrange,
            warn=warn,
        )
        self._engine = engine
        self._path_scan = PathScan(
            self._cache,
            engine,
            walk=options.walk,
            locate_young=options.locate_young,
            read=read,
            clock=clock,
        )
        self._workers = workers or ThreadWorkers(engine.jobs)
        self._stopping = False

    def stop(self) -> None:
        """End early: pictures already started are finished, yielded and saved.

        Takes no lock, so a signal handler may call it.
        """
        self._stopping = True
        self._workers.stop()

    def abandon(self) -> None:
        """Kill the decode processes; the caller is about to exit without tidying up.

        Takes no lock, so a signal handler may call it.
        """
        self._engine.abandon()

    def scan(self, paths: Iterable[str], listed: Iterable[str] = ()) -> Generator[ScanResult]:
        """Yield a result for each picture at and below `paths`, in a stable order.

        `listed` are the paths of a list, which come last; see `discover`. Raises `ModelError` if
        the model cannot be loaded. Scores are saved however the generator ends.
        """
        listings = discover(paths, self.options.walk, self.tally.walk, listed=listed)
        return self.scan_listings(listings)

    def scan_listings(self, listings: Iterable[Listing]) -> Generator[ScanResult]:
        """Yield a result for each file in `listings`, as `scan` does."""
        pending: deque[ScanResult | Future[Done | None]] = deque()
        try:
            for listing in listings:
                for item in self._look_up(listing):
                    pending.append(item)
                    yield from self._ready(pending, _WINDOW)
                if self._stopping:
                    break
            yield from self._ready(pending, 0)
        except (MemoryError, RuntimeError) as error:
            exhausted = ResourcesExhausted.because(error)
            if exhausted is None:
                raise
            raise exhausted from error
        finally:
            if os.getpid() == self._process:  # in a forked child their locks may never be released
                self._workers.close()
                self._cache.close()

    def _look_up(self, listing: Listing) -> Iterator[ScanResult | Future[Done | None]]:
        """Answer for the files of a folder from the cache, or hand them to the workers."""
        yield from listing.not_opened
        if listing.incomplete:
            known = self._cache.files(listing.folder, listing.names)
        else:
            known = self._cache.folder(listing.folder)
            if len(known.names) > len(listing.names):  # some were deleted, or left out
                known = known.only(listing.names)
        same = known.names == listing.names and known.stats == b"".join(listing.keys)
        # If nothing changed, and counts are all that is wanted, a folder is counted as a whole:
        # creating an object for each file would take three times as long.
        if (
            same
            and not (listing.loose or listing.incomplete or listing.given_by_user)
            and self.options.count_known_safe
            and self._judge.all_safe(known.unsafe, known.digests, known.column)
        ):
            self.tally.cached += len(listing.names)
            self.tally.safe += len(listing.names)
            return
        now = time.time()
        for name, key in zip(listing.names, listing.keys, strict=True):
            if self._stopping:
                return
            path = join(listing.folder, name)
            hit = known.get(name)
            if (
                hit is not None
                and is_current(hit, key, listing, now)
                and self._cache.answers(hit.outcome)
                and not self._lacks_facts(listing.folder, hit)
            ):
                yield self._result(path, hit.sha256, hit.outcome, Origin.CACHE, hit.facts)
            else:
                yield self._workers.submit(
                    partial(
                        self._path_scan.scan,
                        path,
                        named=listing.given_by_user or is_named_like_a_picture(name),
                        follow=listing.follow,
                        loose=listing.loose,
                    )
                )
                self._cache.changed(listing.folder)

    def _lacks_facts(self, folder: str, hit: Known) -> bool:
        """Return True if a cached picture must be decoded for a fact that the judge needs."""
        if not self._judge.needed_facts or not isinstance(hit.outcome, Scored):
            return False
        if all(kind in hit.facts for kind in self._judge.needed_facts):
            return False
        if self._judge.rulings.by_content(hit.sha256) is not None:
            return False
        self._cache.changed(folder)  # its snapshot is older than the fact
        return self._cache.lacks_facts(hit.sha256, hit.facts)

    def _ready(
        self, pending: deque[ScanResult | Future[Done | None]], most: int
    ) -> Iterator[ScanResult]:
        """Yield the results that are ready at the head; wait while over `most` are pending."""
        while pending:
            head = pending[0]
            result: ScanResult | None
            if isinstance(head, Future):
                if len(pending) <= most and not head.done():
                    break
                result = self._finish(head)
            else:
                result = head
            pending.popleft()
            self._cache.save_when_due()  # here too: the last thousand may all be ready in time
            if result is not None:
                self.tally.count(result)
                yield result
                self._check_process()
        self._cache.save_when_due()

    def _finish(self, future: Future[Done | None]) -> ScanResult | None:
        """Wait for a worker. Returns None for a picture not started before `stop`."""
        done = self._wait(future)
        if done is None:
            return None
        found = self._wait(done.found) if isinstance(done.found, Future) else done.found
        if isinstance(found, Failed | Skipped):
            return found
        return self._result(done.path, done.sha256, found, done.origin)

    def _wait(self, future: Future[_T]) -> _T:
        """Wait for `future`, saving what other workers find out meanwhile."""
        while not wait([future], _PATIENCE_S).done:
            self._cache.save_when_due()
        return future.result()

    def _check_process(self) -> None:
        """Raise `NsfwscanError` in a forked child: threads and processes stay with the parent."""
        if os.getpid() != self._process:
            raise NsfwscanError(
                "this process was forked from one that is scanning, and cannot continue its scan",
                hint="start a separate scan in each process",
            )

    def _result(
        self,
        path: str,
        sha256: bytes,
        outcome: Outcome,
        origin: Origin,
        facts: ContentFacts = NO_FACTS,
    ) -> Scanned | Failed:
        def fact(kind: FactKind) -> bytes | None:
            return facts.get(kind) or self._cache.fact(sha256, kind)

        return self._judge.result(path, sha256, outcome, origin, fact=fact)

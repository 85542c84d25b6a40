"""`ScanCache`: the cache as a scan uses it, and the contents being scored right now.

All workers share one `ScanCache`. It ensures that no content is scored twice in a scan, saves in
batches, and turns a failing cache into a single warning, after which the scan continues without it.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import FactRow, FileRow, OutcomeRow
from nsfwscan.media.volumes import UNKNOWN as UNKNOWN_VOLUME
from nsfwscan.values.errors import CacheError
from nsfwscan.values.facts import NO_FACTS
from nsfwscan.values.file_key import UNTRUSTED
from nsfwscan.values.outcome import Outcome, Scorer, Unscorable
from nsfwscan.values.results import FailReason, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from nsfwscan.cache.cache import Cache
    from nsfwscan.cache.rows import Known
    from nsfwscan.media.listing import Listing
    from nsfwscan.values.facts import ContentFacts, FactKind

_BATCH_ROWS = 512
_BATCH_SECONDS = 1.0
"""A transaction costs an fsync or two. One a second is cheap; a kill loses a second's work."""
_KEPT = frozenset(
    {
        FailReason.CORRUPT,
        FailReason.DECODER_CRASHED,
        FailReason.DECODER_MEMORY,
        FailReason.DECODER_TIMEOUT,
        FailReason.TOO_MANY_PIXELS,
        FailReason.TRUNCATED,
        FailReason.UNRECOGNISED,
    }
)
"""Failures that are stored with a content, unless `Unscorable.transient` says that the cause may
lie outside it:

- `CORRUPT`, `TRUNCATED`, `UNRECOGNISED` and `TOO_MANY_PIXELS`, unless the decoder was refused
  memory, a file or a thread;
- `DECODER_CRASHED` if a second, fresh process also crashed, by itself and with memory available;
  not if a process was killed;
- `DECODER_TIMEOUT` if the CPU time was used up; not for elapsed time, during which a process may
  have been suspended;
- `DECODER_MEMORY` if the file's size or header says so, or if a second, fresh process also reached
  its own limit, with memory available.

All others are tried again by the next scan. `BAD_OUTPUT` and `UNSUPPORTED` depend on this
installation. `UNREADABLE`, `VANISHED`, `CHANGED`, `EMPTY` and `TOO_BIG` are about a file, not about
a content, so there is no content to store them with."""

_DAY_S = 86_400
_LOOSE_SECONDS = 30 * _DAY_S
"""Where inode numbers mean nothing (network, FUSE, FAT), a file replaced by another of the same
size and times would be taken for the old file; but for no longer than this."""


class Claim(NamedTuple):
    """Who scores a content."""

    outcome: Future[Outcome]
    origin: Origin
    mine: bool
    """Whether the caller has to score it and then call `ScanCache.settle`."""


class ScanCache:
    """The cache and the contents being scored, for all threads of one scan."""

    def __init__(
        self,
        cache: Cache | None,
        scorer: Scorer,
        *,
        rescan: bool,
        retry_failed: bool,
        needed: Collection[FactKind] = (),
        arrange: bool = True,
        warn: Callable[[str], None],
    ) -> None:
        """`cache` may be None: then nothing outlives the scan. `warn` is called once, on failure.

        A cache that cannot be written is still read; one that cannot be read is not used any more.

        With `rescan` only facts are taken from the cache, as they do not depend on the model; with
        `retry_failed`, no failures. `needed` are the kinds of facts that will be asked for. Without
        `arrange` the caller writes the snapshots of the folders that changed.
        """
        # Reading and writing fail independently: a full disk or a read-only cache can still be
        # read, and scoring a hundred thousand pictures again because one is new would take hours.
        self._readable = cache
        self._writable = cache
        self._scorer = scorer
        self._rescan = rescan
        self._retry_failed = retry_failed
        self._needed = needed
        self._arrange = arrange
        self._warn = warn
        self._lock = threading.Lock()
        # None means that the outcome is saved: a hundred thousand then take 10 MB instead of 60.
        self._claims: dict[bytes, Future[Outcome] | None] = {}
        self._files: list[FileRow] = []
        self._outcomes: list[OutcomeRow] = []
        self._facts: dict[tuple[bytes, FactKind], bytes] = {}
        self._changed: dict[str, None] = {}
        self._saved_at = time.monotonic()

    def folder(self, folder: str) -> FolderView:
        """Return what is known about the files directly in `folder`."""
        if self._rescan:
            return FolderView()
        folder = absolute_folder(folder)
        with self._lock:
            if self._readable is None:
                return FolderView()
            try:
                view = self._readable.folder(folder, self._scorer)
            except CacheError as error:
                self._stop_reading(error)
                return FolderView()
        if not view.stored and len(view):
            self._changed[folder] = None  # an earlier scan was killed before it wrote a snapshot
        return view

    def files(self, folder: str, names: Sequence[str]) -> FolderView:
        """Return what is known about some of the files directly in `folder`."""
        if self._rescan:
            return FolderView()
        with self._lock:
            if self._readable is None:
                return FolderView()
            try:
                return self._readable.files(absolute_folder(folder), names, self._scorer)
            except CacheError as error:
                self._stop_reading(error)
                return FolderView()

    def changed(self, folder: str) -> None:
        """Have a snapshot of `folder` written when the scan ends."""
        self._changed[absolute_folder(folder)] = None

    def answers(self, outcome: Outcome | None) -> TypeGuard[Outcome]:
        """Return True if a stored outcome is good enough for this scan."""
        if isinstance(outcome, Unscorable):
            return not self._retry_failed
        return outcome is not None

    def claim(self, sha256: bytes) -> Claim:
        """Return who scores this content: the caller, another worker, or an earlier scan."""
        with self._lock:
            claimed = sha256 in self._claims
            under_way = self._claims.get(sha256)
            if under_way is not None:
                return Claim(under_way, Origin.DUPLICATE, mine=False)
            if claimed or not self._rescan:
                outcome = self._recall(sha256)
                if outcome is not None and (claimed or self.answers(outcome)):
                    origin = Origin.DUPLICATE if claimed else Origin.CACHE
                    return Claim(_settled(outcome), origin, mine=False)
            future: Future[Outcome] = Future()
            self._claims[sha256] = future
            return Claim(future, Origin.MODEL, mine=True)

    def settle(self, sha256: bytes, outcome: Outcome) -> None:
        """Publish the outcome of a content that the caller has claimed."""
        with self._lock:
            future = self._under_way(sha256)
            if is_kept(outcome):
                self._outcomes.append(OutcomeRow(sha256, self._scorer, outcome))
        future.set_result(outcome)

    def abandon(self, sha256: bytes, error: BaseException) -> None:
        """Publish that the scan has failed, so that no thread waits for this content forever."""
        with self._lock:
            future = self._under_way(sha256)
            del self._claims[sha256]
        future.set_exception(error)

    def add_facts(self, sha256: bytes, facts: ContentFacts) -> None:
        """Store facts about a content."""
        with self._lock:
            for kind, body in facts.items():
                self._facts[sha256, kind] = body

    def fact(self, sha256: bytes, kind: FactKind) -> bytes | None:
        """Return a fact about a content; None if it is not known, or this scan does not need it.

        Facts are only looked up if a scan needs their kind, so that other scans do not pay for it.
        """
        if kind not in self._needed:
            return None
        with self._lock:
            known = self._facts.get((sha256, kind))
            if known is not None or self._readable is None:
                return known
            try:
                return self._readable.fact(sha256, kind)
            except CacheError as error:
                self._stop_reading(error)
                return None

    def lacks_facts(self, sha256: bytes, known: ContentFacts = NO_FACTS) -> bool:
        """Return True if the content must be decoded for a fact that this scan needs.

        `known` are the facts that the caller has.
        """
        return any(kind not in known and self.fact(sha256, kind) is None for kind in self._needed)

    def locate(self, row: FileRow) -> None:
        """Store that a path, as it is now, has a content."""
        folder, name = os.path.split(row.path)
        row = row._replace(path=os.path.join(absolute_folder(folder), name))
        with self._lock:
            self._files.append(row)

    def save_when_due(self) -> None:
        """Save if a batch is full or a second has passed."""
        rows = len(self._files) + len(self._outcomes)
        if self._writable is not None:  # only then does the dictionary get shorter by saving
            rows = max(rows, len(self._facts))
        if rows and (rows >= _BATCH_ROWS or time.monotonic() - self._saved_at >= _BATCH_SECONDS):
            self.save()

    def save(self) -> None:
        """Save everything not yet saved. When this returns, it survives a kill."""
        with self._lock:
            self._saved_at = time.monotonic()
            saved = False
            if self._writable is not None and (self._files or self._outcomes or self._facts):
                facts = [FactRow(*about, body) for about, body in self._facts.items()]
                try:
                    self._writable.write(self._files, self._outcomes, facts)
                except CacheError as error:
                    # A file whose stat proves nothing is read again in any case: nothing is lost.
                    located = any(row.key != UNTRUSTED for row in self._files)
                    if located or self._outcomes or self._facts:
                        self._stop_writing(error)
                else:
                    saved = True
                    for row in self._outcomes:
                        self._claims[row.sha256] = None
            self._files, self._outcomes = [], []
            if saved or not self._needed:
                self._facts = {}

    def close(self) -> None:
        """Save the rest, and write snapshots so that the next scan loads it fast."""
        self.save()
        with self._lock:
            if self._writable is not None and self._changed and self._arrange:
                try:
                    self._writable.snapshot(self._changed, self._scorer)
                except CacheError as error:
                    self._stop_writing(error)

    def _under_way(self, sha256: bytes) -> Future[Outcome]:
        future = self._claims[sha256]
        if future is None:
            raise RuntimeError("a content was settled twice")
        return future

    def _recall(self, sha256: bytes) -> Outcome | None:
        if self._readable is None:
            return None
        try:
            return self._readable.outcome(sha256, self._scorer)
        except CacheError as error:
            self._stop_reading(error)
            return None

    def _stop_reading(self, error: CacheError) -> None:
        """Continue without the cache: its only job is to save time."""
        self._readable = None
        self._stop_writing(error)

    def _stop_writing(self, error: CacheError) -> None:
        if self._writable is None:
            return  # the user has been warned
        self._writable = None
        hint = f" ({error.hint})" if error.hint else ""
        self._warn(f"{error}{hint}; the scan continues, but its results will not be cached")


def is_current(hit: Known, key: bytes, listing: Listing, now_s: float) -> bool:
    """Return True if a file with this packed `FileKey` is still the one that was read."""
    return (
        hit.key.pack() == key
        and listing.loose != UNKNOWN_VOLUME
        # The clock was wrong when a row from the future was written: its age is unknown.
        and not (listing.loose and not -_DAY_S < now_s - hit.written_at < _LOOSE_SECONDS)
    )


def is_kept(outcome: Outcome) -> bool:
    """Return True if an outcome depends on the content alone, so that it holds next time."""
    if isinstance(outcome, Unscorable):
        return outcome.reason in _KEPT and not outcome.transient
    return True


def absolute_folder(folder: str) -> str:
    """Return the path under which a folder is cached, whatever the current folder is.

    Links are kept. Only the meaning of `..` depends on where they lead.
    """
    if os.pardir in folder.split(os.sep):
        return os.path.realpath(folder)
    return os.path.abspath(folder)


def _settled(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future

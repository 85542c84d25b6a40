"""What a scan remembers: the cache while it works, and what is under way right now.

All workers share one `ScanCache`. It makes sure that no content is scored twice in a scan, saves in
batches, and turns a failing cache into one warning and a scan that goes on without it.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import FactRow, FileRow, OutcomeRow
from nsfwscan.values.errors import CacheError
from nsfwscan.values.facts import NO_FACTS
from nsfwscan.values.outcome import Outcome, Scorer, Unscorable
from nsfwscan.values.results import FailReason, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from nsfwscan.cache.cache import Cache
    from nsfwscan.values.facts import ContentFacts, FactKind

_BATCH_ROWS = 512
_BATCH_SECONDS = 1.0
"""A transaction costs an fsync or two. One a second is nothing; a kill costs a second's work."""
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
"""Failures that are remembered with a content, unless `Unscorable.passing` says that the cause may
lie outside of it:

- `CORRUPT`, `TRUNCATED`, `UNRECOGNISED` and `TOO_MANY_PIXELS`, unless the decoder was refused
  memory, a file or a thread;
- `DECODER_CRASHED` if a second, fresh process crashed as well, by its own doing and with memory to
  be had; not if one was killed;
- `DECODER_TIMEOUT` if the processor time was used up; not for time by the clock, in which a process
  may have been stopped;
- `DECODER_MEMORY` if size or header of the file says so, or if a second, fresh process met its own
  limit as well, with memory to be had.

The others are tried again by the next scan. `BAD_OUTPUT` and `UNSUPPORTED` say something of this
installation. `UNREADABLE`, `VANISHED`, `CHANGED`, `EMPTY` and `TOO_BIG` are about a file and not
about a content: there is none to remember them with."""


class Claim(NamedTuple):
    """Who scores a content."""

    outcome: Future[Outcome]
    origin: Origin
    mine: bool
    """Whether the caller has to score it and call `ScanCache.settle`."""


class ScanCache:
    """The cache and the work under way, for all threads of one scan."""

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
        """`cache` may be None: then nothing outlives the scan. `warn` is told once of a failure.

        A cache that cannot be written is still asked; one that cannot be read is given up.

        With `rescan` nothing is taken from the cache but facts, which no model moves; with
        `retry_failed` no failures are. `needed` are the kinds of facts that will be asked for.
        Without `arrange` the caller sees to the snapshots of the folders that changed.
        """
        # Asked and told apart: a full disk or a read-only cache still knows what it knows, and to
        # score a hundred thousand pictures again because of one that is new would take hours.
        self._asked = cache
        self._told = cache
        self._scorer = scorer
        self._rescan = rescan
        self._retry_failed = retry_failed
        self._needed = needed
        self._arrange = arrange
        self._warn = warn
        self._lock = threading.Lock()
        # None stands for an outcome that is saved: a hundred thousand of them take 10 MB, not 60.
        self._claims: dict[bytes, Future[Outcome] | None] = {}
        self._files: list[FileRow] = []
        self._outcomes: list[OutcomeRow] = []
        self._facts: dict[tuple[bytes, FactKind], bytes] = {}
        self._changed: dict[str, None] = {}
        self._saved_at = time.monotonic()

    def folder(self, folder: str) -> FolderView:
        """Return what is known of the files directly in `folder`."""
        if self._rescan:
            return FolderView()
        folder = _absolute(folder)
        with self._lock:
            if self._asked is None:
                return FolderView()
            try:
                view = self._asked.folder(folder, self._scorer)
            except CacheError as error:
                self._ask_no_more(error)
                return FolderView()
        if not view.stored and len(view):
            self._changed[folder] = None  # an earlier scan was killed before it could
        return view

    def files(self, folder: str, names: Sequence[str]) -> FolderView:
        """Return what is known of some of the files directly in `folder`."""
        if self._rescan:
            return FolderView()
        with self._lock:
            if self._asked is None:
                return FolderView()
            try:
                return self._asked.files(_absolute(folder), names, self._scorer)
            except CacheError as error:
                self._ask_no_more(error)
                return FolderView()

    def changed(self, folder: str) -> None:
        """Make sure that what is found out about the files of `folder` loads fast next time."""
        self._changed[_absolute(folder)] = None

    def answers(self, outcome: Outcome | None) -> TypeGuard[Outcome]:
        """Tell whether a remembered outcome is good enough for this scan."""
        if isinstance(outcome, Unscorable):
            return not self._retry_failed
        return outcome is not None

    def claim(self, sha256: bytes) -> Claim:
        """Find out who scores this content: the caller, another worker, or an earlier scan."""
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
        """Make known what the caller, who claimed it, found out about this content."""
        with self._lock:
            future = self._under_way(sha256)
            if _is_kept(outcome):
                self._outcomes.append(OutcomeRow(sha256, self._scorer, outcome))
        future.set_result(outcome)

    def abandon(self, sha256: bytes, error: BaseException) -> None:
        """Make known that the scan is broken, so that nobody waits for this content for ever."""
        with self._lock:
            future = self._under_way(sha256)
            del self._claims[sha256]
        future.set_exception(error)

    def add_facts(self, sha256: bytes, facts: ContentFacts) -> None:
        """Remember facts about a content."""
        with self._lock:
            for kind, body in facts.items():
                self._facts[sha256, kind] = body

    def fact(self, sha256: bytes, kind: FactKind) -> bytes | None:
        """Return a fact about a content; None when it is not known, or of no use to this scan.

        Only scans that need a kind ask for it, so that no other pays.
        """
        if kind not in self._needed:
            return None
        with self._lock:
            known = self._facts.get((sha256, kind))
            if known is not None or self._asked is None:
                return known
            try:
                return self._asked.fact(sha256, kind)
            except CacheError as error:
                self._ask_no_more(error)
                return None

    def lacks_facts(self, sha256: bytes, known: ContentFacts = NO_FACTS) -> bool:
        """Return True if the content must be decoded for a fact that this scan needs.

        `known` are facts that the caller has.
        """
        return any(kind not in known and self.fact(sha256, kind) is None for kind in self._needed)

    def locate(self, row: FileRow) -> None:
        """Remember that a path, as it is now, holds a content."""
        folder, name = os.path.split(row.path)
        row = row._replace(path=os.path.join(_absolute(folder), name))
        with self._lock:
            self._files.append(row)

    def save_when_due(self) -> None:
        """Save when a batch is full or a second has passed."""
        rows = len(self._files) + len(self._outcomes)
        if self._told is not None:  # only then does the dictionary get shorter by saving
            rows = max(rows, len(self._facts))
        if rows and (rows >= _BATCH_ROWS or time.monotonic() - self._saved_at >= _BATCH_SECONDS):
            self.save()

    def save(self) -> None:
        """Save all that is known and not saved. When it returns, a kill cannot take it away."""
        with self._lock:
            self._saved_at = time.monotonic()
            saved = False
            if self._told is not None and (self._files or self._outcomes or self._facts):
                facts = [FactRow(*about, body) for about, body in self._facts.items()]
                try:
                    self._told.write(self._files, self._outcomes, facts)
                except CacheError as error:
                    self._tell_no_more(error)
                else:
                    saved = True
                    for row in self._outcomes:
                        self._claims[row.sha256] = None
            self._files, self._outcomes = [], []
            if saved or not self._needed:
                self._facts = {}

    def close(self) -> None:
        """Save what is left, and arrange it so that the next scan loads it fast."""
        self.save()
        with self._lock:
            if self._told is not None and self._changed and self._arrange:
                try:
                    self._told.snapshot(self._changed, self._scorer)
                except CacheError as error:
                    self._tell_no_more(error)

    def _under_way(self, sha256: bytes) -> Future[Outcome]:
        future = self._claims[sha256]
        if future is None:
            raise RuntimeError("a content was settled twice")
        return future

    def _recall(self, sha256: bytes) -> Outcome | None:
        if self._asked is None:
            return None
        try:
            return self._asked.outcome(sha256, self._scorer)
        except CacheError as error:
            self._ask_no_more(error)
            return None

    def _ask_no_more(self, error: CacheError) -> None:
        """Go on without the cache: its only job is to save time."""
        self._asked = None
        self._tell_no_more(error)

    def _tell_no_more(self, error: CacheError) -> None:
        if self._told is None:
            return  # the user knows
        self._told = None
        hint = f" ({error.hint})" if error.hint else ""
        self._warn(f"{error}{hint}; the scan goes on, its results are not remembered")


def _is_kept(outcome: Outcome) -> bool:
    """Return True if an outcome says something of the content that will still hold next time."""
    if isinstance(outcome, Unscorable):
        return outcome.reason in _KEPT and not outcome.passing
    return True


def _absolute(folder: str) -> str:
    """Return the path by which the cache knows a folder, whoever asks and from where.

    Links in it stay. Only what `..` means depends on where they lead.
    """
    if os.pardir in folder.split(os.sep):
        return os.path.realpath(folder)
    return os.path.abspath(folder)


def _settled(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future

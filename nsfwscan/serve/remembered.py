"""What the cache knows of the pictures that are sent, by content.

It is read unless a request says otherwise, and written only if the person who runs the server asks
for that. A cache that fails is said once, and requests go on without it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from nsfwscan.cache.rows import FactRow, OutcomeRow
from nsfwscan.scanning.scan_cache import is_kept
from nsfwscan.values.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.cache.cache import Cache
    from nsfwscan.scanning.examine import Finding
    from nsfwscan.values.facts import FactKind
    from nsfwscan.values.outcome import Outcome, Scorer

_MOST_ROWS = 512
"""Rows in one transaction."""
_MOST_OWED = 10_000
"""Findings that may wait to be written; more are left out."""


class _Unwritten(NamedTuple):
    outcome: OutcomeRow
    facts: tuple[FactRow, ...]


class Remembered:
    """The cache as a server uses it; any thread may."""

    def __init__(
        self, cache: Cache | None, scorer: Scorer, *, write: bool, warn: Callable[[str], None]
    ) -> None:
        self._cache = cache
        self._scorer = scorer
        self._writes = write
        self._warn = warn
        self._owed: queue.Queue[_Unwritten | None] = queue.Queue(_MOST_OWED)
        self._writer = threading.Thread(target=self._write, name="nsfwscan-cache", daemon=True)

    def __enter__(self) -> Self:
        if self._cache is not None and self._writes:
            self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer.ident:
            self._owed.put(None)
            self._writer.join()

    def outcome(self, sha256: bytes) -> Outcome | None:
        """Return the outcome for a content, or None if it is not known."""
        if self._cache is None:
            return None
        try:
            return self._cache.outcome(sha256, self._scorer)
        except CacheError as error:
            self._give_up(error)
            return None

    def fact(self, sha256: bytes, kind: FactKind) -> bytes | None:
        """Return a fact about a content, or None if it is not known."""
        if self._cache is None:
            return None
        try:
            return self._cache.fact(sha256, kind)
        except CacheError as error:
            self._give_up(error)
            return None

    def remember(self, finding: Finding) -> None:
        """Have a finding written, soon, if findings are written and this one holds next time."""
        outcome = finding.outcome
        if self._cache is None or not self._writes or outcome is None or not is_kept(outcome):
            return
        facts = tuple(FactRow(finding.sha256, *fact) for fact in finding.facts.items())
        row = _Unwritten(OutcomeRow(finding.sha256, self._scorer, outcome), facts)
        # If the disk is slower than the model, the picture will be scored again.
        with contextlib.suppress(queue.Full):
            self._owed.put_nowait(row)

    def _write(self) -> None:
        """Write whatever has come while the last transaction was written."""
        while (first := self._owed.get()) is not None:
            rows, last = [first], False
            while len(rows) < _MOST_ROWS and not self._owed.empty():
                row = self._owed.get()
                if row is None:
                    last = True
                    break
                rows.append(row)
            cache = self._cache
            if cache is not None:
                outcomes = [row.outcome for row in rows]
                try:
                    cache.write([], outcomes, [fact for row in rows for fact in row.facts])
                except CacheError as error:
                    self._writes = False
                    self._warn(f"{error}; scores are no longer cached")
            if last:
                return

    def _give_up(self, error: CacheError) -> None:
        if self._cache is not None:
            self._cache = None
            self._warn(f"{error}; the server goes on without the cache")

"""Files that may still be written: each waits until it has stood still.

A file is read when its size and times have stood still for `settle_ms`. One that a program is known
to hold open for writing has longer, for a download that stalls is not complete. A picture that
cannot be decoded although it is fresh is tried again, later and later, and then believed.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.values.file_key import FileKey
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

UNFINISHED = tuple(
    ".part .crdownload .tmp .temp .partial .download .opdownload .filepart .aria2 .swp".split()
)
"""How browsers and other programs end the names of files that are not complete. They are renamed
when they are."""

WRITING_S = 20.0
"""How long a file that is open for writing must have stood still. Its writer closes it when it
ends, so this is for those that keep what they have written open."""

MOST_UNSETTLED_S = 30.0
"""A file that keeps changing, and that no program holds open, is looked at this often all the same:
a picture of a camera that is replaced every second never stands still."""

_RETRY_S = (2.0, 5.0, 15.0, 60.0)
_LATER_S, _MOST_DOUBLED = 60, 8
_FRESH_S = 600.0
"""A file that did not change for longer than this is not being written any more."""
_OF_THE_MOMENT = frozenset(
    {FailReason.DECODER_CRASHED, FailReason.DECODER_MEMORY, FailReason.DECODER_TIMEOUT}
)
"""Those of which the file may be innocent: somebody killed or stopped a process, memory was low."""
_TRIES_OF_OLD = 2
_QUEUE_SLACK = 64
_HOPE = frozenset(
    {FailReason.TRUNCATED, FailReason.CORRUPT, FailReason.EMPTY, FailReason.UNRECOGNISED}
    | {FailReason.CHANGED, FailReason.UNREADABLE}
    | {FailReason.DECODER_CRASHED, FailReason.DECODER_MEMORY, FailReason.DECODER_TIMEOUT}
)
"""Failures that may be of the moment: the file is half there, or the computer has no memory."""


def retry_delay_s(
    reason: FailReason, age_s: float, tries: int, *, transient: bool = False
) -> float | None:
    """Return how long to wait before a failed picture is tried again; None when it is believed.

    `age_s` is how long it has stood still, `tries` how often it has failed before; `transient` is
    `Failed.transient`.
    """
    if transient and tries < len(_RETRY_S):
        return later_delay_s(tries)
    old = age_s > _FRESH_S
    if reason not in _HOPE or (old and reason not in _OF_THE_MOMENT):
        return None
    if tries >= (_TRIES_OF_OLD if old else len(_RETRY_S)):
        return None
    return _RETRY_S[tries]


def later_delay_s(tries: int) -> float:
    """Return how long to wait before a file is scanned again whose failure may have passed.

    First as after any failure, then each time twice as long: a picture that never decodes costs
    next to nothing.
    """
    if tries < len(_RETRY_S):
        return _RETRY_S[tries]
    return float(_LATER_S << min(tries - len(_RETRY_S), _MOST_DOUBLED))


def still_s(key: bytes, now_ns: int | None = None) -> float:
    """Return how long a file has stood still: not written, renamed or replaced. `key` is packed."""
    known = FileKey.unpack(key)
    now_ns = time.time_ns() if now_ns is None else now_ns
    return (now_ns - max(known.mtime_ns, known.ctime_ns)) / 1e9


def is_unfinished(name: str) -> bool:
    """Tell whether a file's name says that it is not complete yet."""
    return name.lower().endswith(UNFINISHED)


@dataclass(slots=True)
class Waiting:
    """One file that is to be looked at."""

    key: bytes
    """The packed `FileKey` it had when it was seen last."""
    due: float
    """By `time.monotonic`: when it is settled, if its key is still the same."""
    silent: bool = False
    """It has its verdict, and is only looked at once more."""
    tries: int = 0
    """How often it has failed, or was too young to be trusted, with this key."""
    writing: bool = False
    """A program holds it open and has written to it."""
    since: float = math.inf
    """By `time.monotonic`: since when it has been changing without a look."""

    def is_overdue(self, now: float) -> bool:
        """Return True if the file has to be looked at, whether it stands still or not."""
        return now - self.since >= MOST_UNSETTLED_S and not self.writing


@dataclass(slots=True)
class Settling:
    """The files that wait, by path.

    The queue holds at most twice as many entries as files wait, and some more.
    """

    settle_s: float
    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _queue: list[tuple[float, int, str]] = field(default_factory=list)
    _serial: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, path: str) -> bool:
        return path in self._waiting

    def get(self, path: str) -> Waiting | None:
        """Return what is known of a file that waits."""
        return self._waiting.get(path)

    def unjudged(self) -> Iterator[str]:
        """Yield the paths that have no verdict as they are now."""
        return (path for path, waiting in self._waiting.items() if not waiting.silent)

    def note(
        self, path: str, key: bytes, now: float, still_s: float, since: float = math.inf
    ) -> None:
        """Take a file that was seen with `key` and has stood still for `still_s` already.

        `since` is when it was seen first, if it has been taken out meanwhile.
        """
        before = self._waiting.get(path)
        if before is not None and before.key == key and not before.silent:
            return
        writing = before is not None and before.writing
        needed_s = WRITING_S if writing else self.settle_s
        due = now + min(max(needed_s - still_s, 0.0), needed_s)
        before_s = before.since if before is not None and not before.silent else math.inf
        since = min(since, before_s, now)
        if not writing:
            due = min(due, max(since + MOST_UNSETTLED_S, now))
        self._put(path, Waiting(key, due, writing=writing, since=since))

    def later(self, path: str, waiting: Waiting) -> None:
        """Look at a file again when `waiting` says."""
        self._put(path, waiting)

    def written(self, path: str, now: float) -> None:
        """Take note that a program wrote to the file at `path` and has not closed it."""
        waiting = self._waiting.get(path)
        if waiting is None:
            self._put(path, Waiting(b"", now + WRITING_S, writing=True, since=now))
        else:
            waiting.writing = True
            waiting.due = now + WRITING_S
            waiting.since = min(waiting.since, now)

    def closed(self, path: str, now: float) -> None:
        """Take note that the program that wrote to the file at `path` closed it."""
        waiting = self._waiting.get(path)
        if waiting is not None and waiting.writing:
            waiting.writing = False
            since = min(waiting.since, now)
            waiting.due = min(waiting.due, now + self.settle_s, max(since + MOST_UNSETTLED_S, now))
            self._put(path, waiting)

    def drop(self, path: str) -> None:
        """Wait for a file no longer."""
        self._waiting.pop(path, None)

    def due(self, now: float, most: int) -> dict[str, Waiting]:
        """Take out up to `most` files whose time has come."""
        found: dict[str, Waiting] = {}
        while self._queue and self._queue[0][0] <= now and len(found) < most:
            _due, _serial, path = heapq.heappop(self._queue)
            waiting = self._waiting.get(path)
            if waiting is None:
                continue
            if waiting.due > now:
                heapq.heappush(self._queue, (waiting.due, next(self._serial), path))
                continue
            found[path] = self._waiting.pop(path)
        return found

    def next_due(self) -> float | None:
        """Return when `due` is worth a call; by `time.monotonic`."""
        while self._queue and self._queue[0][2] not in self._waiting:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _put(self, path: str, waiting: Waiting) -> None:
        self._waiting[path] = waiting
        heapq.heappush(self._queue, (waiting.due, next(self._serial), path))
        if len(self._queue) > 2 * len(self._waiting) + _QUEUE_SLACK:
            self._queue = [(one.due, next(self._serial), at) for at, one in self._waiting.items()]
            heapq.heapify(self._queue)

"""Lanes: whole pictures in parallel, each in a thread that has a decode process for itself.

In: a path. Out: a `Future[Done]`. Processes and model are the engine's. On few cores this beats a
decode stage before a scoring stage: no core waits for the other, and a crash of a decoder has
exactly one culprit.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.cache.rows import FileRow
from nsfwscan.media.discover import Symlinks, WalkOptions
from nsfwscan.media.read import read_head, read_picture
from nsfwscan.media.sniff import HEAD_BYTES, sniff
from nsfwscan.media.volumes import RELIABLE, UNKNOWN
from nsfwscan.values import likeness
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.outcome import Outcome, Scored
from nsfwscan.values.results import Failed, Origin, Skipped, SkipReason

if TYPE_CHECKING:
    from nsfwscan.scanning.engine import Engine
    from nsfwscan.scanning.scan_cache import ScanCache
    from nsfwscan.values.file_key import FileKey

_RACY_NS = 3_000_000_000
"""A file that changed less than this before it was read may change again within the same tick of
its file system's clock, without a trace (FAT counts in 2 s). Its stat is not to be trusted."""
_AHEAD_NS = 3_600_000_000_000
"""A time this far ahead was not set by this computer's clock as it is now: by a camera's, say, or
before the clock was set right. Whatever writes the file from now on sets another time."""
_AHEAD_LOOSE_NS = 48 * _AHEAD_NS
"""The same where times may come from a server's clock, or FAT's local time: no clock of today is
wrong by days. Until then such a file is read anew by each scan."""
_LARGE_BYTES = 64 << 20
"""Files above this are read one at a time, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a lane found out about one path."""

    path: str
    found: Outcome | Failed | Skipped | Future[Outcome]
    """A future when another lane scores the same content at this moment."""
    sha256: bytes = b""
    origin: Origin = Origin.MODEL


class Workers:
    """Threads that read and hash pictures, and have them scored by an engine.

    The engine is started by the first content that nobody scored yet: a scan that only reads what
    was renamed or touched does without.
    """

    def __init__(self, cache: ScanCache, engine: Engine, *, walk: WalkOptions) -> None:
        """As many pictures go at a time as `engine` takes."""
        self._cache = cache
        self._engine = engine
        self._follow = walk.symlinks is Symlinks.FOLLOW
        self._max_bytes = walk.max_bytes
        self._large = threading.Lock()
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(engine.jobs, "nsfwscan-lane")

    def submit(
        self, path: str, *, named: bool, follow: bool = False, loose: int = RELIABLE
    ) -> Future[Done | None]:
        """Score the file at `path`; the future gives None when `stop` came first.

        `named` says that the file's name, or the user, calls it a picture: content that is none is
        then a failure and not just another file. `follow` allows it to be a symbolic link. `loose`
        is `Listing.loose`. The future raises `ModelError` when the model cannot be loaded.
        """
        return self._threads.submit(self._work, path, named, follow or self._follow, loose)

    def stop(self) -> None:
        """Start no further picture. May be called from a signal handler: it takes no lock."""
        self._stopping.set()

    def abandon(self) -> None:
        """Kill the decode processes. May be called from a signal handler: it takes no lock."""
        self._engine.abandon()

    def close(self) -> None:
        """Finish the pictures in hand and end all threads. The engine goes on."""
        self.stop()
        self._threads.shutdown()

    def _work(self, path: str, named: bool, follow: bool, loose: int) -> Done | None:
        if self._stopping.is_set():
            return None
        try:
            if not named and sniff(read_head(path, HEAD_BYTES, follow=follow)) is None:
                return Done(path, Skipped(path, SkipReason.NOT_AN_IMAGE))
            with self._one_large_file(path):
                began_ns = time.time_ns()
                contents = read_picture(path, follow=follow, max_bytes=self._max_bytes)
                sha256 = hashlib.sha256(contents.data).digest()
                if loose != UNKNOWN and not is_racy(contents.key, began_ns, loose):
                    key = contents.key._replace(inode=loose) if loose else contents.key
                    self._cache.locate(FileRow(path, key, sha256))
                return self._identified(path, sha256, contents.data)
        except DecodeError as error:
            failed = Failed(path, error.reason, error.detail, passing=error.passing)
            return Done(path, failed)

    def _one_large_file(self, path: str) -> AbstractContextManager[object]:
        try:
            large = os.path.getsize(path) > _LARGE_BYTES
        except OSError:
            large = False  # reading it will say what is wrong
        return self._large if large else nullcontext()

    def _identified(self, path: str, sha256: bytes, data: bytes) -> Done:
        """Score content of a known digest, unless somebody did or does already."""
        claim = self._cache.claim(sha256)
        if not claim.mine:
            if claim.origin is Origin.CACHE and isinstance(claim.outcome.result(), Scored):
                self._liken(sha256, data)
            return Done(path, claim.outcome, sha256, claim.origin)
        try:
            outcome, bits = self._engine.score(data)
        except BaseException as error:
            self._cache.abandon(sha256, error)
            raise
        if bits != likeness.UNKNOWN:
            self._cache.liken(sha256, bits)  # before others hear of the outcome
        self._cache.settle(sha256, outcome)
        return Done(path, outcome, sha256)

    def _liken(self, sha256: bytes, data: bytes) -> None:
        """Decode what was scored before there were likenesses, if this scan compares them."""
        if self._cache.compare_likeness and self._cache.likeness(sha256) == likeness.UNKNOWN:
            bits = self._engine.likeness(data)
            if bits != likeness.UNKNOWN:
                self._cache.liken(sha256, bits)


def is_racy(key: FileKey, began_ns: int, loose: int = RELIABLE) -> bool:
    """Return True if a file read at `began_ns` could change again and show the same stat.

    `loose` is `Listing.loose`. Where it is set, times may come from a server's clock, and a time
    ahead of ours, by less than two days, may be its present.
    """
    young, ahead = began_ns - _RACY_NS, began_ns + (_AHEAD_LOOSE_NS if loose else _AHEAD_NS)
    return young < key.mtime_ns <= ahead or young < key.ctime_ns <= ahead

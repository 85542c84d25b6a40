"""Lanes: whole pictures in parallel, each in a thread that has a decode process for itself.

In: a path. Out: a `Future[Done]`. On few cores this beats a decode stage before a scoring stage:
no core waits for the other, and a crash of a decoder has exactly one culprit.
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

from nsfwscan import cores, likeness
from nsfwscan.errors import DecodeError, ModelUnusable, NsfwscanError
from nsfwscan.images.decode_pool import DecodePool
from nsfwscan.images.discover import Symlinks, WalkOptions
from nsfwscan.images.read import read_head, read_picture
from nsfwscan.images.sniff import sniff
from nsfwscan.library.rows import FileRow, Outcome, Scored, Unscorable
from nsfwscan.results import Failed, FailReason, FileKey, Origin, Scores, Skipped, SkipReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsfwscan.geometry import Geometry
    from nsfwscan.memory import Memory
    from nsfwscan.models.classifier import Classifier

_RACY_NS = 3_000_000_000
"""A file that changed less than this before it was read may change again within the same tick of
its file system's clock, without a trace (FAT counts in 2 s). Its stat is not to be trusted."""
_LARGE_BYTES = 64 << 20
"""Files above this are read one at a time, so that memory stays bounded."""
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Done:
    """What a lane found out about one path."""

    path: str
    found: Outcome | Failed | Skipped | Future[Outcome]
    """A future when another lane scores the same content at this moment."""
    sha256: bytes = b""
    origin: Origin = Origin.MODEL


class Lanes:
    """Threads, decode processes and the classifier.

    Processes and classifier are started by the first content that nobody scored yet: a scan that
    only reads what was renamed or touched needs neither.
    """

    def __init__(
        self,
        memory: Memory,
        load: Callable[[], Classifier],
        geometry: Geometry,
        *,
        jobs: int,
        walk: WalkOptions,
    ) -> None:
        """`load` makes the classifier, once, in a thread; `jobs` pictures go at a time."""
        self._memory = memory
        self._load = load
        self._geometry = geometry
        self._jobs = jobs or cores.available()
        self._follow = walk.symlinks is Symlinks.FOLLOW
        self._max_bytes = walk.max_bytes
        self._large = threading.Lock()
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._classifier: Future[Classifier] | None = None
        self._decoding = False
        self._pool = DecodePool(self._jobs)
        self._threads = ThreadPoolExecutor(self._jobs, "nsfwscan-lane")
        self._loader = ThreadPoolExecutor(1, "nsfwscan-load")

    def submit(self, path: str, *, named: bool, loose: bool = False) -> Future[Done | None]:
        """Score the file at `path`; the future gives None when `stop` came first.

        `named` says that the file's name, or the user, calls it a picture: content that is none is
        then a failure and not just another file. With `loose`, its inode number means nothing. The
        future raises `ModelError` when the model
        cannot be loaded.
        """
        return self._threads.submit(self._work, path, named, loose)

    def stop(self) -> None:
        """Start no further picture. May be called from a signal handler: it takes no lock."""
        self._stopping.set()

    def abandon(self) -> None:
        """Kill the decode processes. May be called from a signal handler: it takes no lock."""
        self._pool.abandon()

    def close(self) -> None:
        """Finish the pictures in hand and end all threads and processes."""
        self.stop()
        self._threads.shutdown()
        self._loader.shutdown()
        self._pool.close()

    def _work(self, path: str, named: bool, loose: bool) -> Done | None:
        if self._stopping.is_set():
            return None
        try:
            if not named and sniff(read_head(path, _HEAD_BYTES, follow=self._follow)) is None:
                return Done(path, Skipped(path, SkipReason.NOT_AN_IMAGE))
            with self._one_large_file(path):
                began_ns = time.time_ns()
                contents = read_picture(path, follow=self._follow, max_bytes=self._max_bytes)
                sha256 = hashlib.sha256(contents.data).digest()
                if not is_racy(contents.key, began_ns):
                    key = contents.key._replace(inode=0) if loose else contents.key
                    self._memory.locate(FileRow(path, key, sha256))
                return self._identified(path, sha256, contents.data)
        except DecodeError as error:
            return Done(path, Failed(path, error.reason, error.detail))

    def _one_large_file(self, path: str) -> AbstractContextManager[object]:
        try:
            large = os.path.getsize(path) > _LARGE_BYTES
        except OSError:
            large = False  # reading it will say what is wrong
        return self._large if large else nullcontext()

    def _identified(self, path: str, sha256: bytes, data: bytes) -> Done:
        """Score content of a known digest, unless somebody did or does already."""
        claim = self._memory.claim(sha256)
        if not claim.mine:
            if claim.origin is Origin.CACHE and isinstance(claim.outcome.result(), Scored):
                self._liken(sha256, data)
            return Done(path, claim.outcome, sha256, claim.origin)
        try:
            outcome = self._score(sha256, data)
        except BaseException as error:
            self._memory.abandon(sha256, error)
            raise
        self._memory.settle(sha256, outcome)
        return Done(path, outcome, sha256)

    def _liken(self, sha256: bytes, data: bytes) -> None:
        """Decode what was scored before there were likenesses, if this scan compares them."""
        if not self._memory.compare_likeness or self._memory.likeness(sha256) != likeness.UNKNOWN:
            return
        with self._starting:
            self._start_decoding()
        try:
            self._memory.liken(sha256, self._pool.decode(data, self._geometry).likeness)
        except DecodeError:  # it was decoded once, so a slow day or a new Pillow is to blame
            self._memory.liken(sha256, likeness.NONE)

    def _score(self, sha256: bytes, data: bytes) -> Outcome:
        loading = self._started()
        if loading.done():
            loading.result()  # raises what starting raised: the scan is broken
        try:
            decoded = self._pool.decode(data, self._geometry)
        except DecodeError as error:
            return Unscorable(error.reason, error.detail)
        self._memory.liken(sha256, decoded.likeness)
        classifier = loading.result()  # raises what loading raised
        try:
            frames = classifier.classify(decoded.pixels, decoded.frames)
        except ModelUnusable as error:
            return Unscorable(FailReason.BAD_OUTPUT, str(error))
        return Scored(decoded.facts, worst(frames))

    def _started(self) -> Future[Classifier]:
        """Start the decode processes and the loading of the model, if no lane has yet."""
        with self._starting:
            if self._classifier is None:
                try:
                    self._start_decoding()
                    self._classifier = self._loader.submit(self._load)
                except NsfwscanError as error:
                    self._classifier = Future()
                    self._classifier.set_exception(error)  # every lane is to say the same
            return self._classifier

    def _start_decoding(self) -> None:
        """Start the decode processes, if no lane has yet. The caller holds `_starting`."""
        if not self._decoding:
            self._pool.start()
            self._decoding = True


def worst(frames: Sequence[Scores]) -> Scores:
    """Return the scores of the frame that counts: the least safe one."""
    return max(frames, key=lambda scores: scores.unsafe)


def is_racy(key: FileKey, began_ns: int) -> bool:
    """Tell whether a file read at `began_ns` could change again and show the same stat."""
    return max(key.mtime_ns, key.ctime_ns) > began_ns - _RACY_NS

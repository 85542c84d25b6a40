"""`PathScan`: a worker's part of a scan, from one path to its outcome.

In: a path. Out: `Done`. It reads the file, looks its content up in the cache, has new content
examined and stores the finding. A problem with the file gives `Failed`; `NsfwscanError` is raised
if nothing can be decoded or scored at all.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.cache.rows import FileRow
from nsfwscan.media.discover import Symlinks, WalkOptions
from nsfwscan.media.read import read_head
from nsfwscan.media.sniff import HEAD_BYTES, sniff
from nsfwscan.media.volumes import RELIABLE, UNKNOWN
from nsfwscan.scanning.examine import ALL, FACTS, Content, Read, identify
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.file_key import UNTRUSTED, is_racy
from nsfwscan.values.outcome import Outcome, Scored
from nsfwscan.values.results import Failed, Origin, Skipped, SkipReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from nsfwscan.scanning.engine import Engine
    from nsfwscan.scanning.scan_cache import ScanCache

_LARGE_BYTES = 64 << 20
"""Larger files are read one at a time, to bound memory."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was found out about one path."""

    path: str
    found: Outcome | Failed | Skipped | Future[Outcome]
    """A future if another worker is scoring the same content."""
    sha256: bytes = b""
    origin: Origin = Origin.MODEL


class PathScan:
    """Reads files and has the content scored that is not in the cache. Thread-safe.

    Only content that has not been scored starts the engine: a scan that just reads renamed or
    touched files does without it.
    """

    def __init__(
        self,
        cache: ScanCache,
        engine: Engine,
        *,
        walk: WalkOptions,
        locate_young: bool = True,
        read: Read = identify,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`locate_young` is as in `ScanOptions`. `read` reads a path. `clock` gives epoch ns."""
        self._cache = cache
        self._engine = engine
        self._follow = walk.symlinks is Symlinks.FOLLOW
        self._max_bytes = walk.max_bytes
        self._locate_young = locate_young
        self._read, self._clock = read, clock
        self._large = threading.Lock()

    def scan(self, path: str, *, named: bool, follow: bool = False, loose: int = RELIABLE) -> Done:
        """Find out what is at `path`.

        `named` means that the file's name, or the user, says that it is a picture: other content is
        then a failure instead of just another file. `follow` allows a symbolic link. `loose` is
        `Listing.loose`.
        """
        follow = follow or self._follow
        try:
            if not named and sniff(read_head(path, HEAD_BYTES, follow=follow)) is None:
                return Done(path, Skipped(path, SkipReason.NOT_AN_IMAGE))
            with self._one_large_file(path):
                began_ns = self._clock()
                content = self._read(path, follow=follow, max_bytes=self._max_bytes)
                self._locate(path, content, began_ns, loose)
                return self._outcome(path, content)
        except DecodeError as error:
            failed = Failed(path, error.reason, error.detail, transient=error.transient)
            return Done(path, failed)

    def _one_large_file(self, path: str) -> AbstractContextManager[object]:
        try:
            large = os.path.getsize(path) > _LARGE_BYTES
        except OSError:
            large = False  # reading the file will give the reason
        return self._large if large else nullcontext()

    def _locate(self, path: str, content: Content, began_ns: int, loose: int) -> None:
        """Store what is at `path`; without its stat if that may not show a later change."""
        key = content.key
        if key is None:
            return
        if loose != UNKNOWN and not is_racy(key, began_ns, loose):
            key = key._replace(inode=loose) if loose else key
        elif self._locate_young:
            key = UNTRUSTED
        else:
            return
        self._cache.locate(FileRow(path, key, content.sha256))

    def _outcome(self, path: str, content: Content) -> Done:
        """Have the content scored, unless it has been or is being scored."""
        sha256 = content.sha256
        claim = self._cache.claim(sha256)
        if not claim.mine:
            if claim.origin is Origin.CACHE and isinstance(claim.outcome.result(), Scored):
                self._add_facts(content)
            return Done(path, claim.outcome, sha256, claim.origin)
        try:
            finding = self._engine.examine(content, ALL)
            outcome = finding.expect_outcome()
            self._cache.add_facts(sha256, finding.facts)  # before other threads see the outcome
            self._cache.settle(sha256, outcome)
        except BaseException as error:
            self._cache.abandon(sha256, error)
            raise
        return Done(path, outcome, sha256)

    def _add_facts(self, content: Content) -> None:
        """Decode content that was scored before the facts that this scan needs existed."""
        if self._cache.lacks_facts(content.sha256):
            finding = self._engine.examine(content, FACTS)
            self._cache.add_facts(content.sha256, finding.facts)

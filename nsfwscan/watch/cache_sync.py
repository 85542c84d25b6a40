"""What the cache is told of what the watcher found, and what it remembers for the next one.

In: paths, contents and places, from the watcher. Out: the cache as a scan would leave it. A
cache that does not work becomes a condition, never an exception: the watcher goes on from memory,
and its next scan tries the cache again.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from nsfwscan.cache.rows import FileRow
from nsfwscan.values.errors import CacheError
from nsfwscan.values.file_key import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsfwscan.scanning.session import Session
    from nsfwscan.watch.conditions import Conditions
    from nsfwscan.watch.inventory import Inventory

_LOCATE_S = 1.0
"""How much of what was told `kill -9` may take away; each time costs an fsync."""
_ARRANGED = 10
"""Folders whose snapshots are written at a time."""


class CacheSync:
    """Writes to the library of a session what its scans do not."""

    def __init__(self, session: Session, conditions: Conditions) -> None:
        self._session, self._conditions = session, conditions
        self.works = True
        """Whether nothing has failed since the batch began."""
        self._forgotten: list[str] = []
        self._untold: list[FileRow] = []
        """What was told of files of which the scanner has located something else since."""
        self._young: list[FileRow] = []
        """Files that were told and are too young for the scanner to locate them."""
        self._located_at = -math.inf
        self._changed_folders: dict[str, None] = {}

    def failed(self, sentence: str) -> None:
        """Take note that the library does not work."""
        self.works = False
        self._conditions.note("cache", sentence)

    # What it remembers

    def load(self, inventory: Inventory, place: str) -> None:
        """Enter into `inventory` what the library knows at and below `place`."""
        cache = self._session.cache
        if cache is None:
            return
        try:
            for folder in cache.folders_below(place):
                inventory.load(folder, cache.folder(folder, self._session.scorer))
        except CacheError as error:
            self.failed(str(error))

    def places(self) -> dict[str, str]:
        """Return the identities of places that an earlier watcher left."""
        cache = self._session.cache
        try:
            return cache.places() if cache is not None else {}
        except CacheError:
            return {}  # the first reconcile will say what is wrong

    def remember_places(self, identities: dict[str, str]) -> None:
        """Leave the identities of places to later watchers."""
        cache = self._session.cache
        if cache is not None:
            try:
                cache.remember_places(identities)
            except CacheError as error:
                self.failed(str(error))

    # What was told

    def note_young(self, path: str, sha256: bytes) -> None:
        """Let what was told of a file be located soon, without the key it has now."""
        self._young.append(FileRow(path, NEVER, sha256))

    def withhold(self, path: str, told: bytes | None) -> None:
        """Let the library know no more of a file than was `told`; its scan located what was not."""
        if told is None:
            self.forget(path)
        else:
            self._untold.append(FileRow(path, NEVER, told))

    def begin_batch(self) -> None:
        """Try the cache again: a scan begins.

        What an earlier batch withheld is written first: this one may tell it, and locate it.
        """
        self.works = True
        if self._untold:
            self.end_batch()
        self.forget_gone()

    def locate_in_time(self) -> None:
        """Locate what was told, every second of a scan."""
        if time.monotonic() - self._located_at >= _LOCATE_S:
            self._locate_young()

    def end_batch(self) -> None:
        """Locate the rest of a scan, which has saved all of its own by now."""
        self._young += self._untold
        self._untold = []
        self._locate_young()

    def note_works(self) -> None:
        """Say that the library works, and knows all that was told."""
        self._conditions.note("cache", "")

    def _locate_young(self) -> None:
        """Let the cache know of young files what they hold, and not that they are known.

        Whoever begins with the cache next, after SIGHUP or a kill, then reads them again and
        tells of those that hold something else by then, and of no other.
        """
        self._located_at = time.monotonic()
        cache, rows = self._session.cache, self._young
        if cache is not None and rows:
            try:
                cache.write(rows, ())
            except CacheError as error:
                self.failed(str(error))
        self._young = []  # not before: memory may be refused

    # What is gone, and the order of things

    def forget(self, path: str) -> None:
        """Note that there is no picture at `path` any more."""
        self._forgotten.append(path)

    def forget_gone(self) -> bool:
        """Let the library forget what was noted; tell whether there was anything."""
        cache = self._session.cache
        paths, self._forgotten = self._forgotten, []
        if cache is not None and paths:
            try:
                cache.forget(paths)
            except CacheError as error:
                self.failed(str(error))
        return bool(paths)

    def note_changed(self, folders: Iterable[str]) -> None:
        """Note folders whose snapshots are no longer true."""
        self._changed_folders.update(dict.fromkeys(folders))

    def arrange(self, for_s: float) -> None:
        """Rewrite what makes folders load fast, for so many seconds; a later scan does the rest."""
        cache = self._session.cache
        if cache is None:
            self._changed_folders.clear()
        until = time.monotonic() + for_s
        while self._changed_folders and time.monotonic() < until:
            some = list(self._changed_folders)[:_ARRANGED]
            for folder in some:
                del self._changed_folders[folder]
            try:
                if cache is not None:
                    cache.snapshot(some, self._session.scorer)
            except CacheError as error:
                self.failed(str(error))
                self._changed_folders.clear()

    def close(self, for_s: float) -> None:
        """Leave the library as a scan would, within about so many seconds."""
        self.end_batch()
        self.forget_gone()
        self.arrange(for_s)

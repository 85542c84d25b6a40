"""What is known of each file, and what it waits for: to settle, to be scanned, or to turn up again.

In: listings of folders, and paths that may be missing. Out: the files that are ready to be scanned,
and a `Change` for each picture that is no longer opened. No file is opened here.
What can fail: a file that `stat` refuses is kept in `unreached`, a folder that cannot be listed in
`unlisted`; a path that cannot be examined counts as still there.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.discover import join
from nsfwscan.values.changes import Change, Event
from nsfwscan.values.file_key import NEVER, pack_key
from nsfwscan.values.results import FailReason, Skipped
from nsfwscan.watch.absent import Absent
from nsfwscan.watch.inventory import NO_DIGEST, NO_PICTURE, Inventory, Tracked
from nsfwscan.watch.places import is_below, is_there
from nsfwscan.watch.settle import Settling, is_unfinished, still_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.media.discover import Listing
    from nsfwscan.watch.cache_sync import CacheSync
    from nsfwscan.watch.owed import Owed

_ABSENCE_S = 1.5
"""Beyond the settling time: how long a moved picture may take to turn up."""
_LISTED_S = 60.0
"""What has not changed for longer was there when its folder was listed a moment ago."""


class Look(NamedTuple):
    """A settled file that is to be scanned."""

    key: bytes
    loose: int
    silent: bool
    tries: int
    overdue: bool = False
    """It keeps changing: the result is believed although the file may hold something else now."""


class Tracker:
    """The files below the roots."""

    def __init__(
        self,
        ledger: CacheSync,
        owed: Owed | None,
        *,
        settle_s: float,
        new_folder: Callable[[], None],
    ) -> None:
        """`new_folder` is called when a folder is listed that was not known."""
        self._ledger, self._owed = ledger, owed
        self._new_folder = new_folder
        self.inventory = Inventory()
        """What was told."""
        self.settling = Settling(settle_s)
        self.ready: dict[str, Look] = {}
        """What has settled and waits for a scan."""
        self.absent = Absent(settle_s + _ABSENCE_S)
        self.unreached: set[str] = set()
        """Files that `stat` refused since the last reconcile began."""
        self.unlisted: set[str] = set()
        """Folders that could not be listed since then."""
        self.refused = False
        """Whether there was one of either, for the reconcile, which resets it."""

    def load(self, place: str) -> None:
        """Begin with what the cache knows at and below `place`; scan again what is owed."""
        self._ledger.load(self.inventory, place)
        if self._owed is None:
            return
        for path, told in self._owed.below(place).items():
            entry = self.inventory.get(path)
            if told:  # what a scan found and saved since may never have been told
                self.inventory.put(path, Tracked(NEVER.pack(), told, math.nan))
            elif entry is not None:
                self.inventory.put(path, entry._replace(key=NEVER.pack()))

    def unjudged(self) -> set[str]:
        """Return the paths that have no verdict as they are now."""
        return {*self.ready, *self.settling.unjudged()}

    def pictures(self) -> int:
        """Return how many files are known or wait to be scanned."""
        unknown = sum(self.inventory.get(path) is None for path in self.unjudged())
        return len(self.inventory) + unknown

    # What is there

    def take(self, listing: Listing) -> Iterator[Change]:
        """Compare one folder, or some names of it, with what is known."""
        folder = listing.folder
        whole = bool(not listing.incomplete and listing.inode)  # else it could not be listed
        if whole:
            if folder not in self.inventory.inodes:
                self._new_folder()
            self.inventory.inodes[folder] = listing.inode
            if self.inventory.is_unchanged(listing) and not listing.not_opened:
                return
        for name, key in zip(listing.names, listing.keys, strict=True):
            self.see(join(folder, name), name, key, loose=listing.loose)
        for passed in listing.not_opened:
            if isinstance(passed, Skipped):
                yield from self.skip(passed)
            elif passed.reason is FailReason.UNREADABLE:
                self.not_examined(passed.path, is_file=bool(listing.inode))
        if whole:
            here = set(listing.names)
            for name in self.inventory.names(folder):
                if name not in here:
                    self.miss(join(folder, name), listed=True)

    def see(self, path: str, name: str, key: bytes, *, loose: int, since: float = math.inf) -> None:
        """Take a file as it is now, and find out whether it has changed.

        `since` is when it was seen to change, if it has been changing since.
        """
        self.absent.drop(path)
        self.unreached.discard(path)
        if is_unfinished(name):
            return
        entry = self.inventory.get(path)
        if entry is not None and entry.key == key:
            waiting = self.settling.get(path)
            if waiting is not None and not waiting.silent and not waiting.writing:
                self.settling.drop(path)
            return
        if path in self.ready:
            look = self.ready[path]
            if look.key == key:
                return
            if look.overdue:
                self.ready[path] = look._replace(key=key)
                return
            del self.ready[path]
        still = 0.0 if loose else still_s(key)
        before = self.settling.get(path)
        if still >= self.settling.settle_s and before is None:
            self.ready[path] = Look(key, loose, silent=False, tries=0)
        else:
            self.settling.note(path, key, time.monotonic(), still, since)

    def not_examined(self, path: str, *, is_file: bool) -> None:
        """Note that the system does not show a file or a folder, for the moment or for good."""
        (self.unreached if is_file else self.unlisted).add(path)
        self.refused = True

    def skip(self, skipped: Skipped) -> Iterator[Change]:
        """Take note of what will not be opened: a picture that became a link, say."""
        entry = self.inventory.get(skipped.path)
        if entry is not None:
            if entry.sha256 != NO_PICTURE:
                yield Change(Event.CHANGED, skipped.path, skipped)
            self.drop(skipped.path)
        self.settling.drop(skipped.path)

    # What is not

    def miss(self, path: str, *, listed: bool = False) -> None:
        """Check whether `path`, a file or a folder, is missing; if so note it and all below it.

        With `listed` its folder was listed without it.
        """
        entry = self.inventory.get(path)
        if entry is not None:
            if is_there(path):
                if listed:
                    self._not_listed(path)
                return
            self.settling.drop(path)
            self.ready.pop(path, None)
            self.absent.add(path, entry.sha256, time.monotonic())
        elif path in self.settling and not is_there(path):
            self.settling.drop(path)
        if path in self.inventory.inodes and not os.path.isdir(path):
            self._miss_folder(path)

    def _not_listed(self, path: str) -> None:
        """Forget what is there and not ours: excluded by the options of this run.

        Unless it may have come after its folder was listed. Then it is looked at once more.
        """
        try:
            key = pack_key(os.lstat(path))
        except OSError:
            return
        still = still_s(key)
        if still > _LISTED_S:
            self.inventory.drop(path)
        else:
            self.settling.note(path, key, time.monotonic(), still)

    def _miss_folder(self, path: str) -> None:
        now = time.monotonic()
        for folder in self.inventory.folders_below(path):
            for name in self.inventory.names(folder):
                below = join(folder, name)
                entry = self.inventory.get(below)
                if entry is not None and not is_there(below):
                    self.absent.add(below, entry.sha256, now)
        for folder in [known for known in self.inventory.inodes if is_below(known, path)]:
            del self.inventory.inodes[folder]

    def drop(self, path: str) -> None:
        """Forget a picture: that it is gone, or elsewhere, has been told."""
        self.inventory.drop(path)
        self.absent.drop(path)
        self._ledger.forget(path)
        if self._owed is not None:
            self._owed.done([path])

    def withhold(self, path: str) -> None:
        """Let the cache know no more of a file than was told; its scan located what was not."""
        entry = self.inventory.get(path)
        told = entry.sha256 if entry is not None else NO_DIGEST
        self._ledger.withhold(path, None if told in {NO_DIGEST, NO_PICTURE} else told)

"""From what a scan found in one file to a change, if it is one.

In: a `ScanResult`, and the look that led to it. Out: `News` to be told, or why there is none.
Nothing becomes known before it is told: only `know`, called after that, puts it into the inventory.
What can fail: a file that is no longer there is missed; one that changed meanwhile, or that failed
and may be read later, waits for another look, and the cache is told no more than was told before.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from nsfwscan.values.changes import Change, Event
from nsfwscan.values.file_key import FileKey, is_racy, pack_key, stamped
from nsfwscan.values.results import Decision, Failed, FailReason, Scanned, Skipped
from nsfwscan.watch.inventory import NO_DIGEST, NO_PICTURE, Tracked
from nsfwscan.watch.settle import UNFINISHED, Waiting, later_delay_s, retry_delay_s, still_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.values.results import ScanResult
    from nsfwscan.watch.cache_sync import CacheSync
    from nsfwscan.watch.tracker import Look, Tracker

_TRUSTED_S = 3.1
"""A file that has stood still for this long is trusted by its stat; see `file_key.is_racy`."""
_MOST_SILENT_LOOKS = 5
_COPIED_S = 60.0
"""How long before its original is missed a copy on another disk may have been written."""


class Judged(Enum):
    """Why a result is not news."""

    NOTHING = "nothing"
    """It is about a file that is no picture, and never was."""
    SAME = "same"
    """It is the content that was told before."""
    LATER = "later"
    """It is of no use: the file will be scanned again."""


@dataclass(frozen=True, slots=True)
class News:
    """A change, and what is known of its file once it is told."""

    change: Change
    entry: Tracked


class Judging:
    """Compares results with what was told before, and counts them."""

    def __init__(
        self,
        tracker: Tracker,
        ledger: CacheSync,
        *,
        follow_links: bool,
        poll_soon: Callable[[], None],
    ) -> None:
        """`poll_soon` is called for a file with several names: the system reports only one."""
        self._tracker, self._ledger = tracker, ledger
        self._follow, self._poll_soon = follow_links, poll_soon
        self.scanned = self.flagged = self.failed = 0

    def judge(self, look: Look, result: ScanResult, began_ns: int) -> News | Judged:
        """Make news of a result. The scan began at `began_ns`, in nanoseconds since the epoch."""
        path = result.path
        now = time.monotonic()
        try:
            found = os.stat(path, follow_symlinks=self._follow)
        except (FileNotFoundError, NotADirectoryError):
            self._tracker.withhold(path)
            self._tracker.miss(path)
            return Judged.LATER if path in self._tracker.absent else Judged.NOTHING
        except OSError:  # nothing is known of the file
            self._tracker.withhold(path)
            again = Waiting(look.key, now + later_delay_s(look.tries), tries=look.tries + 1)
            self._tracker.settling.later(path, again)
            return Judged.LATER
        key = stamped(pack_key(found), look.loose) if look.loose else pack_key(found)
        if key != look.key:
            self._tracker.settling.note(path, key, now, 0.0 if look.loose else still_s(key))
            if not (look.overdue and isinstance(result, Scanned)):
                self._tracker.withhold(path)  # what was found is of no use
                return Judged.LATER
        if isinstance(result, Failed) and self._will_retry(look, result):
            self._tracker.withhold(path)
            return Judged.LATER
        if isinstance(result, Failed) and result.transient:
            due = now + later_delay_s(look.tries)
            again = Waiting(key, due, silent=True, tries=look.tries + 1)
            self._tracker.settling.later(path, again)
        else:
            self._look_again_if_young(path, key, look, began_ns)
        if isinstance(result, Skipped):
            return self._judge_skipped(result, key)
        before = self._tracker.inventory.get(path)
        if before is not None and before.sha256 == NO_PICTURE:
            before = None
        sha256 = result.sha256 or NO_DIGEST
        if _is_young(key, look.loose, began_ns) and not look.silent and result.sha256:
            self._ledger.note_young(path, result.sha256)
        unsafe = result.scores.unsafe if isinstance(result, Scanned) else math.nan
        entry = Tracked(key, sha256, unsafe)
        if before is not None and before.sha256 == sha256:
            self._tracker.inventory.put(path, entry)
            return Judged.SAME
        if found.st_nlink > 1:
            self._poll_soon()  # other names may be ours, too
        return self._news(result, look, before, entry)

    def know(self, news: News) -> None:
        """Take note that `news` has been told."""
        if news.change.came_from:
            self._tracker.drop(news.change.came_from)
        self._tracker.inventory.put(news.change.path, news.entry)

    def _news(
        self, result: Scanned | Failed, look: Look, before: Tracked | None, entry: Tracked
    ) -> News:
        came_from = ""
        if before is None:
            came_from = self._tracker.absent.earlier_path(
                result.path,
                entry.sha256,
                lambda earlier, since: self._may_be_from(earlier, since, look),
            )
        if came_from:  # counted under its earlier path
            return News(Change(Event.MOVED, result.path, result, came_from), entry)
        self._count(result)
        event = Event.NEW if before is None else Event.CHANGED
        return News(Change(event, result.path, result), entry)

    def _judge_skipped(self, result: Skipped, key: bytes) -> News | Judged:
        """Remember a file that is no picture; it is only news if it was one."""
        entry = Tracked(key, NO_PICTURE, math.nan)
        before = self._tracker.inventory.get(result.path)
        if before is not None and before.sha256 != NO_PICTURE:
            return News(Change(Event.CHANGED, result.path, result), entry)
        self._tracker.inventory.put(result.path, entry)
        return Judged.NOTHING

    def _look_again_if_young(self, path: str, key: bytes, look: Look, began_ns: int) -> None:
        """Look once more, silently, at a file too young to be trusted by its stat."""
        young_s = _TRUSTED_S - still_s(key, began_ns)
        if 0 < young_s < 2 * _TRUSTED_S and look.tries < _MOST_SILENT_LOOKS:
            tries = look.tries + 1 if look.silent else 0
            due = time.monotonic() + young_s
            self._tracker.settling.later(path, Waiting(key, due, silent=True, tries=tries))

    def _may_be_from(self, earlier: str, since: float, look: Look) -> bool:
        """Return True if the file `look` is about may be the one that was at `earlier`.

        Equal content is not enough: it may be another copy that has been there for long. A rename
        keeps the inode; a move to another disk makes a file that is about as new as the loss of
        the old one, which was missed at `since`.
        """
        entry = self._tracker.inventory.get(earlier)
        if entry is None:
            return False
        before, now = FileKey.unpack(entry.key), FileKey.unpack(look.key)
        if look.loose:  # no inode numbers to rely on
            return before.mtime_ns == now.mtime_ns
        if before.inode == now.inode:
            return True
        return still_s(look.key) <= time.monotonic() - since + _COPIED_S

    def _will_retry(self, look: Look, failed: Failed) -> bool:
        """Return True if a failed picture will be tried again later, and see to it."""
        now = time.monotonic()
        settling = self._tracker.settling
        if failed.reason is FailReason.EMPTY and any(
            os.path.lexists(failed.path + ending) for ending in UNFINISHED
        ):
            # A browser reserves the name while it downloads into another file.
            settling.later(failed.path, Waiting(look.key, now + 10.0))
            return True
        if look.silent:  # it has its verdict, and is not to lose it for the want of a descriptor
            delay_s = later_delay_s(look.tries) if failed.transient else None
        else:
            age_s = still_s(look.key)
            delay_s = retry_delay_s(failed.reason, age_s, look.tries, transient=failed.transient)
        if delay_s is None:
            return False
        again = Waiting(look.key, now + delay_s, silent=look.silent, tries=look.tries + 1)
        settling.later(failed.path, again)
        return True

    def _count(self, result: Scanned | Failed) -> None:
        if isinstance(result, Failed):
            self.failed += 1
        else:
            self.scanned += 1
            self.flagged += result.verdict.decision is Decision.NSFW


def _is_young(key: bytes, loose: int, began_ns: int) -> bool:
    """Return True unless the scan that began at `began_ns` has located the file for certain.

    It asked the clock in between, which may have been set.
    """
    known = FileKey.unpack(key)
    return any(is_racy(known, at_ns, loose) for at_ns in (began_ns, time.time_ns()))

"""A lock that shows whether another process is using the cache, so that it may be set aside.

SQLite's own locks are held only briefly, and renaming a database that another process has open is
one of the documented ways to corrupt its replacement. The lock is on a separate file, because
closing any descriptor of the database would drop SQLite's locks on it.

Windows does not need this: it refuses to rename an open file.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nsfwscan.system.locks import open_lock

if TYPE_CHECKING:
    from nsfwscan.system.locks import Lock


class UseLock:
    """Shared by the processes that use the cache, exclusive for the one that sets it aside."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: Lock | None = None

    def share(self, *, wait_s: float) -> bool:
        """Mark the cache as in use. Return False if it was being set aside for all of `wait_s`."""
        return self._acquire(exclusive=False, wait_s=wait_s)

    def exclude(self, *, wait_s: float) -> bool:
        """Wait until no other process uses the cache. Return False if one does all of `wait_s`."""
        return self._acquire(exclusive=True, wait_s=wait_s)

    def release(self) -> None:
        """Release the lock. The file stays: removing it would let two processes lock two files."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _acquire(self, *, exclusive: bool, wait_s: float) -> bool:
        if sys.platform == "win32":
            return True
        # Two processes that share it and both want it alone would wait for each other forever.
        self.release()
        try:
            lock = open_lock(self._path)
        except OSError:
            return not exclusive  # a read-only folder: reading is fine, setting aside is not
        try:
            taken = lock.wait(wait_s, shared=not exclusive)
        except OSError:
            lock.release()
            return not exclusive
        except BaseException:
            lock.release()
            raise
        if not taken or lock.is_stand_in:  # a stand-in does not exclude processes that share
            lock.release()
            return False
        self._lock = lock
        return True

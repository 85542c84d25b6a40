"""A lock that tells whether any other process uses the cache, so that it may be set aside.

SQLite's own locks are held for moments only, and renaming a database that another process has open
is one of the documented ways to corrupt the one that takes its place. The lock is on a file of its
own, because closing any descriptor of the database would drop SQLite's locks on it.

Windows needs none of this: it refuses to rename a file that is open.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nsfwscan.system.locks import open_lock

if TYPE_CHECKING:
    from nsfwscan.system.locks import Lock


class UseLock:
    """Shared by those who use the library, exclusive for the one that sets it aside."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: Lock | None = None

    def share(self, *, wait_s: float) -> bool:
        """Say that the library is in use; False when it is being set aside for all that time."""
        return self._acquire(exclusive=False, wait_s=wait_s)

    def exclude(self, *, wait_s: float) -> bool:
        """Wait until nobody else uses the library; False when somebody does for all that time."""
        return self._acquire(exclusive=True, wait_s=wait_s)

    def release(self) -> None:
        """Give the lock up. The file stays: removing it would let two processes lock two files."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _acquire(self, *, exclusive: bool, wait_s: float) -> bool:
        if sys.platform == "win32":
            return True
        # Two that hold it shared and both want it exclusively would wait for each other for ever.
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
        if not taken or lock.is_stand_in:  # which does not keep those out who share
            lock.release()
            return False
        self._lock = lock
        return True

"""A lock that tells whether any other process uses the library, so that it may be set aside.

SQLite's own locks are held for moments only, and renaming a database that another process has open
is one of the documented ways to corrupt the one that takes its place. The lock is on a file of its
own, because closing any descriptor of the database would drop SQLite's locks on it.

Windows needs none of this: it refuses to rename a file that is open.
"""

from __future__ import annotations

import os
import sys
import time

if sys.platform != "win32":
    import fcntl


class UseLock:
    """Shared by those who use the library, exclusive for the one that sets it aside."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def share(self, *, wait_s: float) -> bool:
        """Say that the library is in use; False when it is being set aside for all that time."""
        return self._acquire(exclusive=False, wait_s=wait_s)

    def exclude(self, *, wait_s: float) -> bool:
        """Wait until nobody else uses the library; False when somebody does for all that time."""
        return self._acquire(exclusive=True, wait_s=wait_s)

    def release(self) -> None:
        """Give the lock up. The file stays: removing it would let two processes lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _acquire(self, *, exclusive: bool, wait_s: float) -> bool:
        if sys.platform == "win32":
            return True
        # Two that hold it shared and both want it exclusively would wait for each other for ever.
        self.release()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return not exclusive  # a read-only folder: reading is fine, setting aside is not
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.02)
            except OSError:  # a file system without locks
                os.close(descriptor)
                return not exclusive
            else:
                self._descriptor = descriptor
                return True

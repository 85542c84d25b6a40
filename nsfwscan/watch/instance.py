"""One watcher a cache: a lock that the operating system drops when its holder ends, however.

No process number is written or read: numbers are used again, and a file with one outlives a kill.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from nsfwscan.system import locks
from nsfwscan.system.locations import make_private
from nsfwscan.values.errors import AlreadyRunning, NsfwscanError

if TYPE_CHECKING:
    from types import TracebackType

_PATIENCE_S = 0.3
"""`is_held` takes the lock for a moment, which must not turn away a watcher that starts then."""


class InstanceLock:
    """Held as long as a watcher runs."""

    def __init__(self, path: str) -> None:
        """`path` names the lock file; it is created when missing, and stays."""
        self._path = path
        self._lock: locks.Lock | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `AlreadyRunning`, or `NsfwscanError` when there can be no lock."""
        self._lock = _open(self._path)
        try:
            taken = self._lock.wait(_PATIENCE_S)
        except OSError as error:
            self.release()
            raise NsfwscanError(
                f"{self._path} cannot be locked: {error.strerror}",
                hint="some network file systems have no locks; set NSFWSCAN_HOME to a local folder",
            ) from error
        if not taken:
            self.release()
            raise AlreadyRunning(
                "another watcher is running for the same cache",
                hint="`nsfwscan status` tells what it does",
            )

    def release(self) -> None:
        """Give the lock up. The file stays: removing it would let two processes lock two files."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.release()


def is_held(path: str) -> bool:
    """Return True if a process holds the lock at `path`; creates nothing."""
    try:
        return locks.is_held(path)
    except OSError:
        return False


def _open(path: str) -> locks.Lock:
    try:
        make_private(os.path.dirname(path))
        return locks.open_lock(path)
    except OSError as error:
        raise NsfwscanError(
            f"the lock {path} cannot be opened: {error.strerror}",
            hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
        ) from error

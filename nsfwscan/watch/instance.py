"""One watcher a library: a lock that the operating system drops when its holder ends, however.

No process number is written or read: numbers are used again, and a file with one outlives a kill.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Self

from nsfwscan.errors import AlreadyRunning, NsfwscanError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from types import TracebackType

_PATIENCE_S = 0.3
"""`is_held` takes the lock for a moment, which must not turn away a watcher that starts then."""
_PAUSE_S = 0.02


class InstanceLock:
    """Held as long as a watcher runs."""

    def __init__(self, path: str) -> None:
        """`path` names the lock file; it is created when missing, and stays."""
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `AlreadyRunning`, or `NsfwscanError` when there can be no lock."""
        self._descriptor = _open(self._path)
        try:
            taken = _insist(self._descriptor)
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
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

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
    """Tell whether any process holds the lock at `path`; creates nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        return not _lock(descriptor, exclusive=False)
    except OSError:  # a file system without locks: nobody can hold one
        return False
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Not handed down: a decode process that outlives its watcher would go on holding the lock.
        return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise NsfwscanError(
            f"the lock {path} cannot be opened: {error.strerror}",
            hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
        ) from error


def _insist(descriptor: int) -> bool:
    """Try to lock for a moment, as `_lock` does."""
    deadline = time.monotonic() + _PATIENCE_S
    while not _lock(descriptor, exclusive=True):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    """Try to lock; closing the descriptor unlocks. Raises OSError where there are no locks."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False

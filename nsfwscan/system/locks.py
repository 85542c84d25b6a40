"""Locks between processes, each on a file. The only module that calls the system's locks.

`flock` on POSIX systems; on Windows a lock on one byte far behind the content. The system releases
either when its holder ends, however that happens. Over NFS an exclusive `flock` needs a descriptor
open for writing, and a shared one a descriptor open for reading (flock(2), "NFS details"), so
readers take a shared lock.

Some file systems have no locks (NFS without lockd, some FUSE programs). There an exclusive lock is
a *stand-in*: a file `NAME.held` that only one process can create and that names its owner. It is
abandoned if its owner is a process of this computer that has ended, or if its owner is on another
computer or unknown and the file is older than `ABANDONED_S`. A shared lock has no effect there. A
warning says so once for each file system.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
import uuid

from nsfwscan.system.reading import open_text

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_MOST_REPLACED = 10
"""How often the file may be replaced while we wait for its lock. After that the file system's inode
numbers are considered unreliable."""
ABANDONED_S = 3600.0
"""No working process holds a lock on a shared volume for this long: moves take seconds."""
_POLL_S = 0.02
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FLAGS |= getattr(os, "O_NONBLOCK", 0)  # a pipe of that name would block the open forever
_told: set[int] = set()
"""The devices without locks about which we have warned."""


class Lock:
    """A lock on an open file. It owns the descriptor."""

    def __init__(self, file: int, path: str, *, create: bool = False) -> None:
        """`path` is the file's name. An exclusive lock needs a descriptor open for writing.

        With `create` the lock is on the file that currently has that name: if it was removed or
        replaced, it is opened again.
        """
        self._file = file
        self._path = path
        self._create = create
        self._stand_in: bytes | None = None

    @property
    def is_stand_in(self) -> bool:
        """Return True if the file system has no locks and a stand-in is used."""
        return self._stand_in is not None

    def take(self, *, shared: bool = False) -> bool:
        """Try to lock; return False if another process holds the lock. Raises OSError."""
        for left in reversed(range(_MOST_REPLACED)):
            taken = self._take(shared=shared)
            if not (taken and left and self._create) or self.is_stand_in or self.is_current():
                break
            # It was removed, for example by an uninstallation: create it again.
            os.close(self._file)
            self._file = -1
            self._file = _opened(self._path, create=True)
        return taken

    def is_current(self) -> bool:
        """Return False if the file was removed or replaced after it was opened. Raises OSError."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _take(self, *, shared: bool) -> bool:
        try:
            return _system_lock(self._file, shared=shared)
        except OSError as error:
            if sys.platform == "win32" or error.errno not in _NO_LOCKS:
                raise
        _tell(self._file, self._path)
        if shared:
            return True
        self._stand_in = _take_stand_in(self._path)
        return self._stand_in is not None

    def wait(self, seconds: float, *, shared: bool = False, poll_s: float = _POLL_S) -> bool:
        """Try to lock for `seconds`; return False if another process holds the lock throughout."""
        deadline = time.monotonic() + seconds
        while not self.take(shared=shared):
            if time.monotonic() >= deadline:
                return False
            time.sleep(poll_s)
        return True

    def release(self) -> None:
        """Release the lock and close the file. Never raises."""
        if self._stand_in is not None:
            with contextlib.suppress(OSError):
                if _content(_name(self._path)) == self._stand_in:
                    os.unlink(_name(self._path))
            self._stand_in = None
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1


def open_lock(path: str, *, create: bool = True) -> Lock:
    """Open the lock file `path`, without taking the lock. Child processes do not inherit it.

    Only a process that holds the lock may remove the file. Raises OSError.
    """
    return Lock(_opened(path, create=create), path, create=create)


def _opened(path: str, *, create: bool) -> int:
    return os.open(path, os.O_RDWR | (os.O_CREAT if create else 0) | _FLAGS, 0o600)


def is_held(path: str) -> bool:
    """Return True if a process holds the exclusive lock on `path`. Creates no file.

    Raises OSError if the file exists but cannot be opened.
    """
    try:
        lock = open_lock(path, create=False)
    except FileNotFoundError:
        return False
    try:
        return not lock.take(shared=True) or _lives(_name(path))
    finally:
        lock.release()


def is_in_use(path: str) -> bool:
    """Return True if a process holds any lock on `path`, even a shared one. See `is_held`."""
    try:
        lock = open_lock(path, create=False)
    except FileNotFoundError:
        return False
    try:
        return not lock.take()
    finally:
        lock.release()


def _system_lock(file: int, *, shared: bool) -> bool:
    try:
        if sys.platform == "win32":
            # Other processes cannot read locked bytes there, so lock one far behind the content.
            os.lseek(file, 1 << 40, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _tell(file: int, path: str) -> None:
    device = os.fstat(file).st_dev
    if device in _told:
        return
    _told.add(device)
    import logging  # rarely needed; without configuration it writes to stderr

    logging.getLogger("nsfwscan").warning(
        "nsfwscan: the file system of %s has no locks; the file %s.held is used instead while "
        "something is written",
        path, os.path.basename(path),
    )  # fmt: skip


def _name(path: str) -> str:
    return f"{path}.held"


def _take_stand_in(path: str) -> bytes | None:
    """Create the stand-in and return its content; None if another owner holds it."""
    name, mine = _name(path), json.dumps(_owner(os.getpid())).encode()
    while True:  # ends, because each iteration but the last removes an abandoned stand-in
        try:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        except FileExistsError:
            if _lives(name) or not _remove_abandoned(name):
                return None
            continue
        try:
            os.write(file, mine)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        finally:
            os.close(file)
        return mine


def _owner(number: int) -> dict[str, object]:
    """Return what identifies a process, even if a later process gets the same number."""
    return {
        "host": socket.gethostname(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "process": number,
        "begun": _first_line(f"/proc/{number}/stat").rpartition(")")[2].split()[19:20],
        "lock": uuid.uuid4().hex,
    }


def _first_line(path: str) -> str:
    try:
        with open_text(path, errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _lives(name: str) -> bool:
    """Return True if there is a stand-in and its owner may still be running."""
    try:
        content, age = _content(name), time.time() - os.lstat(name).st_mtime
    except FileNotFoundError:
        return False
    try:
        owner = json.loads(content)
        number = owner["process"]
        now = _owner(number)
        here = owner["host"] == now["host"]
    except (ValueError, TypeError, KeyError):  # its owner was killed before it wrote its name
        return age < ABANDONED_S
    if not here:
        return age < ABANDONED_S
    same = owner.get("boot") == now["boot"] and owner.get("begun") == now["begun"]
    return same and _runs(number)


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True


def _remove_abandoned(name: str) -> bool:
    """Remove a stand-in; return False if another process has just replaced it with its own."""
    before = _content_or_none(name)
    aside = f"{name}-{uuid.uuid4().hex}"
    try:
        os.rename(name, aside)
    except FileNotFoundError:
        return True
    mine = _content_or_none(aside) == before
    if not mine:
        with contextlib.suppress(OSError):
            os.link(aside, name)
    os.unlink(aside)
    return mine


def _content_or_none(name: str) -> bytes | None:
    try:
        return _content(name)
    except FileNotFoundError:
        return None


def _content(name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | _FLAGS)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)

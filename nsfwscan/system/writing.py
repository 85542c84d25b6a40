"""Durable writes: all bytes, the file, and its name in the folder are on the disk."""

from __future__ import annotations

import errno
import os
import sys

_NO_FOLDER_SYNC = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)


def write_all(file: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError, also if the file system accepts no more bytes."""
    rest = memoryview(data)
    while rest:
        written = os.write(file, rest)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on the disk, if its file system supports that.

    Some refuse to open or sync a folder (EINVAL: CIFS, some FUSE programs; EACCES: a folder that
    may be written but not listed), which is ignored. Raises OSError if the disk fails.
    """
    # Folders cannot be opened on Windows, where NTFS keeps names in a journal of its own.
    if sys.platform == "win32":
        return
    try:
        file = os.open(folder or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def write_new(path: str, data: bytes) -> None:
    """Create a file, and wait until it is on the disk. Raises OSError, also if it exists."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

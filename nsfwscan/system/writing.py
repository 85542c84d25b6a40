"""Writing so that it is on the disk: all bytes, the file, and the name in its folder."""

from __future__ import annotations

import errno
import os
import sys

_NO_FOLDER_SYNC = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)


def write_all(file: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError, also for a file system that takes nothing any more."""
    rest = memoryview(data)
    while rest:
        written = os.write(file, rest)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on the disk, if its file system can tell.

    Some refuse to open or sync a folder (EINVAL: CIFS, some FUSE programs; EACCES: one that may be
    written but not listed). Nothing more can be asked of them. Raises OSError if the disk fails.
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
    """Write a file that must not exist yet, and wait until it is on the disk. Raises OSError."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

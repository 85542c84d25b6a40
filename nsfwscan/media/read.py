"""Reading one picture file: opened once, read once, and known to be of one piece."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from nsfwscan.media.discover import kind_of, too_big
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.results import FailReason

_TRIES = 3
"""A file that is being saved settles within a try or two; one that grows for ever is left."""

# A pipe named p.jpg would block the open for ever, and a link could lead out of the folder.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_NONBLOCK", 0)
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What says that this process or computer is short of something, and nothing of the file."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NOATIME = getattr(os, "O_NOATIME", 0)


@dataclass(frozen=True, slots=True)
class FileContents:
    """The bytes of a file and its key, which was the same before and after they were read."""

    data: bytes
    key: FileKey


def read_picture(path: str, *, follow: bool, max_bytes: int) -> FileContents:
    """Read the whole file.

    With `follow` a symbolic link is followed. Raises `DecodeError` with UNREADABLE, TOO_BIG for
    more than `max_bytes`, VANISHED, EMPTY, or CHANGED when the file kept changing while it was
    read.
    """
    for _ in range(_TRIES):
        contents = _read_once(path, follow=follow, max_bytes=max_bytes)
        if contents is not None:
            if not contents.data:
                raise DecodeError(FailReason.EMPTY, "the file holds no bytes")
            return contents
    raise DecodeError(FailReason.CHANGED, f"it changed during each of {_TRIES} readings")


def read_head(path: str, length: int, *, follow: bool) -> bytes:
    """Read the first `length` bytes, or fewer when there are no more. Raises `DecodeError`."""
    try:
        file = open_picture(path, follow=follow)
        try:
            return os.read(file, length)
        finally:
            os.close(file)
    except OSError as error:
        raise _refusal(error) from error


def _read_once(path: str, *, follow: bool, max_bytes: int) -> FileContents | None:
    """Read the file, or return None when it changed meanwhile."""
    try:
        file = open_picture(path, follow=follow)
        try:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                raise DecodeError(
                    FailReason.UNREADABLE, f"it turned into {kind_of(before.st_mode)}"
                )
            if before.st_size > max_bytes:
                raise DecodeError(FailReason.TOO_BIG, too_big(before.st_size, max_bytes))
            data = _read_all(file, before.st_size)
            after = os.fstat(file)
        finally:
            os.close(file)
    except OSError as error:
        raise _refusal(error) from error
    key = FileKey.of(before)
    return FileContents(data, key) if key == FileKey.of(after) and len(data) == key.size else None


def _read_all(file: int, size: int) -> bytes:
    # One byte more than there should be shows a file that grew.
    data = os.read(file, size + 1)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size + 1 - len(data)
    while missing > 0 and (data := os.read(file, missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def open_picture(path: str, *, follow: bool) -> int:
    """Open a file for reading; a pipe does not block, its time of access stays. Raises OSError."""
    flags = _FLAGS if follow else _FLAGS | _NOFOLLOW
    if _NOATIME:
        try:  # looking at a picture should leave no trace; only its owner may ask for that
            return os.open(path, flags | _NOATIME)
        except PermissionError:
            pass
    return os.open(path, flags)


def _refusal(error: OSError) -> DecodeError:
    gone = isinstance(error, FileNotFoundError)
    return DecodeError(
        FailReason.VANISHED if gone else FailReason.UNREADABLE,
        error.strerror or str(error),
        passing=error.errno in _SHORT,
    )

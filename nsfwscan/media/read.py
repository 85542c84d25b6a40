"""Reading one picture file: opened once, read once, unchanged in between."""

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
"""A file that is being saved settles within a try or two; one that keeps growing is given up."""

# A pipe named p.jpg would block the open forever, and a link could lead out of the folder.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_NONBLOCK", 0)
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""Errors that mean a shortage in this process or computer, and say nothing about the file."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NOATIME = getattr(os, "O_NOATIME", 0)


@dataclass(frozen=True, slots=True)
class FileContents:
    """A file's bytes, and its key, which was the same before and after reading."""

    data: bytes
    key: FileKey


def read_picture(path: str, *, follow: bool, max_bytes: int) -> FileContents:
    """Read the whole file.

    With `follow` a symbolic link is followed. Raises `DecodeError` with UNREADABLE, TOO_BIG for
    more than `max_bytes`, VANISHED, EMPTY, or CHANGED if the file kept changing.
    """
    for _ in range(_TRIES):
        contents = _read_once(path, follow=follow, max_bytes=max_bytes)
        if contents is not None:
            if not contents.data:
                raise DecodeError(FailReason.EMPTY, "the file is empty")
            return contents
    raise DecodeError(FailReason.CHANGED, f"it changed each of the {_TRIES} times it was read")


def read_head(path: str, length: int, *, follow: bool) -> bytes:
    """Read the first `length` bytes, or fewer if the file is shorter. Raises `DecodeError`."""
    try:
        file = open_picture(path, follow=follow)
        try:
            return os.read(file, length)
        finally:
            os.close(file)
    except OSError as error:
        raise _refusal(error) from error


def _read_once(path: str, *, follow: bool, max_bytes: int) -> FileContents | None:
    """Read the file, or return None if it changed meanwhile."""
    try:
        file = open_picture(path, follow=follow)
        try:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                raise DecodeError(FailReason.UNREADABLE, f"it is now {kind_of(before.st_mode)}")
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
    """Open a file for reading, without blocking on pipes or changing atime. Raises OSError."""
    flags = _FLAGS if follow else _FLAGS | _NOFOLLOW
    if _NOATIME:
        try:  # reading should leave no trace (O_NOATIME), but only the owner may ask for that
            return os.open(path, flags | _NOATIME)
        except PermissionError:
            pass
    return os.open(path, flags)


def _refusal(error: OSError) -> DecodeError:
    gone = isinstance(error, FileNotFoundError)
    return DecodeError(
        FailReason.VANISHED if gone else FailReason.UNREADABLE,
        error.strerror or str(error),
        transient=error.errno in _SHORT,
    )

"""Moving a file without overwriting anything, and without losing it in a power cut.

`os.rename` replaces whatever has the new name, and `shutil.move` unlinks the only good copy of a
file before the new one is on the disk. So neither is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nsfwscan.actions.verified_file import Refused
from nsfwscan.system.hashing import Sha256, held_by
from nsfwscan.system.writing import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK}
"""Errors from file systems without this flag or without hard links."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_NEW |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def rename(source: str, target: str, *, private: bool = False) -> None:
    """Rename `source` to `target`, which must not exist. Raises FileExistsError, OSError.

    This is one step where the system supports it: Linux on most file systems, and Windows.
    Elsewhere it takes a second hard link or, without hard links (FAT), an empty file that reserves
    the name; a kill in between leaves both names. `private` says that no other program writes to
    the target's folder, so that checking first is enough.
    """
    if sys.platform == "win32":
        os.rename(source, target)  # fails there if `target` exists
        return
    if _rename_no_replace(source, target):
        return
    if private:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        os.close(os.open(target, _NEW, 0o600))
        try:
            os.rename(source, target)
        except BaseException:
            os.unlink(target)
            raise
    else:
        os.unlink(source)


def _rename_no_replace(source: str, target: str) -> bool:
    """Rename with `RENAME_NOREPLACE`; return False if that is unsupported. Raises OSError."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    names = os.fsencode(source), os.fsencode(target)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    # Not EPERM: that is a protected folder or file, and no other way would work.
    if number in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        return False
    raise OSError(number, os.strerror(number), source, None, target)


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an older C library
        return None
    function.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
    ]  # fmt: skip
    function.restype = ctypes.c_int
    call: Callable[[int, bytes, int, bytes, int], int] = function
    return call


def copy(file: int, target: str, like: Facts, sha256: bytes) -> tuple[str, ...]:
    """Copy the open `file` to the new file `target`, and read it back from the disk to compare.

    Returns the names of those facts in `like` that the copy could not get. Raises `Refused` if
    the content does not have the digest `sha256`, OSError; the copy is then deleted.
    """
    new = os.open(target, _NEW, 0o600)
    try:
        try:
            read = Sha256().take(held_by(file), partial(write_all, new))
            if read.digest() != sha256:
                raise Refused("it changed while it was copied")
            missing = like.give_to(new)
            os.fsync(new)
            _forget_cached(new)
        finally:
            os.close(new)
        again = os.open(target, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if Sha256().take(held_by(again)).digest() != sha256:
                raise OSError(errno.EIO, "the copy differs when read back", target)
        finally:
            os.close(again)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(target)
        raise
    return missing


def _forget_cached(file: int) -> None:
    """Ask the system to take the next read from the disk rather than from memory."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class Facts:
    """A file's metadata, to be given to a copy or back to the file."""

    mode: int
    atime_ns: int
    mtime_ns: int
    owner: tuple[int, int]
    """Numbers of user and group."""
    xattrs: Mapping[str, bytes]

    @classmethod
    def of(cls, file: int) -> Facts:
        """Return the facts of an open file. Raises OSError."""
        found = os.fstat(file)
        return cls(
            stat.S_IMODE(found.st_mode),
            found.st_atime_ns,
            found.st_mtime_ns,
            (found.st_uid, found.st_gid),
            _xattrs(file),
        )

    def give_to(self, file: int) -> tuple[str, ...]:
        """Apply the facts to an open file; return the names of those it cannot have.

        Raises OSError if it could have them but the disk is full or broken.
        """
        missing = []
        if sys.platform != "win32":
            try:  # before the mode: a change of owner clears the set-user-id bit
                if (os.fstat(file).st_uid, os.fstat(file).st_gid) != self.owner:
                    os.fchown(file, *self.owner)
            except OSError as error:
                missing.append(_excused("owner", error))
        for name, value in self.xattrs.items():
            try:
                _set_xattr(file, name, value)
            except OSError as error:
                missing.append(_excused(name, error))
        for what, give in (("mode", self._give_mode), ("times", self._give_times)):
            try:
                give(file)
            except OSError as error:
                missing.append(_excused(what, error))
        return tuple(missing)

    def _give_mode(self, file: int) -> None:
        if sys.platform != "win32":
            os.fchmod(file, self.mode)

    def _give_times(self, file: int) -> None:
        if os.utime in os.supports_fd:
            os.utime(file, ns=(self.atime_ns, self.mtime_ns))


def _xattrs(file: int) -> dict[str, bytes]:
    if sys.platform != "linux":
        return {}
    found = {}
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.EOPNOTSUPP}:
            raise
        return {}
    for name in names:
        try:
            found[name] = os.getxattr(file, name)
        except OSError:
            if name.startswith("user."):  # other namespaces may be readable by root only
                raise
    return found


def _set_xattr(file: int, name: str, value: bytes) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    if name not in os.listxattr(file) or os.getxattr(file, name) != value:
        os.setxattr(file, name, value)


def _excused(name: str, error: OSError) -> str:
    """Return `name` if the file system or the user cannot have it. Raises any other error."""
    if error.errno in {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}:
        return name
    raise error

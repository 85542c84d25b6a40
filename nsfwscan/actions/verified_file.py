"""The file that was scored: opened, hashed, and kept open while an action is taken on it.

Between scan and action a file may be saved again, or another one may take its name. So an action
begins with the bytes: the file is opened once, without following a link, its SHA-256 must be the
one that was scored, and its name must still lead to the same inode when the action is taken.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from nsfwscan.media.discover import kind_of
from nsfwscan.media.read import open_picture
from nsfwscan.system.hashing import Sha256, held_by

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Refused(Exception):
    """The action must not be taken; `str(reason)` says why, in a sentence without a full stop."""


class VerifiedFile:
    """An open file whose content is what was scored. Close it after use."""

    def __init__(self, path: str, sha256: bytes) -> None:
        """Open and check the file. Raises `Refused` if it is a different one, OSError as `open`.

        `path` is made absolute, and links in its folders are resolved. A link in the last name is
        not: the action would hit the link and not the picture.
        """
        folder, name = os.path.split(os.path.abspath(path))
        self.path = os.path.join(os.path.realpath(folder), name)
        if stat.S_ISLNK(os.lstat(self.path).st_mode):
            raise Refused("it is a symbolic link; actions apply to the picture itself")
        self.sha256 = sha256
        self.file = -1
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.file >= 0:
            with contextlib.suppress(OSError):  # it was only read, so nothing is lost
                os.close(self.file)
            self.file = -1

    def _compare(self) -> None:
        if not stat.S_ISREG(self.status.st_mode):
            raise Refused(f"it is now {kind_of(self.status.st_mode)}")
        if Sha256().take(held_by(self.file)).digest() != self.sha256:
            raise Refused("its content has changed since it was scored")

    def let_go(self) -> None:
        """Prepare for a rename: Windows does not rename an open file."""
        if sys.platform == "win32":
            self.close()

    def take_up(self) -> None:
        """Open the file again after `let_go`, and check it again."""
        if self.file < 0:
            self._open()

    def check(self) -> None:
        """Raise `Refused` if the name now leads elsewhere, or the file was written to."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            raise Refused("it is gone") from None
        if not os.path.samestat(found, self.status):
            raise Refused("another file has replaced it since it was scored")
        if not self.is_whole(found):
            raise Refused("it is being written to")

    def is_at(self, path: str) -> bool:
        """Return True if `path` leads to this file. Raises OSError."""
        return os.path.samestat(os.lstat(path), self.status)

    def is_whole(self, found: os.stat_result) -> bool:
        """Return True if nothing was written since opening; `found` is the file's status now."""
        # A rename changes ctime, so that cannot be compared.
        return (found.st_size, found.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)

    def is_unchanged_at(self, path: str) -> bool:
        """Return True if `path` is this file and, read again, has the content that was scored.

        This is the last check before a file is removed: programs that edit metadata in place may
        restore its time, and its size need not change. Raises OSError.
        """
        before = os.lstat(path)
        if not (os.path.samestat(before, self.status) and digest_at(path) == self.sha256):
            return False
        return os.lstat(path).st_ctime_ns == before.st_ctime_ns

    def _open(self) -> None:
        self.file = open_picture(self.path, follow=False)
        try:
            self.status = os.fstat(self.file)
            self._compare()
            self.check()
        except BaseException:
            self.close()
            raise


def digest_at(path: str) -> bytes:
    """Return the SHA-256 of the regular file at `path`, which is not a link. Raises OSError."""
    file = open_picture(path, follow=False)
    try:
        return Sha256().take(held_by(file)).digest()
    finally:
        with contextlib.suppress(OSError):
            os.close(file)

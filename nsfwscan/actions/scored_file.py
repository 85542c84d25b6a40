"""The very file that was scored: opened, hashed, and held open until something was done about it.

Between a scan and a deed a file may be saved anew, or another one may take its name. So a deed
begins with the bytes: the file is opened once, without following a link, its SHA-256 must be the
one that was scored, and its name must still lead to this same inode when the deed is done.
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


class Unwilling(Exception):
    """The deed must not be done; `str(reason)` says why in one sentence without a full stop."""


class ScoredFile:
    """A file that is open and has been seen to hold what was scored. Close it after use."""

    def __init__(self, path: str, sha256: bytes) -> None:
        """Open and check the file. Raises `Unwilling` when it is another one, OSError as `open`.

        `path` is made absolute, with all links in its folders followed; not the last name, because
        an act on a link would leave the picture and take the link.
        """
        folder, name = os.path.split(os.path.abspath(path))
        self.path = os.path.join(os.path.realpath(folder), name)
        if stat.S_ISLNK(os.lstat(self.path).st_mode):
            raise Unwilling("it is a symbolic link, and only the picture itself is acted on")
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
        """Give the file up."""
        if self.file >= 0:
            with contextlib.suppress(OSError):  # it was only read, so nothing can be lost
                os.close(self.file)
            self.file = -1

    def _compare(self) -> None:
        if not stat.S_ISREG(self.status.st_mode):
            raise Unwilling(f"it turned into {kind_of(self.status.st_mode)}")
        if Sha256().take(held_by(self.file)).digest() != self.sha256:
            raise Unwilling("it is not what was scored any more")

    def let_go(self) -> None:
        """Get ready for a rename: Windows renames no file that is open."""
        if sys.platform == "win32":
            self.close()

    def take_up(self) -> None:
        """Open the file again after `let_go`, and check it as at first."""
        if self.file < 0:
            self._open()

    def check(self) -> None:
        """Raise `Unwilling` when the name leads elsewhere now, or the content was written to."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            raise Unwilling("it is gone") from None
        if not os.path.samestat(found, self.status):
            raise Unwilling("another file has taken its name since it was scored")
        if not self.is_whole(found):
            raise Unwilling("it is being written to")

    def is_at(self, path: str) -> bool:
        """Tell whether `path` leads to this very file. Raises OSError."""
        return os.path.samestat(os.lstat(path), self.status)

    def is_whole(self, found: os.stat_result) -> bool:
        """Tell whether nothing was written since the file was opened; `found` is how it is now."""
        # A rename changes ctime, so that cannot be compared.
        return (found.st_size, found.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)

    def is_unchanged_at(self, path: str) -> bool:
        """Return True if `path` is this very file and holds what was scored, read once more.

        For the last look before a file is removed: some programs that edit metadata in place give
        a file its time back, and its size need not change. Raises OSError.
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
    """Return the SHA-256 of the regular file `path`, no link. Raises OSError."""
    file = open_picture(path, follow=False)
    try:
        return Sha256().take(held_by(file)).digest()
    finally:
        with contextlib.suppress(OSError):
            os.close(file)

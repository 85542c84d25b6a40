"""Copying a picture to a folder, under its own name or one beside it. Nothing is overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from typing import TYPE_CHECKING

from nsfwscan.actions import moves
from nsfwscan.actions.names import beside
from nsfwscan.actions.verified_file import digest_at
from nsfwscan.system.writing import sync_folder
from nsfwscan.values.actions import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.actions.verified_file import VerifiedFile

_TRIES = 5
"""How often to choose another name because this one was taken at the last moment."""


class Copier:
    """Copies pictures; remembers the content of each folder, which may hold many thousands."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        """For each taken name the next number to try: thousands of pictures may share a name."""
        self._there: dict[str, dict[int, list[str]]] = {}
        """For each folder the names of the files in it by their size in bytes."""

    def copy(self, picture: VerifiedFile, folder: str) -> tuple[Outcome, str | None, str]:
        """Copy the picture to `folder`; return outcome, target and remarks.

        The folder is created if necessary. A picture whose content is already there, under any
        name, is not copied again. Raises `Refused`, OSError.
        """
        if picture.path.startswith(os.path.join(folder, "")):
            return Outcome.LEFT, None, "it is already in that folder"
        os.makedirs(folder, exist_ok=True)
        known = self._find(picture, folder)
        if known is not None:
            return Outcome.DONE, known, "it was already there"
        part = os.path.join(folder, f".nsfwscan-{uuid.uuid4().hex}")
        wanted = os.path.join(folder, os.path.basename(picture.path))
        tries = 0
        for number, target in self._names(wanted):
            if os.path.lexists(target):
                continue
            missing = moves.copy(picture.file, part, moves.Facts.of(picture.file), picture.sha256)
            try:
                moves.rename(part, target)
            except FileExistsError:
                os.unlink(part)
                tries += 1
                if tries == _TRIES:
                    raise
                continue
            except BaseException:
                os.unlink(part)
                raise
            sync_folder(folder)
            self._next[wanted] = number
            self._note(folder, os.path.basename(target), picture.status.st_size)
            return Outcome.DONE, target, f"not preserved: {', '.join(missing)}" if missing else ""
        raise FileExistsError(errno.EEXIST, "every similar name is taken", wanted)

    def _find(self, picture: VerifiedFile, folder: str) -> str | None:
        """Return the path of a file in the folder with the picture's content. Raises OSError."""
        if folder not in self._there:
            self._there[folder] = _by_size(folder)
        for name in self._there[folder].get(picture.status.st_size, ()):
            path = os.path.join(folder, name)
            if _is_equal(path, picture):
                return path
        return None

    def _note(self, folder: str, name: str, size: int) -> None:
        self._there[folder].setdefault(size, []).append(name)

    def _names(self, wanted: str) -> Iterator[tuple[int, str]]:
        start = self._next.get(wanted, 1)
        if start == 1:
            yield 1, wanted
            start = 2
        yield from beside(wanted, " ({})".format, start=start)


def _by_size(folder: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    with os.scandir(folder) as entries:
        for one in entries:
            with contextlib.suppress(OSError):  # it has just vanished
                if one.is_file(follow_symlinks=False):
                    size = one.stat(follow_symlinks=False).st_size
                    found.setdefault(size, []).append(one.name)
    return found


def _is_equal(path: str, picture: VerifiedFile) -> bool:
    try:
        same_size = os.lstat(path).st_size == picture.status.st_size
        return same_size and digest_at(path) == picture.sha256
    except OSError:
        return False

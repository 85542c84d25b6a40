"""Copying a picture to a folder, under its own name or one beside it. Nothing is overwritten."""

from __future__ import annotations

import errno
import os
import uuid
from typing import TYPE_CHECKING

from nsfwscan.actions import moves
from nsfwscan.actions.scored_file import digest_at
from nsfwscan.acts import Outcome
from nsfwscan.journal import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.actions.scored_file import ScoredFile

_MOST_NAMES = 100_000
_TRIES = 5
"""How often a copy gets another name because its own was taken in the last moment."""


class Copier:
    """Copies pictures; remembers which numbers are taken, for thousands may have one name."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def copy(self, picture: ScoredFile, folder: str) -> tuple[Outcome, str | None, str]:
        """Copy the picture to `folder`, made if need be; return how it went, where to, remarks.

        A picture whose content is there already under its name is not copied again. Raises
        `Unwilling`, OSError.
        """
        if picture.path.startswith(os.path.join(folder, "")):
            return Outcome.LEFT, None, "it is in that folder already"
        os.makedirs(folder, exist_ok=True)
        part = os.path.join(folder, f".nsfwscan-{uuid.uuid4().hex}")
        wanted = os.path.join(folder, os.path.basename(picture.path))
        tries = 0
        for number, target in self._names(wanted):
            if os.path.lexists(target):
                if _is_equal(target, picture):
                    return Outcome.DONE, target, "it was there already"
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
            return Outcome.DONE, target, f"it lacks: {', '.join(missing)}" if missing else ""
        raise FileExistsError(errno.EEXIST, "every name like it is taken", wanted)

    def _names(self, wanted: str) -> Iterator[tuple[int, str]]:
        stem, ending = os.path.splitext(wanted)
        start = self._next.get(wanted, 1)
        for number in range(start, start + _MOST_NAMES):
            yield number, wanted if number == 1 else f"{stem} ({number}){ending}"


def _is_equal(path: str, picture: ScoredFile) -> bool:
    try:
        same_size = os.lstat(path).st_size == picture.status.st_size
        return same_size and digest_at(path) == picture.sha256
    except OSError:
        return False

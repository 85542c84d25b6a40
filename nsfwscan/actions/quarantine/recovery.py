"""Recovery of interrupted moves: the state of the disk shows which steps were taken.

In: an entry of which only the intent is known. Out: the record that completes it, after which its
picture is in exactly one place. A move that got its picture into the quarantine is completed, any
other is undone; a copy is removed only if the original is whole. A picture that is nowhere stays
listed as held, so that it is reported until a person deletes it. A move on a volume that is away
stays interrupted until the volume is back.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import time
from typing import TYPE_CHECKING, assert_never

from nsfwscan.actions import moves
from nsfwscan.actions.names import beside
from nsfwscan.actions.quarantine.entries import Deed, Entry, Step, step
from nsfwscan.actions.quarantine.places import Destination, Places
from nsfwscan.actions.verified_file import digest_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.system.json_lines import Json

PART = ".part"
"""Suffix of an incomplete copy."""
GONE = ".deleted"
"""Suffix of a picture to delete. It serves as the intent, which also works on a full disk."""
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors for a path at which there cannot be a file."""


def aside(path: str, number: str) -> str:
    """Return the name that a file has while it is checked before removal."""
    return os.path.join(os.path.dirname(path), f".nsfwscan-{number}")


def names_beside(path: str, *, start: int = 1) -> Iterator[tuple[int, str]]:
    """Yield names for a picture whose name is taken: `a (restored).jpg`, `a (restored 2).jpg`."""
    return beside(path, _restored, start=start)


def _restored(number: int) -> str:
    return " (restored)" if number == 1 else f" (restored {number})"


def put_back(source: str, path: str) -> str:
    """Rename `source` to `path`, or a similar name if taken; return the path. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for target in itertools.chain((path,), (name for _, name in names_beside(path))):
        with contextlib.suppress(FileExistsError):
            moves.rename(source, target)
            return target
    raise FileExistsError(errno.EEXIST, "every similar name is taken", path)


def finish(quarantine: str, held: str, entry: Entry, *, at_once: bool = False) -> dict[str, Json]:
    """Bring an entry's picture to one place, and return the record that says which.

    `quarantine` is the path of its folder, `held` the picture's path inside it. `at_once` means
    that no time has passed since. Otherwise a picture that is nowhere may have been moved in and
    then taken away: it counts as held, so that `verify` keeps reporting it. Raises OSError if the
    disk does not allow it; nothing is lost then.
    """
    places = Places(quarantine)
    match entry.under_way:
        case Deed.QUARANTINE:
            path = _reached(places.of(entry))
            done = _came_in(held, entry, path) or not (at_once or exists(path) or exists(held))
        case Deed.RESTORE:
            done = _went_out(held, entry, places.of(entry, entry.restored_to))
        case Deed.DELETE:
            done = not exists(held)
        case None:
            raise AssertionError("nothing is under way")
        case _:
            assert_never(entry.under_way)
    record = step(entry.id, entry.under_way, Step.DONE if done else Step.NOT_DONE)
    if entry.under_way is Deed.RESTORE:
        record["to"] = entry.restored_to
        if entry.restored_sha256:
            record["sha256"] = entry.restored_sha256
    return {**record, "at": max(time.time(), entry.word_at), "why": "it was interrupted"}


def _reached(place: Destination) -> str:
    """Return the path of a place. Raises OSError if its volume is not there."""
    if place.why_not:
        raise OSError(errno.ENXIO, place.why_not)
    return place.path


def _came_in(held: str, entry: Entry, path: str) -> bool:
    _remove(held + PART)
    away = aside(path, entry.id)
    if not exists(held):
        if exists(away):  # the copy was taken away: the original goes back
            put_back(away, path)
        return False
    is_the_picture = _holds(held, entry)
    if _is_the_original(path, entry) and not os.path.samefile(path, held):
        # The copy was complete and the original not yet removed; or another file was caught and
        # the picture has come back.
        if is_the_picture:
            os.unlink(held)
        else:
            put_back(held, path)
        return False
    if exists(away):
        if is_the_picture and _is_the_original(away, entry):
            os.unlink(away)
        else:
            put_back(away, path)
    if not is_the_picture:
        put_back(held, path)
    return is_the_picture


def _went_out(held: str, entry: Entry, place: Destination) -> bool:
    if exists(held):
        if place.why_not:  # it is another volume, so nothing there counts
            return False
        target = place.path
        _remove(aside(target, entry.id))
        if not exists(target):
            return False
        if os.path.samefile(held, target) or (_holds(held, entry) and _holds(target, entry)):
            os.unlink(held)
            return True
        return False
    # Restored only if the target has it. A rename keeps the bytes, damaged or not.
    return _holds(_reached(place), entry)


def _is_the_original(path: str, entry: Entry) -> bool:
    """Return True if `path` is the file of the intent, and unchanged."""
    try:
        return os.lstat(path).st_ino == entry.inode and _holds(path, entry)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise


def _holds(path: str, entry: Entry) -> bool:
    """Return True if a file has the entry's content, either as moved in or as restored.

    Returns False if there is no such file. Raises OSError if it cannot be read.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        found = digest_at(path).hex()
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise
    return found in {entry.sha256, entry.restored_sha256}


def exists(path: str) -> bool:
    """Return True if something has that name. Raises OSError if that cannot be determined."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise

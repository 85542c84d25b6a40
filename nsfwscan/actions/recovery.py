"""Ending what was cut short: which of a deed's steps were taken is read off the disk.

In: an entry of which only the intent is known. Out: the record that ends it, after which its
picture is in exactly one place. A move that got its picture into the quarantine is completed, any
other is taken back; a copy is removed only after the original was seen to be whole.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from typing import TYPE_CHECKING, assert_never

from nsfwscan.actions import moves
from nsfwscan.actions.ledger import Deed, Entry, Step, step
from nsfwscan.actions.names import beside
from nsfwscan.actions.scored_file import digest_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.actions.vault import Vault
    from nsfwscan.journal import Json

PART = ".part"
"""Ending of a copy that is not complete."""
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""What the system says of a path at which there cannot be a file."""


def aside(path: str, number: str) -> str:
    """Return the name that a file has for the moment between two looks at it."""
    return os.path.join(os.path.dirname(path), f".nsfwscan-{number}")


def names_beside(path: str, *, start: int = 1) -> Iterator[tuple[int, str]]:
    """Yield names for a picture whose own is taken: `a (restored).jpg`, `a (restored 2).jpg`."""
    return beside(path, _restored, start=start)


def _restored(number: int) -> str:
    return " (restored)" if number == 1 else f" (restored {number})"


def put_back(source: str, path: str) -> str:
    """Rename `source` to `path`, or beside it when that is taken; return where. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for target in itertools.chain((path,), (name for _, name in names_beside(path))):
        with contextlib.suppress(FileExistsError):
            moves.rename(source, target)
            return target
    raise FileExistsError(errno.EEXIST, "every name beside it is taken", path)


def finish(vault: Vault, entry: Entry) -> dict[str, Json]:
    """Bring the picture of an entry to one place, and return the record that says which.

    Raises OSError when the disk does not let it be brought there; nothing is lost then.
    """
    match entry.under_way:
        case Deed.QUARANTINE:
            done = _came_in(vault, entry)
        case Deed.RESTORE:
            done = _went_out(vault, entry)
        case Deed.DELETE:
            done = not os.path.lexists(vault.file_of(entry.id))
        case None:
            raise AssertionError("nothing is under way")
        case _:
            assert_never(entry.under_way)
    record = step(entry.id, entry.under_way, Step.DONE if done else Step.NOT_DONE)
    if entry.under_way is Deed.RESTORE:
        record["to"] = entry.restored_to
    return {**record, "why": "it was cut short"}


def _came_in(vault: Vault, entry: Entry) -> bool:
    held = vault.file_of(entry.id)
    _remove(held + PART)
    away = aside(entry.path, entry.id)
    if not os.path.lexists(held):
        if os.path.lexists(away):  # somebody took the copy away: the original goes back
            put_back(away, entry.path)
        return False
    is_the_picture = _holds(held, entry)
    if _is_the_original(entry.path, entry) and not os.path.samefile(entry.path, held):
        # The copy was there, the original not yet away; or another file was caught and the
        # picture came back meanwhile.
        if is_the_picture:
            os.unlink(held)
        else:
            put_back(held, entry.path)
        return False
    if os.path.lexists(away):
        if is_the_picture and _is_the_original(away, entry):
            os.unlink(away)
        else:
            put_back(away, entry.path)
    if not is_the_picture:
        put_back(held, entry.path)
    return is_the_picture


def _went_out(vault: Vault, entry: Entry) -> bool:
    held, target = vault.file_of(entry.id), entry.restored_to
    if not os.path.lexists(held):
        return True
    _remove(aside(target, entry.id))
    if not os.path.lexists(target):
        return False
    if os.path.samefile(held, target) or (_holds(held, entry) and _holds(target, entry)):
        os.unlink(held)
        return True
    return False


def _is_the_original(path: str, entry: Entry) -> bool:
    """Tell whether `path` is the very file of the intent, and whole."""
    try:
        return os.lstat(path).st_ino == entry.inode and _holds(path, entry)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise


def _holds(path: str, entry: Entry) -> bool:
    """Tell whether a file has the content of the entry. One that cannot be read has not."""
    try:
        return digest_at(path).hex() == entry.sha256
    except OSError:
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise

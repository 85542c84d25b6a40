"""A folder's own time: taking a picture out changes it, and so does putting it back.

When the last picture that came from a folder is put back, and nobody else changed the folder
meanwhile, it gets the time that it had before the first one was taken. For this the journal holds,
for each folder and batch, the time before and after; a chain of them that has no gap leads back.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsfwscan.system.json_lines import Json


class Trail(NamedTuple):
    """How a folder's time came about."""

    original_ns: int | None
    """Before the first picture was taken; None when somebody else changed the folder since."""
    left_ns: int
    """After our last move."""


Trails = dict[str, Trail]


def look(folders: Iterable[str]) -> dict[str, int]:
    """Return the times of the folders that exist."""
    found = {}
    for folder in set(folders):
        with contextlib.suppress(OSError):
            found[folder] = os.stat(folder).st_mtime_ns
    return found


def records(before: Mapping[str, int]) -> list[dict[str, Json]]:
    """Return what to write to the journal after something was moved; `before` is from `look`."""
    after = look(before)
    return [
        {"folder": folder, "before_ns": before[folder], "after_ns": now}
        for folder, now in after.items()
        if now != before[folder]
    ]


def follow(trails: Trails, record: Mapping[str, Any]) -> None:
    """Bring the trails up to date with a record; one that is not about a folder changes nothing."""
    folder = record.get("folder")
    if not isinstance(folder, str):
        return
    if record.get("ended"):
        trails.pop(folder, None)
        return
    before, after = record["before_ns"], record["after_ns"]
    known = trails.get(folder)
    if known is None:
        trails[folder] = Trail(before, after)
    elif known.left_ns == before:
        trails[folder] = Trail(known.original_ns, after)
    else:
        trails[folder] = Trail(None, after)


def give_back(trails: Trails, empty: Iterable[str]) -> list[dict[str, Json]]:
    """Give the `empty` folders, from which nothing is held any more, their own times back.

    Returns what to write to the journal.
    """
    ended: list[dict[str, Json]] = []
    for folder in empty:
        trail = trails.get(folder)
        if trail is None:
            continue
        with contextlib.suppress(OSError):
            found = os.stat(folder)
            if trail.original_ns is not None and found.st_mtime_ns == trail.left_ns:
                os.utime(folder, ns=(found.st_atime_ns, trail.original_ns))
        ended.append({"folder": folder, "ended": True})
    return ended

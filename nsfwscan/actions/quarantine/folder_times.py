"""A folder's modification time: it changes when a picture is taken out or put back.

When the last picture from a folder is restored, and no other program changed the folder meanwhile,
the folder gets the time that it had before the first picture was taken. For this the journal has
the time before and after, for each folder and batch; a chain without gaps leads to the first.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsfwscan.system.json_lines import Json


class Trail(NamedTuple):
    """How a folder's current time came about."""

    original_ns: int | None
    """Before the first picture was taken; None if another program has changed the folder."""
    left_ns: int
    """After our latest move."""


Trails = dict[str, Trail]


def look(folders: Iterable[str]) -> dict[str, int]:
    """Return the modification times (ns) of those folders that exist."""
    found = {}
    for folder in set(folders):
        with contextlib.suppress(OSError):
            found[folder] = os.stat(folder).st_mtime_ns
    return found


def records(before: Mapping[str, int]) -> list[dict[str, Json]]:
    """Return records for the journal after a move; `before` comes from `look`."""
    after = look(before)
    return [
        {"folder": folder, "before_ns": before[folder], "after_ns": now}
        for folder, now in after.items()
        if now != before[folder]
    ]


def follow(trails: Trails, record: Mapping[str, Any]) -> None:
    """Update the trails with a record; one that is not about a folder changes nothing."""
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
    """Restore the times of the `empty` folders, from which no picture is left in quarantine.

    Returns records for the journal.
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

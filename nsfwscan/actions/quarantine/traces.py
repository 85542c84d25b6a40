"""What quarantines leave on the disk, and which of them stay.

Pictures are never among the traces: only an empty quarantine is one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.quarantine.vault import FILES_NAME, LOCK_NAME, Vault
from nsfwscan.system import locations
from nsfwscan.system.journal import Journal
from nsfwscan.system.traces import entries, is_there, own_parent
from nsfwscan.values.errors import JournalError, NsfwscanError
from nsfwscan.values.text import count
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kept(NamedTuple):
    """A quarantine that is never removed."""

    place: str
    why: str
    unknown: bool = False
    """It could not be read."""


def traces() -> Iterator[Traces]:
    """Yield empty quarantines, and the list of places if all are empty. Raises `NsfwscanError`."""
    places = locations.quarantines_file()
    # The list of places leads to the pictures; it goes only if there are none.
    if is_there(places) and not kept():
        yield Traces(TraceKind.QUARANTINE, places, (places,), tuple(own_parent(places)))
    for vault in vaults():
        if looked_at(vault).why:
            continue
        journal = os.path.basename(vault.journal.path)
        own = {journal, f"{journal}.held", LOCK_NAME}
        inside = entries(vault.folder)
        files = [
            one.path for one in inside if one.name in own and one.is_file(follow_symlinks=False)
        ]
        inner = [
            one.path
            for one in inside
            if one.name == FILES_NAME and one.is_dir(follow_symlinks=False)
        ]
        strangers = [one.path for one in inside if one.path not in {*files, *inner}]
        yield Traces(
            TraceKind.QUARANTINE,
            vault.folder,
            tuple(files),
            (*inner, vault.folder),
            tuple(strangers),
        )


def vaults(known: Quarantines | None = None) -> list[Vault]:
    """Return the existing quarantines. Raises `NsfwscanError` if one cannot be read."""
    try:
        return (known or Quarantines(None, nobody)).existing()
    except OSError as error:
        raise NsfwscanError(
            f"a quarantine cannot be read: {error}",
            hint="check the disk that it is on, and try again",
        ) from error


def looked_at(vault: Vault) -> Kept:
    """Return why a quarantine stays; with an empty reason if nothing is in it or unfinished."""
    try:
        pictures = len(vault.names())
        unfinished = any(one.under_way for one in vault.peek().entries.values())
    except (OSError, NsfwscanError) as error:
        return Kept(vault.folder, f"cannot be read: {error}", unknown=True)
    why = f"holds {count(pictures, 'picture')}" if pictures else ""
    if unfinished and not pictures:
        why = "a move was interrupted; `nsfwscan quarantine verify` completes it"
    return Kept(vault.folder, why)


def _unreadable_list() -> list[Kept]:
    """Return the list of quarantines itself if it is unreadable or damaged."""
    path = locations.quarantines_file()
    try:
        damaged = Journal(path).read().damaged
    except JournalError as error:
        return [Kept(path, f"the list of quarantines: {error}", unknown=True)]
    if damaged:
        return [Kept(path, "the list of quarantines is damaged", unknown=True)]
    return []


def nobody(_sentence: str) -> None:
    """Discard a warning: problems with a quarantine show in `kept`."""


def kept() -> list[Kept]:
    """Return the quarantines that hold pictures, may hold some, or cannot be read."""
    all_of_them = Quarantines(None, nobody)
    there = vaults(all_of_them)
    found = [  # after `vaults`, which notes those it passed over as missing
        Kept(one.path, f"{one.why or 'not available'}, so it may hold pictures", bool(one.why))
        for one in all_of_them.away()
    ]
    found += [one for vault in there if (one := looked_at(vault)).why]
    unread = _unreadable_list()
    if all_of_them.incomplete and not unread:  # readable now, but not a moment ago
        why = "the list of quarantines cannot be read reliably"
        unread = [Kept(locations.quarantines_file(), why, unknown=True)]
    return unread + found

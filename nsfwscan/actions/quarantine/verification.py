"""Checks that a quarantine's pictures are intact, and finds files that its journal lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine import recovery
from nsfwscan.actions.quarantine.entries import Entry, State
from nsfwscan.actions.verified_file import digest_at
from nsfwscan.values.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.actions.quarantine.vault import Vault


class Fault(NamedTuple):
    """A problem in a quarantine."""

    path: str
    """The picture's original path, or the file with the problem."""
    problem: str


def verify(vault: Vault, progress: Callable[[int, int], None]) -> Iterator[Fault]:
    """Compare every quarantined picture with the journal; yield the problems.

    Reads without the lock, so it also works where none can be taken, as on a read-only medium.
    Calls `progress(done, total)`. Raises `JournalError`, OSError.
    """
    try:
        with vault.locked():
            pass  # completes interrupted moves
    except ActionError as error:
        yield Fault(vault.folder, str(error))
    ledger = vault.peek()
    held = ledger.held
    for line in ledger.damaged:
        yield Fault(vault.journal.path, f"line {line} is damaged")
    for name in strangers(vault):
        yield Fault(vault.file_of(name), "the journal does not say where it came from")
    for number, one in enumerate(held):
        progress(number, len(held))
        problem = _problem(vault.file_of(one.id), one)
        # It may have been restored or deleted while it was read.
        if problem and vault.peek().holds(one):
            yield Fault(one.path, problem)
    progress(len(held), len(held))


def strangers(vault: Vault) -> list[str]:
    """Return the names of files that the journal lacks. Raises `JournalError`, OSError."""
    names = vault.names()
    ledger = vault.peek()
    known = {one.id for one in ledger.held}
    known |= {one.id + ending for one in ledger.under_way for ending in ("", recovery.PART)}
    return sorted(name for name in names - known if not _is_moving(vault, name))


def _is_moving(vault: Vault, name: str) -> bool:
    """Return True if another process is moving this file in or out."""
    number = name.split(".", 1)[0]
    entry = vault.peek().entries.get(number)
    known = entry is not None and (entry.state is State.HELD or entry.under_way is not None)
    return known or not recovery.exists(vault.file_of(name))


def _problem(file: str, entry: Entry) -> str:
    try:
        whole = digest_at(file).hex() == entry.sha256
    except FileNotFoundError:
        return f"it is missing from the quarantine: {file}"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror or error}"
    return "" if whole else f"its bytes are not those that were moved in: {file}"

"""Deleting quarantined pictures for good."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from nsfwscan.actions import moves
from nsfwscan.actions.quarantine import recovery
from nsfwscan.actions.quarantine.entries import Deed, Entry, Step, step
from nsfwscan.actions.quarantine.giveback import GivenBack, batches, words
from nsfwscan.actions.quarantine.last_word import time_after
from nsfwscan.actions.quarantine.vault import Moved, Vault
from nsfwscan.judge import NO_RULINGS
from nsfwscan.values.actions import Outcome
from nsfwscan.values.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
    from nsfwscan.judge import Rulings


def delete(
    vault: Vault,
    entries: Sequence[Entry],
    rulings: Rulings = NO_RULINGS,
    said: LatestDecisions | None = None,
) -> Iterator[GivenBack]:
    """Delete quarantined pictures for good. Raises `ActionError`, `JournalError`.

    Parameters are those of `Restorer`. No lock is held while yielding. Each picture is renamed
    first: this is the intent, which also works on a full disk.
    """
    for some in batches(entries):
        with vault.locked() as ledger:
            batch = [one for one in some if ledger.holds(one)]
            now = time.time()
            times = {
                one.id: time_after(now, words(vault, rulings, said, ledger, [one.sha256]))
                for one in batch
            }
            results = _delete(vault, times) if batch else {}
        yield from (GivenBack(one, results[one.id]) for one in batch)


def _delete(vault: Vault, times: Mapping[str, float]) -> dict[str, Moved]:
    """Delete pictures, by id with the time to record; return the outcome of each.

    Raises `JournalError`, OSError.
    """
    vault.unclean = True  # until this is complete
    results = {one: _mark(vault.file_of(one)) for one in times}
    marked = [one for one, moved in results.items() if moved.outcome is Outcome.DONE]
    records = [{**step(one, Deed.DELETE, Step.DONE), "at": times[one]} for one in marked]
    files = [vault.file_of(one) + recovery.GONE for one in marked]
    vault.sync()
    try:
        vault.write(*records)
    except JournalError:
        for file in files:
            _empty(file)
        try:
            vault.write(*records)
        except JournalError as error:
            vault.warn(f"{error}; the next quarantine command completes it")
            return results
    left = False
    for one, file in zip(marked, files, strict=True):
        try:
            os.unlink(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            left = True  # the next use tries again
            why = f"its file cannot be deleted: {error.strerror or error}"
            results[one] = Moved(Outcome.FAILED, None, why)
    vault.unclean = left
    return results


def _mark(path: str) -> Moved:
    try:
        moves.rename(path, path + recovery.GONE, private=True)
    except FileNotFoundError:
        return Moved(Outcome.DONE, None, "it was already gone")
    except OSError as error:
        return Moved(Outcome.FAILED, None, error.strerror or str(error))
    return Moved(Outcome.DONE)


def _empty(path: str) -> None:
    """Truncate a file that is marked for deletion, unless it has another hard link."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                os.ftruncate(file, 0)
                os.fsync(file)
        finally:
            os.close(file)

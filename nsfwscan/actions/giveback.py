"""Pictures leave a quarantine: put back where they were, or deleted; and whether all are whole.

A picture that is put back gets its path, times and attributes. If its name is taken, it is put
beside it, and that is said; a folder that is gone is made again. Nothing is ever overwritten.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions import folder_times, moves, recovery
from nsfwscan.actions.ledger import Deed, Entry, Ledger, State, Step, step
from nsfwscan.actions.scored_file import Unwilling, digest_at
from nsfwscan.actions.vault import BATCH, Moved, Vault
from nsfwscan.acts import Outcome
from nsfwscan.images.read import open_picture
from nsfwscan.journal import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsfwscan.journal import Json


class GivenBack(NamedTuple):
    """What became of one entry."""

    entry: Entry
    moved: Moved


class Restorer:
    """Puts pictures of one quarantine back."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._next_beside: dict[str, int] = {}
        """For each taken name the first number worth trying: thousands may have the same one."""

    def restore(self, entries: Sequence[Entry]) -> Iterator[GivenBack]:
        """Put `entries` back, the newest first, so that it gets the name if two had the same.

        Raises `ActionError`, `JournalError` as `Vault.locked` does.
        """
        newest_first = list(reversed(entries))
        for start in range(0, len(newest_first), BATCH):
            with self._vault.locked() as ledger:
                yield from self._batch(ledger, newest_first[start : start + BATCH])

    def _batch(self, ledger: Ledger, entries: Sequence[Entry]) -> Iterator[GivenBack]:
        todo = []
        for one in entries:
            if ledger.entries[one.id].state is not State.HELD:
                yield GivenBack(one, Moved(Outcome.LEFT, None, "it is not in quarantine any more"))
            elif not one.path:
                detail = f"where it was is not known; it is {self._vault.file_of(one.id)}"
                yield GivenBack(one, Moved(Outcome.FAILED, None, detail))
            else:
                todo.append(one)
        while todo:  # again for those whose name was taken in the last moment
            targets = self._targets(todo)
            self._vault.write(*(_record(one, Step.INTEND, targets[one.id]) for one in todo))
            folders = {os.path.dirname(target) for target in targets.values()}
            times = folder_times.look(folders)
            results: dict[str, Moved | None] = {}
            records: list[dict[str, Json]] = []
            for one in todo:
                results[one.id], ends = self._try(one, targets[one.id])
                records += ends
            self._vault.sync()
            self._vault.write(*folder_times.records(times), *records)
            folders -= {os.path.dirname(one.path) for one in ledger.held}
            ended = folder_times.give_back(ledger.folders, folders)
            if ended:
                self._vault.write(*ended)
            for one in todo:
                result = results[one.id]
                if result is not None:
                    yield GivenBack(one, result)
            todo = [one for one in todo if results[one.id] is None]

    def _targets(self, entries: Sequence[Entry]) -> dict[str, str]:
        targets: dict[str, str] = {}
        taken: set[str] = set()
        for one in entries:
            target = one.path
            if target in taken or os.path.lexists(target):
                start = self._next_beside.get(one.path, 1)
                for number, name in recovery.names_beside(one.path, start=start):
                    if name not in taken and not os.path.lexists(name):
                        self._next_beside[one.path] = number + 1
                        target = name
                        break
            taken.add(target)
            targets[one.id] = target
        return targets

    def _try(self, entry: Entry, target: str) -> tuple[Moved | None, list[dict[str, Json]]]:
        """Move one picture out; return what became of it, and the record that ends the intent.

        None when the name was taken meanwhile.
        """
        moved: Moved | None = None
        try:
            details = self._move(entry, target)
        except FileExistsError:
            pass
        except Unwilling:
            held = self._vault.file_of(entry.id)
            moved = Moved(
                Outcome.FAILED, None, f"its bytes in the quarantine are damaged: see {held}"
            )
        except OSError as error:
            return self._vault.settle(entry.id, error)
        else:
            if target != entry.path:
                details.insert(0, "its name is taken, so it is beside it")
            moved = Moved(Outcome.DONE, target, "; ".join(details))
        return moved, [_end(entry, Deed.RESTORE, moved, target)]

    def _move(self, entry: Entry, target: str) -> list[str]:
        held, folder = self._vault.file_of(entry.id), os.path.dirname(target)
        details = []
        if not os.path.isdir(folder):
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder, entry.folder_mode)
            os.chmod(folder, entry.folder_mode)
            details.append("its folder was made again")
        try:
            moves.rename(held, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            missing = self._copy(entry, held, target)
        else:
            missing = _freshen(entry, target)
        if missing:
            details.append(f"it lacks: {', '.join(missing)}")
        return details

    def _copy(self, entry: Entry, held: str, target: str) -> tuple[str, ...]:
        part = recovery.aside(target, entry.id)
        file = open_picture(held, follow=False)
        try:
            facts = entry.facts or moves.Facts.of(file)
            missing = moves.copy(file, part, facts, bytes.fromhex(entry.sha256))
            try:
                moves.rename(part, target)
            except BaseException:
                os.unlink(part)
                raise
        finally:
            os.close(file)
        sync_folder(os.path.dirname(target))
        os.unlink(held)
        return missing


def _freshen(entry: Entry, path: str) -> tuple[str, ...]:
    """Give mode and times back, should somebody have changed them in the quarantine."""
    found = os.lstat(path)
    facts = entry.facts
    if facts is None or (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (
        facts.mode,
        facts.mtime_ns,
    ):
        return ()
    file = open_picture(path, follow=False)
    try:
        return facts.give_to(file)
    finally:
        os.close(file)


def delete(vault: Vault, entries: Sequence[Entry]) -> Iterator[GivenBack]:
    """Delete held pictures for good. Raises `ActionError`, `JournalError`."""
    for start in range(0, len(entries), BATCH):
        with vault.locked() as ledger:
            batch = [
                one
                for one in entries[start : start + BATCH]
                if ledger.entries[one.id].state is State.HELD
            ]
            if not batch:
                continue
            vault.write(*(step(one.id, Deed.DELETE, Step.INTEND) for one in batch))
            results = {one.id: _delete(vault.file_of(one.id)) for one in batch}
            vault.write(*(_end(one, Deed.DELETE, results[one.id], None) for one in batch))
            yield from (GivenBack(one, results[one.id]) for one in batch)


def _delete(path: str) -> Moved:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return Moved(Outcome.DONE, None, "it was gone already")
    except OSError as error:
        return Moved(Outcome.FAILED, None, error.strerror or str(error))
    return Moved(Outcome.DONE)


def _record(entry: Entry, how_far: Step, to: str) -> dict[str, Json]:
    return {**step(entry.id, Deed.RESTORE, how_far), "to": to}


def _end(entry: Entry, deed: Deed, moved: Moved | None, to: str | None) -> dict[str, Json]:
    if moved is None or moved.outcome is not Outcome.DONE:
        why = "its name was taken" if moved is None else moved.detail
        return {**step(entry.id, deed, Step.NOT_DONE), "why": why}
    return {**step(entry.id, deed, Step.DONE), **({} if to is None else {"to": to})}


class Finding(NamedTuple):
    """Something that is wrong with a quarantine."""

    path: str
    """Where the picture came from, or the file that is wrong."""
    problem: str


def verify(vault: Vault, progress: Callable[[int, int], None]) -> Iterator[Finding]:
    """Read every held picture and compare it with the journal; yield what is wrong.

    `progress` is told how many are done, of how many. Raises `ActionError`, `JournalError`.
    """
    with vault.locked() as ledger:
        held = ledger.held
        for line in ledger.damaged:
            yield Finding(vault.journal.path, f"line {line} is damaged")
        for name in sorted(vault.names() - {one.id for one in held}):
            yield Finding(vault.file_of(name), "the journal does not say where it came from")
        for number, one in enumerate(held):
            progress(number, len(held))
            file = vault.file_of(one.id)
            try:
                whole = digest_at(file).hex() == one.sha256
            except FileNotFoundError:
                yield Finding(one.path, f"it is gone from the quarantine: {file}")
            except OSError as error:
                yield Finding(one.path, f"{file} cannot be read: {error.strerror or error}")
            else:
                if not whole:
                    yield Finding(one.path, f"its bytes are not those that were moved in: {file}")
        progress(len(held), len(held))

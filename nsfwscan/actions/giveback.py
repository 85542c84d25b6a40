"""Pictures leave a quarantine: put back where they were, or deleted; and whether all are whole.

A picture that is put back gets its path, times and attributes. If its name is taken, it is put
beside it, and that is said. A folder that is gone is made again; if that is impossible, the picture
stays in quarantine. Nothing is ever overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions import folder_times, moves, recovery
from nsfwscan.actions.ledger import Deed, Entry, Ledger, State, Step, step
from nsfwscan.actions.quarantine import above
from nsfwscan.actions.scored_file import Unwilling, digest_at
from nsfwscan.actions.vault import BATCH, Moved, Vault
from nsfwscan.acts import Outcome
from nsfwscan.images.read import open_picture
from nsfwscan.journal import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsfwscan.journal import Json

_TRIES = 5
"""How often a picture gets another name because its own was taken in the last moment."""


class GivenBack(NamedTuple):
    """What became of one entry."""

    entry: Entry
    moved: Moved
    damaged: bool = False
    """It is back, and its bytes are not those that were moved in."""


class _NameTaken(Exception):
    """Another program took the name after it was seen to be free."""


class _Unreachable(Exception):
    """The folder of a picture cannot be made or written to; `str(reason)` says why."""


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
        todo: list[Entry] = []
        made: set[str] = set()
        for one in entries:
            problem = self._prepare(ledger, one, made)
            if problem is None:
                todo.append(one)
            else:
                yield GivenBack(one, problem)
        for left in reversed(range(_TRIES)):
            if not todo:
                break
            again: list[Entry] = []
            targets = self._targets(todo)
            self._vault.write(*(_record(one, Step.INTEND, targets[one.id]) for one in todo))
            folders = {os.path.dirname(target) for target in targets.values()}
            times = folder_times.look(folders)
            results: list[GivenBack] = []
            records: list[dict[str, Json]] = []
            for one in todo:
                try:
                    result, ends = self._try(one, targets[one.id], made)
                except _NameTaken:
                    if left:
                        again.append(one)  # the next intent takes the place of this one
                        continue
                    moved = Moved(Outcome.FAILED, None, "other programs keep taking its name")
                    result, ends = GivenBack(one, moved), [_end(one, Deed.RESTORE, moved, None)]
                results.append(result)
                records += ends
            self._vault.sync()
            self._vault.write(*folder_times.records(times), *records)
            folders -= {os.path.dirname(one.path) for one in ledger.held}
            ended = folder_times.give_back(ledger.folders, folders)
            if ended:
                self._vault.write(*ended)
            yield from results
            todo = again

    def _prepare(self, ledger: Ledger, entry: Entry, made: set[str]) -> Moved | None:
        """Make the folder that a picture goes to, and add it to `made`; return what forbids it.

        Comes before the intent, so that nothing has to be taken back where nothing can be done.
        """
        held = self._vault.file_of(entry.id)
        if ledger.entries[entry.id].state is not State.HELD:
            return Moved(Outcome.LEFT, None, "it is not in quarantine any more")
        if not os.path.isabs(entry.path) or "\0" in entry.path:
            return Moved(Outcome.FAILED, None, f"where it was is not known; it is {held}")
        folder = os.path.dirname(entry.path)
        try:
            if _make_folder(folder, entry.folder_mode):
                made.add(folder)
        except _Unreachable as reason:
            return Moved(Outcome.FAILED, None, f"{reason}; it stays in quarantine")
        return None

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

    def _try(
        self, entry: Entry, target: str, made: set[str]
    ) -> tuple[GivenBack, list[dict[str, Json]]]:
        """Move one picture out; return what became of it, and the record that ends the intent.

        Raises `_NameTaken`.
        """
        held = self._vault.file_of(entry.id)
        try:
            found = digest_at(held)
            missing = self._move(entry, held, target, found)
        except FileNotFoundError as error:
            if not os.path.lexists(held):
                moved = Moved(Outcome.FAILED, None, f"it is gone from the quarantine: {held}")
                return GivenBack(entry, moved), [_end(entry, Deed.RESTORE, moved, None)]
            moved, ends = self._vault.settle(entry.id, error)
            return GivenBack(entry, moved), ends
        except Unwilling:
            moved = Moved(Outcome.FAILED, None, f"its bytes keep changing: see {held}")
            return GivenBack(entry, moved), [_end(entry, Deed.RESTORE, moved, None)]
        except OSError as error:
            moved, ends = self._vault.settle(entry.id, error)
            return GivenBack(entry, moved), ends
        details = []
        damaged = found.hex() != entry.sha256
        if damaged:
            details.append("it is back, but damaged: its bytes are not those that were moved in")
        if target != entry.path:
            details.append("its name is taken, so it is beside it")
        if os.path.dirname(target) in made:
            details.append("its folder was made again")
        if missing:
            details.append(f"it lacks: {', '.join(missing)}")
        moved = Moved(Outcome.DONE, target, "; ".join(details))
        end = _end(entry, Deed.RESTORE, moved, target)
        if damaged:
            end["sha256"] = found.hex()
        return GivenBack(entry, moved, damaged), [end]

    def _move(self, entry: Entry, held: str, target: str, sha256: bytes) -> tuple[str, ...]:
        """Bring the picture to `target`; return what it lacks there. `sha256` is what it holds."""
        try:
            _rename(held, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._copy(entry, held, target, sha256)
        return _freshen(entry, target)

    def _copy(self, entry: Entry, held: str, target: str, sha256: bytes) -> tuple[str, ...]:
        part = recovery.aside(target, entry.id)
        file = open_picture(held, follow=False)
        try:
            facts = entry.facts or moves.Facts.of(file)
            missing = moves.copy(file, part, facts, sha256)
            try:
                _rename(part, target)
            except BaseException:
                os.unlink(part)
                raise
        finally:
            os.close(file)
        sync_folder(os.path.dirname(target))
        os.unlink(held)
        return missing


def _rename(source: str, target: str) -> None:
    """Rename. Raises `_NameTaken` for this target and nothing else, OSError."""
    try:
        moves.rename(source, target)
    except FileExistsError:
        raise _NameTaken from None


def _make_folder(folder: str, mode: int) -> bool:
    """Let there be a folder that can be written to; return True if it had to be made.

    Raises `_Unreachable`.
    """
    made = False
    try:
        if not os.path.isdir(folder):
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder, mode)
            made = True
            with contextlib.suppress(OSError):  # FAT has no modes
                os.chmod(folder, mode)
    except OSError as error:
        raise _Unreachable(_why_not(folder, error)) from error
    if not made and not os.access(folder, os.W_OK | os.X_OK):
        raise _Unreachable(f"its folder {folder} cannot be written to")
    return made


def _why_not(folder: str, error: OSError) -> str:
    """Say why a folder cannot be made: what stands in its way, or what the system said."""
    for place in above(folder):
        if os.path.lexists(place):
            if os.path.islink(place) and not os.path.exists(place):
                return f"its folder cannot be made: the link {place} leads nowhere"
            if not os.path.isdir(place):
                return f"its folder cannot be made: {place} is no folder now"
            break
    return f"its folder {folder} cannot be made: {error.strerror or error}"


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


def _end(entry: Entry, deed: Deed, moved: Moved, to: str | None) -> dict[str, Json]:
    if moved.outcome is not Outcome.DONE:
        return {**step(entry.id, deed, Step.NOT_DONE), "why": moved.detail}
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

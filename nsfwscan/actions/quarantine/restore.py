"""Restoring pictures.

Each gets its path, times and attributes back. If its name is taken, it gets a similar one, which is
reported. A missing folder is created again; if that is impossible, or the volume is away, the
picture stays in quarantine. Nothing is ever overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions import moves
from nsfwscan.actions.quarantine import folder_times, recovery
from nsfwscan.actions.quarantine.entries import Deed, Entry, Ledger, Step, step
from nsfwscan.actions.quarantine.giveback import GivenBack, batches, words
from nsfwscan.actions.quarantine.held import above
from nsfwscan.actions.quarantine.last_word import time_after
from nsfwscan.actions.quarantine.places import Places
from nsfwscan.actions.quarantine.vault import Moved, Vault
from nsfwscan.actions.verified_file import Refused, digest_at
from nsfwscan.judge import NO_RULINGS
from nsfwscan.media.read import open_picture
from nsfwscan.system.writing import sync_folder
from nsfwscan.values.actions import Outcome
from nsfwscan.values.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
    from nsfwscan.judge import Rulings
    from nsfwscan.system.json_lines import Json

_TRIES = 5
"""How often to choose another name because this one was taken at the last moment."""


class _NameTaken(Exception):
    """Another program took the name after it was found free."""


class _Unreachable(Exception):
    """A picture's folder cannot be created or written to; `str(reason)` says why."""


class _Ready(NamedTuple):
    """A picture that can be restored."""

    entry: Entry
    path: str
    """Where it belongs now."""
    device: int
    """`st_dev` of its folder when that was found to be on the original volume."""
    sha256: str
    """SHA-256 of its current content, in hexadecimal digits."""
    remark: str
    at: float
    """Time to record for the restore: later than every earlier decision about it."""

    @property
    def damaged(self) -> bool:
        return self.sha256 != self.entry.sha256


class Restorer:
    """Restores pictures of one quarantine."""

    def __init__(
        self, vault: Vault, rulings: Rulings = NO_RULINGS, said: LatestDecisions | None = None
    ) -> None:
        """`said` gives the latest decisions in other quarantines."""
        self._vault = vault
        self._words = partial(words, vault, rulings, said)
        self._next_beside: dict[str, int] = {}
        """For each taken name the next number to try: thousands of pictures may share a name."""

    def restore(self, entries: Sequence[Entry]) -> Iterator[GivenBack]:
        """Restore `entries`, newest first, so that of two with one name the newest gets it.

        No lock is held while yielding, so a slow reader blocks no other process. Raises
        `ActionError`, `JournalError` as `Vault.locked` does.
        """
        for batch in batches(reversed(entries)):
            with self._vault.locked() as ledger:
                results = self._batch(ledger, batch)
            yield from results

    def _batch(self, ledger: Ledger, entries: Sequence[Entry]) -> list[GivenBack]:
        results: list[GivenBack] = []
        todo: list[_Ready] = []
        places = Places(self._vault.folder)
        for entry in entries:
            ready = self._prepare(ledger, entry, places)
            if isinstance(ready, Moved):
                results.append(GivenBack(entry, ready))
            else:
                todo.append(ready)
        for left in reversed(range(_TRIES)):
            if not todo:
                break
            again: list[_Ready] = []
            targets = self._targets(todo)
            self._vault.write(*(_intent(one, targets[one.entry.id]) for one in todo))
            folders = {os.path.dirname(target) for target in targets.values()}
            times = folder_times.look(folders)
            records: list[dict[str, Json]] = []
            for one in todo:
                try:
                    result, ends = self._try(one, targets[one.entry.id])
                except _NameTaken:
                    if left:
                        again.append(one)  # the next intent replaces this one
                        continue
                    moved = Moved(Outcome.FAILED, None, "other programs keep taking its name")
                    result, ends = GivenBack(one.entry, moved), [_not_done(one.entry, moved)]
                results.append(result)
                records += ends
            self._vault.sync()
            try:
                self._vault.write(*folder_times.records(times), *records)
                folders -= {folder for folder in folders if ledger.holds_from(folder)}
                self._vault.write(*folder_times.give_back(ledger.folders, folders))
            except JournalError as error:
                # The pictures are out and their intents are on the disk: nothing is lost.
                self._vault.warn(f"{error}; the next quarantine command completes it")
            todo = again
        return results

    def _prepare(self, ledger: Ledger, entry: Entry, places: Places) -> _Ready | Moved:
        """Create the folder that a picture goes to, and read the picture; or return why not.

        This comes before the intent, so that a failure here leaves nothing to undo.
        """
        held = self._vault.file_of(entry.id)
        if not ledger.holds(entry):
            return Moved(Outcome.LEFT, None, "it is no longer in quarantine")
        if not os.path.isabs(entry.path) or "\0" in entry.path:
            return Moved(Outcome.FAILED, None, f"its original path is not known; it is {held}")
        place = places.of(entry)
        if place.why_not:
            return Moved(Outcome.FAILED, None, f"{place.why_not}; it stays in quarantine")
        remarks = ["its volume is mounted elsewhere now"] if place.path != entry.path else []
        folder = os.path.dirname(place.path)
        try:
            sha256 = digest_at(held).hex()
        except FileNotFoundError:
            return Moved(Outcome.FAILED, None, f"it is missing from the quarantine: {held}")
        except OSError as error:
            return Moved(Outcome.FAILED, None, f"{held}: {error.strerror or error}")
        try:
            if _make_folder(folder, entry.folder_mode):
                remarks.append("its folder was created again")
            device = os.stat(folder).st_dev
        except _Unreachable as reason:
            return Moved(Outcome.FAILED, None, f"{reason}; it stays in quarantine")
        except OSError as error:
            return Moved(Outcome.FAILED, None, f"{folder}: {error.strerror or error}")
        at = time_after(time.time(), self._words(ledger, {sha256, entry.sha256}))
        return _Ready(entry, place.path, device, sha256, "; ".join(remarks), at)

    def _targets(self, entries: Sequence[_Ready]) -> dict[str, str]:
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
            targets[one.entry.id] = target
        return targets

    def _try(self, one: _Ready, target: str) -> tuple[GivenBack, list[dict[str, Json]]]:
        """Move one picture out; return the outcome, and the records that complete the intent.

        Raises `_NameTaken`.
        """
        held = self._vault.file_of(one.entry.id)
        try:
            missing = self._move(one, held, target)
        except _Unreachable as reason:
            moved = Moved(Outcome.FAILED, None, f"{reason}; it stays in quarantine")
            return GivenBack(one.entry, moved), [_not_done(one.entry, moved)]
        except Refused:
            moved = Moved(Outcome.FAILED, None, f"its bytes keep changing: see {held}")
            return GivenBack(one.entry, moved), [_not_done(one.entry, moved)]
        except OSError as error:
            moved, ends = self._vault.settle(one.entry.id, error)
            return GivenBack(one.entry, moved), ends
        details = [one.remark]
        if one.damaged:
            details.append("restored, but damaged: its bytes are not those that were moved in")
        if target != one.path:
            details.append("its name is taken, so it got a similar one")
        if missing:
            details.append(f"not preserved: {', '.join(missing)}")
        moved = Moved(Outcome.DONE, target, "; ".join(filter(None, details)))
        end: dict[str, Json] = {
            **step(one.entry.id, Deed.RESTORE, Step.DONE),
            "to": target,
            "at": one.at,
        }
        if one.damaged:
            end["sha256"] = one.sha256
        return GivenBack(one.entry, moved, one.damaged), [end]

    def _move(self, one: _Ready, held: str, target: str) -> tuple[str, ...]:
        """Bring the picture to `target`; return the names of attributes it could not keep.

        Raises `_NameTaken`, `_Unreachable`, `Refused`, OSError.
        """
        folder = os.path.dirname(target)
        if os.stat(folder).st_dev != one.device:
            raise _Unreachable(f"another volume was mounted at {folder} meanwhile")
        try:
            _rename(held, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._copy(one.entry, held, target, bytes.fromhex(one.sha256))
        return _freshen(one.entry, target)

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
    """Ensure that a folder exists and is writable; return True if it was created.

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
        raise _Unreachable(f"its folder {folder} is not writable")
    return made


def _why_not(folder: str, error: OSError) -> str:
    """Return why a folder cannot be created: what is in its way, or the system's error."""
    for place in above(folder):
        if os.path.lexists(place):
            if os.path.islink(place) and not os.path.exists(place):
                return f"its folder cannot be created: the link {place} is broken"
            if not os.path.isdir(place):
                return f"its folder cannot be created: {place} is not a folder"
            break
    return f"its folder {folder} cannot be created: {error.strerror or error}"


def _freshen(entry: Entry, path: str) -> tuple[str, ...]:
    """Restore mode and times, in case they were changed in the quarantine."""
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


def _intent(one: _Ready, to: str) -> dict[str, Json]:
    record: dict[str, Json] = {
        **step(one.entry.id, Deed.RESTORE, Step.INTEND),
        "to": to,
        "at": one.at,
    }
    if one.damaged:
        record["sha256"] = one.sha256
    return record


def _not_done(entry: Entry, moved: Moved) -> dict[str, Json]:
    return {**step(entry.id, Deed.RESTORE, Step.NOT_DONE), "why": moved.detail}

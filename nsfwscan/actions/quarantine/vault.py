"""One quarantine folder: its layout, its lock, its journal.

.nsfwscan-quarantine/     0700
journal.jsonl         every intent and its outcome; see `entries`
lock                  held while something is moved
files/ID              the pictures, under random names
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine import recovery
from nsfwscan.actions.quarantine.entries import Deed, Ledger, Step, compacted, step
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.system.journal import Journal
from nsfwscan.system.locks import Lock, open_lock
from nsfwscan.system.writing import sync_folder
from nsfwscan.values.actions import Outcome
from nsfwscan.values.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nsfwscan.system.json_lines import Json

LOCK_NAME = "lock"
FILES_NAME = "files"
FOREIGN = "it belongs to another user"
_FEW = 12
"""Records that a journal may have before it is compacted."""
_PATIENCE_S = 60.0
"""A batch takes well under a second, unless large pictures are copied to another disk."""


class Moved(NamedTuple):
    """The outcome for one picture."""

    outcome: Outcome
    target: str | None = None
    detail: str = ""


class Vault:
    """One quarantine folder. Several processes may use it, but only one at a time moves files."""

    def __init__(self, folder: str, warn: Callable[[str], None]) -> None:
        """`folder` must exist and belong to this user: see `open_vault`."""
        self.folder = folder
        self.warn = warn
        self.journal = Journal(os.path.join(folder, "journal.jsonl"))
        self.files = os.path.join(folder, FILES_NAME)
        self._ledger = Ledger()
        self._followed: tuple[int, int, int] | None = None
        """State of the journal's file when all of it had been applied to the ledger."""
        self._records = 0
        """Number of records in the journal."""
        self._excess = 0
        """How many superfluous records remained after the latest compaction."""
        self._warned: tuple[int, ...] = ()
        """Damaged lines that were reported."""
        self.unclean = True
        """Whether an interrupted deed may have left something to complete."""

    def file_of(self, number: str) -> str:
        """Return the path of an entry's picture in the quarantine."""
        return os.path.join(self.files, number)

    def names(self) -> set[str]:
        """Return the names of all files in the pictures' folder. Raises OSError."""
        try:
            return set(os.listdir(self.files))
        except FileNotFoundError:
            return set()

    def peek(self) -> Ledger:
        """Return the ledger without taking the lock or completing interrupted moves.

        This is the object's own ledger, which changes with the next use. Raises `ActionError`,
        `JournalError`.
        """
        try:
            stamp = stamp_of(self.journal.path)
        except OSError as error:
            raise unusable(self.folder, error) from error
        if stamp != self._followed:
            contents = self.journal.read()
            self._forget()
            self._ledger.take(contents.records)
            self._ledger.damaged = contents.damaged
            self._followed = stamp
            self._records = len(contents.records)
        return self._ledger

    def _forget(self) -> None:
        """Read the journal again next time."""
        self._ledger = Ledger()
        self._followed = None
        self._records = 0
        self.unclean = True

    @contextlib.contextmanager
    def locked(self) -> Iterator[Ledger]:
        """Take the lock, complete what an earlier process left unfinished, yield the ledger.

        Raises `ActionError` if another process holds the lock for a minute or the folder cannot be
        used, `JournalError`. An OSError inside the block also becomes an `ActionError`.
        """
        try:
            with self._lock():
                ledger = self.peek()
                self._tell_of_damage(ledger)
                self._finish(ledger)
                yield ledger
                self._compact(ledger)
        except OSError as error:
            self._forget()
            raise unusable(self.folder, error) from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        # Do not create the folders above it: without them the volume or the quarantine is gone.
        if not os.path.isdir(self.files):
            os.mkdir(self.files, 0o700)
        lock = open_lock(os.path.join(self.folder, LOCK_NAME))
        try:
            self._wait_for(lock)
            yield
        finally:
            lock.release()

    def _wait_for(self, lock: Lock) -> None:
        if not lock.wait(_PATIENCE_S):
            raise ActionError(
                f"another process has been moving pictures in {self.folder} for "
                f"{_PATIENCE_S:.0f} seconds",
                hint="try again when it has finished",
            )

    def write(self, *records: dict[str, Json]) -> None:
        """Append to the journal and apply to the ledger. Requires the lock.

        Raises `JournalError`; then none of `records` is in the journal.
        """
        if records:
            self.journal.append(*records)
            self._ledger.take(records)
            self._records += len(records)
            self._followed = None  # read it again unless its state can be determined below
            with contextlib.suppress(OSError):
                self._followed = stamp_of(self.journal.path)

    def _compact(self, ledger: Ledger) -> None:
        """Rewrite the journal before it has twice the records that are needed."""
        live = ledger.live + self._excess
        if self._records <= max(_FEW, live + live * 3 // 4) or ledger.damaged:
            return

        def keep(records: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
            kept = compacted(records, ledger, time.time())
            self._records = len(kept)
            return kept

        if self.journal.compact(keep):
            self._excess = self._records - ledger.live
            self._followed = stamp_of(self.journal.path)
        else:
            self._forget()

    def _finish(self, ledger: Ledger) -> None:
        """Complete interrupted moves; report those that cannot be completed now."""
        for entry in ledger.under_way:
            try:
                record = recovery.finish(self.folder, self.file_of(entry.id), entry)
            except OSError as error:
                self.warn(
                    f"a move of {entry.path} was interrupted and cannot be completed now: "
                    f"{error.strerror or error}; the picture is there or at "
                    f"{self.file_of(entry.id)}"
                )
            else:
                self.write(record)
        if self.unclean:
            self._finish_deleting(ledger)
            self.unclean = False

    def _finish_deleting(self, ledger: Ledger) -> None:
        """Complete deletions that a crash interrupted. Raises OSError, `JournalError`."""
        for name in self.names():
            if not name.endswith(recovery.GONE):
                continue
            number = name.removesuffix(recovery.GONE)
            entry = ledger.entries.get(number)
            is_held = entry is not None and ledger.holds(entry)
            if is_held and not recovery.exists(self.file_of(number)):
                self.write({**step(number, Deed.DELETE, Step.DONE), "at": time.time()})
            with contextlib.suppress(OSError):  # `verify` reports what stays
                os.unlink(self.file_of(name))

    def _tell_of_damage(self, ledger: Ledger) -> None:
        if ledger.damaged != self._warned:
            self._warned = ledger.damaged
            lines = ", ".join(map(str, ledger.damaged))
            self.warn(
                f"{self.journal.path} is damaged in line {lines}; "
                "`nsfwscan quarantine verify` says whether a picture is affected"
            )

    def settle(self, number: str, error: OSError) -> tuple[Moved, list[dict[str, Json]]]:
        """Find out how far a failed deed got, and complete or undo it.

        Returns the picture's outcome and the records to write. There are none if the disk does not
        even let that be determined, which is then left to the next quarantine command.
        """
        entry = self._ledger.entries[number]
        why = error.strerror or str(error)
        try:
            record = recovery.finish(self.folder, self.file_of(entry.id), entry, at_once=True)
        except OSError as second:
            where = entry.restored_to if entry.under_way is Deed.RESTORE else entry.path
            detail = f"{why}, then {second.strerror or second}: it is {where} or "
            return Moved(Outcome.FAILED, None, f"{detail}{self.file_of(number)}"), []
        if record["step"] == Step.DONE:
            target = self.file_of(number)
            if entry.under_way is Deed.RESTORE:
                target = entry.restored_to
            return Moved(Outcome.DONE, target, f"despite an error: {why}"), [record]
        return Moved(Outcome.FAILED, None, why), [record]

    def sync(self) -> None:
        """Wait until the renames are on the disk, if it can tell.

        One folder is enough: journaling file systems keep a rename in one transaction for both
        folders. Syncing the other folders took a hundred times as long where each picture had a
        folder of its own.
        """
        # The renames are done, even if the disk cannot sync a folder now.
        with contextlib.suppress(OSError):
            sync_folder(self.files)


def stamp_of(path: str) -> tuple[int, int, int] | None:
    """Return values that change when a file changes; None if it does not exist. Raises OSError."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def unusable(folder: str, error: OSError) -> ActionError:
    """Return the error for a quarantine that cannot be used."""
    return ActionError(
        f"the quarantine {folder} cannot be used: {error.strerror or error}",
        hint="choose a folder that you can write to with --quarantine",
    )


def open_vault(folder: str, warn: Callable[[str], None], *, create: bool) -> Vault | None:
    """Return the quarantine in `folder`, or None if there is none that can be used.

    `look_at` says why. Raises OSError if it cannot be created.
    """
    path = os.path.join(folder, QUARANTINE_NAME)
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            sync_folder(folder)
    if look_at(path) is not None:
        return None
    try:
        if sys.platform != "win32" and _mode(path) != 0o700:
            with contextlib.suppress(OSError):
                os.chmod(path, 0o700)
            if create and _mode(path) & 0o077:
                warn(f"{path} is on a file system without permissions: other users may see into it")
    except OSError:  # it has just vanished
        return None
    return Vault(path, warn)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def look_at(path: str) -> str | None:
    """Return None for a quarantine of ours, "" if nothing is there, else why it is unusable.

    This function alone decides what an error means: a disk may be unplugged, or the program behind
    a FUSE mount dead.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder"
    if sys.platform != "win32" and found.st_uid != os.geteuid():
        return FOREIGN
    return None

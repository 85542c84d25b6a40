"""Moving pictures into a quarantine.

The picture is opened and hashed (`VerifiedFile`), the intent is written and synced, the picture is
renamed, and what was renamed is compared with what is open. If another file took its place between
the last check and the rename, that file is put back. Where a rename is impossible, the picture is
copied, synced and read back; the original is then moved aside, checked, and only then removed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions import moves
from nsfwscan.actions.moves import Facts
from nsfwscan.actions.quarantine import folder_times, recovery
from nsfwscan.actions.quarantine.entries import Deed, Ledger, Reason, Step, intent, step
from nsfwscan.actions.quarantine.last_word import Word, time_after, why_it_stays
from nsfwscan.actions.quarantine.places import Places
from nsfwscan.actions.quarantine.vault import Moved, Vault
from nsfwscan.actions.verified_file import Refused, VerifiedFile
from nsfwscan.system.writing import sync_folder
from nsfwscan.values.actions import Outcome
from nsfwscan.values.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.system.json_lines import Json

BATCH = 64
"""Pictures that share their fsyncs: two for the journal, one or two for the folders."""


class Arrival(NamedTuple):
    """A picture to quarantine."""

    picture: VerifiedFile
    reason: Reason
    again: bool = False
    """Move it despite earlier decisions."""
    words: tuple[Word, ...] = ()
    """Decisions about its content elsewhere: see `last_word`."""


def take_in(vault: Vault, wanted: Sequence[Arrival]) -> list[Moved]:
    """Move pictures in, and return the outcome of each, in their order.

    Raises `ActionError`, `JournalError`: then nothing was moved, or the next process to open the
    quarantine recovers from the intents.
    """
    with vault.locked() as ledger:
        places = Places(vault.folder)
        intents: list[dict[str, Json]] = []
        numbers: list[str] = []
        ends: list[Moved | None] = []
        for one in wanted:
            number = uuid.uuid4().hex
            numbers.append(number)
            end = _hindrance(one, ledger)
            if end is None:
                try:
                    intents.append(_intent(number, one.picture, one.reason, places))
                except OSError as error:
                    end = _failed(error)
            ends.append(end)
        if intents:
            vault.write(*intents)
        folders = folder_times.look(os.path.dirname(one.picture.path) for one in wanted)
        moved: list[Moved] = []
        records: list[dict[str, Json]] = []
        for number, one, end in zip(numbers, wanted, ends, strict=True):
            if end is None:
                end, record = _try_to_move(vault, number, one.picture)
                if end.outcome is Outcome.DONE:
                    own = ledger.words.get(one.picture.sha256.hex())
                    record[-1]["at"] = time_after(time.time(), (*one.words, own))
                records += record
            moved.append(end)
        vault.sync()
        try:
            vault.write(*folder_times.records(folders), *records)
        except JournalError as error:
            # The pictures are in and their intents are on the disk: nothing is lost.
            vault.warn(f"{error}; the next quarantine command completes it")
        for at, (number, one) in enumerate(zip(numbers, wanted, strict=True)):
            if moved[at].outcome is Outcome.DONE and one.picture.status.st_nlink > 1:
                details = (moved[at].detail, _links(vault, ledger, number, one))
                moved[at] = moved[at]._replace(detail="; ".join(filter(None, details)))
        return moved


def _links(vault: Vault, ledger: Ledger, number: str, one: Arrival) -> str:
    """Return a remark about hard links outside the quarantine to a picture that was moved in."""
    picture = one.picture
    try:
        if picture.file < 0:  # Windows, where it had to be closed
            outside = os.lstat(vault.file_of(number)).st_nlink
        else:
            outside = os.fstat(picture.file).st_nlink
        for held in ledger.held:
            if held.inode == picture.status.st_ino:  # a copy has an inode of its own
                outside -= os.lstat(vault.file_of(held.id)).st_ino == held.inode
    except OSError:
        return ""
    if outside <= 0:
        return ""
    return "1 other hard link remains" if outside == 1 else f"{outside:,} other hard links remain"


def _intent(number: str, picture: VerifiedFile, reason: Reason, places: Places) -> dict[str, Json]:
    """Return the record of the intent. Raises OSError if the move is certain to be refused."""
    folder = os.path.dirname(picture.path)
    if not os.access(folder, os.W_OK | os.X_OK):  # otherwise each scan would add to the journal
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), folder)
    return intent(
        number, picture.path, picture.sha256, picture.status, Facts.of(picture.file),
        stat.S_IMODE(os.stat(folder).st_mode), reason, time.time(), places.record(folder),
    )  # fmt: skip


def _try_to_move(
    vault: Vault, number: str, picture: VerifiedFile
) -> tuple[Moved, list[dict[str, Json]]]:
    """Move one picture; return the outcome, and the records that complete the intent."""
    try:
        missing = _move(vault, number, picture)
    except Refused as reason:
        moved = Moved(Outcome.LEFT, None, str(reason))
        return moved, [{**step(number, Deed.QUARANTINE, Step.NOT_DONE), "why": moved.detail}]
    except OSError as error:
        return vault.settle(number, error)
    detail = f"not preserved: {', '.join(missing)}" if missing else ""
    # Repeats the path and digest of the intent, so that no single damaged line loses them.
    record: dict[str, Json] = {
        **step(number, Deed.QUARANTINE, Step.DONE),
        "path": picture.path,
        "sha256": picture.sha256.hex(),
    }
    return Moved(Outcome.DONE, vault.file_of(number), detail), [record]


def _move(vault: Vault, number: str, picture: VerifiedFile) -> tuple[str, ...]:
    held = vault.file_of(number)
    picture.check()
    picture.let_go()
    try:
        moves.rename(picture.path, held, private=True)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copy(vault, number, picture)
    # Only between check and rename can another file be caught. It is put back, under another name
    # if its own has been taken.
    if not picture.is_at(held):
        recovery.put_back(held, picture.path)
        raise Refused("another file had just replaced it; that file was left in place")
    if not picture.is_whole(os.lstat(held)):
        recovery.put_back(held, picture.path)
        raise Refused("it is being written to")
    return ()


def _copy(vault: Vault, number: str, picture: VerifiedFile) -> tuple[str, ...]:
    held, part = vault.file_of(number), vault.file_of(number) + recovery.PART
    picture.take_up()
    missing = moves.copy(picture.file, part, Facts.of(picture.file), picture.sha256)
    moves.rename(part, held, private=True)
    aside = recovery.aside(picture.path, number)
    try:
        sync_folder(vault.files)
        picture.check()
        picture.let_go()
        moves.rename(picture.path, aside)
    except BaseException:
        os.unlink(held)
        raise
    if picture.is_unchanged_at(aside):
        os.unlink(aside)
        return missing
    recovery.put_back(aside, picture.path)
    os.unlink(held)
    raise Refused("it was replaced or written to while it was copied; it was left in place")


def _hindrance(one: Arrival, ledger: Ledger) -> Moved | None:
    """Return why a picture stays, by the latest decision about its content; None to move it."""
    if one.again:
        return None
    own = ledger.words.get(one.picture.sha256.hex())
    why = why_it_stays(one.words if own is None else (*one.words, own))
    return Moved(Outcome.LEFT, None, why) if why else None


def _failed(error: OSError) -> Moved:
    return Moved(Outcome.FAILED, None, error.strerror or str(error))

"""What a quarantine's journal says, record by record, and what it comes to: one entry a picture.

Each deed has two records: `intend`, on the disk before anything is touched, and `done` or
`not-done` after it. A deed with only the first was cut short; `recovery` finds out how far it got.
Paths are kept as Python's file names, so that every byte of them comes back.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nsfwscan.actions.folder_times import Trails, follow
from nsfwscan.actions.moves import Facts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from nsfwscan.journal import Json


class Deed(StrEnum):
    """What is done to an entry."""

    QUARANTINE = "quarantine"
    RESTORE = "restore"
    DELETE = "delete"


class Step(StrEnum):
    """How far a deed is."""

    INTEND = "intend"
    DONE = "done"
    NOT_DONE = "not-done"


class State(StrEnum):
    """Where an entry's picture is."""

    NOT_HELD = "not-held"
    """It never came in."""
    HELD = "held"
    RESTORED = "restored"
    DELETED = "deleted"


_AFTER = {
    Deed.QUARANTINE: State.HELD,
    Deed.RESTORE: State.RESTORED,
    Deed.DELETE: State.DELETED,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture that is or was in a quarantine."""

    id: str
    path: str = ""
    """Where it came from, absolute; empty when the journal's line is damaged."""
    sha256: str = ""
    at: float = 0.0
    """When it was moved, seconds since the epoch."""
    size: int = 0
    inode: int = 0
    facts: Facts | None = None
    folder_mode: int = 0o755
    """Of the folder it came from."""
    decision: str = ""
    score: float | None = None
    model: str = ""
    by: str = ""
    """What moved it, `scan` or `watch`; empty in journals of earlier versions."""
    state: State = State.NOT_HELD
    under_way: Deed | None = None
    """A deed of which only the intent is known."""
    restored_to: str = ""
    restored_sha256: str = ""
    """Of what was given back, when that was damaged."""


@dataclass(slots=True)
class Ledger:
    """All entries of a quarantine, and which lines of its journal could not be read."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By id, oldest first."""
    damaged: tuple[int, ...] = ()
    folders: Trails = field(default_factory=dict)

    @property
    def held(self) -> list[Entry]:
        """What is in the quarantine now, oldest first."""
        return [one for one in self.entries.values() if one.state is State.HELD]

    @property
    def restored(self) -> set[str]:
        """SHA-256 of the pictures that somebody wanted back."""
        back = [one for one in self.entries.values() if one.state is State.RESTORED]
        return {one.sha256 for one in back} | {one.restored_sha256 or one.sha256 for one in back}

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Follow records that were appended to the journal."""
        for record in records:
            follow(self.folders, record)
            number = record.get("id")
            if isinstance(number, str):
                entry = self.entries.get(number, Entry(number))
                self.entries[number] = _after(entry, record)


def _after(entry: Entry, record: Mapping[str, Any]) -> Entry:
    try:
        deed, step = Deed(record["deed"]), Step(record["step"])
    except (KeyError, ValueError):  # a later version's
        return entry
    if step is Step.NOT_DONE:
        return replace(entry, under_way=None)
    if step is Step.DONE:
        entry = replace(entry, state=_AFTER[deed], under_way=None)
        if deed is Deed.RESTORE:
            return replace(
                entry,
                restored_to=record.get("to", ""),
                restored_sha256=record.get("sha256", ""),
            )
        if deed is Deed.QUARANTINE and not entry.path:  # the intent's line is damaged
            return replace(entry, path=record.get("path", ""), sha256=record.get("sha256", ""))
        return entry
    entry = replace(entry, under_way=deed)
    if deed is Deed.RESTORE:
        return replace(entry, restored_to=record.get("to", ""))
    if deed is Deed.DELETE:
        return entry
    xattrs = {name: base64.b64decode(value) for name, value in record.get("xattrs", {}).items()}
    return replace(
        entry,
        path=record["path"],
        sha256=record["sha256"],
        at=record["at"],
        size=record["size"],
        inode=record["inode"],
        facts=Facts(
            record["mode"], record["atime_ns"], record["mtime_ns"],
            (record["uid"], record["gid"]), xattrs,
        ),
        folder_mode=record["folder_mode"],
        decision=record["decision"],
        score=record["score"],
        model=record["model"],
        by=record.get("by", ""),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a picture is moved, for the journal."""

    decision: str
    score: float
    model: str
    by: str = ""


def intent(
    number: str, path: str, sha256: bytes, found: os.stat_result, facts: Facts,
    folder_mode: int, reason: Reason, at: float,
) -> dict[str, Json]:  # fmt: skip
    """Return the record that a picture is about to be moved into the quarantine."""
    return {
        **step(number, Deed.QUARANTINE, Step.INTEND),
        "at": at,
        "path": path,
        "sha256": sha256.hex(),
        "size": found.st_size,
        "inode": found.st_ino,
        "links": found.st_nlink,
        "mode": facts.mode,
        "atime_ns": facts.atime_ns,
        "mtime_ns": facts.mtime_ns,
        "uid": facts.owner[0],
        "gid": facts.owner[1],
        "xattrs": {name: base64.b64encode(value).decode() for name, value in facts.xattrs.items()},
        "folder_mode": folder_mode,
        "decision": reason.decision,
        "score": reason.score,
        "model": reason.model,
        "by": reason.by,
    }


def step(number: str, deed: Deed, how_far: Step) -> dict[str, Json]:
    """Return what every record has."""
    return {"step": how_far.value, "deed": deed.value, "id": number}

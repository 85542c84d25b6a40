"""A quarantine's journal, record by record, and the entries that follow from it, one per picture.

Each deed (quarantine, restore or delete) has two records: `intend`, on the disk before anything is
touched, and `done` or `not-done` after it. A deed with only the first was interrupted; `recovery`
finds out how far it got. Paths are kept as Python's file names, so every byte is preserved.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nsfwscan.actions.moves import Facts
from nsfwscan.actions.quarantine.folder_times import Trails, follow
from nsfwscan.actions.quarantine.last_word import Said, Word
from nsfwscan.actions.quarantine.volume import Volume, volume_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsfwscan.system.json_lines import Json


class Deed(StrEnum):
    """What is done with an entry."""

    QUARANTINE = "quarantine"
    RESTORE = "restore"
    DELETE = "delete"


class Step(StrEnum):
    """How far a deed has got."""

    INTEND = "intend"
    DONE = "done"
    NOT_DONE = "not-done"


class State(StrEnum):
    """Where an entry's picture is."""

    NOT_HELD = "not-held"
    """It never arrived."""
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
    """The original path, absolute; empty if the journal's line is damaged."""
    sha256: str = ""
    at: float = 0.0
    """When it was moved, seconds since the epoch."""
    size: int = 0
    inode: int = 0
    facts: Facts | None = None
    folder_mode: int = 0o755
    """Mode of the original folder."""
    decision: str = ""
    score: float | None = None
    model: str = ""
    by: str = ""
    """What moved it: `scan` or `watch`; empty in journals of earlier versions."""
    base: str = ""
    """The folder with the quarantine, if the picture was below it and on the same volume."""
    volume: Volume | None = None
    """The volume it came from; None in journals of earlier versions."""
    state: State = State.NOT_HELD
    under_way: Deed | None = None
    """The deed of which only the intent is known."""
    restored_to: str = ""
    restored_sha256: str = ""
    """SHA-256 of what was restored, if that was damaged."""
    word_at: float = 0.0
    """The time of the decision that the current deed records."""


class Ledger:
    """All entries of a quarantine, the latest decision about each content, and damaged lines."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        """By id, oldest first."""
        self.damaged: tuple[int, ...] = ()
        """Numbers of the journal's unreadable lines."""
        self.folders: Trails = {}
        self.words: dict[str, Word] = {}
        """The latest decisions, by SHA-256 in hexadecimal digits."""
        self._held: dict[str, Entry] = {}
        self._under_way: dict[str, Entry] = {}
        self._in_folder: Counter[str] = Counter()
        self._last_words = 0
        """How many of `words` are about contents that are no longer in the quarantine."""

    @property
    def held(self) -> list[Entry]:
        """Return what is in the quarantine now, oldest first."""
        return list(self._held.values())

    @property
    def under_way(self) -> list[Entry]:
        """Return the entries with an interrupted deed."""
        return list(self._under_way.values())

    def holds(self, entry: Entry) -> bool:
        """Return True if an entry's picture is still in the quarantine."""
        now = self.entries.get(entry.id)
        return now is not None and now.state is State.HELD

    def holds_from(self, folder: str) -> bool:
        """Return True if the quarantine has a picture that came directly from `folder`."""
        return self._in_folder[folder] > 0

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Apply records that were appended to the journal."""
        for record in records:
            follow(self.folders, record)
            number = record.get("id")
            if isinstance(number, str):
                self._put(_after(self.entries.get(number, Entry(number)), record), record)
            elif _is_word(record):
                self._say(record["sha256"], Word(record["at"], Said(record["word"])))

    def _put(self, entry: Entry, record: Mapping[str, Any]) -> None:
        before = self._held.pop(entry.id, None) if entry.state is not State.HELD else None
        if before is not None:
            self._in_folder[os.path.dirname(before.path)] -= 1
        elif entry.state is State.HELD:
            if entry.id not in self._held:
                self._in_folder[os.path.dirname(entry.path)] += 1
            self._held[entry.id] = entry
        self.entries[entry.id] = entry
        self._under_way.pop(entry.id, None)
        if entry.under_way is not None:
            self._under_way[entry.id] = entry
        said = _SAID.get(entry.state)
        if said is not None and record.get("step") == Step.DONE and entry.sha256:
            # Journals of earlier versions have no time here; it was after the move.
            word = Word(record.get("at", entry.at), said)
            self._say(entry.sha256, word)
            if entry.state is State.RESTORED and entry.restored_sha256:
                self._say(entry.restored_sha256, word)

    def _say(self, sha256: str, word: Word) -> None:
        before = self.words.get(sha256)
        self._last_words -= before is not None and before.said is not Said.MOVED
        self._last_words += word.said is not Said.MOVED
        self.words[sha256] = word

    @property
    def live(self) -> int:
        """Return how many records a compacted journal needs."""
        cut_short = 3 * len(self._under_way)
        return 2 * len(self._held) + cut_short + self._last_words + len(self.folders)


_DEEDS, _WORDS = tuple(Deed), tuple(Said)
_SAID = {
    State.HELD: Said.MOVED,
    State.RESTORED: Said.RESTORED,
    State.DELETED: Said.DELETED,
}


def _is_word(record: Mapping[str, Any]) -> bool:
    return record.get("word") in _WORDS


_WATCHER = "watch"
"""Equals `limit.WATCHER`, which cannot be imported here: that module imports this one."""
_REMEMBERED_S = 48 * 3600.0
"""How long a watcher's moves are kept after the picture has left, for the daily limit."""


def compacted(
    records: Iterable[Mapping[str, Any]], ledger: Ledger, now: float
) -> list[Mapping[str, Json]]:
    """Return fewer records with the same meaning: held, interrupted, and latest decisions.

    All of `records` have been applied to `ledger`. Records that this version does not understand
    are kept.
    """
    kept: list[Mapping[str, Json]] = []
    for record in records:
        number = record.get("id")
        if not isinstance(number, str):
            if "folder" not in record and not _is_word(record):
                kept.append(record)
            continue
        entry = ledger.entries[number]
        if record.get("deed") not in _DEEDS or entry.under_way is not None:
            kept.append(record)
        elif entry.state is State.HELD:
            if record["deed"] == Deed.QUARANTINE:
                kept.append(record)
        elif entry.by == _WATCHER and now - entry.at < _REMEMBERED_S:
            kept.append(record)
    kept += [
        {"word": word.said.value, "sha256": sha256, "at": word.at}
        for sha256, word in ledger.words.items()
        if word.said is not Said.MOVED
    ]
    return kept + [
        {"folder": folder, "before_ns": trail.original_ns, "after_ns": trail.left_ns}
        for folder, trail in ledger.folders.items()
    ]


def _after(entry: Entry, record: Mapping[str, Any]) -> Entry:
    try:
        deed, step = Deed(record["deed"]), Step(record["step"])
    except (KeyError, ValueError):  # from a later version
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
        return replace(
            entry,
            restored_to=record.get("to", ""),
            restored_sha256=record.get("sha256", ""),
            word_at=record.get("at", 0.0),
        )
    if deed is Deed.DELETE:
        return entry
    base, volume = volume_fields(record)
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
        base=base,
        volume=volume,
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
    folder_mode: int, reason: Reason, at: float, volume: Mapping[str, Json],
) -> dict[str, Json]:  # fmt: skip
    """Return the record for a picture that is about to be moved into the quarantine."""
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
        **volume,
    }


def step(number: str, deed: Deed, how_far: Step) -> dict[str, Json]:
    """Return the fields that every record has."""
    return {"step": how_far.value, "deed": deed.value, "id": number}

"""`RulingBook`: the file in which people's decisions are kept for good.

A journal among the user's data: every decision is added at its end, and of several about one
content the last one holds. An entry is never dated before another about the same content, so that
the dates tell the same order, even after a clock was set back; taking over decisions from elsewhere
goes by them. What cannot be read is never passed over: a decision that was lost may
be one that denied a picture, and a scan without it would call that picture safe. So `load` raises
`RulingsError` for a file that is not whole, until a person has been shown what is damaged and says
to go on without it. That, too, is an entry of the journal. The file is only rewritten, whole, when
decisions are taken back, so that it does not go on saying where their pictures were, and when most
of it was overtaken.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from nsfwscan.judge.rule import LATEST_S, Entry, Forgotten, GivenUp, Ruled, from_record, to_record
from nsfwscan.judge.rulings import NO_RULINGS, Rulings
from nsfwscan.system import locations
from nsfwscan.system.journal import Journal
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import JournalError, RulingsError
from nsfwscan.values.file_key import FileKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsfwscan.system.journal import JournalContents
    from nsfwscan.system.json_lines import Json


_SLACK = 1000
"""Entries in the file beyond twice those that hold, before it is written anew."""


class DamagedLine(NamedTuple):
    """A line of the file that is not what was written."""

    number: int
    """The first is 1."""
    data: bytes

    @property
    def sha256(self) -> str:
        """What it is known by: its number would change if the end of another line were damaged."""
        return hashlib.sha256(self.data).hexdigest()


class BookContents(NamedTuple):
    """What is in the file."""

    entries: list[Entry]
    damaged: list[DamagedLine]
    """Those that nobody gave up yet."""
    given_up: int
    """How many more there are."""
    missing: bool = False
    """Whether there is no file, which is not the same as one without entries."""


class RulingBook:
    """The decisions in one file. Several processes may use it at once.

    Every method raises `RulingsError` when the file cannot be read or written.
    """

    def __init__(self, path: str) -> None:
        """`path` need not exist: then nobody decided anything yet. It may be a link of the user's.

        What a link leads to must exist: it may be on a disk that is not plugged in.
        """
        self.path = path
        self._read: Rulings | None = None
        self._stamp: FileKey | None = None

    def load(self) -> Rulings:
        """Return all decisions that hold. Raises `RulingsError` unless every one can be read."""
        return _holding(self._whole().entries)

    def _whole(self) -> BookContents:
        contents = self.read()
        if contents.damaged:
            numbers = ", ".join(str(line.number) for line in contents.damaged[:5])
            raise RulingsError(
                f"the file of people's decisions {self.path} is damaged in line {numbers}"
                + (" and others" if len(contents.damaged) > 5 else ""),
                hint="what is lost may have denied a picture, so nothing goes on without you: "
                "`nsfwscan rulings repair` shows what is damaged and asks",
            )
        return contents

    def current(self, warn: Callable[[str], None]) -> Rulings:
        """Return all decisions that hold now, reading the file again when it looks another one.

        For what goes on for weeks. The first call raises as `load` does; later ones do not: when
        the file cannot be read any more, or is gone, what it held goes on to hold, and `warn` is
        told so once for each change of the file.
        """
        try:
            stamp = FileKey.of(os.stat(self.path))
        except FileNotFoundError:
            stamp = None
        except OSError:
            stamp = FileKey(-1, 0, 0, 0)  # `load` will say what is wrong
        held = self._read
        if held is None or stamp != self._stamp:
            try:
                contents = self._whole()
                # This program never deletes or empties the file, but a sync tool may take it away
                # for a moment, or its disk may be unmounted.
                if held and (contents.missing or self._is_empty()):
                    warn(
                        f"the file of people's decisions {self.path} is gone; what people decided "
                        "before goes on to hold until the next start"
                    )
                else:
                    held = self._read = _holding(contents.entries)
            except RulingsError as error:
                if held is None:
                    raise
                warn(f"{error} ({error.hint}); what people decided before goes on to hold")
            self._stamp = stamp
        return held

    def _is_empty(self) -> bool:
        try:
            return os.stat(self.path).st_size == 0
        except OSError:
            return True

    def read(self) -> BookContents:
        """Return what can be read, and the lines that cannot."""
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return BookContents([], [], 0, missing=True)
        except OSError as error:  # not "nothing was decided"
            raise _refused(
                JournalError(f"{self.path} cannot be looked at: {error.strerror or error}")
            ) from error
        try:
            found = self._journal().read()
        except JournalError as error:
            raise _refused(error) from error
        entries = []
        for record in found.records:
            try:
                entries.append(from_record(record))
            except ValueError as error:
                # The journal's checksum is right, so this is what was written.
                raise RulingsError(
                    f"the file of people's decisions {self.path} holds one that this version "
                    f"does not understand: {error}",
                    hint="update nsfwscan: a later version wrote it",
                ) from error
        damaged = self._lines(found.damaged)
        given_up = {one for entry in entries if isinstance(entry, GivenUp) for one in entry.lines}
        left = [line for line in damaged if line.sha256 not in given_up]
        return BookContents(entries, left, len(damaged) - len(left))

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep entries, all or none; when this returns, they outlive a power cut."""
        records = [to_record(entry) for entry in entries]
        if not records:
            return
        counts = [0, 0]

        def in_order(contents: JournalContents) -> list[dict[str, Json]]:
            ordered = _in_order(records, _latest(contents.records))
            every = [*contents.records, *ordered]
            counts[:] = len(every), len(_last_words(every))
            return ordered

        self._extend(in_order)
        every, live = counts
        if every > 2 * live + _SLACK:  # a program that decides the same every night
            self._compact()

    def take_over(self, decisions: Iterable[Ruled]) -> list[Ruled]:
        """Keep those decisions from elsewhere that are later than any word about their content.

        Also taking a decision back is a word about it. Returns those that were kept.
        """
        new: dict[bytes, Ruled] = {}

        def choose(contents: JournalContents) -> list[dict[str, Json]]:
            latest = _latest(contents.records)
            new.clear()
            for one in decisions:
                content = one.sha256.hex()
                if one.at > latest.get(content, -1):
                    new[one.sha256] = one
                    latest[content] = one.at
            return list(map(to_record, new.values()))

        self._extend(choose)
        return list(new.values())

    def _journal(self) -> Journal:
        """Return the journal, behind the link if there is one. Raises `JournalError`."""
        if not os.path.islink(self.path):
            return Journal(self.path)
        target = os.path.realpath(self.path)
        try:
            os.stat(target)
            owner = os.lstat(self.path).st_uid
        except OSError as error:
            raise JournalError(
                f"{self.path} is a link to {target}, which cannot be reached: "
                f"{error.strerror or error}"
            ) from error
        # Root reads what it may read anyway; `Journal` asks whose the file is.
        if sys.platform != "win32" and os.geteuid() and owner not in {os.geteuid(), 0}:
            raise JournalError(f"{self.path} is a link that another user made")
        return Journal(target)

    def _extend(self, make: Callable[[JournalContents], list[dict[str, Json]]]) -> None:
        try:
            journal = self._journal()
            locations.make_private(os.path.dirname(journal.path))
            journal.extend(make)
        except OSError as error:
            raise RulingsError(
                f"nothing was decided: {self.path} cannot be written: {error.strerror or error}",
                hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
            ) from error
        except JournalError as error:
            raise RulingsError(f"nothing was decided: {error}", hint=error.hint) from error

    def forget(self, contents: Iterable[bytes]) -> None:
        """Take back the decisions about these contents, given by their SHA-256.

        Where the pictures were is forgotten, too: the file is written anew with the last entry
        about each content, unless it is damaged.
        """
        now = int(time.time())
        self.add([Forgotten(sha256, now) for sha256 in contents])
        self._compact()

    def _compact(self) -> None:
        with contextlib.suppress(JournalError):
            self._journal().compact(_last_words)

    def give_up(self, lines: Iterable[DamagedLine]) -> None:
        """Go on without these lines. They stay in the file."""
        self.add([GivenUp(tuple(line.sha256 for line in lines), int(time.time()))])

    def _lines(self, numbers: tuple[int, ...]) -> list[DamagedLine]:
        if not numbers:
            return []
        try:
            with open_bytes(self.path) as file:
                lines = file.read().split(b"\n")
        except OSError as error:
            raise _refused(
                JournalError(f"{self.path} cannot be read: {error.strerror or error}")
            ) from error
        # Damaged lines do not change, and others are only added behind them.
        return [DamagedLine(number, lines[number - 1]) for number in numbers]


def _holding(entries: Iterable[Entry]) -> Rulings:
    """Return what holds after all of these, in the order in which they were made."""
    ruled: dict[bytes, Ruled] = {}
    for entry in entries:
        if isinstance(entry, GivenUp):
            continue
        ruled.pop(entry.sha256, None)  # the last one made comes last
        if isinstance(entry, Ruled):
            ruled[entry.sha256] = entry
    return Rulings(ruled.values()) if ruled else NO_RULINGS


def _latest(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return when the latest word about each content was said, whatever it was."""
    latest: dict[str, int] = {}
    for one in records:
        content, at = one.get("sha256"), one.get("at")
        if isinstance(content, str) and isinstance(at, int) and at <= LATEST_S:
            latest[content] = max(at, latest.get(content, at))
    return latest


def _in_order(records: list[dict[str, Json]], latest: dict[str, int]) -> list[dict[str, Json]]:
    """Return records that are made now, none of them dated before what they follow."""
    raised = []
    for one in records:
        content, at = str(one.get("sha256")), int(str(one["at"]))
        at = max(at, latest.get(content, at))
        if at <= LATEST_S:
            latest[content] = at
        raised.append({**one, "at": at})
    return raised


def _last_words(records: list[dict[str, Any]]) -> list[dict[str, Json]]:
    """Return the records without those about a content of which a later one speaks."""
    last = {one["sha256"]: at for at, one in enumerate(records) if "sha256" in one}
    return [one for at, one in enumerate(records) if last.get(one.get("sha256"), at) == at]


def _refused(error: JournalError) -> RulingsError:
    return RulingsError(
        f"people's decisions cannot be read: {error}",
        hint="a denied picture could pass as safe, so nothing goes on without them; "
        "make the file readable, or put it back from a backup",
    )

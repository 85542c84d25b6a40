"""`RulingBook`: the file that keeps people's rulings for good.

It is a journal among the user's data. Every ruling is appended, and the last one about a content
holds. No entry is dated before an earlier entry about the same content, so the dates give the same
order even if the clock was set back; importing rulings relies on that.

Damage is never passed over: a lost ruling may have denied a picture, which a scan without it would
call safe. So `load` raises `RulingsError` for a damaged file, until a person has seen what is
damaged and chooses to go on without it. That choice is an entry in the journal, too.

The file is rewritten as a whole only when rulings are taken back, so that it no longer says where
their pictures were, and when most of its entries are out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from nsfwscan.judge.ruled import LATEST_S, Entry, Forgotten, GivenUp, Ruled, from_record, to_record
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
"""How many entries beyond twice those in force the file may have before it is rewritten."""


class DamagedLine(NamedTuple):
    """A line of the file that differs from what was written."""

    number: int
    """Counted from 1."""
    data: bytes

    @property
    def sha256(self) -> str:
        """Identifies the line: its number would change if the end of another line were damaged."""
        return hashlib.sha256(self.data).hexdigest()


class BookContents(NamedTuple):
    """What the file contains."""

    entries: list[Entry]
    damaged: list[DamagedLine]
    """Damaged lines that have not been given up yet."""
    given_up: int
    """How many more damaged lines have been given up."""
    missing: bool = False
    """Whether there is no file, which differs from a file without entries."""


class RulingBook:
    """The rulings in one file. Several processes may use it at once.

    Every method raises `RulingsError` if the file cannot be read or written.
    """

    def __init__(self, path: str) -> None:
        """`path` need not exist: then there are no rulings yet. It may be a link made by the user.

        The target of a link must exist: it may be on a disk that is not plugged in.
        """
        self.path = path
        self._file: Journal | None = None
        self._read: Rulings | None = None
        self._stamp: FileKey | None = None

    def load(self) -> Rulings:
        """Return the rulings in force. Raises `RulingsError` unless every entry can be read."""
        return _holding(self._whole().entries)

    def _whole(self) -> BookContents:
        contents = self.read()
        if contents.damaged:
            numbers = ", ".join(str(line.number) for line in contents.damaged[:5])
            raise RulingsError(
                f"the rulings file {self.path} is damaged in line {numbers}"
                + (" and others" if len(contents.damaged) > 5 else ""),
                hint="a lost ruling may have denied a picture, so nsfwscan stops here; "
                "`nsfwscan rulings repair` shows the damage and asks what to do",
            )
        return contents

    def current(self, warn: Callable[[str], None]) -> Rulings:
        """Return the rulings now in force, reading the file again if it has changed.

        For processes that run for weeks. The first call raises as `load` does. Later calls do not:
        if the file can no longer be read, or is gone, the rulings read before stay in force, and
        `warn` is called once for each change of the file.
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
                        f"the rulings file {self.path} is gone; its rulings stay in force until "
                        "the next start"
                    )
                else:
                    held = self._read = _holding(contents.entries)
            except RulingsError as error:
                if held is None:
                    raise
                warn(
                    f"{error}; the rulings read before stay in force until the next start "
                    "(`nsfwscan rulings repair` shows the damage)"
                )
            self._stamp = stamp
        return held

    def _is_empty(self) -> bool:
        try:
            return os.stat(self.path).st_size == 0
        except OSError:
            return True

    def read(self) -> BookContents:
        """Return the entries that can be read, and the lines that cannot."""
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return BookContents([], [], 0, missing=True)
        except OSError as error:  # must not count as "no rulings"
            raise _refused(
                JournalError(f"{self.path} cannot be read: {error.strerror or error}")
            ) from error
        found = self._records()
        entries = [self._entry(record) for record in found.records]
        damaged = self._lines(found.damaged)
        given_up = {line for entry in entries if isinstance(entry, GivenUp) for line in entry.lines}
        left = [line for line in damaged if line.sha256 not in given_up]
        return BookContents(entries, left, len(damaged) - len(left))

    def about(self, contents: Iterable[bytes]) -> Rulings:
        """Return the rulings in force about these contents, given by their SHA-256.

        The same as `load` has about them, but much cheaper for a few, again and again.
        """
        if not os.path.lexists(self.path):
            return NO_RULINGS
        found = self._records()
        if found.damaged:
            return self.load()
        wanted = {sha256.hex() for sha256 in contents}
        last = {one["sha256"]: one for one in found.records if one.get("sha256") in wanted}
        return _holding(map(self._entry, last.values()))

    def _records(self) -> JournalContents:
        try:
            return self._journal().read()
        except JournalError as error:
            raise _refused(error) from error

    def _entry(self, record: dict[str, Any]) -> Entry:
        try:
            return from_record(record)
        except ValueError as error:
            # The journal's checksum matches, so this is what was written.
            raise RulingsError(
                f"the rulings file {self.path} has an entry that this version does not "
                f"understand: {error}",
                hint="update nsfwscan: a later version wrote the entry",
            ) from error

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries, all or none; when this returns, they survive a power cut."""
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
        if every > 2 * live + _SLACK:  # a program that repeats its rulings every night, say
            self._compact()

    def take_over(self, decisions: Iterable[Ruled]) -> list[Ruled]:
        """Import the rulings that are later than any entry here about their content.

        Taking a ruling back is also an entry. Returns the rulings that were imported.
        """
        new: dict[bytes, Ruled] = {}

        def choose(contents: JournalContents) -> list[dict[str, Json]]:
            latest = _latest(contents.records)
            new.clear()
            for ruled in decisions:
                content = ruled.sha256.hex()
                if ruled.at > latest.get(content, -1):
                    new[ruled.sha256] = ruled
                    latest[content] = ruled.at
            return list(map(to_record, new.values()))

        self._extend(choose)
        return list(new.values())

    def _journal(self) -> Journal:
        """Return the journal, following a link if there is one. Raises `JournalError`."""
        if not os.path.islink(self.path):
            return self._journal_at(self.path)
        target = os.path.realpath(self.path)
        try:
            os.stat(target)
            owner = os.lstat(self.path).st_uid
        except OSError as error:
            raise JournalError(
                f"{self.path} is a link to {target}, which cannot be reached: "
                f"{error.strerror or error}"
            ) from error
        # Root may read any file, so for root only `Journal` checks the file's owner.
        if sys.platform != "win32" and os.geteuid() and owner not in {os.geteuid(), 0}:
            raise JournalError(f"{self.path} is a link that another user made")
        return self._journal_at(target)

    def _journal_at(self, path: str) -> Journal:
        if self._file is None or self._file.path != path:
            self._file = Journal(path, remember=True)
        return self._file

    def _extend(self, make: Callable[[JournalContents], list[dict[str, Json]]]) -> None:
        try:
            journal = self._journal()
            locations.make_private(os.path.dirname(journal.path))
            journal.extend(make)
        except OSError as error:
            raise RulingsError(
                f"the rulings were not changed: {self.path} cannot be written: "
                f"{error.strerror or error}",
                hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
            ) from error
        except JournalError as error:
            raise RulingsError(f"the rulings were not changed: {error}", hint=error.hint) from error

    def forget(self, contents: Iterable[bytes]) -> None:
        """Take back the rulings about these contents, given by their SHA-256.

        This also removes the paths of the pictures: the file is rewritten with only the last entry
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
        # Damaged lines do not change, and new lines are only added after them.
        return [DamagedLine(number, lines[number - 1]) for number in numbers]


def _holding(entries: Iterable[Entry]) -> Rulings:
    """Return the rulings in force after these entries, in the order in which they were made."""
    ruled: dict[bytes, Ruled] = {}
    for entry in entries:
        if isinstance(entry, GivenUp):
            continue
        ruled.pop(entry.sha256, None)  # keeps the latest ruling last
        if isinstance(entry, Ruled):
            ruled[entry.sha256] = entry
    return Rulings(ruled.values()) if ruled else NO_RULINGS


def _latest(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return the date of the latest entry about each content, whatever it says."""
    latest: dict[str, int] = {}
    for record in records:
        content, at = record.get("sha256"), record.get("at")
        if isinstance(content, str) and isinstance(at, int) and at <= LATEST_S:
            latest[content] = max(at, latest.get(content, at))
    return latest


def _in_order(records: list[dict[str, Json]], latest: dict[str, int]) -> list[dict[str, Json]]:
    """Return new records, with none dated before an earlier record about the same content."""
    raised = []
    for record in records:
        content, at = str(record.get("sha256")), int(str(record["at"]))
        at = max(at, latest.get(content, at))
        if at <= LATEST_S:
            latest[content] = at
        raised.append({**record, "at": at})
    return raised


def _last_words(records: list[dict[str, Any]]) -> list[dict[str, Json]]:
    """Return the records without those that a later record about the same content replaces."""
    last = {record["sha256"]: at for at, record in enumerate(records) if "sha256" in record}
    return [record for at, record in enumerate(records) if last.get(record.get("sha256"), at) == at]


def _refused(error: JournalError) -> RulingsError:
    return RulingsError(
        f"the rulings cannot be read: {error}",
        hint="without them a denied picture could pass as safe, so nsfwscan stops here; "
        "make the file readable, or restore it from a backup",
    )

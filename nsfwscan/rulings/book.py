"""`RulingBook`: the file in which people's decisions are kept for good.

A journal among the user's data: every decision is added at its end, and of several about one
content the last one holds. What cannot be read is never passed over: a decision that was lost may
be one that denied a picture, and a scan without it would call that picture safe. So `load` raises
`RulingsError` for a file that is not whole, until a person has been shown what is damaged and says
to go on without it. That, too, is an entry of the journal. The file is only rewritten, whole, when
decisions are taken back, so that it does not go on saying where their pictures were.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from nsfwscan.errors import JournalError, RulingsError
from nsfwscan.journal import Journal
from nsfwscan.results import FileKey
from nsfwscan.rulings.rule import Entry, Forgotten, GivenUp, Ruled, from_record, to_record
from nsfwscan.rulings.rulings import NO_RULINGS, Rulings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsfwscan.journal import Json


class DamagedLine(NamedTuple):
    """A line of the file that is not what was written."""

    number: int
    """The first is 1."""
    data: bytes

    @property
    def sha256(self) -> str:
        """What it is known by: its number would change if the end of another line were damaged."""
        return hashlib.sha256(self.data).hexdigest()


class Contents(NamedTuple):
    """What is in the file."""

    entries: list[Entry]
    damaged: list[DamagedLine]
    """Those that nobody gave up yet."""
    given_up: int
    """How many more there are."""


class RulingBook:
    """The decisions in one file. Several processes may use it at once.

    Every method raises `RulingsError` when the file cannot be read or written.
    """

    def __init__(self, path: str) -> None:
        """`path` need not exist: then nobody decided anything yet."""
        self.path = path
        self._journal = Journal(path)
        self._read: Rulings | None = None
        self._stamp: FileKey | None = None

    def load(self) -> Rulings:
        """Return all decisions that hold. Raises `RulingsError` unless every one can be read."""
        contents = self.read()
        if contents.damaged:
            numbers = ", ".join(str(line.number) for line in contents.damaged[:5])
            raise RulingsError(
                f"the file of people's decisions {self.path} is damaged in line {numbers}"
                + (" and others" if len(contents.damaged) > 5 else ""),
                hint="what is lost may have denied a picture, so nothing goes on without you: "
                "`nsfwscan rulings repair` shows what is damaged and asks",
            )
        return _holding(contents.entries)

    def current(self, warn: Callable[[str], None]) -> Rulings:
        """Return all decisions that hold now, reading the file again when it looks another one.

        For what goes on for weeks. The first call raises as `load` does; later ones do not: when
        the file cannot be read any more, what it held goes on to hold, and `warn` is told so once
        for each change of the file.
        """
        try:
            stamp = FileKey.of(os.stat(self.path))
        except FileNotFoundError:
            stamp = None
        except OSError:
            stamp = FileKey(-1, 0, 0, 0)  # `load` will say what is wrong
        if self._read is None or stamp != self._stamp:
            try:
                self._read = self._still(self.load())
            except RulingsError as error:
                if self._read is None:
                    raise
                warn(f"{error} ({error.hint}); what people decided before goes on to hold")
            self._stamp = stamp
        return self._read

    def _still(self, now: Rulings) -> Rulings:
        """Return what was read now. Raises `RulingsError` if the whole file seems to be lost.

        It is never deleted or emptied by this program, but a sync tool may take it away for a
        moment, or its disk may be unmounted.
        """
        if self._read and not now and not self._holds_anything():
            raise RulingsError(
                f"the file of people's decisions {self.path} is gone",
                hint="put it back from a backup; without it, denied pictures may pass as safe",
            )
        return now

    def _holds_anything(self) -> bool:
        try:
            return os.stat(self.path).st_size > 0
        except OSError:
            return False

    def read(self) -> Contents:
        """Return what can be read, and the lines that cannot."""
        if not os.path.lexists(self.path):
            return Contents([], [], 0)
        try:
            found = self._journal.read()
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
        return Contents(entries, left, len(damaged) - len(left))

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep entries, all or none; when this returns, they outlive a power cut."""
        records = [to_record(entry) for entry in entries]
        if not records:
            return
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self._journal.append(*records)
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
        self._journal.compact(_last_words)

    def give_up(self, lines: Iterable[DamagedLine]) -> None:
        """Go on without these lines. They stay in the file."""
        self.add([GivenUp(tuple(line.sha256 for line in lines), int(time.time()))])

    def _lines(self, numbers: tuple[int, ...]) -> list[DamagedLine]:
        if not numbers:
            return []
        try:
            with open(self.path, "rb") as file:
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

"""`RulingBook`: the file in which people's decisions are kept for good.

A journal among the user's data: every decision is added at its end, and of several about one
content the last one holds. What cannot be read is never passed over: a decision that was lost may
be one that denied a picture, and a scan without it would call that picture safe. So everything but
`salvage` raises `RulingsError` for a file that is not whole.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.errors import NsfwscanError, RulingsError
from nsfwscan.journal import Journal, JournalError
from nsfwscan.rulings.rule import Entry, Forgotten, Ruled, from_record, to_record
from nsfwscan.rulings.rulings import NO_RULINGS, Rulings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Salvaged(NamedTuple):
    """What can be read of a file that is not whole."""

    entries: list[Entry]
    problems: list[str]
    """One sentence for each record that cannot be read."""


class RulingBook:
    """The decisions in one file. Several processes may use it at once."""

    def __init__(self, path: str) -> None:
        """`path` need not exist: then nobody decided anything yet."""
        self.path = path
        self._journal = Journal(path)

    def load(self) -> Rulings:
        """Return all decisions that hold. Raises `RulingsError` unless every one can be read."""
        if not os.path.lexists(self.path):
            return NO_RULINGS
        found = self.salvage()
        if found.problems:
            more = f" and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
            raise RulingsError(
                f"the file of people's decisions {self.path} is damaged: {found.problems[0]}{more}",
                hint="a denied picture could pass as safe, so nothing is scanned; "
                "`nsfwscan rulings repair` keeps what can be read and shows what cannot",
            )
        return holding(found.entries)

    def salvage(self) -> Salvaged:
        """Return what can be read, and what is wrong with the rest.

        Raises `RulingsError` when the file cannot be read at all.
        """
        try:
            contents = self._journal.read()
        except JournalError as error:
            raise _refused(error) from error
        problems = [f"line {number} is damaged" for number in contents.damaged]
        entries = []
        for record in contents.records:
            try:
                entries.append(from_record(record))
            except ValueError as error:
                problems.append(f"a decision cannot be understood ({error})")
        return Salvaged(entries, problems)

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep decisions; when this returns, they outlive a power cut. Raises `RulingsError`."""
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            for entry in entries:
                self._journal.append(to_record(entry))
        except OSError as error:
            raise RulingsError(
                f"the decisions cannot be kept in {self.path}: {error.strerror or error}",
                hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
            ) from error
        except JournalError as error:
            raise _refused(error) from error

    def forget(self, contents: Iterable[bytes]) -> None:
        """Take back the decisions about these contents. Raises `RulingsError`."""
        now = int(time.time())
        self.add([Forgotten(sha256, now) for sha256 in contents])


def holding(entries: Iterable[Entry]) -> Rulings:
    """Return what holds after all of these, in the order in which they were made."""
    ruled: dict[bytes, Ruled] = {}
    for entry in entries:
        ruled.pop(entry.sha256, None)  # the last one made comes last
        if isinstance(entry, Ruled):
            ruled[entry.sha256] = entry
    return Rulings(ruled.values())


def _refused(error: NsfwscanError) -> RulingsError:
    return RulingsError(f"people's decisions: {error}", hint=error.hint)

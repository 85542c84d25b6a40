"""Acts on pictures as values: which action, how it ended, where the picture went."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class ActionName(StrEnum):
    """What can be done about a picture."""

    QUARANTINE = "quarantine"
    COPY = "copy"
    TRASH = "trash"
    TAG = "tag"
    COMMAND = "command"
    NOTIFY = "notify"


class Outcome(StrEnum):
    """How an act ended."""

    DONE = "done"
    WOULD = "would"
    """A dry run: it would have been tried."""
    LEFT = "left"
    """Not done, on purpose: the file changed after it was scored, or the user wants it there."""
    HELD_BACK = "held-back"
    """Not tried: the run was over the limit, and the user did not confirm."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Act:
    """One action on one picture, or the reason it was not taken."""

    path: str
    """The picture, as the scan named it."""
    action: ActionName
    outcome: Outcome
    target: str | None = None
    """Where the picture, its copy or its sidecar is now."""
    detail: str = ""
    """One sentence for the user; may be empty."""


@dataclass(slots=True)
class ActTally:
    """Counts of the acts of one run."""

    numbers: Counter[tuple[ActionName, Outcome]] = field(default_factory=Counter)
    quarantines: Counter[str] = field(default_factory=Counter)
    """How many pictures went to which quarantine folder."""

    def count(self, act: Act) -> None:
        """Count one act."""
        self.numbers[act.action, act.outcome] += 1
        done = act.outcome is Outcome.DONE and act.action is ActionName.QUARANTINE
        if done and act.target is not None:  # QUARANTINE/files/ID
            self.quarantines[os.path.dirname(os.path.dirname(act.target))] += 1

    def of(self, outcome: Outcome) -> int:
        """Return how many acts ended with this outcome."""
        return sum(number for (_, ended), number in self.numbers.items() if ended is outcome)

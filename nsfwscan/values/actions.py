"""What was done about a picture, as values: all that whoever shows acts needs to know."""

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
    """Not done, on purpose: the file is no longer what was scored, or somebody wants it there."""
    HELD_BACK = "held-back"
    """Not tried: the whole run was over the limit, and nobody agreed."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Act:
    """One deed, or why there was none."""

    path: str
    """The picture, as the scan named it."""
    action: ActionName
    outcome: Outcome
    target: str | None = None
    """Where the picture, its copy or its sidecar is now."""
    detail: str = ""
    """One sentence for a person; may be empty."""


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
        """Return how many acts ended so."""
        return sum(number for (_, one), number in self.numbers.items() if one is outcome)

"""What a scan comes to, as a paragraph for a person and as a record for a program."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.acts import ActionName, ActTally, Outcome
from nsfwscan.report.text import count, duration

if TYPE_CHECKING:
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.policy import Policy
    from nsfwscan.report.record import Json
    from nsfwscan.scanner import ScanTally


_CALLED = {
    ActionName.QUARANTINE: "Quarantine",
    ActionName.COPY: "Copies",
    ActionName.TRASH: "Trash",
    ActionName.TAG: "Tags",
    ActionName.COMMAND: "Command",
    ActionName.NOTIFY: "Notification",
}
_ENDS = {
    Outcome.DONE: "done",
    Outcome.WOULD: "would be done (dry run)",
    Outcome.LEFT: "left as they are",
    Outcome.HELD_BACK: "held back",
    Outcome.FAILED: "failed",
}


_MOVES = {ActionName.QUARANTINE, ActionName.TRASH}


def _with_tilde(path: str) -> str:
    home = os.path.join(os.path.expanduser("~"), "")
    return f"~/{path[len(home) :]}" if len(home) > 1 and path.startswith(home) else path


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole of one scan."""

    tally: ScanTally
    manifest: ModelManifest
    policy: Policy
    seconds: float
    """Wall-clock time from the start of the command."""
    interrupted: bool
    acts: ActTally = field(default_factory=ActTally)

    @property
    def rate(self) -> float:
        """Pictures with a verdict, a second."""
        return self.tally.pictures / self.seconds if self.seconds > 0 else 0.0

    def paragraph(self) -> str:
        """Return the sentences that end a scan on a terminal."""
        tally = self.tally
        if not tally.pictures and not tally.failed:
            text = f"No pictures were found in {duration(self.seconds)}. "
        else:
            text = self._found()
        text += self._acts()
        left_out = self._left_out()
        if left_out:
            text += f"Left out: {left_out}. "
        text += f"Model: {self.manifest.package}."
        if self.manifest.notes:
            text += f" {self.manifest.notes}"
        if self.interrupted:
            text = f"Interrupted; what was scored is kept. {text}"
        return text

    def _found(self) -> str:
        tally = self.tally
        origins = f"{tally.scored:,} scored, {tally.cached:,} from cache"
        if tally.duplicates:
            origins += f", {count(tally.duplicates, 'duplicate')}"
        text = (
            f"{count(tally.pictures, 'picture')} ({origins}) in {duration(self.seconds)}, "
            f"{self.rate:,.0f} a second. "
            f"{tally.nsfw:,} flagged (score {self.policy.flag_at:g} or more), "
            f"{tally.review:,} to review ({self.policy.review_at:g} or more), "
            f"{tally.safe:,} below. "
        )
        if tally.allowed or tally.denied:
            ruled = tally.allowed + tally.denied
            text += (
                f"{ruled:,} of these by a person's decision: {tally.allowed:,} allowed, "
                f"{tally.denied:,} denied. "
            )
        if tally.failed:
            text += (
                f"{count(tally.failed, 'file')} could not be read and "
                f"{'has' if tally.failed == 1 else 'have'} no verdict. "
            )
        return text

    def _acts(self) -> str:
        parts = []
        for action in ActionName:
            ends = [
                self._end(action, outcome, number)
                for outcome in Outcome
                if (number := self.acts.numbers[action, outcome])
            ]
            if ends:
                parts.append(f"{_CALLED[action]}: {', '.join(ends)}. ")
        if self.acts.quarantines:
            parts.append("Undo: nsfwscan quarantine restore --all. ")
        return "".join(parts)

    def _end(self, action: ActionName, outcome: Outcome, number: int) -> str:
        if action in _MOVES and outcome is Outcome.WOULD:
            return f"{number:,} would be moved (dry run)"
        if action not in _MOVES or outcome is not Outcome.DONE:
            return f"{number:,} {_ENDS[outcome]}"
        if action is not ActionName.QUARANTINE or not self.acts.quarantines:
            return f"{number:,} moved"
        places = self.acts.quarantines.items()
        return ", ".join(f"{some:,} moved to {_with_tilde(path)}" for path, some in places)

    def record(self) -> dict[str, Json]:
        """Return the same as a record."""
        tally = self.tally
        acts: dict[str, Json] = {}
        for (action, outcome), number in sorted(self.acts.numbers.items()):
            ends = acts.setdefault(action.value, {})
            if isinstance(ends, dict):
                ends[outcome.value] = number
        return {
            "pictures": tally.pictures,
            "scored": tally.scored,
            "from_cache": tally.cached,
            "duplicates": tally.duplicates,
            "flagged": tally.nsfw,
            "review": tally.review,
            "safe": tally.safe,
            "allowed_by_a_person": tally.allowed,
            "denied_by_a_person": tally.denied,
            "failed": tally.failed,
            "skipped": tally.skipped,
            "other_files": tally.walk.other_names,
            "hidden": tally.walk.hidden,
            "excluded": tally.walk.excluded,
            "seconds": round(self.seconds, 3),
            "pictures_per_second": round(self.rate, 3),
            "interrupted": self.interrupted,
            "acts": acts,
            "thresholds": {"review_at": self.policy.review_at, "flag_at": self.policy.flag_at},
            "model": {"name": self.manifest.package, "fingerprint": self.manifest.fingerprint},
        }

    def _left_out(self) -> str:
        tally = self.tally
        parts = []
        if tally.skipped:
            parts.append(f"{tally.skipped:,} skipped")
        if tally.walk.hidden:
            parts.append(f"{tally.walk.hidden:,} hidden")
        if tally.walk.excluded:
            parts.append(f"{tally.walk.excluded:,} excluded")
        if tally.walk.other_names:
            parts.append(f"{count(tally.walk.other_names, 'file')} not named like a picture")
        return ", ".join(parts)

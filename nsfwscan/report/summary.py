"""The summary of a scan, as lines for people and as a record for programs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.values.actions import ActionName, ActTally, Outcome
from nsfwscan.values.kinds import NAMES
from nsfwscan.values.results import SkipReason
from nsfwscan.values.text import count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.judge.policy import Policy
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.system.json_lines import Json
    from nsfwscan.values.tally import ScanTally


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
    Outcome.LEFT: "left alone",
    Outcome.HELD_BACK: "held back",
    Outcome.FAILED: "failed",
}
_SKIPPED = {
    SkipReason.NOT_AN_IMAGE: ("file that is not a picture", "files that are not pictures"),
    SkipReason.NOT_REGULAR: ("pipe or device", "pipes or devices"),
    SkipReason.SYMLINK: ("symbolic link", "symbolic links"),
    SkipReason.TOO_BIG: ("file over the size limit", "files over the size limit"),
    SkipReason.OTHER_FILE_SYSTEM: (
        "folder on another file system",
        "folders on other file systems",
    ),
    SkipReason.QUARANTINED: ("quarantine", "quarantines"),
}
"""What to call a skipped file: singular and plural."""


_MOVES = {ActionName.QUARANTINE, ActionName.TRASH}


def _with_tilde(path: str) -> str:
    home = os.path.join(os.path.expanduser("~"), "")
    return f"~/{path[len(home) :]}" if len(home) > 1 and path.startswith(home) else path


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of one scan."""

    tally: ScanTally
    manifest: ModelManifest
    policy: Policy
    seconds: float
    """Wall-clock time from the start of the command."""
    interrupted: bool
    acts: ActTally = field(default_factory=ActTally)
    not_reached: int | None = None
    """How many files an interrupted scan did not reach; None if unknown."""
    flagged_path: str = ""
    """The path of the flagged picture if there is just one."""
    listed: bool = False
    """Whether any result was written."""

    @property
    def rate(self) -> float:
        """Return pictures with a verdict per second."""
        return self.tally.pictures / self.seconds if self.seconds > 0 else 0.0

    def lines(self) -> list[str]:
        """Return the lines that end a scan on a terminal, each about one thing."""
        lines = [self._interruption()] if self.interrupted else []
        lines += self.found()
        not_scanned = ", ".join(not_opened(self.tally))
        if not_scanned:
            lines.append(f"Not scanned: {not_scanned}.")
        lines += self._acts()
        if self.tally.pictures:
            lines += self._how()
        if self.manifest.notes:
            lines.append(self.manifest.notes)
        return lines

    def _interruption(self) -> str:
        if self.not_reached == 0:
            return "Interrupted after the last file was scanned."
        if self.not_reached is None:
            rest = "the rest was not reached"
        else:
            rest = f"{count(self.not_reached, 'file')} not reached"
        return f"Interrupted: {rest}. What was scored is kept."

    def found(self) -> Iterator[str]:
        """Yield how many pictures have which verdict, and what to know about these numbers."""
        tally = self.tally
        folders = tally.walk.unreadable_folders
        failed = tally.failed - folders
        if tally.pictures or failed:
            text = f"{tally.nsfw:,} flagged, {tally.review:,} to review, {tally.safe:,} safe"
            yield f"{text}, {failed:,} without a verdict." if failed else f"{text}."
        else:
            yield f"No pictures were found ({duration(self.seconds)})."
        if folders:
            yield f"{count(folders, 'folder')} could not be opened."
        if tally.allowed or tally.denied:
            ruled = tally.allowed + tally.denied
            yield (
                f"{ruled:,} of these {'has a ruling' if ruled == 1 else 'have rulings'}: "
                f"{tally.allowed:,} allowed, {tally.denied:,} denied."
            )
        if tally.partial:
            are = "is" if tally.partial == 1 else "are"
            yield f"{tally.partial:,} of these {are} partial: not all could be read."

    def _how(self) -> Iterator[str]:
        took = duration(self.seconds)
        yield f"{count(self.tally.pictures, 'picture')} in {took}{self._origins()}."
        yield (
            f"Model: {self.manifest.package} (review from {self.policy.review_at:g}, nsfw from "
            f"{self.policy.flag_at:g})."
        )

    def _origins(self) -> str:
        """Return where the scores came from, and the speed if it says something."""
        tally = self.tally
        origins = [
            f"{tally.scored:,} scored" if tally.scored else "",
            f"{tally.cached:,} from the cache" if tally.cached else "",
            count(tally.duplicates, "duplicate") if tally.duplicates else "",
        ]
        several = [one for one in origins if one]
        if len(several) > 1:
            return f": {', '.join(several)}"
        if tally.cached:
            return ", from the cache"
        return f", {self.rate:,.0f} a second" if tally.scored > 1 else ""

    def _acts(self) -> Iterator[str]:
        for action in ActionName:
            ends = [
                self._end(action, outcome, number)
                for outcome in Outcome
                if (number := self.acts.numbers[action, outcome])
            ]
            if ends:
                yield f"{_CALLED[action]}: {', '.join(ends)}."

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
        """Return the summary as a record."""
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
            "partial": tally.partial,
            "failed": tally.failed,
            "skipped": tally.skipped,
            "other_files": tally.walk.other_names,
            "other_kinds": {kind.value: number for kind, number in tally.walk.kinds.items()},
            "skipped_reasons": {one.value: number for one, number in tally.skips.items()},
            "unreadable_folders": tally.walk.unreadable_folders,
            "not_included": tally.walk.not_included,
            "not_reached": self.not_reached,
            "hidden": tally.walk.hidden,
            "excluded": tally.walk.excluded,
            "seconds": round(self.seconds, 3),
            "pictures_per_second": round(self.rate, 3),
            "interrupted": self.interrupted,
            "acts": acts,
            "thresholds": {"review_at": self.policy.review_at, "flag_at": self.policy.flag_at},
            "model": {"name": self.manifest.package, "fingerprint": self.manifest.fingerprint},
        }


def not_opened(tally: ScanTally) -> Iterator[str]:
    """Yield what a scan passed over, by kind and counted, because it might be anything."""
    walk = tally.walk
    for kind, number in sorted(walk.kinds.items()):
        yield count(number, *NAMES[kind])
    for reason, number in sorted(tally.skips.items()):
        yield count(number, *_SKIPPED[reason])
    others = walk.other_names - sum(walk.kinds.values())
    if others:
        yield count(others, "other file")
    if walk.not_included:
        yield f"{walk.not_included:,} not matching --include"
    if walk.excluded:
        yield f"{walk.excluded:,} excluded"
    if walk.hidden:
        yield f"{walk.hidden:,} hidden"

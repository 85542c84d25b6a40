"""What a run would do about a picture, found out without touching any.

For the question before a large run, which counts what would really be moved, and for a dry run,
which says what the run would say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.actions import tag
from nsfwscan.actions.rules import TagKind
from nsfwscan.actions.scored_file import ScoredFile, Unwilling
from nsfwscan.actions.vault import RESTORED_BEFORE, Moved
from nsfwscan.acts import ActionName, Outcome
from nsfwscan.errors import NsfwscanError
from nsfwscan.results import Ruling

if TYPE_CHECKING:
    from nsfwscan.actions.quarantine import Quarantines
    from nsfwscan.actions.rules import Rule
    from nsfwscan.results import Scanned


def why_not(error: Unwilling | OSError) -> Moved:
    """Return what becomes of a picture that cannot be opened as it was scored."""
    if isinstance(error, Unwilling):
        return Moved(Outcome.LEFT, None, str(error))
    if isinstance(error, FileNotFoundError):
        return Moved(Outcome.LEFT, None, "it is gone")
    return Moved(Outcome.FAILED, None, error.strerror or str(error))


class Foresight:
    """For one run: what was restored before is read once."""

    def __init__(self, quarantines: Quarantines, *, again: bool) -> None:
        self._quarantines = quarantines
        self._again = again
        self._restored: dict[str, set[str]] = {}

    def is_again(self, result: Scanned) -> bool:
        """Return True if a picture is moved although somebody restored it before."""
        # Who denies a picture after having restored it has changed their mind.
        return self._again or result.verdict.ruling is Ruling.DENIED

    def hindrance(self, path: str, result: Scanned) -> Moved | None:
        """Return why `path` would not go to quarantine; None when nothing is known against it."""
        try:
            vault = self._quarantines.peek_for_picture(path)
            if vault is None or self.is_again(result):
                return None
            if vault.folder not in self._restored:
                self._restored[vault.folder] = vault.peek().restored
        except NsfwscanError as error:
            return Moved(Outcome.FAILED, None, str(error))
        if result.sha256.hex() in self._restored[vault.folder]:
            return Moved(Outcome.LEFT, None, RESTORED_BEFORE)
        return None

    def outcomes(self, path: str, result: Scanned, rules: list[Rule]) -> list[Moved]:
        """Return what would become of a picture by each rule, in their order."""
        try:
            with ScoredFile(path, result.sha256) as picture:
                return [self._outcome(rule, path, result, picture) for rule in rules]
        except (Unwilling, OSError) as error:
            known = why_not(error)
            would = Moved(Outcome.WOULD)
            return [would if rule.action is ActionName.NOTIFY else known for rule in rules]

    def _outcome(self, rule: Rule, path: str, result: Scanned, picture: ScoredFile) -> Moved:
        if rule.action is ActionName.QUARANTINE:
            found = self.hindrance(path, result)
            if found is not None:
                return found
        if rule.action is ActionName.TAG and rule.tag is TagKind.SIDECAR:
            try:
                tag.check_sidecar(picture)
            except (Unwilling, OSError) as error:
                return why_not(error)
        return Moved(Outcome.WOULD, rule.to or None)

"""Predicts what a run would do with a picture, without touching it.

Used for the question before a large run, which counts what would really be moved, and for a dry
run, which reports what the run would report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.actions import tag
from nsfwscan.actions.quarantine.last_word import Word, why_it_stays, word_of
from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
from nsfwscan.actions.quarantine.vault import Moved
from nsfwscan.actions.rules import TagKind
from nsfwscan.actions.verified_file import Refused, VerifiedFile
from nsfwscan.values.actions import ActionName, Outcome
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.actions.quarantine.vault import Vault
    from nsfwscan.actions.rules import Rule
    from nsfwscan.judge import Rulings
    from nsfwscan.values.results import Scanned


def why_not(error: Refused | OSError) -> Moved:
    """Return the outcome for a picture that cannot be opened as it was scored."""
    if isinstance(error, Refused):
        return Moved(Outcome.LEFT, None, str(error))
    if isinstance(error, FileNotFoundError):
        return Moved(Outcome.LEFT, None, "it is gone")
    return Moved(Outcome.FAILED, None, error.strerror or str(error))


class Preview:
    """Predictions for one run. Rulings and quarantine journals are read once."""

    def __init__(
        self,
        quarantines: Quarantines,
        rulings: Rulings,
        warn: Callable[[str], None],
        *,
        again: bool,
    ) -> None:
        """With `again`, all earlier decisions are ignored.

        `warn` is called for quarantines that cannot be read; their decisions do not count.
        """
        self._quarantines = quarantines
        self._rulings = rulings
        self.again = again
        self._said = LatestDecisions(quarantines.everywhere, warn)

    def words(self, result: Scanned, besides: Vault | None = None) -> tuple[Word, ...]:
        """Return the decisions about a picture's content, except those in `besides`."""
        found = self._said.about(result.sha256.hex(), besides)
        near = result.verdict.near  # a ruling about a similar picture applies to this one
        for sha256 in (result.sha256, *(() if near is None else (near.sha256,))):
            ruled = self._rulings.by_content(sha256)
            if ruled is not None:
                found.append(word_of(ruled))
        return tuple(found)

    def hindrance(self, path: str, result: Scanned) -> Moved | None:
        """Return why `path` would not be quarantined; None if nothing is known against it."""
        try:
            self._quarantines.peek_for_picture(path)
        except NsfwscanError as error:
            return Moved(Outcome.FAILED, None, str(error))
        why = "" if self.again else why_it_stays(self.words(result))
        return Moved(Outcome.LEFT, None, why) if why else None

    def outcomes(self, path: str, result: Scanned, rules: list[Rule]) -> list[Moved]:
        """Return the predicted outcome of each rule for a picture, in their order."""
        try:
            with VerifiedFile(path, result.sha256) as picture:
                return [self._outcome(rule, path, result, picture) for rule in rules]
        except (Refused, OSError) as error:
            known = why_not(error)
            would = Moved(Outcome.WOULD)
            return [would if rule.action is ActionName.NOTIFY else known for rule in rules]

    def _outcome(self, rule: Rule, path: str, result: Scanned, picture: VerifiedFile) -> Moved:
        if rule.action is ActionName.QUARANTINE:
            found = self.hindrance(path, result)
            if found is not None:
                return found
        if rule.action is ActionName.TAG and rule.tag is TagKind.SIDECAR:
            try:
                tag.check_sidecar(picture)
            except (Refused, OSError) as error:
                return why_not(error)
        return Moved(Outcome.WOULD, rule.to or None)

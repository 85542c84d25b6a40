"""Moves pictures to quarantine and back, for `desk`; the work is done by `actions`.

In: a picture. Out: its moves, each of which can be taken back, and sentences about what could not
be done. Every place where the picture is gets its turn, and each is checked to have the content
that was shown.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.limit import Limit
from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
from nsfwscan.actions.quarantine.restore import Restorer
from nsfwscan.actions.rules import Rule
from nsfwscan.actions.runner import ActionRunner
from nsfwscan.values.actions import ActionName, Outcome
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.results import Decision, Origin, Scanned, Verdict
from nsfwscan.values.text import count, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.actions.quarantine.vault import Vault
    from nsfwscan.judge import Policy, Rulings
    from nsfwscan.review.collect import ReviewPicture
    from nsfwscan.review.lookup import Lookup

_WHATEVER = Rule(ActionName.QUARANTINE, frozenset(Decision))


class Move(NamedTuple):
    """A file that was moved to quarantine."""

    path: str
    """Where it was."""
    target: str
    """The file in the quarantine."""


class Mover:
    """Moves what a person points at; a limit is for what no person has seen."""

    def __init__(
        self,
        quarantines: Quarantines,
        lookup: Lookup,
        policy: Policy,
        *,
        model: str,
        rulings: Callable[[], Rulings],
        warn: Callable[[str], None],
    ) -> None:
        """`model` names the model for journals; `rulings` returns the current rulings."""
        self._quarantines = quarantines
        self._lookup = lookup
        self._policy = policy
        self._rulings = rulings
        self._warn = warn
        self._runner = ActionRunner(
            [_WHATEVER],
            record=lambda _: {},
            model=model,
            quarantines=quarantines,
            say=lambda _: None,
            warn=warn,
            rulings=rulings,
            again=True,
            limit=Limit(files=sys.maxsize, share=1.0),
        )

    def move(self, picture: ReviewPicture) -> tuple[list[Move], list[str]]:
        """Move a picture away from every place; return the moves, and what went wrong."""
        verdict = Verdict(
            picture.decision,
            picture.scored.scores.unsafe,
            self._policy.review_at,
            self._policy.flag_at,
        )
        for path in self._lookup.known(picture):
            self._runner.consider(
                Scanned(
                    path,
                    picture.sha256,
                    picture.scored.facts,
                    picture.scored.scores,
                    verdict,
                    Origin.CACHE,
                    picture.scored.frame,
                )
            )
        moves: list[Move] = []
        problems: list[str] = []
        for act in self._runner.carry_out(lambda _question: True):
            if act.outcome is Outcome.DONE and act.target is not None:
                moves.append(Move(act.path, act.target))
            else:
                problems.append(f"{printable(act.path)} was not moved: {act.detail}")
        if not moves and not problems:
            problems.append(f"{printable(picture.places[0])} is gone")
        return moves, problems

    def move_back(self, moves: Iterable[Move]) -> list[str]:
        """Restore files; return what went wrong, or differs from what was, in sentences.

        A file that somebody took out of the quarantine meanwhile counts as done. Raises
        `NsfwscanError` if none could be restored: then it can be tried again.
        """
        by_vault: dict[str, list[Move]] = {}
        for move in moves:
            folder = os.path.dirname(os.path.dirname(move.target))  # FOLDER/files/ID
            by_vault.setdefault(folder, []).append(move)
        vaults = {vault.folder: vault for vault in self._quarantines.existing()}
        problems: list[str] = []
        done = 0
        for folder, mine in by_vault.items():
            vault = vaults.get(folder)
            if vault is None:
                problems.append(f"{printable(folder)} is not available; is its disk plugged in?")
                continue
            number, told = self._restore(vault, mine)
            done += number
            problems += told
        if not done:
            raise NsfwscanError("; ".join(problems))
        return problems

    def _restore(self, vault: Vault, moves: Iterable[Move]) -> tuple[int, list[str]]:
        """Return how many files are no longer in this quarantine, and what to say about them."""
        numbers = {os.path.basename(move.target) for move in moves}
        entries = [one for one in vault.peek().held if one.id in numbers]
        done = len(numbers) - len(entries)
        problems = [f"{count(done, 'file')} had left the quarantine before"] if done else []
        said = LatestDecisions(self._quarantines.everywhere, self._warn)
        for one in Restorer(vault, self._rulings(), said).restore(entries):
            done += one.moved.outcome is Outcome.DONE
            if one.moved.detail:
                path = printable(one.moved.target or one.entry.path)
                problems.append(f"{path}: {one.moved.detail}")
        return done, problems

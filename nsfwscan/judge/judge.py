"""`Judge`: what is said of a picture. Nothing else turns a score into a decision.

In: what a model made of a content, and facts about that content. Out: the verdict. A person's
ruling comes before the thresholds; score and thresholds stay beside it. Verdicts are never stored:
another threshold or ruling costs no inference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.judge.rulings import NO_RULINGS, Rulings
from nsfwscan.values.likeness import UNKNOWN
from nsfwscan.values.outcome import Unscorable
from nsfwscan.values.results import Failed, Origin, Scanned

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

    from nsfwscan.judge.policy import Policy
    from nsfwscan.values.outcome import Outcome


class Judge:
    """Thresholds and what people decided. Immutable, so that any thread may ask."""

    def __init__(self, policy: Policy, rulings: Rulings = NO_RULINGS) -> None:
        self.policy = policy
        self.rulings = rulings

    def result(
        self,
        path: str,
        sha256: bytes,
        outcome: Outcome,
        origin: Origin = Origin.MODEL,
        *,
        likeness: Callable[[], int] = lambda: UNKNOWN,
    ) -> Scanned | Failed:
        """Return what is said of the content `sha256`, which is at `path`.

        `likeness` is only called when a ruling may depend on it.
        """
        if isinstance(outcome, Unscorable):
            ruled = self.rulings.by_content(sha256)
            ruling = None if ruled is None else ruled.ruling
            reason, detail, passing = outcome
            return Failed(path, reason, detail, sha256, origin, ruling, passing)
        verdict = self.policy.judge(outcome.scores)
        if len(self.rulings):
            verdict = self.rulings.judge(verdict, sha256, likeness())
        return Scanned(path, sha256, outcome.facts, outcome.scores, verdict, origin)

    def all_safe(self, unsafe: array[float], digests: bytes, likenesses: array[int]) -> bool:
        """Return True if every picture of a folder is safe by its score and no ruling is about one.

        `unsafe` has one score a picture, 0 to 1, `digests` their SHA-256, 32 bytes each, joined,
        and `likenesses` one each. To make a result of each picture takes three times as long.
        """
        # A threshold given as 1 would be an int, whose `__gt__` knows no floats.
        return all(map(float(self.policy.review_at).__gt__, unsafe)) and not self.rulings.touch(
            digests, likenesses
        )

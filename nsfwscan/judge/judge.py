"""`Judge`: turns scores into decisions. Nothing else does.

In: the outcome for a content, and facts about it. Out: the verdict. A ruling overrides the
thresholds; score and thresholds are kept beside it. Verdicts are never stored, so another threshold
or ruling costs no inference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nsfwscan.judge.rulings import NO_RULINGS, Rulings
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS, FactKind
from nsfwscan.values.outcome import Unscorable
from nsfwscan.values.results import Failed, Origin, Scanned

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

    from nsfwscan.judge.policy import Policy
    from nsfwscan.values.outcome import Outcome
    from nsfwscan.values.results import Decision


class Judge:
    """The thresholds and people's rulings. Immutable, so any thread may use it."""

    def __init__(self, policy: Policy, rulings: Rulings = NO_RULINGS) -> None:
        self.policy = policy
        self.rulings = rulings
        self.needed_facts: tuple[FactKind, ...] = (LIKENESS,) if rulings.compare_likeness else ()
        """The kinds of facts that a verdict may depend on."""

    def result(
        self,
        path: str,
        sha256: bytes,
        outcome: Outcome,
        origin: Origin = Origin.MODEL,
        *,
        fact: Callable[[FactKind], bytes | None] = lambda _: None,
    ) -> Scanned | Failed:
        """Return the result for the content `sha256`, which is at `path`.

        `fact` returns a fact about the content, or None if it is not known; it is only called for
        kinds in `needed_facts`.
        """
        if isinstance(outcome, Unscorable):
            ruled = self.rulings.by_content(sha256)
            ruling = None if ruled is None else ruled.ruling
            reason, detail, transient = outcome
            return Failed(path, reason, detail, sha256, origin, ruling, transient)
        verdict = self.policy.judge(outcome.scores)
        if len(self.rulings):
            bits = fact(LIKENESS) if self.rulings.compare_likeness else None
            verdict = self.rulings.judge(verdict, sha256, likeness.unpack(bits))
        return Scanned(path, sha256, outcome.facts, outcome.scores, verdict, origin, outcome.frame)

    def decision(self, sha256: bytes, unsafe: float) -> Decision | None:
        """Return the decision on a content that can no longer be read.

        `unsafe` is its score, NaN if it has none. Returns None if there is no score and no ruling.
        """
        ruled = self.rulings.by_content(sha256)
        if ruled is not None:
            return ruled.ruling.decision
        return None if math.isnan(unsafe) else self.policy.decide(unsafe)

    def all_safe(
        self, unsafe: array[float], digests: bytes, facts: Callable[[FactKind], bytes]
    ) -> bool:
        """Return True if all pictures of a folder are safe by score and no ruling applies to any.

        `unsafe` has one score per picture, 0 to 1; `digests` their SHA-256, 32 bytes each,
        concatenated; `facts` returns the facts of a kind, concatenated. Building a result for each
        picture instead takes three times as long.
        """
        # A threshold given as 1 would be an int, whose `__gt__` does not accept floats.
        if not all(map(float(self.policy.review_at).__gt__, unsafe)):
            return False
        near = self.rulings.compare_likeness
        likenesses = likeness.unpack_all(facts(LIKENESS) if near else b"")
        return not self.rulings.touch(digests, likenesses)

"""From a score to a decision, unless a person decided. Thresholds belong here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from nsfwscan.values.errors import UsageError
from nsfwscan.values.results import Decision, NearMatch, Ruling, Scores, Verdict


@dataclass(frozen=True, slots=True)
class Policy:
    """Two thresholds on the unsafe score, 0 to 1, `review_at` <= `flag_at`.

    A score at or above `flag_at` is nsfw, one at or above `review_at` wants a person's look, all
    below is safe. Raises `UsageError` when the thresholds are out of range or out of order.
    """

    review_at: float
    flag_at: float

    def __post_init__(self) -> None:
        for name, value in (("review", self.review_at), ("flag", self.flag_at)):
            if not 0.0 <= value <= 1.0:  # also refuses NaN
                raise UsageError(
                    f"the {name} threshold is {value}, which is not between 0 and 1",
                    hint="give a number such as 0.8",
                )
        if self.review_at > self.flag_at:
            raise UsageError(
                f"the review threshold {self.review_at:g} is above the flag threshold "
                f"{self.flag_at:g}",
                hint="lower the review threshold or raise the other; equal values turn review off",
            )

    def judge(self, scores: Scores) -> Verdict:
        """Decide about one picture."""
        return Verdict(self.decide(scores.unsafe), scores.unsafe, self.review_at, self.flag_at)

    def decide(self, unsafe: float) -> Decision:
        """Decide about one unsafe score, 0 to 1."""
        if unsafe >= self.flag_at:
            return Decision.NSFW
        if unsafe >= self.review_at:
            return Decision.REVIEW
        return Decision.SAFE


def overrule(verdict: Verdict, ruling: Ruling, near: NearMatch | None) -> Verdict:
    """Put a person's decision in the place of the model's; score and thresholds stay beside it.

    `near` says which picture the person decided about when it was not this very one.
    """
    return verdict._replace(decision=ruling.decision, ruling=ruling, near=near)

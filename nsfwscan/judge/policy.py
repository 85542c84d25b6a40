"""From a score to a decision, where there is no ruling. Thresholds live here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from nsfwscan.values.errors import UsageError
from nsfwscan.values.results import Decision, NearMatch, Ruling, Scores, Verdict


@dataclass(frozen=True, slots=True)
class Policy:
    """Two thresholds on the unsafe score, 0 to 1, `review_at` <= `flag_at`.

    A score of at least `flag_at` is nsfw, a lower one of at least `review_at` is for a person to
    review, the rest is safe. Raises `UsageError` if the thresholds are out of range or order.
    """

    review_at: float
    flag_at: float

    def __post_init__(self) -> None:
        for name, value in (("review", self.review_at), ("flag", self.flag_at)):
            if not 0.0 <= value <= 1.0:  # also refuses NaN
                raise UsageError(
                    f"the {name} threshold is {value}, which is not between 0 and 1",
                    hint="give a number between 0 and 1, such as 0.8",
                )
        if self.review_at > self.flag_at:
            raise UsageError(
                f"the review threshold {self.review_at:g} is above the flag threshold "
                f"{self.flag_at:g}",
                hint="lower the review threshold or raise the other; equal ones turn review off",
            )

    def judge(self, scores: Scores) -> Verdict:
        """Return the verdict on one picture."""
        return Verdict(self.decide(scores.unsafe), scores.unsafe, self.review_at, self.flag_at)

    def decide(self, unsafe: float) -> Decision:
        """Return the decision on one unsafe score, 0 to 1."""
        if unsafe >= self.flag_at:
            return Decision.NSFW
        if unsafe >= self.review_at:
            return Decision.REVIEW
        return Decision.SAFE


def overrule(verdict: Verdict, ruling: Ruling, near: NearMatch | None) -> Verdict:
    """Replace the model's decision by a person's; score and thresholds are kept.

    `near` names the picture that the ruling is about if it is not this one.
    """
    return verdict._replace(decision=ruling.decision, ruling=ruling, near=near)

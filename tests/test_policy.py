from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.judge.policy import Policy
from nsfwscan.values.errors import UsageError
from nsfwscan.values.results import Decision, Scores

_score = st.floats(0, 1)


@pytest.mark.parametrize(
    ("unsafe", "decision"),
    [
        (0.0, Decision.SAFE),
        (math.nextafter(0.5, 0), Decision.SAFE),
        (0.5, Decision.REVIEW),
        (math.nextafter(0.8, 0), Decision.REVIEW),
        (0.8, Decision.NSFW),
        (1.0, Decision.NSFW),
    ],
)
def test_a_score_equal_to_a_threshold_counts(unsafe: float, decision: Decision) -> None:
    assert Policy(0.5, 0.8).decide(unsafe) is decision


@given(_score, _score, _score)
def test_verdicts_carry_the_score_and_the_thresholds(one: float, two: float, score: float) -> None:
    policy = Policy(min(one, two), max(one, two))
    verdict = policy.judge(Scores((1 - score, score), score))
    assert (verdict.score, verdict.review_at, verdict.flag_at) == (score, *sorted((one, two)))
    assert (verdict.decision is Decision.NSFW) == (score >= policy.flag_at)
    assert (verdict.decision is Decision.SAFE) == (score < policy.review_at)


@given(_score, _score)
def test_equal_thresholds_turn_review_off(threshold: float, score: float) -> None:
    assert Policy(threshold, threshold).decide(score) is not Decision.REVIEW


@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan, math.inf, -math.inf])
def test_thresholds_out_of_range_are_refused_by_name(wrong: float) -> None:
    with pytest.raises(UsageError, match="flag threshold") as caught:
        Policy(0.0, wrong)
    assert caught.value.hint
    with pytest.raises(UsageError, match="review threshold") as caught:
        Policy(wrong, 1.0)
    assert caught.value.hint


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(UsageError, match=r"review threshold 0\.9 is above .* 0\.8"):
        Policy(0.9, 0.8)

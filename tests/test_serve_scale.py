"""Scores on another program's scale give our decision there."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.judge.policy import Policy
from nsfwscan.serve.adapters import scale
from nsfwscan.serve.adapters.judged import JudgedPicture
from nsfwscan.values.results import Decision

SCALES = {
    "misskey": scale.MISSKEY,
    "hanamisskey": scale.HANAMISSKEY,
    "photoprism": scale.PHOTOPRISM,
    "openai": scale.OPENAI,
}
UNIT = st.floats(0, 1)


@given(UNIT, UNIT, UNIT, st.sampled_from(sorted(SCALES)))
def test_flagged_is_above_every_threshold_of_the_program_and_all_else_below(
    review_at: float, flag_at: float, score: float, name: str
) -> None:
    policy = Policy(min(review_at, flag_at), max(review_at, flag_at))
    decision = policy.decide(score)
    one = SCALES[name]
    shown = one.score(JudgedPicture(decision, score, policy.flag_at))
    assert 0 <= shown <= 1
    if decision is Decision.NSFW:
        assert shown > one.highest + 1e-4  # also in 32 bits, and for >=
    else:
        assert shown < one.lowest - 1e-4


@given(UNIT, st.lists(UNIT, min_size=2, max_size=9), st.sampled_from(sorted(SCALES)))
def test_more_unsafe_stays_more_unsafe(flag_at: float, scores: list[float], name: str) -> None:
    policy = Policy(flag_at, flag_at)
    shown = [
        SCALES[name].score(JudgedPicture(policy.decide(score), score, flag_at))
        for score in sorted(scores)
    ]
    assert shown == sorted(shown)


@pytest.mark.parametrize("name", sorted(SCALES))
def test_a_ruling_decides_on_every_scale_whatever_the_score(name: str) -> None:
    one = SCALES[name]
    for score, flag_at in itertools.product((0.0, 0.3, 0.8, 1.0), (0.0, 0.3, 0.8, 1.0)):
        assert one.score(JudgedPicture(Decision.NSFW, score, flag_at)) > one.highest
        assert one.score(JudgedPicture(Decision.SAFE, score, flag_at)) < one.lowest


def test_the_corners_that_info_shows_are_those_of_the_map() -> None:
    for name, corners in scale.scales(0.8).items():
        assert [ours for ours, _ in corners] == [0, 0.8, 0.8, 1]
        for (ours, theirs), decision in zip(
            corners, (Decision.SAFE, Decision.SAFE, Decision.NSFW, Decision.NSFW), strict=True
        ):
            assert SCALES[name].score(JudgedPicture(decision, ours, 0.8)) == pytest.approx(theirs)


def test_a_model_that_says_only_unsafe_says_porn_or_neutral() -> None:
    labels = {"nsfw": 0.9, "sfw": 0.1}
    found = scale.classes(
        scale.MISSKEY, JudgedPicture(Decision.NSFW, 0.9, 0.8, labels, frozenset({"nsfw"}))
    )
    assert found["Porn"] > 0.75
    assert found["Neutral"] == pytest.approx(1 - found["Porn"])
    assert found["Hentai"] == found["Sexy"] == found["Drawing"] == 0


def test_a_model_that_knows_the_classes_keeps_its_own() -> None:
    labels = {"drawings": 0.1, "hentai": 0.7, "neutral": 0.05, "porn": 0.1, "sexy": 0.05}
    unsafe = frozenset({"hentai", "porn", "sexy"})
    found = scale.classes(scale.MISSKEY, JudgedPicture(Decision.NSFW, 0.85, 0.8, labels, unsafe))
    assert found["Hentai"] > 0.75
    assert found["Porn"] == 0
    assert found["Drawing"] == pytest.approx(1 - found["Hentai"])
    assert sum(found.values()) == pytest.approx(1)

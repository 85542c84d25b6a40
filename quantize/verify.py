"""How well an INT8 model agrees with the float one, and whether it passes the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.judge.policy import Policy
from nsfwscan.models.classifier import to_scores
from quantize.session import on_all_cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.models.graphs.graph import Array
    from nsfwscan.models.manifest import ModelManifest, Thresholds
    from quantize.pictures import CalibrationPicture
    from quantize.recipes import Gate
    from quantize.session import OrtSession

_WORST = 10
_BINS = 10
"""Bins of the expected calibration error, as in Guo et al. 2017 (arXiv 1706.04599)."""


class Pair(NamedTuple):
    """The unsafe probability of one picture from both models."""

    name: str
    reference: float
    candidate: float

    @property
    def difference(self) -> float:
        """Return the absolute difference."""
        return abs(self.reference - self.candidate)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a candidate's scores agree with the reference."""

    pictures: int
    max_difference: float
    """Largest difference in unsafe probability."""
    mean_difference: float
    equal_decisions: float
    """Share of the pictures with the same decision at the thresholds."""
    worst: tuple[Pair, ...]
    """The ten pictures that differ most."""

    def shortcomings(self, gate: Gate) -> list[str]:
        """Return how the gate is failed, as sentences; empty if it is passed."""
        missed = []
        # Written so that NaN fails.
        if not self.max_difference <= gate.max_difference:
            missed.append(f"a score moves by {self.max_difference:.4f}, over {gate.max_difference}")
        if not self.mean_difference <= gate.mean_difference:
            missed.append(
                f"scores move by {self.mean_difference:.4f} on average, over {gate.mean_difference}"
            )
        if not self.equal_decisions >= gate.equal_decisions:
            missed.append(
                f"{self.equal_decisions:.1%} of decisions agree, below {gate.equal_decisions:.1%}"
            )
        return missed


@dataclass(frozen=True, slots=True)
class Quality:
    """Measurements of one model on labelled pictures, deciding at the flag threshold."""

    accuracy: float
    recall: float
    false_positive_rate: float
    auroc: float
    calibration_error: float


def unsafe_scores(
    session: OrtSession, pictures: Sequence[CalibrationPicture], manifest: ModelManifest
) -> list[float]:
    """Score each picture on its own, as a scan does."""

    def score(picture: CalibrationPicture) -> float:
        (logits,) = session.run(picture.pixels[np.newaxis], [manifest.output.name])
        return to_scores(logits[0].astype(float).tolist(), manifest).unsafe

    return on_all_cores(score, pictures)


def agreement(
    pictures: Sequence[CalibrationPicture],
    reference: Sequence[float],
    candidate: Sequence[float],
    thresholds: Thresholds,
) -> Agreement:
    """Compare two models' unsafe scores of the same pictures."""
    policy = Policy(thresholds.review_at, thresholds.flag_at)
    pairs = [
        Pair(picture.name, one, other)
        for picture, one, other in zip(pictures, reference, candidate, strict=True)
    ]
    differences = [pair.difference for pair in pairs]
    equal = [policy.decide(pair.reference) is policy.decide(pair.candidate) for pair in pairs]
    return Agreement(
        pictures=len(pairs),
        max_difference=float(np.max(differences)),
        mean_difference=float(np.mean(differences)),
        equal_decisions=float(np.mean(equal)),
        worst=tuple(sorted(pairs, key=lambda pair: -pair.difference)[:_WORST]),
    )


def quality(
    pictures: Sequence[CalibrationPicture], scores: Sequence[float], flag_at: float
) -> Quality:
    """Measure a model against people's labels. There must be pictures of both kinds."""
    truth = np.array([bool(picture.unsafe) for picture in pictures])
    score = np.asarray(scores)
    flagged = score >= flag_at
    return Quality(
        accuracy=float(np.mean(flagged == truth)),
        recall=float(np.mean(flagged[truth])),
        false_positive_rate=float(np.mean(flagged[~truth])),
        auroc=_auroc(truth, score),
        calibration_error=_calibration_error(truth, score),
    )


def threshold_for(
    pictures: Sequence[CalibrationPicture], scores: Sequence[float], wanted: float
) -> float:
    """Return the lowest threshold that flags at most the share `wanted` of the safe pictures."""
    safe = np.array([s for s, one in zip(scores, pictures, strict=True) if not one.unsafe])
    for threshold in np.unique(np.append(np.asarray(scores), 1.0)):
        if np.mean(safe >= threshold) <= wanted:
            return float(threshold)
    return 1.0


def _auroc(truth: Array, score: Array) -> float:
    """Return the probability that an unsafe picture scores above a safe one; ties count half."""
    unsafe, safe = score[truth], np.sort(score[~truth])
    below = np.searchsorted(safe, unsafe, "left")
    upto = np.searchsorted(safe, unsafe, "right")
    return float(np.mean((below + upto) / 2) / len(safe))


def _calibration_error(truth: Array, score: Array) -> float:
    bins = np.minimum((score * _BINS).astype(int), _BINS - 1)
    error = 0.0
    for one in range(_BINS):
        inside = bins == one
        if inside.any():
            error += inside.mean() * abs(score[inside].mean() - truth[inside].mean())
    return float(error)

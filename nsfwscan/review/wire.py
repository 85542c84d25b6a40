"""What is sent to the page, as JSON values. See `app` for the requests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nsfwscan.review.desk import StepKind
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from nsfwscan.review.collect import ReviewPicture
    from nsfwscan.review.desk import ReviewStep
    from nsfwscan.review.review import Review


def document(review: Review) -> dict[str, Any]:
    """Return everything there is to go through, in the order of `ReviewSet.pictures`."""
    found = review.pictures
    return {
        "model": review.model,
        "reviewAt": review.policy.review_at,
        "flagAt": review.policy.flag_at,
        "labels": list(review.labels),
        "unsafeLabels": list(review.unsafe_labels),
        "withoutVerdict": found.without_verdict,
        "steps": len(review.desk.steps),
        "pictures": [_picture(one) for one in found.pictures.values()],
        "companions": [_picture(one) for one in found.companions.values()],
        "rulings": {one.hex(): ruling for one, ruling in review.desk.rulings().items()},
        "quarantined": [one.hex() for one in review.in_quarantine()],
    }


def done(review: Review, step: ReviewStep) -> dict[str, Any]:
    """Return what a step did, and what holds now of the contents that it changed."""
    moved = step.kind is StepKind.QUARANTINED
    names = [one.hex() for one in step.contents]
    return {
        **_told(review, step),
        "rulings": {} if moved else dict.fromkeys(names, step.kind),
        "quarantined": {one.hex(): one not in step.staying for one in step.contents if moved},
    }


def undone(review: Review, step: ReviewStep | None) -> dict[str, Any]:
    """Return what was taken back, and what holds now of the contents that changed."""
    if step is None:
        return {"done": None, "steps": 0}
    moved = step.kind is StepKind.QUARANTINED
    return {
        **_told(review, step),
        "rulings": {
            one.hex(): None if held is None else held.ruling for one, held in step.before.items()
        },
        "quarantined": {one.hex(): False for one in step.contents} if moved else {},
    }


def _told(review: Review, step: ReviewStep) -> dict[str, Any]:
    return {
        "done": step.kind,
        "id": step.sha256.hex(),
        "contents": [one.hex() for one in step.contents],
        "files": len(step.moves),
        "problems": [readable(one) for one in step.problems],
        "steps": len(review.desk.steps),
    }


def _picture(one: ReviewPicture) -> dict[str, Any]:
    facts, scores = one.scored.facts, one.scored.scores
    return {
        "id": one.sha256.hex(),
        "score": scores.unsafe,
        "decision": one.decision,
        "probabilities": list(scores.probabilities),
        "format": facts.format,
        "width": facts.width,
        "height": facts.height,
        "frames": facts.frames,
        "frame": one.scored.frame,
        "missing": readable(facts.missing),
        "near": readable(one.near),
        "disputed": one.is_disputed,
        "others": [
            {"model": other.model, "score": other.score, "decision": other.decision}
            for other in one.others
        ],
        "places": [
            [readable(os.path.dirname(path)), readable(os.path.basename(path))]
            for path in one.places
        ],
        "alike": [other.sha256.hex() for other in one.alike],
        "moreAlike": one.more_alike,
    }

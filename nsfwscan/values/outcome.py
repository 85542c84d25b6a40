"""The model's outcome for a content: scores, or why there are none. Verdicts: see `judge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from nsfwscan.values.results import FailReason, ImageFacts, Scores


class Scorer(NamedTuple):
    """What a score depends on besides the picture's content."""

    fingerprint: str
    """`ModelManifest.fingerprint`, 64 hex digits."""
    decoder: int
    """The decoder's version, raised whenever the same file decodes to different pixels."""


class Reading(NamedTuple):
    """The model's output for one picture, from the view that counts: the least safe one."""

    scores: Scores
    view: int = 0
    """Index of the view."""
    embedding: bytes | None = None
    """(hidden,) float32, little-endian. None if not requested or not provided by the model."""
    attention: bytes | None = None
    """(heads, tokens) float32, little-endian, C order: the weight of each patch; or None."""
    outputs: tuple[float, ...] = ()
    """What the graph returned for each label, before softmax or sigmoid; empty if not known."""


class Scored(NamedTuple):
    """The outcome for a picture with a score. No verdict: that depends on the thresholds."""

    facts: ImageFacts
    scores: Scores
    frame: int | None = None
    """Index of the scored frame of an animation, from 0: the least safe one. None for a still
    picture, and for outcomes stored before this field existed."""


class Unscorable(NamedTuple):
    """The outcome for content that has no score. It never counts as safe."""

    reason: FailReason
    detail: str = ""
    transient: bool = False
    """Whether the cause may lie outside the content. If so, the outcome is never stored."""


Outcome: TypeAlias = Scored | Unscorable

"""What a model makes of a content: scores, or why it has none. No verdict: see `judge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from nsfwscan.values.results import FailReason, ImageFacts, Scores


class Scorer(NamedTuple):
    """What a score depends on besides the content of the picture."""

    fingerprint: str
    """`ModelManifest.fingerprint`, 64 hex digits."""
    decoder: int
    """The version of the decoder, which counts up when the same file gives other pixels."""


class Reading(NamedTuple):
    """What a model says of one picture: of the view that counts, which is the least safe one."""

    scores: Scores
    view: int = 0
    """Which of the views it was given."""
    embedding: bytes | None = None
    """(hidden,) float32, little-endian. None unless asked for, and from a model that has none."""
    attention: bytes | None = None
    """(heads, tokens) float32, little-endian, C order: how much each patch counted; else None."""


class Scored(NamedTuple):
    """The outcome for a picture that has a score. No verdict: thresholds are the reader's."""

    facts: ImageFacts
    scores: Scores
    frame: int | None = None
    """Which frame of an animation the scores are of, from 0: the least safe one. None for a still
    picture, and for what was scored before this was kept."""


class Unscorable(NamedTuple):
    """The outcome for content that has no score, and never passes for a safe picture."""

    reason: FailReason
    detail: str = ""
    passing: bool = False
    """Whether the cause may lie outside the content. Such an outcome is never stored."""


Outcome: TypeAlias = Scored | Unscorable

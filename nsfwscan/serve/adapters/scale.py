"""Scores as another program expects them, so that its threshold gives our decision.

In: a judged picture. Out: a score from 0 to 1, or one for each class that the program knows. A
program compares the score with a threshold of its own. If it leaves that at its default, it must
decide as our policy does: a picture we flag is above all of the program's default thresholds, any
other picture is below all of them. In between, more unsafe stays more unsafe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.values.results import Decision

if TYPE_CHECKING:
    from nsfwscan.serve.adapters.judged import JudgedPicture

_MARGIN = 0.001
"""How far a score stays from a threshold: programs compare with > or >=, some in 32 bits."""

NEUTRAL, DRAWING, PORN = "Neutral", "Drawing", "Porn"
CLASSES = (DRAWING, "Hentai", NEUTRAL, PORN, "Sexy")
"""The classes of nsfwjs, which Misskey and PhotoPrism know."""
_UNSAFE = {"porn": PORN, "hentai": "Hentai", "sexy": "Sexy"}
_DRAWINGS = frozenset({"drawing", "drawings"})


@dataclass(frozen=True, slots=True)
class Scale:
    """A map that is linear below the flag threshold and above it, with a step between."""

    lowest: float
    """The lowest of the program's default thresholds, 0 to 1."""
    highest: float
    """The highest of them; the same as `lowest` if there is only one."""

    def score(self, judged: JudgedPicture) -> float:
        """Return the picture's score, 0 to 1, on the program's scale.

        A ruling decides against the model's score: then the score is the nearest one that says so.
        """
        flag_at = judged.flag_at
        if judged.decision is Decision.NSFW:
            above = (judged.score - flag_at) / (1 - flag_at) if flag_at < 1 else 1.0
            floor = self.highest + _MARGIN
            return floor + (1 - floor) * max(above, 0.0)
        below = judged.score / flag_at if flag_at > 0 else 0.0
        return (self.lowest - _MARGIN) * min(below, 1.0)

    def points(self, flag_at: float) -> list[tuple[float, float]]:
        """Return the corners of the map, (our score, the program's score), for people to read."""
        low, high = self.lowest - _MARGIN, self.highest + _MARGIN
        return [(0.0, 0.0), (flag_at, low), (flag_at, high), (1.0, 1.0)]


MISSKEY = Scale(lowest=0.5, highest=0.75)
"""It compares all classes with 0.5 and Porn also with 0.75, by >."""
HANAMISSKEY = Scale(lowest=0.5, highest=0.7)
"""Its tests use 0.7; Misskey's own default is 0.5."""
PHOTOPRISM = Scale(lowest=0.75, highest=0.98)
"""0.75 for uploads and 0.98 for the index; Neutral above 0.25 is safe, in some versions."""
OPENAI = Scale(lowest=0.5, highest=0.5)
"""Clients should use `flagged`; half is what those take that compare scores."""


def scales(flag_at: float) -> dict[str, list[tuple[float, float]]]:
    """Return the corners of every map, by protocol."""
    known = {
        "misskey": MISSKEY,
        "hanamisskey": HANAMISSKEY,
        "photoprism": PHOTOPRISM,
        "openai": OPENAI,
    }
    return {name: scale.points(flag_at) for name, scale in known.items()}


def classes(scale: Scale, judged: JudgedPicture) -> dict[str, float]:
    """Return a score for each of `CLASSES`; they sum to 1.

    The most probable unsafe class of the model gets the whole unsafe score, because programs
    compare one class at a time; it is Porn if the model does not know these classes. The rest is
    Neutral, or Drawing if the model thinks so.
    """
    unsafe = scale.score(judged)
    scores = dict.fromkeys(CLASSES, 0.0)
    scores[_likeliest_unsafe(judged)] = unsafe
    scores[_likeliest_safe(judged)] = 1 - unsafe
    return scores


def _likeliest_unsafe(judged: JudgedPicture) -> str:
    known = [
        (probability, _UNSAFE[label.lower()])
        for label, probability in judged.labels.items()
        if label in judged.unsafe_labels and label.lower() in _UNSAFE
    ]
    return max(known)[1] if known else PORN


def _likeliest_safe(judged: JudgedPicture) -> str:
    safe = [(p, label) for label, p in judged.labels.items() if label not in judged.unsafe_labels]
    return DRAWING if safe and max(safe)[1].lower() in _DRAWINGS else NEUTRAL

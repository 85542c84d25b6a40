"""The result of decoding a picture, in a module that loads no picture library."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.values.facts import ContentFacts
    from nsfwscan.values.results import ImageFacts

DECODER_VERSION = 3
"""Part of the key under which scores are stored: raise it when any picture's pixels may change."""

MAX_SAMPLED_FRAMES = 16
"""If an animation has more frames, this many are scored, spread evenly over its duration, including
the first and the last."""
SHORTEST_MS, INSTEAD_MS = 11, 100
"""Browsers replace frame durations shorter than this by the second value."""

MAX_VIEWS = 2 * MAX_SAMPLED_FRAMES
"""Each frame may be shown over white and over black."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture at the size that a model takes."""

    facts: ImageFacts
    shown: tuple[int, ...]
    """For each view to score, 1 to `MAX_VIEWS`, the index of the file's frame that it shows. If
    viewers show a frame in several ways, each of them is a view."""
    pixels: bytes
    """(views, crop_height, crop_width, 3) uint8 RGB in C order."""
    content_facts: ContentFacts = field(default_factory=dict)
    """From `media.decode.facts`."""

    @property
    def views(self) -> int:
        """The number of views."""
        return len(self.shown)


def spread(frames: int, most: int = MAX_SAMPLED_FRAMES, times: Sequence[float] = ()) -> list[int]:
    """Choose at most `most` frames (2 or more), including the first and the last.

    With `times`, the durations of the frames in any unit, every frame that is shown for more than
    one part in `most` - 1 of the total is chosen, so a picture cannot hide among many others.
    """
    if frames <= most:
        return list(range(frames))
    gaps = most - 1
    evenly = [round(at * (frames - 1) / gaps) for at in range(most)]
    if len(times) != frames or min(times) == max(times):
        return evenly
    ends = list(itertools.accumulate(times))
    moments = (at * ends[-1] / gaps for at in range(1, gaps))
    chosen = {0, frames - 1, *(bisect.bisect_right(ends, moment) for moment in moments)}
    for frame in evenly:  # a long frame may have been chosen more than once
        if len(chosen) < most:
            chosen.add(frame)
    return sorted(chosen)

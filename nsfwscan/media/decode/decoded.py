"""What decoding a picture gives, for those who must not load a picture library to know it."""

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
"""Part of the key under which scores are kept: raise it when any picture's pixels may change."""

MAX_SAMPLED_FRAMES = 16
"""Of an animation with more frames, this many are looked at, spread evenly over the time that it
takes, first and last too."""
SHORTEST_MS, INSTEAD_MS = 11, 100
"""Browsers show a frame that is to be shown for less than this for so long instead."""

MAX_VIEWS = 2 * MAX_SAMPLED_FRAMES
"""Each of them may be shown over white and over black."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture at the size a model takes."""

    facts: ImageFacts
    shown: tuple[int, ...]
    """For each view to score, 1 to `MAX_VIEWS`, which of the file's frames it shows, from 0. Where
    viewers show a frame in several ways, each is a view."""
    pixels: bytes
    """(views, crop_height, crop_width, 3) uint8 RGB in C order."""
    content_facts: ContentFacts = field(default_factory=dict)
    """What `media.decode.facts` computed."""

    @property
    def views(self) -> int:
        """How many views there are."""
        return len(self.shown)


def spread(frames: int, most: int = MAX_SAMPLED_FRAMES, times: Sequence[float] = ()) -> list[int]:
    """Choose at most `most` frames (2 or more), the first and the last among them.

    With `times`, how long each is shown in any unit, whatever is shown for more than one part in
    `most` - 1 of all the time is chosen: a picture does not hide by being one of many.
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
    for frame in evenly:  # a long frame was met more than once
        if len(chosen) < most:
            chosen.add(frame)
    return sorted(chosen)

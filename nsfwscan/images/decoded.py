"""What decoding a picture gives, for those who must not load a picture library to know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.likeness import NONE

if TYPE_CHECKING:
    from nsfwscan.results import ImageFacts

DECODER_VERSION = 2
"""Part of the key under which scores are kept: raise it when any picture's pixels may change."""

MAX_SAMPLED_FRAMES = 16
"""Of an animation with more frames, this many are looked at, spread evenly, first and last too."""

MAX_VIEWS = 2 * MAX_SAMPLED_FRAMES
"""Each of them may be shown over white and over black."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture at the size a model takes."""

    facts: ImageFacts
    frames: int
    """How many views there are to score, 1 to `MAX_VIEWS`. `facts.frames` is how many frames the
    file holds; where viewers show one in several ways, each is a view."""
    pixels: bytes
    """(frames, crop_height, crop_width, 3) uint8 RGB in C order."""
    likeness: int = NONE
    """What `nsfwscan.likeness` makes of the whole picture; an animation has none."""


def spread(frames: int, most: int = MAX_SAMPLED_FRAMES) -> list[int]:
    """Choose at most `most` frames (2 or more), the first and the last among them."""
    if frames <= most:
        return list(range(frames))
    gaps = most - 1
    return [round(at * (frames - 1) / gaps) for at in range(most)]

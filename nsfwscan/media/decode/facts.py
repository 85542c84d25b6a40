"""Facts about pixels, computed in the decode process for every picture.

In: the picture after the resize. Out: bytes for each kind. Computing a kind must not fail. To add a
kind, name it in `KINDS` and compute it in a function here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS, ContentFacts

if TYPE_CHECKING:
    from collections.abc import Sequence


def facts_of(views: Sequence[Image.Image], *, still: bool) -> ContentFacts:
    """Return the facts about a picture.

    `views` is the first frame in each way that viewers show it, resized but not cropped; `still` is
    False for an animation.
    """
    return {LIKENESS: likeness.pack(_likeness(views, still=still))}


def _likeness(views: Sequence[Image.Image], *, still: bool) -> int:
    """Compute the likeness from the resized picture, where it costs 0.5 ms.

    It covers the whole picture as it is meant to be seen, except for the far ends of a long strip.
    """
    if not still or len(views) > 1:
        # A frame of an animation does not stand for the others, and what shows over white does
        # not stand for what shows over black.
        return likeness.NONE
    side = (likeness.SIDE, likeness.SIDE)
    small = views[0].convert("L").resize(side, Image.Resampling.BOX)
    return likeness.of_luma(small.tobytes())

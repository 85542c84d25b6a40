"""Facts that pixels decide, computed in the decode process for every picture.

In: what is left of a picture after the resize. Out: bytes for each kind. No kind may fail. This is
the place to add one: `KINDS` names it, a function here computes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS, ContentFacts

if TYPE_CHECKING:
    from collections.abc import Sequence


def facts_of(views: Sequence[Image.Image], *, still: bool) -> ContentFacts:
    """Return the facts of a picture.

    `views` are the first frame in each way that viewers show it, resized and not cropped; `still`
    is False for an animation.
    """
    return {LIKENESS: likeness.pack(_likeness(views, still=still))}


def _likeness(views: Sequence[Image.Image], *, still: bool) -> int:
    """Compute the likeness from what is left after the resize: it costs 0.5 ms there.

    All of the picture is in it, but for the far ends of a long strip, as it is meant to be seen.
    """
    if not still or len(views) > 1:
        # One frame of an animation says nothing of the others, and what shows over white nothing
        # of what shows over black.
        return likeness.NONE
    side = (likeness.SIDE, likeness.SIDE)
    small = views[0].convert("L").resize(side, Image.Resampling.BOX)
    return likeness.of_luma(small.tobytes())

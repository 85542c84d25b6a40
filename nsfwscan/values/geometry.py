"""How a picture of any shape becomes the pixels that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Resize(StrEnum):
    """How a picture of any shape becomes `resize_width` x `resize_height`, before the crop."""

    STRETCH = "stretch"
    """Both edges are scaled on their own; the aspect ratio is not kept."""
    SHORTEST_EDGE = "shortest-edge"
    """Scaled so that the shorter edge fits and the longer one overlaps; the aspect is kept."""


class Resample(StrEnum):
    """The resampling filter, antialiased as Pillow does it."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class Geometry:
    """From a picture of any shape to the pixels of the model: resize, then crop the centre.

    All lengths in pixels. This is all that a decode worker needs to know of a model.
    """

    resize: Resize
    resize_width: int
    resize_height: int
    resample: Resample
    crop_width: int
    crop_height: int

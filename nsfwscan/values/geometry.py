"""How a picture of any shape becomes a model's input pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Resize(StrEnum):
    """How any picture is resized to `resize_width` x `resize_height`, before the crop."""

    STRETCH = "stretch"
    """Each edge is scaled separately; the aspect ratio is not kept."""
    SHORTEST_EDGE = "shortest-edge"
    """Scaled so that the shorter edge fits and the longer one overlaps; the aspect is kept."""


class Resample(StrEnum):
    """The resampling filter, antialiased as in Pillow."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class Geometry:
    """From a picture of any shape to the model's pixels: resize, then crop the centre.

    All lengths are in pixels. A decode process needs to know nothing else about a model.
    """

    resize: Resize
    resize_width: int
    resize_height: int
    resample: Resample
    crop_width: int
    crop_height: int

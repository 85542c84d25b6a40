"""A checkpoint's preprocessing: from a picture to the network's input.

Every field is followed exactly or refused by name. Classes of transformers that crop, pad or
reorder channels even if their file does not say so are refused by name.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsfwscan.values.errors import ModelTampered, ModelUnusable
from nsfwscan.values.geometry import Geometry, Resample, Resize
from quantize import config
from quantize.vit_graph import Normalisation

if TYPE_CHECKING:
    from quantize.config import Config

PREPROCESSOR_NAME = "preprocessor_config.json"

_STRETCHING = (
    "ViTImageProcessor",
    "ViTImageProcessorFast",
    "ViTImageProcessorPil",
    "ViTFeatureExtractor",
)
"""Past and present names of one class: it only stretches, rescales and normalises."""
_RESAMPLE = {2: Resample.BILINEAR, 3: Resample.BICUBIC}  # Pillow's numbers
_TIMM_RESIZE = {"center": Resize.SHORTEST_EDGE, "squash": Resize.STRETCH}
"""timm's `crop_mode`. The third mode, `border`, would pad the picture."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes the network's input."""

    geometry: Geometry
    normalisation: Normalisation

    def agrees(self, other: Preprocessing) -> bool:
        """Return True if both give the same values, ignoring how many digits 1/255 has."""
        one, two = (
            (norm.scale, *norm.mean, *norm.std)
            for norm in (self.normalisation, other.normalisation)
        )
        close = all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(one, two, strict=True))
        return close and self.geometry == other.geometry


def transformers(folder: str, image: int) -> Preprocessing:
    """Read `preprocessor_config.json` for a network whose input has `image` pixels per edge.

    Raises `ModelUnusable` for settings that the scanner's decoder cannot reproduce, `ModelTampered`
    for a file that is missing or malformed.
    """
    path = os.path.join(folder, PREPROCESSOR_NAME)
    read = config.read(path, "it describes the preprocessing; get it from the publisher")
    for name in ("image_processor_type", "feature_extractor_type"):
        if (found := read.get(name)) is not None and found not in _STRETCHING:
            raise ModelUnusable(
                f"{path}: {name} is {str(found)[:60]!r}, whose preprocessing differs from "
                "ViTImageProcessor's",
            )
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        read.only(switch, True, default=True)
    read.off("do_center_crop", "do_pad", "do_flip_channel_order", "do_grayscale")
    if read.get("default_to_square") is not None:  # false would keep the proportions
        read.only("default_to_square", True, default=True)
    size = read.get("size")
    edges = [size]
    if isinstance(size, dict):  # a dictionary of edges, most of which may be null
        given = {name: edge for name, edge in size.items() if edge is not None}
        edges = list(given.values()) if set(given) == {"height", "width"} else [given]
    if any(type(edge) is not int or edge != image for edge in edges):
        raise ModelTampered(f"{path}: size is {size!r:.60}, but the network takes {image}")
    resample = read.get("resample", 2)
    if type(resample) is not int or resample not in _RESAMPLE:
        raise ModelUnusable(f"{path}: resample {resample!r:.20} is neither 2 nor 3")
    scale = read.number("rescale_factor", 1e-6, 10, default=1 / 255)
    norm = Normalisation(scale, read.triple("image_mean"), read.triple("image_std"))
    read.done("preprocessor")
    return Preprocessing(_square(Resize.STRETCH, image, _RESAMPLE[resample]), norm)


def timm(read: Config, image: int) -> Preprocessing | None:
    """Read timm's `pretrained_cfg`; None if it is incomplete.

    Raises `ModelUnusable` or `ModelTampered` as `transformers` does.
    """
    given = [read.get(name) for name in ("mean", "std", "interpolation", "crop_pct")]
    mode = read.get("crop_mode", "center")
    preprocessing = None if None in given else _timm(read, image, mode)
    read.off("label_offset", "state_dict")
    read.done("timm_pretrained")
    return preprocessing


def _timm(read: Config, image: int, mode: object) -> Preprocessing:
    if not isinstance(mode, str) or mode not in _TIMM_RESIZE:
        raise ModelUnusable(f"{read.path}: crop_mode {str(mode)[:20]!r} is not supported")
    crop = read.number("crop_pct", 0.5, 1.0)
    try:
        resample = Resample(read.get("interpolation"))
    except ValueError:
        raise ModelUnusable(
            f"{read.path}: interpolation {str(read.get('interpolation'))[:20]!r} is not supported"
        ) from None
    resized = int(image / crop)
    geometry = replace(
        _square(_TIMM_RESIZE[mode], image, resample), resize_width=resized, resize_height=resized
    )
    norm = Normalisation(1 / 255, read.triple("mean"), read.triple("std"))
    return Preprocessing(geometry, norm)


def _square(resize: Resize, edge: int, resample: Resample) -> Geometry:
    """Return the geometry of a square picture that is not cropped after resizing."""
    return Geometry(resize, edge, edge, resample, edge, edge)

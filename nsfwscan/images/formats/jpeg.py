"""JPEG, at a reduced scale where that is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.JpegImagePlugin import JpegImageFile

from nsfwscan.errors import DecodeError
from nsfwscan.images.formats.picture import (
    MAX_PIXELS,
    MEGA,
    PillowPicture,
    check_pixels,
    open_with,
)
from nsfwscan.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.geometry import Geometry

_MAX_STORED_PIXELS = 400 * MEGA
"""As stored: at a reduced scale, 200 MP of a phone cost 30 MB."""

_BYTES_PER_PIXEL = 4

_MAX_COEFFICIENT_BYTES = 768 * MEGA
"""A progressive JPEG keeps all its coefficients, two bytes each, however far it is reduced."""

_MAX_SCANS = 100
"""Encoders write 10 to 20. Each scan passes over the whole picture: 10,000 of them are a bomb."""

# A JPEG is decoded at the smallest scale that leaves both edges this many times what the model is
# given. Measured with OpenNSFW on 262 photographs and crops, largest change of a score against
# full decoding and mean time: 1x 0.015, 19 ms; 2x 0.015, 25 ms; 3x 0.010, 32 ms; full 56 ms. The
# 99th percentile is what 2x buys over 1x: 0.005 instead of 0.009.
_OVERSAMPLING = 2

_START_OF_SCAN = b"\xff\xda"


def open_jpeg(content: bytes, geometry: Geometry, *, full: bool) -> PillowPicture[JpegImageFile]:
    """Read the header. An MPO, which many phones write, is read as the JPEG it begins with.

    The pictures after the first are previews, depth and gain maps. `full` decodes at full scale.
    """
    image = open_with(JpegImageFile, content)
    picture = PillowPicture("JPEG", image, max_pixels=_MAX_STORED_PIXELS)
    picture.memory = _limit(image, content, geometry, full)
    return picture


def _limit(image: JpegImageFile, content: bytes, geometry: Geometry, full: bool) -> int:
    """Choose the scale of decoding, refuse bombs, and return the bytes of memory needed."""
    stored = image.width * image.height
    if not full:
        # In the shorter direction of the resize, so that it holds for either orientation.
        edge = _OVERSAMPLING * max(geometry.resize_width, geometry.resize_height)
        image.draft(None, (edge, edge))
    check_pixels(image.width, image.height, MAX_PIXELS)
    memory = _BYTES_PER_PIXEL * image.width * image.height
    if not _has_several_scans(image, content):
        return memory
    scans = content.count(_START_OF_SCAN)
    if scans > _MAX_SCANS:
        raise DecodeError(
            FailReason.UNSUPPORTED, f"a JPEG of {scans} scans; at most {_MAX_SCANS} are read"
        )
    areas = [across * down for _, across, down, _ in image.layer]
    coefficients = 2 * stored * sum(areas) // max(1, *areas)
    if coefficients > _MAX_COEFFICIENT_BYTES:
        raise DecodeError(
            FailReason.TOO_MANY_PIXELS,
            f"a progressive JPEG of {stored / 1e6:.0f} MP takes {coefficients / 1e6:.0f} MB",
        )
    return memory + coefficients


def _has_several_scans(image: JpegImageFile, content: bytes) -> bool:
    """Tell whether the first scan is not the whole picture, which only the others are counted for.

    Counting in a file of 4 MB takes 4 ms, a sixth of decoding it.
    """
    if image.info.get("progressive") or image.fp is None:
        return True
    first = content.rfind(_START_OF_SCAN, 0, image.fp.tell())
    return content[first + 4] < image.layers

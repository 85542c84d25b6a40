"""WebP."""

from __future__ import annotations

from PIL.WebPImagePlugin import WebPImageFile

from nsfwscan.images.formats.picture import MEGA, Picture, PillowPicture, open_with

_MAX_PIXELS = 48 * MEGA
_BYTES_PER_PIXEL = 18
"""libwebp holds four copies of the canvas."""


def open_webp(content: bytes) -> Picture:
    """Read the header."""
    image = open_with(WebPImageFile, content)
    return PillowPicture("WEBP", image, max_pixels=_MAX_PIXELS, bytes_per_pixel=_BYTES_PER_PIXEL)

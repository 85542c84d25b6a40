"""AVIF, still and moving."""

from __future__ import annotations

from PIL import AvifImagePlugin

from nsfwscan.images.formats.picture import Picture, PillowPicture, open_with

_BYTES_PER_PIXEL = 12
"""The codec keeps whole frames of its own."""


def open_avif(content: bytes) -> Picture:
    """Read the header."""
    # Whole pictures run in parallel; threads of the codec would only take cores from them.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    image = open_with(AvifImagePlugin.AvifImageFile, content)
    return PillowPicture("AVIF", image, bytes_per_pixel=_BYTES_PER_PIXEL)

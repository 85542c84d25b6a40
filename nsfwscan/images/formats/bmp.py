"""BMP."""

from __future__ import annotations

from PIL.BmpImagePlugin import BmpImageFile

from nsfwscan.images.formats.picture import Picture, PillowPicture, open_with


def open_bmp(content: bytes) -> Picture:
    """Read the header."""
    return PillowPicture("BMP", open_with(BmpImageFile, content))

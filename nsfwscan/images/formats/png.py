"""PNG and APNG."""

from __future__ import annotations

from PIL.PngImagePlugin import PngImageFile

from nsfwscan.images.formats.picture import Picture, PillowPicture, open_with


class _PngPicture(PillowPicture[PngImageFile]):
    sequential = True


def open_png(content: bytes) -> Picture:
    """Read the header."""
    return _PngPicture("PNG", open_with(PngImageFile, content))

"""GIF."""

from __future__ import annotations

from PIL.GifImagePlugin import GifImageFile

from nsfwscan.images.formats.picture import Picture, PillowPicture, open_with


class _GifPicture(PillowPicture[GifImageFile]):
    sequential = True


def open_gif(content: bytes) -> Picture:
    """Read the header."""
    return _GifPicture("GIF", open_with(GifImageFile, content))

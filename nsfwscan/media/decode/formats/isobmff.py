"""AVIF and HEIF, which share a container: the coding inside decides which module reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats.bmff import Bmff
from nsfwscan.media.decode.formats.coding import coding_of

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.picture import Picture


def open_isobmff(content: bytes) -> Picture:
    """Read the header. Raises `DecodeError` for HEIC if pillow-heif is not installed."""
    file = Bmff(content)
    if coding_of(file) == "HEIF":
        from nsfwscan.media.decode.formats.heif import heif_picture

        return heif_picture(file)
    from nsfwscan.media.decode.formats.avif import avif_picture

    return avif_picture(file)

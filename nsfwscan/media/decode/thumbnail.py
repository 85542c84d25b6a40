"""A small copy of a picture to show to people, in a module that loads no picture library.

`nsfwscan.media.decode.miniature` makes it in a decode process: no byte of the file reaches a
browser or terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_LONGEST = 2048
"""The longest side that can be asked for, in pixels."""

PIXELATED_LONGEST = 12
"""The longest side of a pixelated thumbnail: enough for its colours, too little for a body."""


class ThumbnailForm(StrEnum):
    """What the bytes of a thumbnail are. The values are media types."""

    JPEG = "image/jpeg"
    WEBP = "image/webp"
    """For pixelated ones: about 100 bytes, a third of what JPEG and PNG take for their tables."""
    PNG = "image/png"
    RGB = "image/x-rgb"
    """(height, width, 3) uint8 RGB in C order, for terminals. Not a registered type."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small copy of one frame, upright and in sRGB."""

    data: bytes
    media_type: str
    """A value of `ThumbnailForm`."""
    width: int
    height: int

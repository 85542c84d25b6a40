"""WebP, still and moving. The frames are composed by libwebp, which browsers use as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.WebPImagePlugin import WebPImageFile

from nsfwscan.media.decode.formats.exif import orientation_of
from nsfwscan.media.decode.formats.picture import (
    MEGA,
    Frame,
    Picture,
    PillowPicture,
    as_browsers_time,
    open_with,
)
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_PIXELS = 48 * MEGA
_BYTES_PER_PIXEL = 18
"""libwebp holds four copies of the canvas."""

_EXIF_PREFIX = b"Exif\0\0"
"""Some programs write the prefix that EXIF data has in JPEG here as well."""

_FLAGS = 20
"""Position of the flags of the VP8X chunk, which comes first if there is one."""
_ANIMATED, _HAS_ALPHA = 0x02, 0x10


class _WebpPicture(PillowPicture[WebPImageFile]):
    """The frames, in two ways if viewers differ.

    Most viewers turn a picture according to its EXIF chunk, and use the ICC profile of an
    animation; Chromium does neither.
    """

    def __init__(self, image: WebPImageFile, content: bytes) -> None:
        super().__init__("WEBP", image, max_pixels=_MAX_PIXELS, bytes_per_pixel=_BYTES_PER_PIXEL)
        profile: bytes = image.info.get("icc_profile") or b""
        exif: bytes = image.info.get("exif") or b""
        orientation = orientation_of(exif.removeprefix(_EXIF_PREFIX))
        flags = content[_FLAGS] if content[12:16] == b"VP8X" else _HAS_ALPHA
        in_chromium = b"" if flags & _ANIMATED else profile
        self._ways = list(dict.fromkeys(((profile, orientation), (in_chromium, 1))))
        self.views = self.facts.frames * len(self._ways)
        self.times = as_browsers_time(_milliseconds(content), len(self._ways))
        # For lossless pixels the headers only hint at transparency, and viewers differ if the
        # hint is wrong.
        opaque = image.rawmode == "RGBX" or not flags & _HAS_ALPHA
        self._called_opaque = opaque and b"VP8L" in content
        # Whatever its header says, an animation's canvas is transparent where no frame has drawn.
        if self._called_opaque or flags & _ANIMATED:
            image.rawmode = image._mode = "RGBA"

    def show(self, view: int) -> Frame:
        """Decode one frame, in one of its ways."""
        frame, way = divmod(view, len(self._ways))
        self.image.seek(frame)
        self.image.load()
        if not self._called_opaque:
            return Frame(self.image, *self._ways[way])
        if self.image.getchannel("A").getextrema() != (255, 255):
            raise DecodeError(
                FailReason.UNSUPPORTED, "its pixels have transparency although its header denies it"
            )
        return Frame(self.image.convert("RGB"), *self._ways[way])


def _milliseconds(content: bytes) -> Iterator[int]:
    """Yield how long each frame of an animation is shown (RFC 9649, section 2.7.1.1)."""
    at = 12
    while (head := content[at : at + 8]) and len(head) == 8:
        if head[:4] == b"ANMF":
            yield int.from_bytes(content[at + 20 : at + 23], "little")
        length = int.from_bytes(head[4:], "little")
        at += 8 + length + length % 2


def open_webp(content: bytes) -> Picture:
    """Read the headers of all chunks, none of which may be missing."""
    try:
        return _WebpPicture(open_with(WebPImageFile, content), content)
    except (DecodeError, OSError) as error:
        if isinstance(error, DecodeError) and error.reason is not FailReason.CORRUPT:
            raise
        length = int.from_bytes(content[4:8], "little") + 8
        if length > len(content):
            raise DecodeError(
                FailReason.TRUNCATED, f"{length - len(content)} of {length} bytes are missing"
            ) from error
        raise

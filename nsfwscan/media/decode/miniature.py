"""Thumbnails, made in a decode process.

In: the bytes of a picture file. Out: a new small picture without metadata. It shows what viewers
show, by the same code as the pixels for the model: oriented, in sRGB, transparency over white.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, assert_never

# The formats that are written.
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from nsfwscan.media.decode.decode import advance, opened
from nsfwscan.media.decode.render import is_turned, render
from nsfwscan.media.decode.thumbnail import PIXELATED_LONGEST, Thumbnail, ThumbnailForm
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from nsfwscan.media.decode.formats.picture import Frame, Picture
    from nsfwscan.media.decode.wire import ThumbnailRequest

__all__ = ["JpegImagePlugin", "PngImagePlugin", "WebPImagePlugin", "miniature"]

_JPEG_QUALITY = 80
"""96 pixels take 2 kB and 1024 pixels 80 kB."""

_WEBP_QUALITY = 60


def miniature(
    data: bytes,
    wanted: ThumbnailRequest,
    *,
    before_pixels: Callable[[int, float], None] | None = None,
) -> Thumbnail:
    """Make a thumbnail of a picture file.

    `before_pixels` is that of `nsfwscan.media.decode.decode.decode`. Raises `DecodeError`, and
    nothing else, for anything wrong with the file.
    """
    longest = min(wanted.longest, PIXELATED_LONGEST) if wanted.pixelated else wanted.longest
    # JPEG is decoded at twice this size or more, in both directions; a person needs no more detail.
    enough = _stretched(-(-longest // 2), -(-longest // 2))
    with opened(data, enough, before_pixels=before_pixels) as picture:
        frame = _frame(picture, wanted.frame)
        width, height = frame.image.size
        if is_turned(frame):
            width, height = height, width
        scale = min(1.0, longest / max(width, height))
        small = _stretched(max(1, round(width * scale)), max(1, round(height * scale)))
        # The first is over white.
        return _encoded(render(frame, small)[0], wanted.form)


def _stretched(width: int, height: int) -> Geometry:
    return Geometry(Resize.STRETCH, width, height, Resample.BICUBIC, width, height)


def _frame(picture: Picture, number: int) -> Frame:
    """Decode one of the file's frames, in the way that most viewers show it."""
    frames = picture.facts.frames
    # The first view of this frame; `decode` numbers them by `view * frames // views`.
    view = min(-(-number * picture.views // frames), picture.views - 1)
    if picture.sequential:
        advance(picture, range(view), since=time.process_time())
    return picture.show(view)


def _encoded(image: Image.Image, form: ThumbnailForm) -> Thumbnail:
    image.info = {}  # writers copy comments and profiles from here
    file = io.BytesIO()
    match form:
        case ThumbnailForm.RGB:
            file.write(image.tobytes())
        case ThumbnailForm.JPEG:
            image.save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
        case ThumbnailForm.WEBP:
            image.save(file, "WEBP", quality=_WEBP_QUALITY)
        case ThumbnailForm.PNG:
            image.save(file, "PNG")
        case _:
            assert_never(form)
    return Thumbnail(file.getvalue(), form, image.width, image.height)

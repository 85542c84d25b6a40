"""From decoded pixels of any size and mode to sRGB at the size before the crop.

The steps: resize, convert to sRGB, put transparency over a background, orient. All after the resize
works on a few thousand pixels, so its cost does not depend on the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageStat

from nsfwscan.media.decode.profiles import transform_of
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.picture import Frame

# Pictures are resized from full size (JPEG from a reduced scale). Pillow's `reducing_gap=3` would
# halve that time, but it changed 24 of 262 scores by more than 0.001.

_RESAMPLE = {
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
}

_MAX_ASPECT = 16
"""Of a longer strip, only the middle can reach the model when the shorter edge is kept."""

_ALPHA_MODES = ("RGBA", "LA", "RGBa", "La")
MUCH_TRANSPARENCY = 0.1
"""From this mean transparency, a picture is also shown over black. Below it, white on white cannot
hide more than a shade."""
_WIDE_MODES = ("I;16", "I", "F")
"""Modes with more than 8 bits per sample; all of them are grey."""

# The operation that undoes each EXIF orientation. The last four swap width and height.
_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS = {_UNDO_ORIENTATION[orientation] for orientation in (5, 6, 7, 8)}


def render(frame: Frame, geometry: Geometry) -> list[Image.Image]:
    """Turn one frame into sRGB at the size before the crop, as it is meant to be seen.

    Viewers have white or dark backgrounds, and a picture painted in white and transparency only
    shows on dark ones. So a largely transparent frame is returned over white and over black.
    """
    undo = _UNDO_ORIENTATION.get(frame.orientation)
    resizable = _resizable(frame.image)
    span = frame.span or _tonal_span(resizable)
    small = _resize(resizable, geometry, undo in _TURNS)
    seen = _on_backgrounds(small, span, frame)
    return seen if undo is None else [one.transpose(undo) for one in seen]


def is_turned(frame: Frame) -> bool:
    """Return True if viewers swap the width and height of this frame."""
    return _UNDO_ORIENTATION.get(frame.orientation) in _TURNS


def centre(small: Image.Image, geometry: Geometry) -> Image.Image:
    """Crop the model's input from the middle."""
    # Half a pixel is rounded to even, as in torchvision's CenterCrop.
    left = round((small.width - geometry.crop_width) / 2)
    top = round((small.height - geometry.crop_height) / 2)
    box = (left, top, left + geometry.crop_width, top + geometry.crop_height)
    return small.crop(box)


def _resizable(image: Image.Image) -> Image.Image:
    """Convert modes that cannot be resized; other conversions come after the resize."""
    if image.mode in _ALPHA_MODES:
        return image  # Pillow resizes these with premultiplied alpha
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "RGBX", "YCbCr", "HSV"):
        return image.convert("RGB")
    if image.mode.startswith("I;16") and image.mode != "I;16":
        return image.convert("I")  # Pillow 13 resizes big-endian samples as if they were not
    return image


def _tonal_span(image: Image.Image) -> tuple[float, float]:
    """Return the values of black and white, which are only in doubt above 8 bits per sample."""
    if image.mode not in _WIDE_MODES:
        return 0.0, 255.0
    low, high = cast("tuple[float, float]", image.getextrema())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DecodeError(FailReason.CORRUPT, "a pixel is not a finite number")
    # Floats are 0 to 1 or 0 to 255. Scanners write 12 bits into 16. Otherwise there is no agreed
    # white, so the values are stretched to the full range to make them visible.
    usual = (1.0, 255.0) if image.mode == "F" else (4095.0, 65535.0)
    for white in usual:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high


def _resize(image: Image.Image, geometry: Geometry, turned: bool) -> Image.Image:
    """Resize as the model's publisher did; `turned` pictures will be rotated by 90 degrees."""
    width, height = geometry.resize_width, geometry.resize_height
    if turned:
        width, height = height, width
    if geometry.resize is Resize.SHORTEST_EDGE:
        image = _without_far_ends(image)
        # The longer edge is truncated to a whole number, as in torchvision's Resize.
        if width * image.height >= height * image.width:
            height = max(height, int(width * image.height / image.width))
        else:
            width = max(width, int(height * image.width / image.height))
    return image.resize((width, height), _RESAMPLE[geometry.resample])


def _without_far_ends(image: Image.Image) -> Image.Image:
    """Crop what the centre crop drops anyway: 65,000 x 10 pixels would be resized to gigabytes."""
    short = min(image.size)
    across, down = (min(edge, _MAX_ASPECT * short) for edge in image.size)
    if (across, down) == image.size:
        return image
    left, top = (image.width - across) // 2, (image.height - down) // 2
    return image.crop((left, top, left + across, top + down))


def _on_backgrounds(
    image: Image.Image, span: tuple[float, float], frame: Frame
) -> list[Image.Image]:
    """Convert a resized image of any mode to sRGB, on each background that counts."""
    if image.mode not in _ALPHA_MODES:
        return [_to_srgb(image, span, frame)]
    image = image.convert(image.mode.upper())
    colour = _to_srgb(image.convert(image.mode.removesuffix("A")), span, frame)
    alpha = image.getchannel("A")
    transparency = 1 - ImageStat.Stat(alpha).mean[0] / 255
    seen = []
    for background in ("white", "black") if transparency > MUCH_TRANSPARENCY else ("white",):
        seen.append(Image.new("RGB", image.size, background))
        seen[-1].paste(colour, mask=alpha)
    return seen


def _to_srgb(image: Image.Image, span: tuple[float, float], frame: Frame) -> Image.Image:
    if frame.to_srgb is not None:
        return frame.to_srgb(image)
    if image.mode in _WIDE_MODES:
        black, white = span
        scale = 255.0 / ((white - black) or 1.0)
        shift = 0.5 - black * scale  # `convert` truncates fractions
        image = image.convert("F").point(lambda value: value * scale + shift).convert("L")
    if image.mode == "L" and frame.profile[16:20] == b"RGB ":  # browsers go through RGB
        image = image.convert("RGB")
    transform = transform_of(frame.profile, image.mode)
    if transform is None:
        return image.convert("RGB")
    return transform.apply(image)

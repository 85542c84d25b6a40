"""From the bytes of a picture file to the pixels of a model. The one module that knows Pillow.

The steps, in order: format by content, header, limits, reduced-scale JPEG decoding, pixels, resize,
ICC to sRGB, alpha over white, EXIF orientation, centre crop. Everything after the resize works on a
few thousand pixels, so its cost does not depend on the picture.

Hostile files are expected here. This module keeps their demands within limits and turns every
complaint into a `DecodeError`; crashes and hangs of native code are contained by
`nsfwscan.images.decode_pool`, which runs this module in processes of its own.
"""

from __future__ import annotations

import io
import math
import time
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageFile

# The formats of nearly all pictures; the other codecs are loaded by the first file that asks.
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from nsfwscan import likeness
from nsfwscan.errors import DecodeError
from nsfwscan.geometry import Geometry, Resample, Resize
from nsfwscan.images.decoded import DECODER_VERSION, MAX_SAMPLED_FRAMES, Decoded
from nsfwscan.images.sniff import HEAD_BYTES, READABLE, sniff
from nsfwscan.results import FailReason, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import ImageCms

__all__ = ["DECODER_VERSION", "Decoded", "decode", "prepare_process"]

_MEGA = 1 << 20

# The most pixels a file may declare. JPEG is decoded at a reduced scale, where 200 MP of a phone
# cost 30 MB; libwebp holds four copies of the canvas. A 64 MP sensor has 64.2 million pixels.
_MAX_PIXELS = {"JPEG": 400 * _MEGA, "WEBP": 48 * _MEGA}
_MAX_PIXELS_OTHERWISE = 64 * _MEGA

# What one pixel costs at the peak, in bytes, beside the file itself: Pillow keeps RGB in four
# bytes, alpha needs a second copy, and the codecs that decode whole frames keep their own.
_BYTES_PER_PIXEL = {"JPEG": 4, "WEBP": 18, "AVIF": 12, "HEIF": 12}
_BYTES_PER_PIXEL_OTHERWISE = 9

_MAX_COEFFICIENT_BYTES = 768 * _MEGA
"""A progressive JPEG keeps all its coefficients, two bytes each, however far it is reduced."""

_MAX_JPEG_SCANS = 100
"""Encoders write 10 to 20. Each scan passes over the whole picture: 10,000 of them are a bomb."""

_SEQUENTIAL = ("GIF", "PNG")
"""A frame of these needs all frames before it, and Pillow composes each in Python."""

_ANIMATION_SECONDS = 6.0
"""Processor time for all of an animation's frames, below what a decode worker has."""

_MAX_ICC_BYTES = 4 * _MEGA
"""Printers' CMYK profiles take 0.5 to 2.5 MB; a larger one is treated as broken."""

# A JPEG is decoded at the smallest scale that leaves both edges this many times what the model is
# given. Measured with OpenNSFW on 262 photographs and crops, largest change of a score against
# full decoding and mean time: 1x 0.015, 19 ms; 2x 0.015, 25 ms; 3x 0.010, 32 ms; full 56 ms. The
# 99th percentile is what 2x buys over 1x: 0.005 instead of 0.009.
_JPEG_OVERSAMPLING = 2

# Other formats are resized from full size. Pillow's `reducing_gap=3` would halve that time, but it
# moved 24 of the 262 scores by more than 0.001.

_RESAMPLE = {
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
}

_START_OF_SCAN = b"\xff\xda"

_MAX_ASPECT = 16
"""Of a longer strip only the middle can reach the model when the shorter edge is kept."""

_SRGB_TOLERANCE = 2
"""Levels of 255 by which a profile may differ from sRGB and still be taken for it."""

# In what a plugin says of a header: not broken, only beyond it.
_ODD_NOT_BROKEN = ("unsupported", "not supported", "cannot handle", "unknown", "not installed")

_ALPHA_MODES = ("RGBA", "LA", "RGBa", "La")
_WIDE_MODES = ("I;16", "I", "F")
"""Modes of more than 8 bits a sample; all of them are grey."""

_ORIENTATION_TAG = 0x0112
# What undoes each EXIF orientation. The last four exchange width and height.
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


def prepare_process() -> None:
    """Set what Pillow keeps per process the way a decode worker needs it.

    Not done on import, so that a program which uses Pillow itself finds it unchanged.
    """
    warnings.simplefilter("ignore")
    # Beside our own limits, which see a file's header: a GIF's canvas may grow with a later frame.
    # Pillow warns above this and raises above twice this.
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS_OTHERWISE // 2


def decode(
    data: bytes | bytearray | memoryview,
    geometry: Geometry,
    *,
    full: bool = False,
    before_pixels: Callable[[int], None] | None = None,
) -> Decoded:
    """Decode one picture file to the pixels that a model takes.

    `full` decodes JPEG at its full scale, for exact comparisons. `before_pixels` is called with
    the bytes of memory the pixels will need, after the header was read and before it is taken.
    Raises `DecodeError`, and nothing else, for anything that is wrong with the file.
    """
    if not data:
        raise DecodeError(FailReason.EMPTY)
    content = bytes(data)
    name = sniff(content[:HEAD_BYTES])
    if name is None:
        raise DecodeError(FailReason.UNRECOGNISED, "the content is no picture of a known format")
    if name not in READABLE:
        raise DecodeError(FailReason.UNSUPPORTED, f"{name} is not read")
    try:
        with _open(name, content) as image:
            facts = _checked_facts(image, name)
            memory = _BYTES_PER_PIXEL.get(name, _BYTES_PER_PIXEL_OTHERWISE)
            memory *= facts.width * facts.height
            if isinstance(image, JpegImageFile):
                memory = _limit_jpeg(image, content, geometry, full)
            if before_pixels is not None:
                before_pixels(memory)
            frames, alike = list[bytes](), likeness.NONE
            for frame in _sampled(image, facts):
                small = _render(frame, geometry)
                frames.append(_centre(small, geometry).tobytes())
                if facts.frames == 1:  # one frame of an animation says nothing of the others
                    alike = _likeness(small)
            return Decoded(facts, len(frames), b"".join(frames), alike)
    except DecodeError:
        raise
    except MemoryError:
        raise DecodeError(FailReason.DECODER_MEMORY, "the picture needs too much memory") from None
    except Image.DecompressionBombError:
        raise DecodeError(FailReason.TOO_MANY_PIXELS, "a frame outgrows the limit") from None
    except Exception as error:  # hostile bytes make the plugins raise anything
        raise _explained(error) from error


def _explained(error: Exception) -> DecodeError:
    """Choose the reason for a complaint that came up while pixels were read."""
    message = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in message.lower():
        return DecodeError(FailReason.TRUNCATED, message)
    if "memory" in message:  # the codecs' way of saying MemoryError
        return DecodeError(FailReason.DECODER_MEMORY, message)
    return DecodeError(FailReason.CORRUPT, message)


def _open(name: str, content: bytes) -> ImageFile.ImageFile:
    """Read the header. The plugin of the one format is called; `Image.open` would load others."""
    plugin = _plugin(name)
    try:
        return plugin(io.BytesIO(content))
    except SyntaxError as error:  # what plugins raise for a header they cannot use
        message = str(error)
        odd = any(word in message.lower() for word in _ODD_NOT_BROKEN)
        reason = FailReason.UNSUPPORTED if odd else FailReason.CORRUPT
        raise DecodeError(reason, message) from error


def _plugin(name: str) -> type[ImageFile.ImageFile]:
    match name:
        case "JPEG":
            # An MPO, which is what many phones write, is read as the JPEG it begins with: the
            # pictures after the first are previews, depth and gain maps.
            return JpegImageFile
        case "PNG":
            return PngImageFile
        case "WEBP":
            from PIL.WebPImagePlugin import WebPImageFile

            return WebPImageFile
        case "GIF":
            from PIL.GifImagePlugin import GifImageFile

            return GifImageFile
        case "BMP":
            from PIL.BmpImagePlugin import BmpImageFile

            return BmpImageFile
        case "TIFF":
            from PIL.TiffImagePlugin import TiffImageFile

            return TiffImageFile
        case "AVIF":
            from PIL import AvifImagePlugin

            # Whole pictures run in parallel; threads of the codec would only take cores from them.
            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
            return AvifImagePlugin.AvifImageFile
        case _:
            return _heif_plugin()


def _heif_plugin() -> type[ImageFile.ImageFile]:
    try:
        import pillow_heif
    except ImportError:
        raise DecodeError(
            FailReason.UNSUPPORTED,
            "HEIC pictures need the optional extra: pip install 'nsfwscan[heic]'",
        ) from None
    pillow_heif.options.DECODE_THREADS = 1  # as for AVIF
    return cast("type[ImageFile.ImageFile]", pillow_heif.HeifImageFile)


def _checked_facts(image: ImageFile.ImageFile, name: str) -> ImageFacts:
    """Read size and number of frames, and refuse what declares too many pixels."""
    width, height = _stored_size(image)
    limit = _MAX_PIXELS.get(name, _MAX_PIXELS_OTHERWISE)
    _check_pixels(width, height, limit)
    # GIF and TIFF are read through to the end for this, without decoding.
    frames: int = getattr(image, "n_frames", 1)
    return ImageFacts(name, width, height, frames)


def _stored_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    width, height = image.size
    tags = getattr(image, "tag_v2", None)
    if tags is not None and tags.get(_ORIENTATION_TAG, 1) >= 5:
        return height, width  # the TIFF plugin tells the size after the rotation
    return width, height


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise DecodeError(
            FailReason.TOO_MANY_PIXELS,
            f"{width} x {height} pixels are {width * height / 1e6:.0f} MP; "
            f"at most {limit / 1e6:.0f} MP are read",
        )


def _limit_jpeg(image: JpegImageFile, content: bytes, geometry: Geometry, full: bool) -> int:
    """Choose the scale of decoding, refuse bombs, and return the bytes of memory needed."""
    stored = image.width * image.height
    if not full:
        # In the shorter direction of the resize, so that it holds for either orientation.
        edge = _JPEG_OVERSAMPLING * max(geometry.resize_width, geometry.resize_height)
        image.draft(None, (edge, edge))
    _check_pixels(image.width, image.height, _MAX_PIXELS_OTHERWISE)
    memory = _BYTES_PER_PIXEL["JPEG"] * image.width * image.height
    if not _has_several_scans(image, content):
        return memory
    scans = content.count(_START_OF_SCAN)
    if scans > _MAX_JPEG_SCANS:
        raise DecodeError(
            FailReason.UNSUPPORTED, f"a JPEG of {scans} scans; at most {_MAX_JPEG_SCANS} are read"
        )
    areas = [across * down for _, across, down, _ in image.layer]
    coefficients = 2 * stored * sum(areas) // max(1, *areas)
    if coefficients > _MAX_COEFFICIENT_BYTES:
        raise DecodeError(
            FailReason.TOO_MANY_PIXELS,
            f"a progressive JPEG of {stored / 1e6:.0f} MP takes {coefficients / 1e6:.0f} MB",
        )
    return memory + coefficients


def _has_several_scans(image: JpegImageFile, content: bytes) -> bool:
    """Tell whether the first scan is not the whole picture, which only the others are counted for.

    Counting in a file of 4 MB takes 4 ms, a sixth of decoding it.
    """
    if image.info.get("progressive") or image.fp is None:
        return True
    first = content.rfind(_START_OF_SCAN, 0, image.fp.tell())
    return content[first + 4] < image.layers


def _sampled(image: ImageFile.ImageFile, facts: ImageFacts) -> Iterator[ImageFile.ImageFile]:
    """Give the image with the pixels of one sampled frame after the other."""
    limit = _MAX_PIXELS.get(facts.format, _MAX_PIXELS_OTHERWISE)
    started = time.process_time()
    for position in spread(facts.frames):
        if facts.format in _SEQUENTIAL:
            for step in range(image.tell() + 1, position):
                image.seek(step)
                _check_pace(time.process_time() - started, step, facts.frames)
        image.seek(position)
        if facts.frames > 1:  # a page of a TIFF has its own size
            _check_pixels(image.width, image.height, limit)
        image.load()
        yield image


def _check_pace(seconds: float, done: int, frames: int) -> None:
    """Refuse an animation whose end is out of reach: half of one must not pass for all of it."""
    if seconds > 1.0 and seconds * frames / done > _ANIMATION_SECONDS:
        raise DecodeError(
            FailReason.DECODER_TIMEOUT,
            f"an animation of {frames} frames, of which {done} took {seconds:.0f} second",
        )


def spread(frames: int) -> list[int]:
    """Choose the frames to look at, at most `MAX_SAMPLED_FRAMES`, the first and last among them."""
    if frames <= MAX_SAMPLED_FRAMES:
        return list(range(frames))
    gaps = MAX_SAMPLED_FRAMES - 1
    return [round(at * (frames - 1) / gaps) for at in range(MAX_SAMPLED_FRAMES)]


def _render(image: ImageFile.ImageFile, geometry: Geometry) -> Image.Image:
    """Turn loaded pixels of any size and mode into sRGB at the size before the crop."""
    profile = image.info.get("icc_profile")
    undo = _UNDO_ORIENTATION.get(_orientation(image))
    turned = undo in _TURNS
    resizable = _resizable(image)
    span = _tonal_span(resizable)
    small = _resize(resizable, geometry, turned)
    small = _over_white(small, span, profile)
    return small if undo is None else small.transpose(undo)


def _centre(small: Image.Image, geometry: Geometry) -> Image.Image:
    # Half a pixel is rounded as torchvision's CenterCrop does it: to the even neighbour.
    left = round((small.width - geometry.crop_width) / 2)
    top = round((small.height - geometry.crop_height) / 2)
    box = (left, top, left + geometry.crop_width, top + geometry.crop_height)
    return small.crop(box)


def _likeness(small: Image.Image) -> int:
    """Compute the likeness from what is left after the resize: it costs 0.5 ms there.

    All of the picture is in it, but for the far ends of a long strip, as it is meant to be seen.
    """
    side = (likeness.SIDE, likeness.SIDE)
    return likeness.of_luma(small.convert("L").resize(side, Image.Resampling.BOX).tobytes())


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - broken metadata does not make the pixels unreadable
        return 1


def _resizable(image: Image.Image) -> Image.Image:
    """Convert the modes that cannot be resized as they are; all others stay for after that."""
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
    """Return the values that black and white have. Only in modes of more than 8 bits is it open."""
    if image.mode not in _WIDE_MODES:
        return 0.0, 255.0
    low, high = cast("tuple[float, float]", image.getextrema())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DecodeError(FailReason.CORRUPT, "a pixel is not a finite number")
    # Floats are 0 to 1 or 0 to 255. Scanners write 12 bits into 16. Anything else has no agreed
    # white: what is there is stretched to the full range, so that it can be seen.
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
        # The longer edge is cut to a whole number as torchvision's Resize does it.
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


def _over_white(
    image: Image.Image, span: tuple[float, float], profile: bytes | None
) -> Image.Image:
    """Convert a resized image of any mode to sRGB, transparent parts over white."""
    if image.mode not in _ALPHA_MODES:
        return _to_srgb(image, span, profile)
    image = image.convert(image.mode.upper())
    colour = image.convert(image.mode.removesuffix("A"))
    over = Image.new("RGB", image.size, "white")
    over.paste(_to_srgb(colour, span, profile), mask=image.getchannel("A"))
    return over


def _to_srgb(image: Image.Image, span: tuple[float, float], profile: bytes | None) -> Image.Image:
    if image.mode in _WIDE_MODES:
        black, white = span
        scale = 255.0 / ((white - black) or 1.0)
        shift = 0.5 - black * scale  # `convert` cuts the fraction off
        image = image.convert("F").point(lambda value: value * scale + shift).convert("L")
    transform = _transform(profile or b"", image.mode)
    if transform is None:
        return image.convert("RGB")
    return transform.apply(image)


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the colour transform to sRGB, or None where there is nothing to do or to go by.

    Cached: most pictures of a folder carry one of a few profiles, and building takes 3 ms.
    """
    if not (profile or mode == "LAB") or len(profile) > _MAX_ICC_BYTES:
        return None
    from PIL import ImageCms

    try:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        source = ImageCms.ImageCmsProfile(
            ImageCms.createProfile("LAB") if mode == "LAB" else io.BytesIO(profile)
        )
        transform = ImageCms.ImageCmsTransform(source, srgb, mode, "RGB")
    except Exception:  # noqa: BLE001 - a broken profile does not make the pixels unreadable
        return None
    if mode == "RGB" and _changes_nothing(transform):
        return None
    return transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell sRGB by what a profile does, not by its name: many bytes say the same."""
    levels = range(0, 256, 17)
    colours = bytes(
        value
        for red in levels
        for green in levels
        for blue in levels
        for value in (red, green, blue)
    )
    probe = Image.frombytes("RGB", (len(levels) ** 2, len(levels)), colours)
    changed = transform.apply(probe).tobytes()
    return all(
        abs(one - other) <= _SRGB_TOLERANCE for one, other in zip(colours, changed, strict=True)
    )

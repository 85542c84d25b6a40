"""From the bytes of a picture file to a model's pixels.

The steps, in order: detect the format, read the header, check the limits, decode the sampled
frames, then `nsfwscan.media.decode.render`. What a file of each format shows is determined in
`nsfwscan.media.decode.formats`.

Files may be hostile. This module keeps their demands within limits and turns every error into a
`DecodeError`; crashes and hangs of native code are contained by `nsfwscan.media.decode.pool`, which
runs this module in separate processes.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import TYPE_CHECKING

from PIL import Image

from nsfwscan.media.decode.decoded import DECODER_VERSION, Decoded, spread
from nsfwscan.media.decode.facts import facts_of
from nsfwscan.media.decode.formats import gain_map, jpeg, png
from nsfwscan.media.decode.formats.picture import MAX_PIXELS
from nsfwscan.media.decode.render import centre, render
from nsfwscan.media.sniff import HEAD_BYTES, READABLE, sniff

# The formats of nearly all pictures; other codecs are loaded when a file needs them.
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.facts import NO_FACTS
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.media.decode.formats.picture import Frame, Picture
    from nsfwscan.values.geometry import Geometry

__all__ = ["DECODER_VERSION", "Decoded", "advance", "decode", "opened", "prepare_process"]

_ANIMATION_SECONDS = 6.0
"""CPU time for all frames of an animation; less than a decode worker's limit."""

_NEVER_PARTIAL = (
    FailReason.DECODER_MEMORY,
    FailReason.DECODER_TIMEOUT,
    FailReason.TOO_MANY_PIXELS,
)
"""Reasons to refuse a picture even if part of it was decoded: the rest exists, but out of reach."""


def prepare_process() -> None:
    """Set Pillow's global settings for a decode worker.

    Not done on import, so that a program that uses Pillow itself is not affected.
    """
    warnings.simplefilter("ignore")
    # Our own limits only see a file's header, but a later frame may enlarge a GIF's canvas.
    # Pillow warns above this value and raises above twice this value.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2


def decode(
    data: bytes | bytearray | memoryview,
    geometry: Geometry,
    *,
    full: bool = False,
    before_pixels: Callable[[int, float], None] | None = None,
) -> Decoded:
    """Decode one picture file to the pixels that a model takes.

    See `opened` for `full` and `before_pixels`. Raises `DecodeError`, and nothing else, for
    anything wrong with the file.
    """
    with opened(data, geometry, full=full, before_pixels=before_pixels) as picture:
        pixels, shown = list[bytes](), list[int]()
        content_facts = NO_FACTS
        for number, frame in _sampled(picture):
            seen = render(frame, geometry)
            if not pixels:
                # If there are several ways to show a still picture, the first is the usual one.
                content_facts = facts_of(seen, still=picture.facts.frames == 1)
            pixels += [centre(small, geometry).tobytes() for small in seen]
            shown += [number] * len(seen)
        facts = picture.facts._replace(missing=picture.missing)
        return Decoded(facts, tuple(shown), b"".join(pixels), content_facts)


@contextlib.contextmanager
def opened(
    data: bytes | bytearray | memoryview,
    geometry: Geometry,
    *,
    full: bool = False,
    before_pixels: Callable[[int, float], None] | None = None,
) -> Iterator[Picture]:
    """Open a picture file, to be shown at the size in `geometry`.

    `full` decodes JPEG at full scale, for exact comparisons. `before_pixels` is called once the
    header has been read, with the bytes of memory that the pixels will need, before they are
    allocated, and the seconds of CPU time allowed beyond the usual limit.
    Whatever is raised here or in the block becomes a `DecodeError`.
    """
    if not data:
        raise DecodeError(FailReason.EMPTY)
    content = bytes(data)
    name = sniff(content[:HEAD_BYTES])
    if name is None:
        raise DecodeError(FailReason.UNRECOGNISED, "the content is not a picture in a known format")
    if name not in READABLE:
        raise DecodeError(FailReason.UNSUPPORTED, f"{name} is not supported")
    try:
        with contextlib.closing(_open(name, content, geometry, full)) as picture:
            if before_pixels is not None:
                before_pixels(picture.memory, picture.seconds)
            yield picture
    except Exception as error:  # with hostile bytes, plugins may raise anything
        raise _explained(error) from error


def _explained(error: Exception) -> DecodeError:
    """Choose the reason for an error raised while a picture was being read."""
    message = str(error) or type(error).__name__
    match error:
        case DecodeError():
            return error
        case MemoryError():
            detail = "the picture needs too much memory"
            return DecodeError(FailReason.DECODER_MEMORY, detail, transient=True)
        case Image.DecompressionBombError():
            return DecodeError(FailReason.TOO_MANY_PIXELS, "a frame exceeds the limit")
    if isinstance(error, EOFError) or "truncated" in message.lower():
        return DecodeError(FailReason.TRUNCATED, message)
    if "memory" in message:  # how codecs report a MemoryError
        return DecodeError(FailReason.DECODER_MEMORY, message, transient=True)
    # System errors, and a codec that cannot be loaded, are not the picture's fault. Errors
    # raised by plugins have no errno.
    transient = isinstance(error, ImportError) or getattr(error, "errno", None) is not None
    return DecodeError(FailReason.CORRUPT, message, transient=transient)


def _open(name: str, content: bytes, geometry: Geometry, full: bool) -> Picture:
    match name:
        case "JPEG":
            gain_map.refuse_high_range(content)
            return jpeg.open_jpeg(content, geometry, full=full)
        case "PNG":
            return png.open_png(content)
        case "WEBP":
            from nsfwscan.media.decode.formats.webp import open_webp

            return open_webp(content)
        case "GIF":
            from nsfwscan.media.decode.formats.gif import open_gif

            return open_gif(content)
        case "BMP":
            from nsfwscan.media.decode.formats.bmp import open_bmp

            return open_bmp(content)
        case "TIFF":
            from nsfwscan.media.decode.formats.tiff import open_tiff

            return open_tiff(content)
        case "AVIF" | "HEIF":
            from nsfwscan.media.decode.formats.isobmff import open_isobmff

            return open_isobmff(content)
        case _:
            raise DecodeError(FailReason.UNSUPPORTED, f"{name} is not supported")


def _sampled(picture: Picture) -> Iterator[tuple[int, Frame]]:
    """Yield the sampled views in order, as many as can be shown, with their frame numbers.

    If a view fails after an earlier one succeeded, `picture.missing` says so: what shows counts.
    """
    started = time.process_time()
    shown, first_error = 0, None
    done = 0
    for view in spread(picture.views, times=picture.times):
        try:
            if picture.sequential:
                advance(picture, range(done, view), since=started)
                done = view + 1
            frame = picture.show(view)
        except Exception as error:
            problem = _explained(error)
            if problem.reason in _NEVER_PARTIAL or problem.transient:
                raise
            first_error = first_error or problem
            if not picture.missing:
                picture.missing = f"frame {view + 1} of {picture.views}: {problem.detail}"
            if picture.sequential:
                break
            continue
        # If a frame has several views, they follow each other.
        yield view * picture.facts.frames // picture.views, frame
        shown += 1
    if not shown and first_error is not None:
        raise first_error


def advance(picture: Picture, steps: range, *, since: float) -> None:
    """Compose the views of a sequential format that come before one that is shown.

    `since` is the process's CPU time at the first view. Raises `DecodeError` if it takes too long.
    """
    for step in steps:
        picture.skip(step)
        _check_pace(time.process_time() - since, step, picture.views)


def _check_pace(seconds: float, done: int, frames: int) -> None:
    """Refuse an animation too slow to reach its end: half of it must not pass for all of it."""
    if seconds > 1.0 and seconds * frames / max(1, done) > _ANIMATION_SECONDS:
        raise DecodeError(
            FailReason.DECODER_TIMEOUT,
            f"an animation of {frames} frames, of which {done} took {seconds:.0f} s",
        )

"""What every format module returns: a `Picture`, whose frames are as viewers show them.

A format module decides which of the file's bytes count, where Pillow would read a different picture
than viewers show, canvas and aperture, orientation, and what the samples mean. Where it would have
to guess, it raises `DecodeError`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from PIL import Image, ImageFile

from nsfwscan.media.decode.decoded import INSTEAD_MS, SHORTEST_MS
from nsfwscan.media.decode.formats.exif import orientation_of
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Plugin = TypeVar("Plugin", bound=ImageFile.ImageFile)

MEGA = 1 << 20

MAX_PIXELS = 64 * MEGA
"""The most pixels in one frame, unless a format differs. A 64 MP sensor has 64.2 million."""

BYTES_PER_PIXEL = 9
"""Peak bytes per pixel beside the file, unless a format differs: Pillow keeps RGB in four bytes,
and alpha needs a second copy."""

# In what plugins report about a header: not broken, just not supported.
_ODD_NOT_BROKEN = ("unsupported", "not supported", "cannot handle", "unknown", "not installed")


@dataclass(slots=True)
class Frame:
    """One image that a viewer shows."""

    image: Image.Image
    """Its pixels, loaded, in any mode, before any orientation."""
    profile: bytes = b""
    """The ICC profile that applies to `image`; empty for sRGB."""
    orientation: int = 1
    """How to turn it, 1 to 8 as in EXIF."""
    span: tuple[float, float] | None = None
    """The values of black and white in modes of more than 8 bits; None if they have to be guessed
    from the samples."""
    to_srgb: Callable[[Image.Image], Image.Image] | None = None
    """Converts an image of `image`'s mode, without its alpha, to sRGB; takes precedence over
    `profile`. Called after the resize."""


class Picture:
    """One picture file: header read and limits checked, pixels not decoded yet."""

    facts: ImageFacts
    views: int
    """How many images there are to show: the frames, and more where viewers differ."""
    times: Sequence[float] = ()
    """How long each view is shown, in milliseconds; empty if unknown or all alike."""
    memory: int
    """Bytes that the pixels will take at the peak, beside the file."""
    seconds = 0.0
    """CPU seconds that it may take beyond the usual limit."""
    sequential = False
    """Whether a view needs all views before it, so that skipping some saves nothing."""
    missing: str = ""
    """What cannot be shown although the rest can, in words for the user; `show` may set it."""

    def show(self, view: int) -> Frame:
        """Decode one view. Called in ascending order, but not for every view.

        Raises anything that Pillow raises, or `DecodeError`.
        """
        raise NotImplementedError

    def skip(self, view: int) -> None:
        """Compose a view that is not needed, in a sequential format."""

    def close(self) -> None:
        """Release the file."""


def as_browsers_time(milliseconds: Iterable[float], ways: int) -> list[float]:
    """Return how long each view is shown, if each frame is shown in this many ways."""
    shown = (INSTEAD_MS if time < SHORTEST_MS else time for time in milliseconds)
    return [time for time in shown for _ in range(ways)]


class PillowPicture(Picture, Generic[Plugin]):
    """A picture whose frames come from a Pillow plugin."""

    def __init__(
        self,
        name: str,
        image: Plugin,
        *,
        max_pixels: int = MAX_PIXELS,
        bytes_per_pixel: int = BYTES_PER_PIXEL,
    ) -> None:
        self.image = image
        self.max_pixels = max_pixels
        check_pixels(*image.size, max_pixels)
        # For this, GIF and TIFF are read to the end, without decoding.
        frames: int = getattr(image, "n_frames", 1)
        self.facts = ImageFacts(name, image.width, image.height, frames)
        self.views = frames
        self.memory = bytes_per_pixel * image.width * image.height

    def show(self, view: int) -> Frame:
        """Decode the plugin's frame of this number."""
        self.image.seek(view)
        self.image.load()
        return Frame(
            self.image,
            self.image.info.get("icc_profile") or b"",
            orientation_of((self.image.info.get("exif") or b"").removeprefix(b"Exif\0\0")),
        )

    def skip(self, view: int) -> None:
        """Compose a frame that is not sampled."""
        self.image.seek(view)

    def close(self) -> None:
        """Release the file."""
        self.image.close()


def open_with(plugin: type[Plugin], content: bytes) -> Plugin:
    """Read the header with this format's plugin; `Image.open` would load others.

    Raises `DecodeError` for a header that the plugin cannot use.
    """
    try:
        return plugin(io.BytesIO(content))
    except SyntaxError as error:  # raised by plugins for a header that they cannot use
        message = str(error)
        odd = any(word in message.lower() for word in _ODD_NOT_BROKEN)
        reason = FailReason.UNSUPPORTED if odd else FailReason.CORRUPT
        raise DecodeError(reason, message) from error


def check_pixels(width: int, height: int, limit: int) -> None:
    """Raise `DecodeError` if there are more than `limit` pixels."""
    if width * height > limit:
        raise DecodeError(
            FailReason.TOO_MANY_PIXELS,
            f"{width} x {height} pixels are {width * height / 1e6:.0f} MP; "
            f"the limit is {limit / 1e6:.0f} MP",
        )

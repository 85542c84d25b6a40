"""GIF, still and moving, composed as in browsers.

Pillow only unpacks the pixels of single frames here. Its own canvas grows with every frame that
lies outside it, which can reduce a picture to a small corner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from nsfwscan.media.decode.formats.picture import (
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    Frame,
    Picture,
    as_browsers_time,
    check_pixels,
)
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCREEN_END = 13
"""Bytes of the signature and the logical screen descriptor (GIF89a specification, section 18)."""

_EXTENSION, _IMAGE, _TRAILER = b"!,;"
_GRAPHIC_CONTROL = 0xF9

_KEEP, _CLEAR = 1, 2
_RESTORE = (3, 4)
"""Disposal methods; 4 is an old misreading of the specification that browsers accept."""

_MAX_CODE_BITS = 8

_GREY_RAMP = bytes(level for level in range(256) for _ in "RGB")
"""For a picture without a palette. Browsers show it black, other viewers in shades of grey."""

_NO_TRAILER = "the file ends without its end mark: more frames may be missing"


class _Image(NamedTuple):
    """One frame as stored."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom on the logical screen; may lie outside."""
    interlaced: bool
    palette: bytes
    data: int
    """Position of the code size; sub-blocks follow."""
    end: int
    whole: bool
    """Whether the sub-blocks end with a terminator, not with the file."""
    disposal: int
    transparent: int | None
    milliseconds: int
    """How long the frame is shown."""

    @property
    def size(self) -> tuple[int, int]:
        left, top, right, bottom = self.box
        return right - left, bottom - top


class _GifPicture(Picture):
    """Every frame on the logical screen.

    If the first frame reaches beyond the screen, Chromium and Firefox enlarge the screen, and other
    viewers crop the frame. Then each frame has two views: the larger canvas, and the screen.
    """

    sequential = True

    def __init__(self, content: bytes) -> None:
        self._content = content
        images, self.missing = _index(content)
        width, height = _u16(content, 6), _u16(content, 8)
        _, _, right, bottom = images[0].box
        self._canvas_size = max(width, right), max(height, bottom)
        self._screen = (width, height) if width and height else self._canvas_size
        if not all(self._canvas_size):
            raise DecodeError(FailReason.CORRUPT, "the screen and all frames are empty")
        check_pixels(*self._canvas_size, MAX_PIXELS)
        for image in images:
            check_pixels(*image.size, MAX_PIXELS)
        self._images = images
        self._grown = self._screen != self._canvas_size
        self.facts = ImageFacts("GIF", *self._screen, len(images))
        self.views = len(images) * (2 if self._grown else 1)
        shown_for = (image.milliseconds for image in images)
        self.times = as_browsers_time(shown_for, 2 if self._grown else 1)
        across, down = self._canvas_size
        self.memory = BYTES_PER_PIXEL * across * down + max(
            image.size[0] * image.size[1] for image in images
        )
        self._canvas = Image.new("RGB", (1, 1))
        self._done = 0
        self._saved: Image.Image | None = None

    def show(self, view: int) -> Frame:
        """Compose the frame of this view."""
        if len(self._images) == 1 and self._is_plain(self._images[0]):
            return Frame(self._unpacked(self._images[0]))
        self.skip(view)
        on_screen = self._grown and view % 2 == 1
        return Frame(self._canvas.crop((0, 0, *self._screen)) if on_screen else self._canvas)

    def skip(self, view: int) -> None:
        """Compose all frames up to this view's."""
        wanted = view // 2 if self._grown else view
        while self._done <= wanted:
            self._compose(self._done)
            self._done += 1

    def _compose(self, number: int) -> None:
        image = self._images[number]
        if number == 0:
            cleared = any(image.disposal == _CLEAR for image in self._images)
            opaque = self._is_plain(image) and image.disposal not in _RESTORE and not cleared
            self._canvas = Image.new("RGB" if opaque else "RGBA", self._canvas_size)
        else:
            self._dispose(self._images[number - 1])
        visible = self._visible(image)
        restore = image.disposal in _RESTORE and visible is not None
        self._saved = self._canvas.crop(visible) if restore else None
        if visible is None:
            return
        left, top, _, _ = image.box
        drawn = self._unpacked(image)
        if visible != image.box:
            drawn = drawn.crop((0, 0, visible[2] - left, visible[3] - top))
        if image.transparent is None:
            self._canvas.paste(drawn.convert(self._canvas.mode), visible)
        else:
            drawn.info["transparency"] = image.transparent
            drawn = drawn.convert("RGBA")
            self._canvas.paste(drawn, visible, drawn)

    def _dispose(self, image: _Image) -> None:
        visible = self._visible(image)
        if visible is None:
            return
        if image.disposal == _CLEAR:
            self._canvas.paste((0, 0, 0, 0), visible)  # browsers ignore the background colour
        elif self._saved is not None:
            self._canvas.paste(self._saved, visible)

    def _is_plain(self, image: _Image) -> bool:
        """Return True if the frame fills the canvas by itself."""
        return image.box == (0, 0, *self._canvas_size) and image.transparent is None

    def _visible(self, image: _Image) -> tuple[int, int, int, int] | None:
        left, top, right, bottom = image.box
        right, bottom = min(right, self._canvas_size[0]), min(bottom, self._canvas_size[1])
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _unpacked(self, image: _Image) -> Image.Image:
        """Return the frame's pixels in mode P, with its palette."""
        bits = self._content[image.data]
        if not 1 <= bits <= _MAX_CODE_BITS:
            raise DecodeError(FailReason.CORRUPT, f"pixels of {bits} bits; only 1 to 8 are valid")
        data = self._content[image.data + 1 : image.end]
        try:
            drawn = Image.frombytes("P", image.size, data, "gif", (bits, image.interlaced, -1))
        except ValueError as error:
            if image.whole:
                raise DecodeError(FailReason.CORRUPT, "its pixels are broken") from error
            raise DecodeError(FailReason.TRUNCATED, "the file ends within its pixels") from error
        drawn.putpalette(image.palette)
        return drawn


def open_gif(content: bytes) -> Picture:
    """Read the descriptors of all frames; raises `DecodeError` if there are none."""
    return _GifPicture(content)


def _index(content: bytes) -> tuple[list[_Image], str]:
    """Return the frames, and a description of what is missing.

    Raises `DecodeError` for a file without frames.
    """
    images = list[_Image]()
    try:
        for image in _images(content):
            images.append(image)
        missing = ""
    except IndexError:
        missing = _NO_TRAILER
    if not images and missing:
        raise DecodeError(FailReason.TRUNCATED, "the file ends before its first frame")
    if not images:
        raise DecodeError(FailReason.CORRUPT, "the file has no frames")
    return images, missing


def _images(content: bytes) -> Iterator[_Image]:
    """Walk over the blocks up to the trailer. Raises `IndexError` if the file ends before it."""
    shared, at = _palette(content, _SCREEN_END, content[10])
    disposal, transparent, delay = _KEEP, None, 0
    while (block := content[at]) != _TRAILER:
        if block == _EXTENSION:
            if content[at + 1] == _GRAPHIC_CONTROL and content[at + 2] >= 4:
                flags = content[at + 3]
                disposal = flags >> 2 & 7
                delay = 10 * _u16(content, at + 4)
                transparent = content[at + 6] if flags & 1 else None
            at = _behind_sub_blocks(content, at + 2)
        elif block == _IMAGE:
            left, top = _u16(content, at + 1), _u16(content, at + 3)
            right, bottom = left + _u16(content, at + 5), top + _u16(content, at + 7)
            flags = content[at + 9]
            own, data = _palette(content, at + 10, flags)
            found = _Image(
                (left, top, right, bottom),
                bool(flags & 0x40),
                own or shared or _GREY_RAMP,
                data,
                len(content),
                False,
                disposal,
                transparent,
                delay,
            )
            try:
                at = _behind_sub_blocks(content, data + 1)
            except IndexError:
                if len(content) > data:
                    yield found
                raise
            yield found._replace(end=at, whole=True)
            disposal, transparent, delay = _KEEP, None, 0
        else:
            at += 1  # stray bytes between blocks are common, especially zeros


def _palette(content: bytes, at: int, flags: int) -> tuple[bytes, int]:
    """Return the colour table that `flags` announces (768 bytes or none), and where it ends."""
    if not flags & 0x80:
        return b"", at
    end = at + (6 << (flags & 7))
    return content[at:end].ljust(768, b"\0"), end


def _behind_sub_blocks(content: bytes, at: int) -> int:
    while length := content[at]:
        at += length + 1
    return at + 1


def _u16(content: bytes, at: int) -> int:
    return content[at] | content[at + 1] << 8

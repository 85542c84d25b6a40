"""PNG and APNG, as browsers and viewers built on libpng show them.

Pillow only gets the compressed rows: which chunks count, and for what, is decided in
`nsfwscan.media.decode.formats.png_chunks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from nsfwscan.media.decode.formats.picture import (
    MAX_PIXELS,
    Frame,
    Picture,
    as_browsers_time,
    check_pixels,
)
from nsfwscan.media.decode.formats.png_chunks import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    Header,
    Png,
    PngColour,
    Way,
    read_png,
)
from nsfwscan.media.decode.formats.png_rows import load, load_low_bytes
from nsfwscan.media.decode.formats.transfer import SRGB_CURVE, ColourSpace, HighRange
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPAN_16 = (0.0, 65535.0)
"""In PNG, white is 65535 however dark the picture is."""

_BYTES_PER_PIXEL = 9
_BYTES_PER_PIXEL_COPIED = 18
"""If copies are needed: for a transparent colour of 16 bits, and for a second way."""
_BYTES_PER_PIXEL_ANIMATED = 20
"""The canvas, its restored version, a frame, its copy with alpha, and the copy that is shown."""

_DISPOSE_BACKGROUND, _DISPOSE_PREVIOUS = 1, 2
_BLEND_OVER = 1


def open_png(content: bytes) -> Picture:
    """Read everything that counts except the pixels."""
    png = read_png(content)
    check_pixels(png.header.width, png.header.height, MAX_PIXELS)
    return _AnimatedPng(png) if png.frames else _StillPng(png)


class _PngPicture(Picture):
    """Each frame is shown in each of the ways in which viewers differ."""

    def __init__(self, png: Png, frames: int, bytes_per_pixel: int) -> None:
        header = png.header
        self.png = png
        self.facts = ImageFacts("PNG", header.width, header.height, frames)
        self.views = frames * len(png.ways)
        self.memory = bytes_per_pixel * header.width * header.height
        self.missing = png.missing
        self._decoded: tuple[bytes, Image.Image] | None = None

    def _still(self, way: Way) -> Frame:
        """Decode the picture shown by viewers that do not support animations."""
        png = self.png
        if self._decoded is None or self._decoded[0] != way.transparency:
            image, missing = _image(png, png.header, png.data, way.transparency)
            self.missing = self.missing or missing
            self._decoded = way.transparency, image
        return _frame(self._decoded[1], png, way.colour)


class _StillPng(_PngPicture):
    def __init__(self, png: Png) -> None:
        keyed = png.header.depth == 16 and png.ways[0].transparency
        copied = keyed or len(png.ways) > 1
        super().__init__(png, 1, _BYTES_PER_PIXEL_COPIED if copied else _BYTES_PER_PIXEL)

    def show(self, view: int) -> Frame:
        """Decode the picture."""
        return self._still(self.png.ways[view])


class _AnimatedPng(_PngPicture):
    """Composes the frames here: Pillow blends palette indices, and clears to black."""

    sequential = True

    def __init__(self, png: Png) -> None:
        self._apart = 0 if png.still_is_frame else 1
        super().__init__(png, len(png.frames) + self._apart, _BYTES_PER_PIXEL_ANIMATED)
        shown_for = [0.0] * self._apart + [frame.milliseconds for frame in png.frames]
        self.times = as_browsers_time(shown_for, len(png.ways))
        self._canvases = {way.transparency: _Canvas(png, way.transparency) for way in png.ways}

    def show(self, view: int) -> Frame:
        """Compose the frame of this number; a still picture that is not a frame comes first."""
        frame, number = divmod(view, len(self.png.ways))
        way = self.png.ways[number]
        if frame < self._apart:
            return self._still(way)
        canvas = self._canvases[way.transparency]
        canvas.draw(frame - self._apart)
        self.missing = self.missing or canvas.missing
        return _frame(canvas.image.copy(), self.png, way.colour)

    def skip(self, view: int) -> None:
        """Compose a frame that is not sampled."""
        frame, number = divmod(view, len(self.png.ways))
        if frame >= self._apart:
            self._canvases[self.png.ways[number].transparency].draw(frame - self._apart)


class _Canvas:
    """What an animation has drawn so far (PNG, third edition, 11.3.2.2)."""

    def __init__(self, png: Png, transparency: bytes) -> None:
        self.png = png
        self.transparency = transparency
        self.missing = ""
        self.image = Image.new("RGBA", (png.header.width, png.header.height))
        self._drawn = -1
        self._restore: tuple[Image.Image, tuple[int, int, int, int]] | None = None

    def draw(self, frame: int) -> None:
        """Draw the next frame, or the last frame again."""
        if frame == self._drawn:
            return
        self._drawn = frame
        if self._restore is not None:
            self.image.paste(*self._restore)
        control = self.png.frames[frame]
        box = control.box
        left, top, right, bottom = box
        size = right - left, bottom - top
        header = self.png.header._replace(width=size[0], height=size[1])
        drawn, missing = _image(self.png, header, control.data, self.transparency)
        self.missing = self.missing or missing
        drawn = drawn.convert("RGBA")
        self._restore = None
        if control.dispose == _DISPOSE_BACKGROUND or (
            control.dispose == _DISPOSE_PREVIOUS and frame == 0
        ):
            self._restore = Image.new("RGBA", size), box
        elif control.dispose == _DISPOSE_PREVIOUS:
            self._restore = self.image.crop(box), box
        if control.blend == _BLEND_OVER:
            self.image.alpha_composite(drawn, (left, top))
        else:
            self.image.paste(drawn, box)


def _frame(image: Image.Image, png: Png, colour: PngColour) -> Frame:
    """Return the frame for an image, with its orientation and the meaning of its samples."""
    frame = Frame(image, colour.profile, png.orientation, _span(image))
    grey = png.header.kind in (GREY, GREY_ALPHA)
    if grey and colour.profile[16:20] == b"GRAY" and image.has_transparency_data:
        frame.image = image.convert("LA")
    elif colour.space is not None:
        _convert(frame, colour.space, png.header)
    return frame


def _span(image: Image.Image) -> tuple[float, float] | None:
    return _SPAN_16 if image.mode == "I;16" else None


def _convert(frame: Frame, space: ColourSpace, header: Header) -> None:
    """Prepare conversion to sRGB. The curve is undone before the resize, as viewers resize last."""
    if isinstance(space.curve, HighRange):
        frame.to_srgb = space.to_srgb
        return
    image = frame.image
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        image = image.convert("RGBA")
    if image.mode == "I;16":
        image = image.convert("I").point(space.grey_levels(65536), "L")
    else:
        if image.mode in ("1", "P"):
            image = image.convert("RGB")
        if header.depth == 16:  # only the high bytes, each of which stands for 256 values
            levels = space.grey_levels(65536)[128::256]
        else:
            levels = space.grey_levels(256)
        bands = len(image.getbands())
        alpha = image.mode.endswith("A")
        image = image.point(levels * (bands - alpha) + list(range(256)) * alpha)
    frame.image, frame.span = image, None
    rest = ColourSpace(SRGB_CURVE, space.primaries)
    if not rest.is_srgb():
        frame.to_srgb = rest.to_srgb


def _image(
    png: Png, header: Header, data: Sequence[memoryview], transparency: bytes
) -> tuple[Image.Image, str]:
    """Decode the rows of one raster, with its palette and its transparency."""
    image, missing = load(header, data)
    if header.kind == PALETTE:
        _set_palette(image, png.palette, transparency)
    elif transparency:
        wanted = _key(header, transparency)
        if header.depth < 16:
            image.info["transparency"] = wanted[0] if header.kind == GREY else wanted
        elif header.kind == GREY:
            image = _with_alpha_16(image, wanted[0])
        else:
            high = _equal_to(image, [level >> 8 for level in wanted])
            low = _equal_to(load_low_bytes(header, data), [level & 255 for level in wanted])
            image.putalpha(ImageChops.invert(ImageChops.darker(high, low)))
    return image, missing


def _key(header: Header, transparency: bytes) -> tuple[int, ...]:
    """Return the samples of the transparent colour, scaled as Pillow scales the pixels.

    Decoders ignore its bits beyond the depth.
    """
    count = 3 if header.kind == RGB else 1
    samples = [int.from_bytes(transparency[2 * at : 2 * at + 2], "big") for at in range(count)]
    most = (1 << header.depth) - 1
    scale = max(1, 255 // most)
    return tuple((sample & most) * scale for sample in samples)


def _set_palette(image: Image.Image, palette: bytes, alphas: bytes) -> None:
    """Set the palette.

    Raises `DecodeError` for pixels beyond it. Chromium shows them in its last colour and libpng in
    black, so a picture could be drawn that only one of them shows.
    """
    entries = [palette[at : at + 3] for at in range(0, len(palette), 3)]
    if any(image.histogram()[len(entries) :]):
        raise DecodeError(FailReason.CORRUPT, "it uses colours beyond its palette")
    if alphas.strip(b"\xff"):
        alphas = alphas.ljust(256, b"\xff")
        colours = b"".join(entry + alphas[at : at + 1] for at, entry in enumerate(entries))
        image.putpalette(colours, "RGBA")
    else:
        image.putpalette(palette)


def _with_alpha_16(image: Image.Image, key: int) -> Image.Image:
    """Convert 16-bit grey to 8 bits with alpha, transparent where a sample is `key`."""
    wide = image.convert("I")
    alphas = [255] * 65536
    alphas[key] = 0
    grey = wide.point(_to_8_bits(), "L")
    return Image.merge("LA", (grey, wide.point(alphas, "L")))


def _to_8_bits() -> list[int]:
    return [(value + 128) // 257 for value in range(65536)]


def _equal_to(image: Image.Image, colour: Sequence[int]) -> Image.Image:
    """Return a mask, mode L, of the pixels of this colour, which has one sample per band."""
    mask = Image.new("L", image.size, 255)
    for band, wanted in zip(image.split(), colour, strict=True):
        same = band.point([255 if level == wanted else 0 for level in range(256)])
        mask = ImageChops.darker(mask, same)
    return mask

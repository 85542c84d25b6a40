"""Which chunks of a PNG count, by the rules of the decoders that viewers use.

There are two sets of rules: Chromium's, and libpng's, on which most other viewers are built. Both
take the first valid chunk of its kind in its proper place, and drop ancillary chunks with a wrong
checksum. Where they differ, for example over a tRNS longer than the palette, both ways are shown.
Anything after the image data of a still picture is ignored.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.decode.formats.exif import orientation_of
from nsfwscan.media.decode.formats.transfer import (
    DEFAULT_PEAK_NITS,
    SRGB_CURVE,
    SRGB_PRIMARIES,
    ColourSpace,
    Curve,
    Primaries,
    of_code_points,
    usable,
)
from nsfwscan.media.decode.profiles import MAX_ICC_BYTES
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types, as in IHDR."""

_DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGB_ALPHA: (8, 16),
}
_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}

_COLOUR_BYTES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"cLLI": 8, b"mDCV": 24}
"""The lengths of the chunks that describe colour."""

_SIGNATURE_BYTES = 8
_MAX_LENGTH = 2**31 - 1
_MAX_CHUNKS = 1_000_000
"""libpng writes 8 kB per chunk. Reading a million empty chunks takes a second."""

_MAX_PROFILES = 4
"""How many iCCP chunks are inflated to find a valid one."""

_GAMMA_TOLERANCE = 0.01
"""Up to this relative difference from 1 / 2.2, gAMA means sRGB; no level changes by more than 1."""

_XY_TOLERANCE = 0.001


class Header(NamedTuple):
    """The contents of IHDR."""

    width: int
    height: int
    depth: int
    """Bits per sample, or per palette index."""
    kind: int
    interlaced: bool

    @property
    def bits(self) -> int:
        """Bits per pixel."""
        return self.depth * _SAMPLES[self.kind]


class PngColour(NamedTuple):
    """What the samples mean, if not sRGB: an ICC profile or a colour space."""

    profile: bytes = b""
    space: ColourSpace | None = None


class Way(NamedTuple):
    """One of the ways in which viewers show the same pixels."""

    transparency: bytes = b""
    """The data of the tRNS chunk that counts."""
    colour: PngColour = PngColour()


@dataclass(slots=True)
class Animated:
    """One frame of an animation."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom on the canvas."""
    dispose: int
    blend: int
    milliseconds: float
    """How long the frame is shown."""
    data: list[memoryview] = field(default_factory=list)


@dataclass(slots=True)
class Png:
    """A PNG file, reduced to what counts."""

    header: Header
    palette: bytes = b""
    """Three bytes per entry."""
    orientation: int = 1
    ways: list[Way] = field(default_factory=list)
    data: list[memoryview] = field(default_factory=list)
    """The compressed rows of the still picture."""
    frames: list[Animated] = field(default_factory=list)
    """Empty if the file has no animation."""
    still_is_frame: bool = False
    """Whether the still picture is also the first frame."""
    missing: str = ""
    """What of the animation cannot be read."""


class _Chunk(NamedTuple):
    name: bytes
    data: memoryview
    """As far as the file has it: it may end within the last chunk."""
    whole: bool
    crc: bytes

    def good(self) -> bool:
        return self.whole and zlib.crc32(self.data, zlib.crc32(self.name)) == int.from_bytes(
            self.crc, "big"
        )

    def critical(self) -> bool:
        return not self.name[0] & 0x20


def read_png(content: bytes) -> Png:
    """Read all chunks that count. Raises `DecodeError` if no viewer shows the file."""
    chunks = _chunks(content)
    first = next(chunks, None)
    if first is None:
        raise DecodeError(FailReason.TRUNCATED, "the file ends before its header")
    png = Png(_header(first))
    metadata = _Metadata(png.header)
    rows = metadata.read(chunks)
    metadata.give(png)
    png.data.append(rows.data)
    after = None
    for chunk in chunks:
        if chunk.name != b"IDAT":
            after = chunk
            break
        png.data.append(chunk.data)
    if metadata.frames:
        _Frames(png, metadata.controls).read(after, chunks, metadata.frames)
    return png


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to the end of the file. Raises `DecodeError` for an invalid length."""
    view = memoryview(content)
    at = _SIGNATURE_BYTES
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(view):
            return
        length, name = struct.unpack_from(">I4s", view, at)
        if length > _MAX_LENGTH:
            raise DecodeError(FailReason.CORRUPT, "a chunk is longer than the format allows")
        data = view[at + 8 : at + 8 + length]
        at += 12 + length
        yield _Chunk(name, data, at <= len(view), bytes(view[at - 4 : at]))
    raise DecodeError(FailReason.UNSUPPORTED, f"a PNG of more than {_MAX_CHUNKS} chunks")


def _header(chunk: _Chunk) -> Header:
    if chunk.name != b"IHDR":
        foreign = chunk.critical() and chunk.name not in (b"PLTE", b"IDAT", b"IEND")
        reason = FailReason.UNSUPPORTED if foreign else FailReason.CORRUPT
        name = chunk.name.decode("ascii", "replace")
        raise DecodeError(reason, f"the first chunk is {name}, not IHDR")
    if not chunk.whole:
        raise DecodeError(FailReason.TRUNCATED, "the file ends within its header")
    if len(chunk.data) != 13 or not chunk.good():
        raise DecodeError(FailReason.CORRUPT, "the header is damaged")
    width, height, depth, kind, *methods = struct.unpack(">IIBBBBB", chunk.data)
    if not (0 < width <= _MAX_LENGTH and 0 < height <= _MAX_LENGTH):
        raise DecodeError(FailReason.CORRUPT, f"a size of {width} x {height} pixels")
    if depth not in _DEPTHS.get(kind, ()):
        raise DecodeError(FailReason.CORRUPT, f"{depth} bits in a PNG of colour type {kind}")
    compression, filters, interlace = methods
    if compression or filters or interlace > 1:
        raise DecodeError(FailReason.UNSUPPORTED, "an unknown compression, filter or interlacing")
    return Header(width, height, depth, kind, bool(interlace))


class _Metadata:
    """The chunks before the image data, each kept if it counts."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.frames = 0
        """How many frames the file announces."""
        self.controls: list[_Chunk] = []
        self._palette: bytes | None = None
        self._found: dict[bytes, bytes] = {}
        self._strict_transparency: bytes | None = None
        self._strict_profile = b""
        self._profiles = 0

    def read(self, chunks: Iterator[_Chunk]) -> _Chunk:
        """Read up to the first chunk of image data, and return that chunk."""
        unknown = b""
        for chunk in chunks:
            match chunk.name:
                case b"IDAT":
                    if not unknown:
                        return chunk
                    # Its effect must not be guessed: Apple's CgBI, for example, swaps red and blue.
                    name = unknown.decode("ascii", "replace")
                    raise DecodeError(FailReason.UNSUPPORTED, f"the unknown critical chunk {name}")
                case b"IEND":
                    raise DecodeError(FailReason.CORRUPT, "there is no image data")
                case b"IHDR":
                    raise DecodeError(FailReason.CORRUPT, "there are two headers")
                case b"PLTE":
                    self._take_palette(chunk)
                case b"acTL":
                    if not self.frames and len(chunk.data) == 8 and chunk.good():
                        frames = int.from_bytes(chunk.data[:4], "big")
                        self.frames = frames if frames <= _MAX_LENGTH else 0
                case b"fcTL":
                    self.controls.append(chunk)
                case _:
                    self._take(chunk)
                    if chunk.critical():
                        unknown = unknown or chunk.name
        reason = FailReason.CORRUPT if unknown else FailReason.TRUNCATED
        raise DecodeError(reason, "the file ends before its image data")

    def _take_palette(self, chunk: _Chunk) -> None:
        """Keep the palette; without indexed colour, only its position matters."""
        if self.header.kind != PALETTE:
            if self.header.kind in (RGB, RGB_ALPHA) and len(chunk.data) % 3 == 0:
                self._palette = b""
            return
        if self._palette is not None:
            raise DecodeError(FailReason.CORRUPT, "there are two palettes")
        if not 3 <= len(chunk.data) <= 770 or not chunk.good():
            raise DecodeError(FailReason.CORRUPT, "the palette is damaged")
        entries = min(len(chunk.data) // 3, 1 << self.header.depth)
        self._palette = bytes(chunk.data[: 3 * entries])

    def _take(self, chunk: _Chunk) -> None:
        """Keep an ancillary chunk if it is valid, in its place, and the first of its kind."""
        if chunk.name == b"tRNS":
            self._take_transparency(chunk)
        elif chunk.name == b"iCCP":
            self._take_profile(chunk)
        elif chunk.name in self._found:
            return
        elif chunk.name in _COLOUR_BYTES:
            length = _COLOUR_BYTES[chunk.name]
            in_place = chunk.name != b"cICP" or self._palette is None
            if len(chunk.data) == length and in_place and chunk.good():
                if chunk.name == b"sRGB" and chunk.data[0] > 3:  # not a rendering intent
                    return
                self._found[chunk.name] = bytes(chunk.data)
        elif chunk.name == b"eXIf" and chunk.good():
            self._found[chunk.name] = bytes(chunk.data)

    def _take_transparency(self, chunk: _Chunk) -> None:
        kind = self.header.kind
        length = len(chunk.data)
        if kind == PALETTE:
            fits = self._palette is not None and 1 <= length <= 256
            fits_strictly = fits and length * 3 <= len(self._palette or b"")
        elif kind in (GREY, RGB):
            wanted = 2 * _SAMPLES[kind]
            fits, fits_strictly = wanted <= length <= 256, length == wanted
        else:
            return
        if fits and chunk.good():
            data = bytes(chunk.data)
            self._found.setdefault(b"tRNS", data)
            if fits_strictly and self._strict_transparency is None:
                self._strict_transparency = data

    def _take_profile(self, chunk: _Chunk) -> None:
        if self._profiles == _MAX_PROFILES or not chunk.good():
            return
        self._profiles += 1
        profile = _profile(chunk.data)
        # In Chromium, a useless profile replaces any other.
        self._found.setdefault(b"iCCP", profile)
        if self._palette is None:
            self._strict_profile = self._strict_profile or profile

    def give(self, png: Png) -> None:
        """Set `png`'s fields from the chunks that count."""
        if self.header.kind == PALETTE:
            if self._palette is None:
                raise DecodeError(FailReason.CORRUPT, "there is no palette")
            png.palette = self._palette
        exif = self._found.get(b"eXIf", b"")
        png.orientation = orientation_of(exif)
        browsers = Way(self._found.get(b"tRNS", b""), self._colour())
        # Most viewers other than browsers use ICC profiles, if anything.
        others = Way(self._strict_transparency or b"", PngColour(self._strict_profile))
        png.ways = [browsers] if browsers == others else [browsers, others]

    def _colour(self) -> PngColour:
        """Choose what counts: cICP, then iCCP, sRGB, gAMA with cHRM (PNG, third edition, 4.3)."""
        primaries, transfer, matrix, full_range = self._found.get(b"cICP", b"\2\2\0\1")
        if matrix == 0 and full_range == 1:
            space = of_code_points(primaries, transfer, self._peak_nits())
            if space is not None:
                return PngColour(space=space)
            if (primaries, transfer) == (1, 13):
                return PngColour()
        if profile := self._found.get(b"iCCP"):
            return PngColour(profile)
        gamma = int.from_bytes(self._found.get(b"gAMA", b""), "big")
        if b"sRGB" in self._found or gamma == 0:
            return PngColour()
        return PngColour(space=_space_of(gamma, self._found.get(b"cHRM")))

    def _peak_nits(self) -> float:
        """Return the peak luminance: of the content (cLLI), or of its mastering display."""
        content = int.from_bytes(self._found.get(b"cLLI", b"")[:4], "big")
        display = int.from_bytes(self._found.get(b"mDCV", b"")[16:20], "big")
        return (content or display) / 10_000 or DEFAULT_PEAK_NITS


def _space_of(gamma: int, chromaticities: bytes | None) -> ColourSpace | None:
    """Return what gAMA and cHRM mean; None for sRGB or invalid values. Units are 1 / 100,000."""
    primaries = SRGB_PRIMARIES
    if chromaticities is not None:
        values = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        primaries = Primaries(*pairs)
        if not usable(primaries):
            return None
        sides = zip(pairs, SRGB_PRIMARIES, strict=True)
        if all(max(abs(x - u), abs(y - v)) <= _XY_TOLERANCE for (x, y), (u, v) in sides):
            primaries = SRGB_PRIMARIES
    if primaries == SRGB_PRIMARIES and abs(gamma / 45_455 - 1) <= _GAMMA_TOLERANCE:
        return None
    space = ColourSpace(Curve(100_000 / gamma), primaries)
    return None if space.curve == SRGB_CURVE else space


def _profile(data: memoryview) -> bytes:
    """Inflate an ICC profile; empty if it is broken. Raises `DecodeError` for a large one."""
    name, _, rest = bytes(data[:82]).partition(b"\0")
    if not name or rest[:1] != b"\0":  # the compression method
        return b""
    inflating = zlib.decompressobj()
    try:
        profile = inflating.decompress(data[len(name) + 2 :], MAX_ICC_BYTES + 1)
    except zlib.error:
        return b""
    says = int.from_bytes(profile[:4], "big")
    if profile[36:40] != b"acsp" or says <= 128:
        return b""
    if says > MAX_ICC_BYTES:
        raise DecodeError(FailReason.UNSUPPORTED, f"an ICC profile of {says / 1e6:.0f} MB")
    # Data after the profile is ignored.
    whole = (inflating.eof or inflating.unconsumed_tail) and says <= len(profile)
    return profile[:says] if whole else b""


class _Frames:
    """Reads the frames of an animation (PNG, third edition, 4.9 and 11.3.2).

    Every frame counts that any player might show. So sequence numbers are ignored, as some players
    do, and frames after a damaged one are still read.
    """

    def __init__(self, png: Png, before: list[_Chunk]) -> None:
        self.png = png
        self.before = before

    def read(self, after: _Chunk | None, chunks: Iterator[_Chunk], announced: int) -> None:
        """Collect the frames, and note if there are fewer than announced."""
        png = self.png
        canvas = (0, 0, png.header.width, png.header.height)
        for chunk in self.before:
            control = self._control(chunk)
            if control is not None and control.box == canvas and not png.frames:
                control.data = png.data
                png.frames.append(control)
                png.still_is_frame = True
        current = None
        while after is not None and after.name != b"IEND":
            if after.name == b"fcTL":
                current = self._control(after)
            elif after.name == b"fdAT" and current is not None:
                if not current.data:
                    png.frames.append(current)
                current.data.append(after.data[4:])
            try:
                after = next(chunks, None)
            except DecodeError:
                break
        if len(png.frames) < announced:
            png.missing = f"{announced - len(png.frames)} of {announced} frames"

    def _control(self, chunk: _Chunk) -> Animated | None:
        """Read an fcTL chunk; None if it is damaged or its frame does not fit on the canvas."""
        if len(chunk.data) != 26 or not chunk.good():
            return None
        _, width, height, left, top, time, unit, dispose, blend = struct.unpack(
            ">5I2H2B", chunk.data
        )
        right, bottom = left + width, top + height
        header = self.png.header
        if not (width and height and right <= header.width and bottom <= header.height):
            return None
        if dispose > 2 or blend > 1:
            return None
        box = (left, top, right, bottom)
        return Animated(box, dispose, blend, 1000 * time / (unit or 100))

"""BMP of Windows and OS/2.

Pillow only unpacks the samples: it supports few of the layouts, and reads RLE delta escapes wrong.
The layouts are those of "Bitmap Header Types" in the Windows GDI documentation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image, ImageChops

from nsfwscan.media.decode.formats.bmp_rle import unpack_rle
from nsfwscan.media.decode.formats.picture import (
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    Frame,
    Picture,
    check_pixels,
)
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason, ImageFacts

_FILE_HEADER = 14
_CORE, _SHORT_CORE_2, _INFO, _CORE_2 = 12, 16, 40, 64
_WITH_ALPHA_MASK, _V4, _V5 = 56, 108, 124
"""Header sizes, which identify the versions. The core headers are those of OS/2."""

_PLAIN, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG, _ALPHA_BITFIELDS = range(7)
_RLE_BITS = {_RLE8: 8, _RLE4: 4}
_INDEXED_BITS = (1, 2, 4, 8)

_Masks = tuple[int, int, int, int]
"""The bits of a pixel that are red, green, blue and alpha; 0 for none."""

_MASKS_16: _Masks = (0x7C00, 0x3E0, 0x1F, 0)
_MASKS_24: _Masks = (0xFF0000, 0xFF00, 0xFF, 0)
_ALPHA_32 = 0xFF000000

# Pillow has unpackers for these.
_RAW_MODES: dict[tuple[int, _Masks], str] = {
    (16, _MASKS_16): "BGR;15",
    (16, (0xF800, 0x7E0, 0x1F, 0)): "BGR;16",
    (24, _MASKS_24): "BGR",
    (32, _MASKS_24): "BGRX",
    (32, (*_MASKS_24[:3], _ALPHA_32)): "BGRA",
    (32, (0xFF, 0xFF00, 0xFF0000, _ALPHA_32)): "RGBA",
    (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)): "ABGR",
}

_MISSING_PART = 16
"""At most this fraction of the rows may be missing."""

_EMBEDDED_PROFILE = 0x4D424544  # "MBED"


@dataclass(slots=True)
class _BitmapHeader:
    width: int
    height: int
    upward: bool
    """Whether the first row in the file is the bottom row."""
    bits: int
    compression: int
    masks: _Masks
    palette: bytes
    """256 times red, green and blue."""
    start: int
    """Where the pixels begin."""
    profile: bytes

    @property
    def stride(self) -> int:
        """Bytes from row to row."""
        return (self.width * self.bits + 31) // 32 * 4


class _BmpPicture(Picture):
    """The picture, in several ways if viewers differ.

    The first is that of Windows: opaque, in sRGB, with the palette's first colour where RLE draws
    nothing. The second is that of Chromium, which uses alpha and an embedded profile, and leaves
    black what RLE does not draw. Firefox leaves that transparent.
    """

    def __init__(self, content: bytes) -> None:
        header = _read_header(content)
        check_pixels(header.width, header.height, MAX_PIXELS)
        self._header = header
        self._drawn: bytes | None = None
        pixels = memoryview(content)[header.start :]
        if header.compression in _RLE_BITS:
            unpacked, self._drawn = unpack_rle(
                pixels, header.width, header.height, nibbles=header.bits == 4
            )
            pixels = memoryview(unpacked)
        else:
            pixels = pixels[: header.stride * header.height]
            last_row = (header.width * header.bits + 7) // 8
            short = header.stride * (header.height - 1) + last_row - len(pixels)
            if short > 0:
                rows = -(-short // header.stride)
                if rows * _MISSING_PART >= header.height:
                    raise DecodeError(FailReason.TRUNCATED, f"{short} bytes of pixels are missing")
                self.missing = f"the {'top' if header.upward else 'last'} {rows} rows are missing"
                pixels = memoryview(bytes(pixels).ljust(header.stride * header.height, b"\0"))
        self._pixels = pixels
        self._alpha = header.masks[3] != 0 and not _is_idle(pixels, header)
        self.facts = ImageFacts("BMP", header.width, header.height, 1)
        self.views = 3 if self._drawn else 2 if self._alpha or header.profile else 1
        self.memory = BYTES_PER_PIXEL * header.width * header.height

    def show(self, view: int) -> Frame:
        """Unpack the picture."""
        header = self._header
        if header.bits in _INDEXED_BITS:
            image = self._indexed()
        else:
            image = self._packed(header.masks if view and self._alpha else (*header.masks[:3], 0))
        if view and self._drawn:
            mask = Image.frombytes("L", image.size, self._drawn, "raw", "L", 0, self._order)
            background = Image.new("RGB", image.size, "black" if view == 1 else "white")
            background.paste(image.convert("RGB"), mask=mask)
            image = background
        return Frame(image, header.profile if view else b"")

    @property
    def _order(self) -> int:
        return -1 if self._header.upward else 1

    def _indexed(self) -> Image.Image:
        header = self._header
        if header.compression in _RLE_BITS:
            image = self._raw("P", "P", 0)
        else:
            image = self._raw("P", "P" if header.bits == 8 else f"P;{header.bits}", header.stride)
        image.putpalette(header.palette)
        return image

    def _packed(self, masks: _Masks) -> Image.Image:
        header = self._header
        raw_mode = _RAW_MODES.get((header.bits, masks))
        if raw_mode is not None:
            return self._raw("RGBA" if masks[3] else "RGB", raw_mode, header.stride)
        channels = [self._channel(mask) for mask in (masks if masks[3] else masks[:3])]
        return Image.merge("RGBA" if len(channels) == 4 else "RGB", channels)

    def _channel(self, mask: int) -> Image.Image:
        """Return the samples under a mask, scaled to 8 bits."""
        header = self._header
        size = header.width, header.height
        total = Image.new("L", size)
        shift = (mask & -mask).bit_length() - 1
        words = self._pixels[: len(self._pixels) // 2 * 2].cast("H")
        halves = header.bits // 16
        for half in range(halves):
            part = mask >> 16 * half & 0xFFFF
            if not part:
                continue
            weight = 255 / (mask >> shift) * 2.0 ** (16 * half - shift)
            table = [int((value & part) * weight + 0.5) for value in range(1 << 16)]
            samples, stride = words[half::halves].tobytes(), header.stride // halves
            wide = Image.frombytes("I", size, samples, "raw", "I;16", stride, self._order)
            total = ImageChops.add(total, wide.point(table, "L"))
        return total

    def _raw(self, mode: str, raw_mode: str, stride: int) -> Image.Image:
        size = self._header.width, self._header.height
        return Image.frombytes(mode, size, self._pixels, "raw", raw_mode, stride, self._order)


def open_bmp(content: bytes) -> Picture:
    """Read the header, and the pixels if they are run-length encoded."""
    return _BmpPicture(content)


def _is_idle(pixels: memoryview, header: _BitmapHeader) -> bool:
    """Return True if an alpha channel is fully opaque, or all zero, which only means "unused"."""
    mask = header.masks[3]
    shift = mask.bit_length() - 8
    if header.bits != 32 or mask >> max(0, shift) != 0xFF or shift % 8:
        return False  # odd layouts are rare, so scoring them twice is fine
    alpha = pixels[shift // 8 :: 4].tobytes()
    return alpha.count(alpha[:1]) == len(alpha) and alpha[0] in (0, 255)


def _read_header(content: bytes) -> _BitmapHeader:
    """Read all headers; raises `DecodeError` for unsupported layouts."""
    try:
        return _parsed(content)
    except struct.error as error:
        raise DecodeError(FailReason.TRUNCATED, "the file ends within its header") from error


def _parsed(content: bytes) -> _BitmapHeader:
    start, size = struct.unpack_from("<II", content, 10)
    core = size == _CORE
    layout = "<HHHH" if core else "<iiHH"
    width, height, _, bits = struct.unpack_from(layout, content, _FILE_HEADER + 4)
    compression = colours = 0
    if size >= _INFO:
        compression, _, _, _, colours = struct.unpack_from("<IIiiI", content, _FILE_HEADER + 16)
    if width <= 0 or height in (0, -(1 << 31)):
        raise DecodeError(FailReason.CORRUPT, f"a BMP of {width} x {height} pixels")
    if start < _FILE_HEADER + size:
        raise DecodeError(FailReason.CORRUPT, "the pixels would begin within the header")
    _check_layout(size, bits, compression)
    masks, behind = _masks(content, size, bits, compression)
    palette = b""
    if bits in _INDEXED_BITS:
        entries = min(colours or 256, 1 << bits)
        palette = _palette(content[behind : behind + entries * (3 if core else 4)], core=core)
    return _BitmapHeader(
        width,
        abs(height),
        height > 0,
        bits,
        compression,
        masks,
        palette,
        start,
        _profile(content, size),
    )


def _check_layout(size: int, bits: int, compression: int) -> None:
    """Raise `DecodeError` unless the layout is supported."""
    if compression in (_JPEG, _PNG) and size != _CORE_2:
        kind = "JPEG" if compression == _JPEG else "PNG"
        raise DecodeError(FailReason.UNSUPPORTED, f"a BMP that contains a {kind} is not supported")
    known = {
        _PLAIN: (*_INDEXED_BITS, 16, 24, 32),
        _RLE8: (8,),
        _RLE4: (4,),
        _BITFIELDS: (16, 24, 32) if size != _CORE_2 else (),
        _ALPHA_BITFIELDS: (16, 32) if size != _CORE_2 else (),
    }
    if bits not in known.get(compression, ()):
        raise DecodeError(
            FailReason.UNSUPPORTED,
            f"a BMP of {bits} bits in compression {compression} is not supported",
        )


def _masks(content: bytes, size: int, bits: int, compression: int) -> tuple[_Masks, int]:
    """Return the masks, and where the palette would begin."""
    behind = _FILE_HEADER + size
    red, green, blue, alpha = _MASKS_16 if bits == 16 else _MASKS_24
    if compression in (_BITFIELDS, _ALPHA_BITFIELDS):
        red, green, blue, alpha = struct.unpack_from("<4I", content, _FILE_HEADER + _INFO)
        if size == _INFO:
            behind += 16 if compression == _ALPHA_BITFIELDS else 12
        if size < _WITH_ALPHA_MASK and compression == _BITFIELDS:
            alpha = 0
    elif bits == 32 and size >= _V4:
        alpha = _ALPHA_32  # browsers treat it as alpha
    masks = red, green, blue, alpha
    if bits > 8 and not all(_is_one_run(mask, bits) for mask in masks):
        raise DecodeError(FailReason.UNSUPPORTED, "a BMP with invalid colour masks")
    if not (red or green or blue) or (bits == 24 and masks != _MASKS_24):
        raise DecodeError(FailReason.UNSUPPORTED, "a BMP with such colour masks is not supported")
    return masks, behind


def _is_one_run(mask: int, bits: int) -> bool:
    lowest = mask & -mask
    return mask < 1 << bits and not (mask + lowest) & mask


def _palette(entries: bytes, *, core: bool) -> bytes:
    """Turn entries of blue, green, red (and a fourth byte) into 256 colours, padded with black."""
    step = 3 if core else 4
    colours = bytearray(768)
    for at, channel in enumerate((2, 1, 0)):
        values = entries[channel::step]
        colours[at : 3 * len(values) : 3] = values
    return bytes(colours)


def _profile(content: bytes, size: int) -> bytes:
    """Return the ICC profile embedded in a version 5 header, which browsers use."""
    if size < _V5:
        return b""
    (kind,) = struct.unpack_from("<I", content, _FILE_HEADER + 56)
    offset, length = struct.unpack_from("<II", content, _FILE_HEADER + 112)
    begin = _FILE_HEADER + offset
    return content[begin : begin + length] if kind == _EMBEDDED_PROFILE else b""

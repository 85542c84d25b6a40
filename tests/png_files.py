"""PNG files assembled by hand, chunk by chunk, so that anything in them can be wrong."""

from __future__ import annotations

import functools
import itertools
import struct
import zlib
from typing import NamedTuple

import pictures

SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH, HEIGHT = 37, 29
"""Odd, so that passes and packed bits end within a byte."""

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGB_ALPHA: (8, 16),
}
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass, and the distances to the next ones."""


class Layout(NamedTuple):
    """How the samples of a PNG are stored."""

    kind: int
    depth: int
    interlaced: bool = False

    def __str__(self) -> str:
        names = {GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "la", RGB_ALPHA: "rgba"}
        return f"{names[self.kind]}-{self.depth}{'-interlaced' * self.interlaced}"


LAYOUTS = [
    Layout(kind, depth, interlaced)
    for kind, depths in DEPTHS.items()
    for depth, interlaced in itertools.product(depths, (False, True))
]


def chunk(name: bytes, data: bytes = b"", *, crc: int | None = None) -> bytes:
    """Assemble one chunk, with its right checksum unless another is given."""
    right = zlib.crc32(name + data)
    return (
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", right if crc is None else crc)
    )


def damaged(whole: bytes) -> bytes:
    """Make the checksum of a chunk wrong."""
    return whole[:-1] + bytes([whole[-1] ^ 0x55])


def header(layout: Layout, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    kind, depth, interlaced = layout
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))


END = chunk(b"IEND")


@functools.cache
def samples(layout: Layout) -> list[list[tuple[int, ...]]]:
    """Return the samples of each pixel of each row: a photograph, alpha a ramp."""
    photo = pictures.photo(WIDTH, HEIGHT)
    most = (1 << layout.depth) - 1
    rows = []
    for y in range(HEIGHT):
        row = []
        for x in range(WIDTH):
            red, green, blue = photo.getpixel((x, y))
            low = (x * 7 + y * 13) % 257  # sixteen bits that are not eight doubled
            grey = (red * 2 + green * 5 + blue) // 8
            colour = (red, green, blue) if layout.kind in (RGB, RGB_ALPHA) else (grey,)
            pixel = [
                min(most, (level * 257 + low - 128 if level else low) * most // 65535)
                for level in colour
            ]
            if layout.kind in (GREY_ALPHA, RGB_ALPHA):
                pixel.append((x * 5 + y * 3) % 256 * most // 255)
            row.append(tuple(pixel))
        rows.append(row)
    return rows


@functools.cache
def palette(depth: int) -> bytes:
    """Return colours for all indices, dark red to light blue."""
    count = 1 << depth
    return bytes(
        level
        for at in range(count)
        for level in (200 - 180 * at // count, 30 + 160 * at // count, 255 * at // count)
    )


@functools.cache
def raster(layout: Layout, rows_kept: int | None = None) -> bytes:
    """Return the filtered rows, not compressed; every filter type is used."""
    rows = samples(layout)
    passes = ADAM7 if layout.interlaced else ((0, 0, 1, 1),)
    step = max(1, CHANNELS[layout.kind] * layout.depth // 8)
    out = []
    for left, top, across, down in passes:
        above = None
        for at, row in enumerate(rows[top::down]):
            packed = _packed(row[left::across], layout.depth)
            if packed:
                filter_type = at % 5
                out.append(bytes([filter_type]) + _filtered(packed, above, step, filter_type))
                above = packed
    return b"".join(out[:rows_kept])


def _packed(pixels: list[tuple[int, ...]], depth: int) -> bytes:
    bits = "".join(f"{sample:0{depth}b}" for pixel in pixels for sample in pixel)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def _filtered(row: bytes, above: bytes | None, step: int, filter_type: int) -> bytes:
    above = above or bytes(len(row))
    left = bytes(step) + row
    corner = bytes(step) + above
    out = []
    for at, value in enumerate(row):
        a, b, c = left[at], above[at], corner[at]
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out.append((value - (0, a, b, (a + b) // 2, paeth)[filter_type]) % 256)
    return bytes(out)


@functools.cache
def image_data(layout: Layout) -> bytes:
    return chunk(b"IDAT", zlib.compress(raster(layout)))


def assemble(
    layout: Layout,
    *before: bytes,
    palettes: tuple[bytes, ...] | None = None,
    middle: tuple[bytes, ...] = (),
    data: bytes | None = None,
    after: tuple[bytes, ...] = (),
) -> bytes:
    """Assemble a file: header, `before`, palette if the layout has one, `middle`, data, `after`."""
    if palettes is None:
        palettes = (chunk(b"PLTE", palette(layout.depth)),) if layout.kind == PALETTE else ()
    data = image_data(layout) if data is None else data
    return b"".join((SIGNATURE, header(layout), *before, *palettes, *middle, data, *after, END))


def transparency(layout: Layout) -> bytes | None:
    """Return the data of a tRNS chunk that makes some pixels transparent."""
    if layout.kind == PALETTE:
        return bytes(255 * at % 256 for at in range(7, 7 + min(11, 1 << layout.depth)))
    if layout.kind in (GREY, RGB):
        pixel = samples(layout)[HEIGHT // 2][WIDTH // 2]
        return struct.pack(f">{len(pixel)}H", *pixel)
    return None


def gama(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def chrm(*values: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values)))


def cicp(primaries: int, transfer: int, matrix: int = 0, full_range: int = 1) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, matrix, full_range)))


def iccp(profile: bytes, name: bytes = b"test") -> bytes:
    return chunk(b"iCCP", name + b"\0\0" + zlib.compress(profile))


def exif(orientation: int) -> bytes:
    return chunk(
        b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes([orientation]) + bytes(6)
    )


class Part(NamedTuple):
    """One frame of an animation in one colour, RGBA."""

    colour: tuple[int, int, int, int]
    box: tuple[int, int, int, int]
    dispose: int = 0
    blend: int = 0


def control(number: int, part: Part) -> bytes:
    left, top, right, bottom = part.box
    return chunk(
        b"fcTL",
        struct.pack(
            ">5I2H2B",
            number,
            right - left,
            bottom - top,
            left,
            top,
            1,
            10,
            part.dispose,
            part.blend,
        ),
    )


def flat(part: Part) -> bytes:
    """Return the compressed rows of a frame."""
    left, top, right, bottom = part.box
    return zlib.compress((b"\0" + bytes(part.colour) * (right - left)) * (bottom - top))


def count_of(frames: int) -> bytes:
    return chunk(b"acTL", struct.pack(">II", frames, 0))


def animated(parts: list[Part], *, still: Part | None = None) -> list[bytes]:
    """Return the chunks of an animation in RGBA; `still` is a picture that is no frame of it."""
    layout = Layout(RGB_ALPHA, 8)
    first = still or parts[0]
    _, _, width, height = first.box
    chunks = [SIGNATURE, header(layout, width, height), count_of(len(parts))]
    number = 0
    rest = parts
    if still is None:
        chunks.append(control(0, parts[0]))
        number, rest = 1, parts[1:]
    chunks.append(chunk(b"IDAT", flat(first)))
    for part in rest:
        chunks.append(control(number, part))
        chunks.append(chunk(b"fdAT", struct.pack(">I", number + 1) + flat(part)))
        number += 2
    return [*chunks, END]

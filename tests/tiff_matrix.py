"""The matrix of TIFF layouts: files of every kind, and what must be seen in them.

The files are written by tifffile, an implementation of its own, or by hand. What must be seen is
computed from the samples that went in, by the text of TIFF 6.0.
"""

from __future__ import annotations

import functools
import io
import itertools
import random
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pictures
import pyvips
import tifffile
from PIL import Image
from tiff_writer import shorts, tiff

from nsfwscan.media.decode.decode import decode
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nsfwscan.media.decode.decoded import Decoded

WIDTH, HEIGHT = 37, 21
"""No multiple of a byte's bits, of a strip's rows or of a tile's edge."""
WHOLE = Geometry(Resize.STRETCH, WIDTH, HEIGHT, Resample.BILINEAR, WIDTH, HEIGHT)
TOLERANCE = 6.0
"""Mean difference in levels of 255."""

REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""The bits of each byte in the other order."""

Array = np.ndarray[Any, Any]

PHOTO: Array = np.asarray(pictures.photo(WIDTH, HEIGHT))
GREY: Array = np.asarray(pictures.photo(WIDTH, HEIGHT).convert("L"))
ALPHA: Array = np.asarray(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))


# What is written, and what must be seen


@dataclass
class Layout:
    name: str
    samples: Array
    """(height, width) or (height, width, samples), as they go into the file."""
    shown: list[Array]
    """(height, width, 3) of 0 to 255, one for each way in which viewers show it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of tifffile."""


def rgb(grey: Array) -> Array:
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def over_white(colours: Array, alpha: Array) -> Array:
    share = alpha[..., np.newaxis] / 255.0
    return colours * share + 255.0 * (1 - share)


def scaled(levels: Array, bits: int) -> Array:
    white = (1 << bits) - 1
    return np.round(levels / 255.0 * white).astype(np.uint8 if bits <= 8 else np.uint16)


def back(samples: Array, bits: int) -> Array:
    return samples * 255.0 / ((1 << bits) - 1)


def stacked(*channels: Array) -> Array:
    return np.dstack(channels)


def sub_byte(bits: int) -> dict[str, Any]:
    return {} if bits in (8, 16) else {"bitspersample": bits}


def grey_layouts() -> Iterator[Layout]:
    for bits in (1, 2, 4, 8, 12, 16):
        samples = scaled(GREY, bits)
        seen = back(samples, bits)
        if bits == 1:
            samples = samples.astype(bool)
        for zero, shown in (("minisblack", seen), ("miniswhite", 255 - seen)):
            options = {"photometric": zero, **({} if bits == 1 else sub_byte(bits))}
            yield Layout(f"{zero} {bits}", samples, [rgb(shown)], options)
    for bits in (8, 16):
        alpha, grey = scaled(ALPHA, bits), scaled(GREY, bits)
        options = {"photometric": "minisblack"}
        opaque, over = rgb(back(grey, bits)), over_white(rgb(GREY), ALPHA)
        yield Layout(
            f"grey {bits} unassalpha",
            stacked(grey, alpha),
            [over],
            options | {"extrasamples": ["unassalpha"]},
        )
        yield Layout(
            f"grey {bits} unspecified",
            stacked(grey, alpha),
            [over, opaque],
            options | {"extrasamples": ["unspecified"]},
        )
        yield Layout(
            f"grey {bits} assocalpha",
            stacked(scaled(GREY / 255.0 * ALPHA, bits), alpha),
            [over],
            options | {"extrasamples": ["assocalpha"]},
        )


def rgb_layouts() -> Iterator[Layout]:
    for bits in (2, 4, 8, 10, 12, 16):
        samples = scaled(PHOTO, bits)
        options = {"photometric": "rgb", **sub_byte(bits)}
        yield Layout(f"rgb {bits}", samples, [back(samples, bits)], options)
    for bits in (8, 16):
        alpha, colours = scaled(ALPHA, bits), scaled(PHOTO, bits)
        premultiplied = scaled(PHOTO / 255.0 * ALPHA[..., np.newaxis], bits)
        over, opaque = over_white(PHOTO, ALPHA), back(colours, bits)
        for name, first, shown in (
            ("unassalpha", colours, [over]),
            ("assocalpha", premultiplied, [over]),
            ("unspecified", colours, [over, opaque]),
        ):
            yield Layout(
                f"rgb {bits} {name}",
                stacked(first, alpha),
                shown,
                {"photometric": "rgb", "extrasamples": [name]},
            )


def palette_layouts() -> Iterator[Layout]:
    for bits in (1, 2, 4, 8):
        small = pictures.photo(WIDTH, HEIGHT).quantize(1 << bits)
        found = small.getpalette() or []
        colours = np.zeros((1 << bits, 3), np.uint16)
        colours[: len(found) // 3] = np.reshape(found, (-1, 3))
        indices = np.asarray(small)
        for name, factor in (("16-bit", 257), ("8-bit", 1)):
            yield Layout(
                f"palette {bits} of {name} colours",
                indices,
                [colours[indices]],
                {
                    "photometric": "palette",
                    "colormap": (colours * factor).T.astype(np.uint16),
                    **sub_byte(bits),
                },
            )


def lab_of_rgb(levels: Array) -> Array:
    """Return L* (0 to 100), a* and b* under D50 (IEC 61966-2-1, Bradford, CIE 15)."""
    linear = np.where(
        levels <= 0.04045 * 255, levels / 255 / 12.92, ((levels / 255 + 0.055) / 1.055) ** 2.4
    )
    white = np.array((0.9642, 1.0, 0.8249))
    ratios = linear @ np.array(pictures.SRGB) / white
    cube = np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116)
    x, y, z = cube[..., 0], cube[..., 1], cube[..., 2]
    return np.dstack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def other_layouts() -> Iterator[Layout]:
    inks = np.asarray(pictures.photo(WIDTH, HEIGHT).convert("CMYK")).copy()
    inks[..., 3] = GREY // 4
    seen = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    for bits in (8, 16):
        options: dict[str, Any] = {"photometric": "separated"}
        yield Layout(f"cmyk {bits}", scaled(inks, bits), [seen], options)
    pale = (PHOTO * 0.5 + 64).astype(np.uint8)
    lab = lab_of_rgb(pale.astype(float))
    lightness, a, b = (lab[..., at] for at in range(3))
    signed = np.dstack((lightness * 2.55, a, b)).round().astype(np.int16).astype(np.uint8)
    yield Layout("cielab 8", signed, [pale], {"photometric": "cielab"})
    wide = np.dstack((lightness * 655.35, a * 256, b * 256)).round().astype(np.int32)
    yield Layout("cielab 16", wide.astype(np.uint16), [pale], {"photometric": "cielab"})
    ycbcr = np.asarray(pictures.photo(WIDTH, HEIGHT).convert("YCbCr"))
    options = {"photometric": "ycbcr", "subsampling": (1, 1)}
    yield Layout("ycbcr 8", ycbcr, [PHOTO], options)


def float_layouts() -> Iterator[Layout]:
    light = (PHOTO / 255.0) ** 2.2
    lit = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    grey = {"photometric": "minisblack"}
    dark = rgb(GREY / 255.0)
    fractions = (GREY / 255.0).astype(np.float32)
    yield Layout("float grey to 1", fractions, [rgb(GREY), dark], grey)
    white = np.where(rgb(GREY) == 0, 0.0, 255.0)
    yield Layout("float grey to 255", GREY.astype(np.float32), [white, rgb(GREY)], grey)
    yield Layout("float rgb", light.astype(np.float32), [lit], {"photometric": "rgb"})


def disputed_layouts() -> Iterator[Layout]:
    """Viewers show these in different ways, or hardly any shows them: they are refused."""
    for name in ("int8", "int16", "int32", "uint32", "uint64", "float16", "float64"):
        yield Layout(f"{name} grey", GREY.astype(name) // 2, [], {"photometric": "minisblack"})
        yield Layout(f"{name} rgb", PHOTO.astype(name) // 2, [], {"photometric": "rgb"})
    lab = PHOTO // 2
    more = stacked(PHOTO, ALPHA, ALPHA // 2)
    several = {"photometric": "rgb", "extrasamples": ["unassalpha", "unspecified"]}
    yield Layout("rgb 8 and more", more, [], several)
    options: dict[str, Any] = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    yield Layout("float rgb unassalpha", stacked(PHOTO, ALPHA).astype(np.float32), [], options)
    yield Layout("icclab 8", lab, [], {"photometric": "icclab"})
    for name in ("unspecified", "unassalpha"):
        inks = stacked(PHOTO, GREY, ALPHA)
        options = {"photometric": "separated", "extrasamples": [name]}
        yield Layout(f"cmyk 8 {name}", inks, [], options)


def layouts() -> list[Layout]:
    return [
        *grey_layouts(),
        *rgb_layouts(),
        *palette_layouts(),
        *other_layouts(),
        *float_layouts(),
        *disputed_layouts(),
    ]


@dataclass
class Cell:
    name: str
    data: bytes
    shown: list[Array]


COMPRESSIONS: list[dict[str, Any]] = [
    {},
    {"compression": "lzw"},
    {"compression": "lzw", "predictor": True},
    {"compression": "adobe_deflate"},
    {"compression": "adobe_deflate", "predictor": True},
    {"compression": "packbits"},
    {"compression": "zstd", "predictor": True},
    {"compression": "lzma"},
]
PIECES: list[dict[str, Any]] = [{"rowsperstrip": 8}, {"tile": (16, 16)}]


def cells() -> Iterator[Cell]:
    """Write the matrix. Which cells are BigTIFF is left to chance, with a seed."""
    chance = random.Random(10)
    for layout in layouts():
        planes = ["contig"] if layout.samples.ndim == 2 else ["contig", "separate"]
        for plane, compression, pieces, order in itertools.product(
            planes, COMPRESSIONS, PIECES, "<>"
        ):
            if "bitspersample" in layout.options or layout.samples.dtype == bool:
                continue  # by `packed_cells`
            samples = layout.samples
            options = layout.options | compression | pieces
            if samples.ndim == 3:
                options["planarconfig"] = plane
                if plane == "separate":
                    samples = np.moveaxis(samples, 2, 0)
            big = chance.random() < 0.3
            file = io.BytesIO()
            try:
                with tifffile.TiffWriter(file, bigtiff=big, byteorder=order) as writer:
                    writer.write(samples, metadata=None, **options)
            except (ValueError, NotImplementedError):
                continue  # beyond tifffile
            told = [plane, *map(str, compression.values()), *pieces, order, "big" * big]
            yield Cell(f"{layout.name}: {' '.join(told)}", file.getvalue(), layout.shown)


def packed(samples: Array, bits: int) -> list[bytes]:
    """Pack (height, width, samples), at most 16 bits each: rows of bytes, high bits first."""
    shifts = np.arange(bits - 1, -1, -1)
    spread = (samples[..., np.newaxis].astype(np.uint16) >> shifts & 1).reshape(len(samples), -1)
    return [row.tobytes() for row in np.packbits(spread.astype(np.uint8), axis=1)]


def packed_cells() -> Iterator[Cell]:
    """Write samples that share bytes by hand: tifffile swaps them before it packs them."""
    photometrics = {"miniswhite": 0, "minisblack": 1, "rgb": 2, "palette": 3}
    encoders: dict[int, Callable[[bytes], bytes]] = {
        1: bytes,
        5: imagecodecs.lzw_encode,
        8: zlib.compress,
        32773: imagecodecs.packbits_encode,
        50000: imagecodecs.zstd_encode,
    }
    for layout in layouts():
        one_bit = layout.samples.dtype == bool
        if not one_bit and "bitspersample" not in layout.options:
            continue
        bits = 1 if one_bit else layout.options["bitspersample"]
        samples = np.atleast_3d(layout.samples)
        count = samples.shape[2]
        for planar, compression, fill, order, big in itertools.product(
            range(1, 1 + min(2, count)), encoders, (1, 2), "<>", (False, True)
        ):
            planes = [samples] if planar == 1 else np.split(samples, count, axis=2)
            segments = []
            for plane in planes:
                rows = packed(plane, bits)
                for at in range(0, HEIGHT, 8):
                    segment = encoders[compression](b"".join(rows[at : at + 8]))
                    segments.append(segment if fill == 1 else segment.translate(REVERSED))
            tags = {
                256: WIDTH,
                257: HEIGHT,
                258: shorts(*[bits] * count),
                259: shorts(compression),
                262: shorts(photometrics[layout.options["photometric"]]),
                266: shorts(fill),
                277: shorts(count),
                278: 8,
                284: shorts(planar),
            }
            if "colormap" in layout.options:
                tags[320] = shorts(*layout.options["colormap"].ravel().tolist())
            data = tiff((tags, segments), order=order, big=big)
            told = f"planes {planar}, compression {compression}, fill {fill} {order} {big=}"
            yield Cell(f"{layout.name}: {told}", data, layout.shown)


@functools.cache
def matrix() -> tuple[Cell, ...]:
    return (*cells(), *packed_cells())


def jpeg_cells() -> Iterator[Cell]:
    smooth = np.asarray(
        Image.fromarray(PHOTO).resize((5, 3)).resize((WIDTH, HEIGHT), Image.BICUBIC)
    )
    grey = np.asarray(Image.fromarray(smooth).convert("L"))
    inks = np.asarray(Image.fromarray(smooth).convert("CMYK"))
    kinds: list[tuple[str, Array, Array, dict[str, Any]]] = [
        ("grey", grey, rgb(grey), {"photometric": "minisblack"}),
        ("rgb", smooth, smooth, {"photometric": "rgb", "compressionargs": {"outcolorspace": 2}}),
        ("cmyk", inks, smooth, {"photometric": "separated"}),
        *(
            (f"ycbcr {factors}", smooth, smooth, {"photometric": "rgb", "subsampling": factors})
            for factors in ((1, 1), (2, 1), (2, 2), (4, 1))
        ),
    ]
    for (name, samples, shown, options), pieces, plane, order in itertools.product(
        kinds, [{"rowsperstrip": 16}, {"tile": (32, 32)}, {}], ["contig", "separate"], "<>"
    ):
        if plane == "separate":
            if samples.ndim == 2 or "ycbcr" in name:
                continue
            samples = np.moveaxis(samples, 2, 0)
            options = options | {"compressionargs": {}}
        more = {"planarconfig": plane} if samples.ndim == 3 else {}
        file = io.BytesIO()
        with tifffile.TiffWriter(file, byteorder=order) as writer:
            writer.write(
                samples,
                metadata=None,
                compression="jpeg",
                **options,
                **pieces,
                **more,
            )
        yield Cell(f"jpeg {name} {plane} {pieces} {order}", file.getvalue(), [shown])


def fax_cells() -> Iterator[Cell]:
    two = pictures.photo(WIDTH, HEIGHT).convert("1")
    shown = rgb(np.asarray(two) * 255)
    for name, compression, order, rows in itertools.product(
        ("tiff_ccitt", "group3", "group4"), (0, 1), "<>", (8, HEIGHT)
    ):
        file = io.BytesIO()
        info = {262: compression, 278: rows}
        two.save(file, "TIFF", compression=name, tiffinfo=info)
        data = file.getvalue()
        with tifffile.TiffFile(io.BytesIO(data)) as written:
            page = written.pages[0]
            places = zip(page.dataoffsets, page.databytecounts, strict=True)
            strips = [data[at : at + length] for at, length in places]
            number, zero = page.tags[259].value, page.tags[262].value
        for fill, big in itertools.product((1, 2), (False, True)):
            tags = {
                256: WIDTH,
                257: HEIGHT,
                258: shorts(1),
                259: shorts(number),
                262: shorts(zero),
                266: shorts(fill),
                278: rows,
            }
            turned = strips if fill == 1 else [strip.translate(REVERSED) for strip in strips]
            made = tiff((tags, turned), order=order, big=big)
            yield Cell(f"{name}, white {zero}, {fill=} {order} {big=} {rows}", made, [shown])


def ycbcr_strips(across: int, down: int, rows: int) -> list[bytes]:
    """Pack PHOTO as TIFF 6.0, section 21 says, in strips of so many rows."""
    wide, high = -(-WIDTH // across) * across, -(-HEIGHT // down) * down
    padded = np.pad(PHOTO, ((0, high - HEIGHT), (0, wide - WIDTH), (0, 0)), mode="edge")
    luma, blue, red = np.moveaxis(np.asarray(Image.fromarray(padded).convert("YCbCr")), 2, 0)
    strips = []
    for top in range(0, high, rows):
        strip = bytearray()
        for y in range(top, min(high, top + rows), down):
            for x in range(0, wide, across):
                strip += luma[y : y + down, x : x + across].tobytes()
                for chroma in (blue, red):
                    strip.append(int(chroma[y : y + down, x : x + across].mean()))
        strips.append(bytes(strip))
    return strips


def one_strip(layout: Layout) -> tuple[bytes, list[Array]]:
    file = io.BytesIO()
    tifffile.imwrite(file, layout.samples, metadata=None, **layout.options)
    return file.getvalue(), layout.shown


# What is seen


def frames(decoded: Decoded, geometry: Geometry = WHOLE) -> list[Array]:
    pixels = np.frombuffer(decoded.pixels, np.uint8)
    return list(pixels.reshape(decoded.views, geometry.crop_height, geometry.crop_width, 3))


def difference(one: Array, other: Array) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@dataclass
class Counts:
    right: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


def compare(found: Iterable[Cell]) -> Counts:
    """Decode each cell. Every way of showing it must be as expected, one after the other."""
    counts = Counts()
    for cell in found:
        try:
            seen = frames(decode(cell.data, WHOLE))
        except DecodeError as error:
            if error.reason is FailReason.UNSUPPORTED:
                counts.refused += 1
            else:
                counts.wrong.append(f"{cell.name}: {error}")
            continue
        apart = [difference(*pair) for pair in zip(seen, cell.shown, strict=False)]
        if len(seen) == len(cell.shown) and max(apart) <= TOLERANCE:
            counts.right += 1
        else:
            counts.wrong.append(f"{cell.name}: {len(seen)} views, {apart}")
    return counts


def by_libvips(data: bytes) -> Array | None:
    """Return what libvips shows, over white, (height, width, 3); None where it refuses."""
    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="warning")
        if image.hasalpha():
            white = {"uchar": 255, "ushort": 65535, "float": 1.0}[image.format]
            image = image.flatten(background=[white])
        seen = image.colourspace("srgb").cast("uchar").numpy()
    except pyvips.Error:
        return None
    seen = np.atleast_3d(seen)
    return seen[..., :3] if seen.shape[2] >= 3 else rgb(seen[..., 0])


DISPUTED = {
    "cmyk": "it prints the inks with a press's profile of its own",
    "ycbcr": "it shows Y, Cb and Cr as red, green and blue unless they are JPEG",
    "cielab 16: separate": "it shows other pixels than for the same samples in one plane",
}
"""Where libvips differs, and why it does not count. ImageMagick shows all of these as expected."""

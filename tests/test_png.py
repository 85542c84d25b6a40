"""What is scored of a PNG is what libpng and browsers show, or nothing."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pictures
import png_files as files
import pytest
from PIL import Image, ImageFile
from png_files import (
    GREY,
    HEIGHT,
    LAYOUTS,
    PALETTE,
    RGB,
    WIDTH,
    Layout,
    assemble,
    chunk,
    damaged,
)

from nsfwscan.media.decode.decode import decode
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("over_white_only")


Pixels = np.ndarray
"""Floats of 0 to 255, (height, width, 3)."""

MOST_DIFFERENCE = 6
"""Levels of 255, in the mean."""

REASONS = (FailReason.CORRUPT, FailReason.TRUNCATED, FailReason.UNSUPPORTED)

RGB_8 = Layout(RGB, 8)
GREY_8 = Layout(GREY, 8)
GREY_16 = Layout(GREY, 16)
PALETTE_8 = Layout(PALETTE, 8)
LINEAR = files.gama(1.0)
P3 = pictures.icc_profile(pictures.P3, gamma=1.0)


def native(width: int = WIDTH, height: int = HEIGHT) -> Geometry:
    return Geometry(Resize.STRETCH, width, height, Resample.BILINEAR, width, height)


def views(data: bytes, width: int = WIDTH, height: int = HEIGHT) -> list[Pixels]:
    decoded = decode(data, native(width, height))
    pixels = np.frombuffer(decoded.pixels, np.uint8).astype(float)
    return list(pixels.reshape(decoded.views, height, width, 3))


def shown(data: bytes) -> Pixels:
    """Return the only view."""
    (only,) = views(data)
    return only


def reason(data: bytes) -> FailReason:
    with pytest.raises(DecodeError) as caught:
        decode(data, native())
    return caught.value.reason


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).mean())


def libpng(data: bytes) -> Pixels | None:
    """Decode with libpng, over white; None if it refuses."""
    try:
        pixels = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError, UnicodeDecodeError):
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    scaled = pixels.astype(float) * (255 / np.iinfo(pixels.dtype).max)
    if scaled.shape[2] in (2, 4):
        alpha = scaled[:, :, -1:] / 255
        scaled = scaled[:, :, :-1] * alpha + 255 * (1 - alpha)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3))


def outcome(data: bytes, clean: Pixels) -> str:
    """Compare one file with libpng; with the clean file where libpng refuses and browsers show."""
    expected = libpng(data)
    try:
        seen = views(data)
    except DecodeError as error:
        return "refused" if error.reason in REASONS else "wrong"
    wanted = clean if expected is None else expected
    return "right" if min(difference(view, wanted) for view in seen) <= MOST_DIFFERENCE else "wrong"


def transparency_variants(layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Give the ways in which tRNS and PLTE can be there, and wrong."""
    data = files.transparency(layout) or bytes(6)
    good, other = chunk(b"tRNS", data), chunk(b"tRNS", bytes(len(data)))
    whole, none = chunk(b"PLTE", files.palette(8)), chunk(b"PLTE")
    orders: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]] = {
        "good": ((), (good,), ()),
        "before": ((good,), (), ()),
        "after": ((), (), (good,)),
        "twice": ((), (good, other), ()),
        "twice-around": ((other,), (good,), ()),
        "good-and-after": ((), (good,), (other,)),
        "crc": ((), (damaged(good),), ()),
        "crc-then-good": ((), (damaged(other), good), ()),
        "empty": ((), (chunk(b"tRNS"),), ()),
        "short": ((), (chunk(b"tRNS", data[:1]),), ()),
        "long": ((), (chunk(b"tRNS", data + b"\0"),), ()),
        "very-long": ((), (chunk(b"tRNS", bytes(300)),), ()),
        "long-then-good": ((), (chunk(b"tRNS", data + b"\0" * 250), good), ()),
        "high-bits": ((), (chunk(b"tRNS", bytes([data[0] | 0x70, *data[1:]])),), ()),
        "palette-after": ((), (), (whole,)),
        "palette-between": ((good,), (whole,), ()),
        "palette-empty": ((), (none, good), ()),
        "palette-odd": ((chunk(b"PLTE", b"\1\2"),), (good,), ()),
    }
    for name, (before, middle, after) in orders.items():
        yield name, assemble(layout, *before, middle=middle, after=after)
    if layout.kind == PALETTE:
        full = files.palette(layout.depth)
        for name, palettes in {
            "none": (),
            "twice": (chunk(b"PLTE", full), whole),
            "crc": (damaged(chunk(b"PLTE", full)),),
            "longer": (chunk(b"PLTE", full + bytes(6)),),
            "odd": (chunk(b"PLTE", full + b"\0"),),
            "too-long": (chunk(b"PLTE", bytes(771)),),
        }.items():
            yield f"plte-{name}", assemble(layout, palettes=palettes)


def other_variants(layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Give what can be wrong in other chunks, none of which changes what libpng shows."""
    header, data = files.header(layout), files.image_data(layout)
    rows = zlib.compress(files.raster(layout))
    half = len(rows) // 2
    profile = files.iccp(pictures.gray_profile(1.0))
    texts = (
        chunk(b"tEXt", b"a\0" + b"x" * 100_000),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3 << 20))),
        chunk(b"zTXt", b"a\0\1what"),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(3 << 20))),
        damaged(chunk(b"tEXt", b"a\0b")),
    )
    bad = [chunk(name, b"\0") for name in (b"gAMA", b"cHRM", b"pHYs", b"cICP", b"iCCP", b"acTL")]
    plain = {
        "plain": assemble(layout),
        "texts": assemble(layout, *texts),
        "texts-after": assemble(layout, after=texts),
        "short-ancillary": assemble(layout, *bad, chunk(b"sRGB"), chunk(b"sBIT"), chunk(b"hIST")),
        "crc-ancillary": assemble(layout, *(damaged(one) for one in (LINEAR, profile))),
        "profile-after": assemble(layout, after=(profile, LINEAR, files.cicp(1, 8))),
        "unknown": assemble(layout, chunk(b"abCd", b"x"), middle=(damaged(chunk(b"efGh", b"y")),)),
        "unknown-critical": assemble(layout, chunk(b"ABCD", b"x")),
        "unknown-critical-after": assemble(layout, after=(chunk(b"ABCD", b"x"),)),
        "background": assemble(layout, middle=(chunk(b"bKGD", bytes(6)),)),
        "behind-the-end": assemble(layout) + LINEAR + data + b"junk",
        "two-headers": assemble(layout, header),
        "header-not-first": files.SIGNATURE + LINEAR + header + data + files.END,
        "header-after-data": assemble(layout, after=(header,)),
        "header-crc": files.SIGNATURE + damaged(header) + data + files.END,
        "no-end": assemble(layout)[:-12],
        "cut-in-end": assemble(layout)[:-6],
        "too-long-chunk": assemble(layout, b"\x80\0\0\0tEXtabc"),
        "beyond-the-file": assemble(layout, after=(b"\0\xff\0\0tEXtabc",)),
    }
    yield from plain.items()
    for name, parts in {
        "split": (chunk(b"IDAT", rows[:half]), chunk(b"IDAT", rows[half:])),
        "split-by-text": (chunk(b"IDAT", rows[:half]), texts[0], chunk(b"IDAT", rows[half:])),
        "empty-parts": (chunk(b"IDAT"), chunk(b"IDAT", rows), chunk(b"IDAT")),
        "bytes": tuple(chunk(b"IDAT", rows[at : at + 1]) for at in range(len(rows))),
        "extra": (chunk(b"IDAT", rows + b"extra"), chunk(b"IDAT", rows)),
        "more-rows": (chunk(b"IDAT", zlib.compress(files.raster(layout) + bytes(999))),),
        "crc": (damaged(chunk(b"IDAT", rows)),),
        "checksum": (chunk(b"IDAT", rows[:-4] + bytes(4)),),
        "no-checksum": (chunk(b"IDAT", rows[:-4]),),
        "zlib-header": (chunk(b"IDAT", b"\x78\x9d" + rows[2:]),),
        "no-rows": (chunk(b"IDAT", zlib.compress(b"")),),
    }.items():
        yield f"idat-{name}", assemble(layout, data=b"".join(parts))


def count(layouts: list[Layout]) -> tuple[Counter[str], list[str]]:
    """Try every variant of each layout; returns how many came out how, and which came out wrong."""
    outcomes, wrong = Counter[str](), []
    for layout in layouts:
        clean = libpng(assemble(layout))
        assert clean is not None
        for variants in (transparency_variants, other_variants):
            for name, data in variants(layout):
                result = outcome(data, clean)
                outcomes[result] += 1
                if result == "wrong":
                    wrong.append(f"{layout}: {name}")
    return outcomes, wrong


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_file_looks_as_in_libpng_or_is_refused(layout: Layout) -> None:
    outcomes, wrong = count([layout])
    assert wrong == []
    assert outcomes["right"] > 2 * outcomes["refused"] > 0


def test_the_matrix_has_hundreds_of_files() -> None:
    assert sum(1 for one in LAYOUTS for _ in transparency_variants(one)) > 500
    assert sum(1 for one in LAYOUTS for _ in other_variants(one)) > 800


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one.kind in (GREY, RGB)], ids=str)
def test_a_transparent_colour_is_compared_in_all_its_bits(layout: Layout) -> None:
    data = assemble(layout, chunk(b"tRNS", files.transparency(layout) or b""))
    expected = libpng(data)
    assert expected is not None
    assert np.abs(shown(data) - expected).max() <= 1.01


def test_sixteen_bits_of_dark_grey_stay_dark() -> None:
    rows = b"".join(b"\0" + struct.pack(">37H", *range(0, 37 * 100, 100)) for _ in range(HEIGHT))
    data = assemble(GREY_16, data=chunk(b"IDAT", zlib.compress(rows)))
    assert shown(data).max() == 14


# What libpng refuses and browsers show, what some viewers show, and why a file is refused


def test_a_wrong_checksum_of_the_image_data_is_said() -> None:
    data = assemble(RGB_8, data=chunk(b"IDAT", zlib.compress(files.raster(RGB_8))[:-4] + bytes(4)))
    decoded = decode(data, native())
    assert decoded.facts.missing == "the image data does not match its checksum"
    assert decoded.pixels == decode(assemble(RGB_8), native()).pixels


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_what_is_shown_of_a_file_cut_short_is_a_verdict_only_if_little_is_missing(
    layout: Layout,
) -> None:
    whole = assemble(layout)
    clean = libpng(whole)
    assert clean is not None
    raw = files.raster(layout)
    rows = zlib.compress(raw)
    for kept in range(0, len(rows) - 4, 7):
        data = assemble(layout, data=b"")[:-12] + struct.pack(">I", len(rows)) + b"IDAT"
        data += rows[:kept]
        there = len(zlib.decompressobj().decompress(rows[:kept]))
        if there < len(raw) * 15 / 16 - len(raw) / HEIGHT:
            assert reason(data) is FailReason.TRUNCATED
        elif there > len(raw) * 15 / 16 + len(raw) / HEIGHT:
            assert decode(data, native()).facts.missing or there == len(raw)
            assert difference(shown(data), clean) <= MOST_DIFFERENCE


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_stream_of_too_few_rows_is_not_filled_up_with_black(interlaced: bool) -> None:
    layout = Layout(RGB, 8, interlaced)
    short = assemble(layout, data=chunk(b"IDAT", zlib.compress(files.raster(layout, -1))))
    decoded = decode(short, native())
    whole = shown(assemble(layout))
    missing = "the end of the image data" if interlaced else f"the last 1 of {HEIGHT} rows"
    assert decoded.facts.missing == missing
    assert difference(shown(short), whole) < 1
    half = assemble(layout, data=chunk(b"IDAT", zlib.compress(files.raster(layout, HEIGHT // 2))))
    assert reason(half) is FailReason.TRUNCATED


def test_a_black_last_row_is_nothing_missing() -> None:
    for image in (Image.new("RGB", (8, 8)), Image.new("1", (8, 8)), Image.new("RGBA", (8, 8))):
        assert decode(pictures.encode(image, "PNG"), native()).facts.missing == ""


@pytest.mark.parametrize("size", [(1, 1), (5, 1), (1, 5), (3, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("interlaced", [False, True])
def test_the_smallest_pictures_are_read(size: tuple[int, int], interlaced: bool) -> None:
    width, height = size
    image = pictures.photo(width, height)
    whole = pictures.encode(image, "PNG")
    if interlaced:
        passes = [
            image.crop((x, y, x + 1, y + 1)).tobytes()
            if (x + across >= width)
            else b"".join(
                image.crop((at, y, at + 1, y + 1)).tobytes() for at in range(x, width, across)
            )
            for left, top, across, down in files.ADAM7
            for y in range(top, height, down)
            for x in [left]
            if left < width
        ]
        raw = b"".join(b"\0" + row for row in passes)
        whole = files.SIGNATURE + files.header(Layout(RGB, 8, True), width, height)
        whole += chunk(b"IDAT", zlib.compress(raw)) + files.END
    (view,) = views(whole, width, height)
    assert np.array_equal(view, np.asarray(image))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (files.SIGNATURE, FailReason.TRUNCATED),
        (assemble(RGB_8)[:20], FailReason.TRUNCATED),
        (assemble(RGB_8)[:40], FailReason.TRUNCATED),
        (assemble(RGB_8, b"\x80\0\0\0tEXt"), FailReason.CORRUPT),
        (assemble(RGB_8, data=b""), FailReason.CORRUPT),
        (assemble(RGB_8, files.END), FailReason.CORRUPT),
        (assemble(PALETTE_8, palettes=()), FailReason.CORRUPT),
        (assemble(RGB_8, data=chunk(b"IDAT", b"no zlib")), FailReason.CORRUPT),
        (assemble(RGB_8, chunk(b"ABCD")), FailReason.UNSUPPORTED),
        (files.SIGNATURE + chunk(b"CgBI", bytes(4)) + assemble(RGB_8)[8:], FailReason.UNSUPPORTED),
        (pictures.png(WIDTH, HEIGHT, rows=b"", bits=3), FailReason.CORRUPT),
        (pictures.png(WIDTH, HEIGHT, rows=b"", colour=5), FailReason.CORRUPT),
        (pictures.png(0, HEIGHT, rows=b""), FailReason.CORRUPT),
        (pictures.png(WIDTH, 0, rows=b""), FailReason.CORRUPT),
    ],
    ids=[
        "signature", "cut-header", "cut-before-data", "length", "no-data", "end-first",
        "no-palette", "no-zlib", "critical", "CgBI", "depth", "colour-type", "width-0", "height-0",
    ],
)  # fmt: skip
def test_each_refusal_has_its_reason(data: bytes, expected: FailReason) -> None:
    assert reason(data) is expected


@pytest.mark.parametrize("method", [10, 11, 12], ids=["compression", "filter", "interlace"])
def test_a_method_that_does_not_exist_is_unsupported(method: int) -> None:
    data = bytearray(files.header(RGB_8)[8:21])
    data[method] = 2
    whole = files.SIGNATURE + chunk(b"IHDR", bytes(data)) + files.image_data(RGB_8) + files.END
    assert reason(whole) is FailReason.UNSUPPORTED


def test_a_million_empty_chunks_are_refused_before_any_pixel() -> None:
    data = assemble(RGB_8, chunk(b"abCd") * 1_000_001)
    assert reason(data) is FailReason.UNSUPPORTED


def test_a_lack_of_memory_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: ImageFile.ImageFile) -> None:
        raise OSError("out of memory when reading image file")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason(assemble(RGB_8)) is FailReason.DECODER_MEMORY


def test_a_transparency_longer_than_the_palette_is_shown_in_both_ways() -> None:
    layout = Layout(PALETTE, 4)
    data = assemble(layout, middle=(chunk(b"tRNS", bytes(40)),))
    with_it, without_it = views(data)
    assert with_it.min() == 255
    assert np.array_equal(without_it, shown(assemble(layout)))


def test_a_picture_that_uses_colours_beyond_its_palette_is_refused() -> None:
    """Chromium shows them in the last colour, libpng in black."""
    rows = zlib.compress(b"".join(b"\0" + bytes(range(WIDTH)) for _ in range(HEIGHT)))
    colours = files.palette(8)[: 3 * WIDTH]

    def built(palette: bytes) -> bytes:
        return assemble(PALETTE_8, palettes=(chunk(b"PLTE", palette),), data=chunk(b"IDAT", rows))

    assert reason(built(colours[:-3])) is FailReason.CORRUPT
    assert shown(built(colours))[0, -1].tolist() == list(colours[-3:])

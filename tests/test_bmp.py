"""BMP: every layout is shown as its bits mean, or refused."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import pictures
import pytest
import shown
from PIL import Image

from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("over_white_only")

WIDTH, HEIGHT = SIZE = (63, 48)
PHOTO = pictures.photo(*SIZE)
PIXELS = [PHOTO.getpixel((x, y)) for y in range(HEIGHT) for x in range(WIDTH)]
GRADIENT = Image.linear_gradient("L").rotate(90).resize(SIZE)

Masks = tuple[int, ...]
M555, M565 = (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)
M888 = (0xFF0000, 0xFF00, 0xFF)
LAYOUTS: dict[str, tuple[int, Masks]] = {
    "555": (16, M555),
    "565": (16, M565),
    "332": (16, (0xE0, 0x1C, 3)),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "1555": (16, (*M555, 0x8000)),
    "888": (32, M888),
    "8888": (32, (*M888, 0xFF000000)),
    "RGBA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "ABGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "XBGR": (32, (0xFF000000, 0xFF0000, 0xFF00)),
    "101010": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "1010102": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    "111110": (32, (0xFFE00000, 0x1FFC00, 0x3FF)),
    "555-in-32": (32, M555),
    "hole": (32, (0xF0F000, 0xF00, 0xFF)),
    "beyond": (16, (0xF80000, 0x7E0, 0x1F)),
}


def header(size: int, height: int, bits: int, compression: int, masks: Masks, used: int) -> bytes:
    if size == 12:
        return struct.pack("<IHHHH", size, WIDTH, height, 1, bits)
    fields = struct.pack("<IiiHHI", size, WIDTH, height, 1, bits, compression)
    fields += struct.pack("<IiiII", 0, 2835, 2835, used, 0)
    if size >= 52 and size != 64:
        fields += struct.pack("<4I", *masks, *(0,) * (4 - len(masks)))
    fields = fields.ljust(size, b"\0")[:size]
    if size == 40 and compression in (3, 6):
        fields += struct.pack("<4I", *masks, *(0,) * (4 - len(masks)))[
            : 12 if compression == 3 else 16
        ]
    return fields


def bmp(
    size: int,
    bits: int,
    pixels: bytes,
    *,
    compression: int = 0,
    masks: Masks = (),
    palette: bytes = b"",
    used: int = 0,
    down: bool = False,
) -> bytes:
    """Build a BMP with a header of `size` bytes."""
    height = -HEIGHT if down else HEIGHT
    head = header(size, height, bits, compression, masks, used)
    start = 14 + len(head) + len(palette)
    body = head + palette + pixels
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, start) + body


def rows(values: list[int], bits: int, *, down: bool = False) -> bytes:
    """Pack samples row by row, each row filled up to four bytes."""
    packed = []
    for y in range(HEIGHT) if down else reversed(range(HEIGHT)):
        row = values[y * WIDTH : (y + 1) * WIDTH]
        if bits < 8:
            row += [0] * (-len(row) % (8 // bits))
            digits = "".join(f"{value:0{bits}b}" for value in row)
            data = int(digits, 2).to_bytes(len(digits) // 8, "big")
        else:
            data = b"".join(value.to_bytes(bits // 8, "little") for value in row)
        packed.append(data.ljust((len(data) + 3) // 4 * 4, b"\0"))
    return b"".join(packed)


def put(value: int, mask: int) -> int:
    shift = (mask & -mask).bit_length() - 1
    return round(value * (mask >> shift) / 255) << shift


def sampled(masks: Masks, alpha: Callable[[int], int] = lambda _: 255) -> list[int]:
    return [
        sum(put(value, mask) for value, mask in zip((*pixel, alpha(at)), masks, strict=False))
        for at, pixel in enumerate(PIXELS)
    ]


def across(at: int) -> int:
    """Return an alpha value that grows from left to right."""
    return GRADIENT.getpixel((at % WIDTH, 0))


def coarse(masks: Masks) -> Image.Image:
    """Return the photo with as few levels as the masks have."""
    bands = []
    for band, mask in zip(PHOTO.split(), masks, strict=False):
        most = mask >> ((mask & -mask).bit_length() - 1)
        bands.append(band.point([round(round(v * most / 255) * 255 / most) for v in range(256)]))
    return Image.merge("RGB", bands)


def indexed(bits: int) -> tuple[list[int], list[int], Image.Image]:
    """Return the samples, the palette as red, green and blue, and how it looks."""
    image = PHOTO.quantize(1 << bits)
    colours = (image.getpalette() or [])[: 3 << bits]
    colours += [0] * ((3 << bits) - len(colours))
    return list(image.tobytes()), colours, image.convert("RGB")


def as_palette(colours: list[int], step: int = 4) -> bytes:
    entries = (
        bytes(colours[at : at + 3][::-1]).ljust(step, b"\0") for at in range(0, len(colours), 3)
    )
    return b"".join(entries)


def cells() -> Iterator[tuple[str, bytes, list[Image.Image]]]:
    headers = (12, 16, 40, 52, 56, 64, 108, 124)
    for size, bits, down in itertools.product(headers, (1, 2, 4, 8), (False, True)):
        values, colours, expected = indexed(bits)
        if down and size == 12:
            continue
        palette = as_palette(colours, 3 if size == 12 else 4)
        data = bmp(size, bits, rows(values, bits, down=down), palette=palette, down=down)
        yield f"{size} {bits} {down}", data, [expected]
    for size, (bits, masks), down in itertools.product(
        headers, ((16, M555), (24, M888), (32, M888)), (False, True)
    ):
        if size == 12 and (down or bits != 24):
            continue
        data = bmp(size, bits, rows(sampled(masks), bits, down=down), down=down)
        yield f"{size} {bits} plain {down}", data, [coarse(masks)]
    for size, name, down in itertools.product((40, 52, 56, 108, 124), LAYOUTS, (False, True)):
        bits, masks = LAYOUTS[name]
        samples = rows(
            [value & 0xFFFFFFFF >> (32 - bits) for value in sampled(masks, across)], bits, down=down
        )
        compression = 6 if size == 40 and len(masks) == 4 else 3
        data = bmp(size, bits, samples, compression=compression, masks=masks, down=down)
        expected = [coarse(masks)]
        if len(masks) == 4 and size != 52:
            most = masks[3] >> ((masks[3] & -masks[3]).bit_length() - 1)
            alpha = GRADIENT.point([round(round(v * most / 255) * 255 / most) for v in range(256)])
            seen = coarse(masks)
            seen.putalpha(alpha)
            expected.append(shown.over_white(seen))
        yield f"{size} {name} {down}", data, expected


def test_every_layout_is_shown_as_its_bits_mean() -> None:
    counts, wrong = shown.tally(cells())
    assert not wrong
    assert counts["right"] >= 230, counts
    assert counts["refused"] <= 2 * 5 * 2, counts


@pytest.mark.parametrize("size", [56, 108, 124])
@pytest.mark.parametrize("layout", ["8888", "RGBA", "ABGR", "4444"])
def test_an_alpha_channel_of_zeros_means_opaque(size: int, layout: str) -> None:
    bits, masks = LAYOUTS[layout]
    data = bmp(size, bits, rows(sampled(masks, lambda _: 0), bits), compression=3, masks=masks)
    assert shown.difference(shown.views(data, SIZE)[0], coarse(masks)) < 1


@pytest.mark.parametrize("alpha", [0, 255])
def test_an_alpha_channel_that_says_nothing_costs_no_second_view(alpha: int) -> None:
    masks = LAYOUTS["8888"][1]
    data = bmp(124, 32, rows(sampled(masks, lambda _: alpha), 32), compression=3, masks=masks)
    assert len(shown.views(data, SIZE)) == 1


def test_the_fourth_byte_of_plain_32_bits_is_junk() -> None:
    samples = [value | at % 256 << 24 for at, value in enumerate(sampled(M888))]
    (found,) = shown.views(bmp(40, 32, rows(samples, 32)), SIZE)
    assert shown.difference(found, PHOTO) < 1


def encoded_runs(values: list[int], *, nibbles: bool, literal: bool) -> bytes:
    out = bytearray()
    for y in reversed(range(HEIGHT)):
        row = values[y * WIDTH : (y + 1) * WIDTH]
        if literal:
            if nibbles:
                row = [*row, 0]
                data = bytes(one << 4 | two for one, two in zip(row[::2], row[1::2], strict=True))
            else:
                data = bytes(row)
            out += bytes((0, WIDTH)) + data + bytes(len(data) & 1)
        else:
            for value, run in itertools.groupby(row):
                out += bytes((len(list(run)), value * 17 if nibbles else value))
        out += b"\0\0"
    return bytes(out)


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("end", [b"\0\1", b""])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("down", [False, True])
def test_runs_are_unpacked(bits: int, end: bytes, literal: bool, down: bool) -> None:
    values, colours, expected = indexed(bits)
    data = bmp(
        40,
        bits,
        encoded_runs(values, nibbles=bits == 4, literal=literal) + end,
        compression=2 if bits == 4 else 1,
        palette=as_palette(colours),
        down=down,
    )
    if down:
        expected = expected.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    (found,) = shown.views(data, SIZE)
    assert shown.difference(found, expected) == 0


@pytest.mark.parametrize("bits", [4, 8])
def test_what_a_delta_skips_has_each_colour_that_viewers_give_it(bits: int) -> None:
    colours = [10, 200, 30, *(255, 0, 0) * 15]
    # Three right and two up, five pixels, two more rows up, and the end of the picture.
    runs = b"\0\2\3\2" + b"\5\x11" + b"\0\2\0\2" + b"\4\x11" + b"\0\1"
    if bits == 8:
        runs = runs.replace(b"\x11", b"\x01")
    data = bmp(40, bits, runs, compression=2 if bits == 4 else 1, palette=as_palette(colours))
    for found, background in zip(
        shown.views(data, SIZE), [(10, 200, 30), (0, 0, 0), (255, 255, 255)], strict=True
    ):
        expected = Image.new("RGB", SIZE, background)
        expected.paste((255, 0, 0), (3, HEIGHT - 3, 8, HEIGHT - 2))
        expected.paste((255, 0, 0), (8, HEIGHT - 5, 12, HEIGHT - 4))
        assert found.tobytes() == expected.tobytes()


def test_an_embedded_profile_is_one_more_view() -> None:
    profile = pictures.icc_profile(pictures.P3, gamma=0.8)
    data = bytearray(bmp(124, 24, rows(sampled(M888), 24)))
    data[14 + 56 : 14 + 60] = b"DEBM"
    data[14 + 112 : 14 + 120] = struct.pack("<II", len(data) - 14, len(profile))
    plain, managed = shown.views(bytes(data) + profile, SIZE)
    assert shown.difference(plain, PHOTO) < 1
    expected = shown.views(pictures.encode(PHOTO, "PNG", icc_profile=profile), SIZE)[0]
    assert shown.difference(managed, expected) < 1
    assert shown.difference(plain, managed) > 10


def plain_24() -> bytes:
    return bmp(40, 24, rows(sampled(M888), 24))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bmp(40, 0, b"\xff\xd8\xff", compression=4), FailReason.UNSUPPORTED),
        (bmp(40, 0, b"\x89PNG", compression=5), FailReason.UNSUPPORTED),
        (bmp(64, 1, bytes(900), compression=3), FailReason.UNSUPPORTED),
        (bmp(64, 24, bytes(900), compression=4), FailReason.UNSUPPORTED),
        (bmp(40, 24, bytes(9500), compression=99), FailReason.UNSUPPORTED),
        (bmp(40, 64, bytes(40_000)), FailReason.UNSUPPORTED),
        (bmp(56, 32, bytes(13_000), compression=3), FailReason.UNSUPPORTED),
        (plain_24()[:-2000], FailReason.TRUNCATED),
        (plain_24()[:40], FailReason.TRUNCATED),
        (plain_24()[:10] + bytes(4) + plain_24()[14:], FailReason.CORRUPT),
        (plain_24()[:18] + bytes(4) + plain_24()[22:], FailReason.CORRUPT),
        (bmp(40, 8, b"\5\1", compression=1, palette=bytes(1024)), FailReason.TRUNCATED),
        (bmp(40, 8, b"\0\x20abc", compression=1, palette=bytes(1024)), FailReason.TRUNCATED),
    ],
)
def test_what_is_not_shown_is_refused_for_its_reason(data: bytes, reason: FailReason) -> None:
    assert shown.refusal(data) is reason


@pytest.mark.parametrize("down", [False, True])
def test_a_few_missing_rows_are_said(down: bool) -> None:
    """Browsers leave them empty. They are the upper ones, unless the file begins at the top."""
    whole = bmp(40, 24, rows(sampled(M888), 24, down=down), down=down)
    stride = (3 * WIDTH + 3) // 4 * 4
    for cut, missing in ((5, 1), (stride + 5, 2), (HEIGHT // 16 * stride + 5, None)):
        short = whole[:-cut]
        if missing is None:
            assert shown.refusal(short) is FailReason.TRUNCATED
            continue
        assert shown.missing(short) == f"the {'last' if down else 'top'} {missing} rows are missing"
        (found,), (expected,) = shown.views(short, SIZE), shown.views(whole, SIZE)
        box = (0, 0, WIDTH, HEIGHT - missing) if down else (0, missing, *SIZE)
        assert shown.difference(found.crop(box), expected.crop(box)) == 0


@pytest.mark.parametrize("used", [0, 10, 256, 300, 100_000])
def test_any_number_of_colours_is_taken(used: int) -> None:
    values, colours, expected = indexed(8)
    palette = as_palette(colours).ljust(4 * min(used, 300), b"\0")
    if used == 10:
        palette = palette[:40]
        values = [value % 10 for value in values]
        pixels = bytes(values)
        expected = Image.frombytes("P", SIZE, pixels)
        expected.putpalette(colours)
    data = bmp(40, 8, rows(values, 8), palette=palette, used=used)
    (found,) = shown.views(data, SIZE)
    assert shown.difference(found, expected) == 0

"""JPEG: what browsers show of whole, cut and odd files."""

from __future__ import annotations

import base64
import itertools
import struct
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pictures
import pytest
import pyvips
import shown
from PIL import Image

from nsfwscan.media.decode.decode import decode
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

# A decode worker ignores the warnings of Pillow about odd metadata.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")

SIZE = (192, 320)
PHOTO = pictures.photo(*SIZE)
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# 32 x 24 pixels, three crossed ramps, written with `cjpeg -arithmetic`, with and without
# `-progressive`: no package that tests can install writes arithmetic coding.
ARITHMETIC = {
    "sequential": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsj"
        "HBYWICwgIyYnKSopGR8tMC0oMCUoKSj/2wBDAQcHBwoIChMKChMoGhYaKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo"
        "KCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCj/yQARCAAYACADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
        "AxEAPwD/ALwteeusMM2xPAVoUNbvKnDRBy41lSEYpiQL1ORW4xTye3e46CrKGEf1isyfvvvEQRyrH8guVh3wHNj/"
        "2Q=="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsj"
        "HBYWICwgIyYnKSopGR8tMC0oMCUoKSj/2wBDAQcHBwoIChMKChMoGhYaKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo"
        "KCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCj/ygARCAAYACADASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAA"
        "Af8AeFXxdT2r6bqMXKN+JoD/zAAEEAX/2gAIAQEAAQUCnF6+57uzkDj/zAAEEQX/2gAIAQMBAT8BomUAk4D/zAAE"
        "EQX/2gAIAQIBAT8BhwKvSy0GVeDv/8wABBAF/9oACAEBAAY/AsD/zAAEEAX/2gAIAQEAAT8hH1U8BzHo/9oADAMB"
        "AAIAAwAAABCQf+b/zAAEEQX/2gAIAQMBAT8QBrj/zAAEEQX/2gAIAQIBAT8QTCAg/8wABBAF/9oACAEBAAE/EEx6"
        "TbZYB2lQsPj/2Q=="
    ),
}


def encoded(image: Image.Image = PHOTO, **options: object) -> bytes:
    return pictures.encode(image, "JPEG", **{"quality": 95, **options})


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def after_start(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def before(marker: int, data: bytes, more: bytes) -> bytes:
    at = data.index(bytes((0xFF, marker)))
    return data[:at] + more + data[at:]


def exif(
    orientation: int, order: str = ">", *, tag: int = 0x112, kind: int = 3, count: int = 1
) -> bytes:
    """Build a block of one tag behind the six letters that JPEG needs."""
    value = struct.pack(f"{order}HH" if kind == 3 else f"{order}I", *((orientation, 0)[: 5 - kind]))
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, 1)
    return b"Exif\0\0" + head + struct.pack(f"{order}HHI", tag, kind, count) + value + bytes(4)


def turned(orientation: int) -> Image.Image:
    turn = TURNS[orientation]
    return PHOTO if turn is None else PHOTO.transpose(turn)


def in_vips(data: bytes) -> Image.Image:
    image = pyvips.Image.new_from_buffer(data, "").autorot()
    pixels = image.colourspace("srgb").numpy()
    return Image.fromarray(np.squeeze(pixels)).convert("RGB")


def cells() -> Iterator[tuple[str, bytes, list[Image.Image]]]:
    for subsampling, progressive, restart, orientation, order in itertools.product(
        (0, 1, 2), (False, True), (0, 5), (1, 3, 6, 8), "<>"
    ):
        plain = encoded(
            subsampling=subsampling, progressive=progressive, restart_marker_blocks=restart
        )
        data = after_start(plain, segment(0xE1, exif(orientation, order)))
        name = f"{subsampling} {progressive} {restart} {orientation} {order}"
        yield name, data, [in_vips(data)]
    for mode, progressive, restart in itertools.product("L CMYK".split(), (False, True), (0, 5)):
        image = PHOTO.convert(mode)
        data = encoded(image, progressive=progressive, restart_marker_blocks=restart)
        yield f"{mode} {progressive} {restart}", data, [image.convert("RGB")]
    yield "RGB", encoded(keep_rgb=True), [PHOTO]


def test_every_layout_is_shown_as_another_decoder_shows_it() -> None:
    counts, wrong = shown.tally(cells())
    assert not wrong
    assert counts == {"right": 3 * 2 * 2 * 4 * 2 + 2 * 2 * 2 + 1}


@pytest.mark.parametrize("coding", ARITHMETIC)
@pytest.mark.parametrize("ahead", [0, 65_000, 65_300, 65_500, 200_000])
def test_arithmetic_coding_is_read_wherever_its_data_lies(coding: str, ahead: int) -> None:
    data = base64.b64decode(ARITHMETIC[coding])
    expected = Image.fromarray(imagecodecs.jpeg8_decode(data))
    comments = [segment(0xFE, bytes(min(65_000, ahead - at))) for at in range(0, ahead, 65_000)]
    (found,) = shown.views(after_start(data, *comments), (32, 24))
    assert shown.difference(found, expected) < 1


# Orientation


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_first_exif_segment_turns_the_picture(orientation: int, order: str) -> None:
    data = after_start(
        encoded(), segment(0xE1, exif(orientation, order)), segment(0xE1, exif(3, order))
    )
    expected = turned(orientation)
    assert shown.difference(shown.views(data, expected.size)[0], expected) < 4


XMP = b'http://ns.adobe.com/xap/1.0/\0<a xmlns:tiff="b" tiff:Orientation="3"/>'


@pytest.mark.parametrize(
    "data",
    [
        after_start(encoded(), segment(0xE1, XMP)),
        after_start(encoded(), segment(0xE1, exif(3, kind=4))),
        after_start(encoded(), segment(0xE1, exif(3, count=2))),
        after_start(encoded(), segment(0xE1, exif(3, tag=0x100))),
        after_start(encoded(), segment(0xE1, exif(9))),
        after_start(encoded(), segment(0xE1, exif(0))),
        after_start(encoded(), segment(0xE2, exif(3))),
        after_start(encoded(), segment(0xE1, exif(3).replace(b"MM\0*", b"MM\0+"))),
        after_start(encoded(), segment(0xE1, exif(3).replace(b"\0\0\0\x08", b"\0\xff\0\x08"))),
        after_start(encoded(), segment(0xE1, b"Exif\0\0?"), segment(0xE1, exif(3))),
        encoded()[:-2] + segment(0xE1, exif(3)) + b"\xff\xd9",
        encoded() + segment(0xE1, exif(3)),
    ],
    ids=[
        "XMP", "LONG", "two values", "another tag", "9", "0", "APP2", "no TIFF", "far offset",
        "second segment", "behind the scan", "behind the end",
    ],
)  # fmt: skip
def test_what_browsers_ignore_turns_nothing(data: bytes) -> None:
    assert shown.difference(shown.views(data, SIZE)[0], PHOTO) < 4


def test_exif_between_frame_and_scan_counts() -> None:
    data = before(0xDA, encoded(), segment(0xE1, exif(3)))
    assert shown.difference(shown.views(data, SIZE)[0], turned(3)) < 4


# Profiles

PROFILE = pictures.icc_profile(pictures.P3, gamma=1.2)
HALF = len(PROFILE) // 2


def icc(number: int, count: int, part: bytes) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + part)


ONE, TWO = icc(1, 2, PROFILE[:HALF]), icc(2, 2, PROFILE[HALF:])


@pytest.mark.parametrize(
    ("segments", "counts"),
    [
        ([icc(1, 1, PROFILE)], True),
        ([ONE, TWO], True),
        ([TWO, ONE], True),
        ([ONE, TWO, TWO], True),
        ([icc(1, 1, PROFILE), icc(2, 1, PROFILE)], True),
        ([ONE], False),
        ([ONE, ONE, TWO], False),
        ([ONE, icc(2, 3, PROFILE[HALF:])], False),
        ([icc(0, 1, PROFILE)], False),
        ([icc(1, 0, PROFILE)], False),
        ([icc(1, 1, PROFILE[:200])], False),
    ],
)
def test_a_profile_counts_when_browsers_can_put_it_together(
    segments: list[bytes], counts: bool
) -> None:
    plain = shown.views(encoded(), SIZE)[0]
    managed = shown.views(encoded(icc_profile=PROFILE), SIZE)[0]
    assert shown.difference(plain, managed) > 10
    for data in (after_start(encoded(), *segments), before(0xDA, encoded(), b"".join(segments))):
        (found,) = shown.views(data, SIZE)
        assert found.tobytes() == (managed if counts else plain).tobytes()


# Odd segments


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xEE, b"Adobe\0"),
        segment(0xE0, b"JFIF\0"),
        segment(0xED, b"Photoshop 3.0\0008BIM\x04\x04"),
        b"\xff\xff\xff\xff",
        b"some bytes",
        segment(0xFE, b""),
    ],
)
def test_segments_that_viewers_pass_over_are_passed_over(odd: bytes) -> None:
    data = encoded()
    (found,) = shown.views(before(0xC0, data, odd), SIZE)
    assert found.tobytes() == shown.views(data, SIZE)[0].tobytes()


def test_scans_in_bytes_behind_the_end_are_none() -> None:
    data = encoded(progressive=True)
    (found,) = shown.views(data + b"\xff\xda" * 500, SIZE)
    assert found.tobytes() == shown.views(data, SIZE)[0].tobytes()


def test_an_end_of_image_inside_a_comment_hides_no_scans() -> None:
    bomb = pictures.jpeg_scan_bomb(200, (64, 48))
    at = bomb.index(b"\xff\xda")
    assert (
        shown.refusal(bomb[:at] + segment(0xFE, b"\xff\xd9") + bomb[at:]) is FailReason.UNSUPPORTED
    )


# Files that are cut


@pytest.mark.parametrize("restart", [0, 1, 12])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_file_cut_in_its_last_rows_is_shown_and_says_so(mode: str, restart: int) -> None:
    image = PHOTO.convert(mode)
    data = encoded(image, restart_marker_blocks=restart, subsampling=0)
    for cut in (2, 3, 40):
        assert shown.missing(data[:-cut]), cut
        (found,) = shown.views(data[:-cut], SIZE)
        # The last 20 rows are a sixteenth, and may be grey.
        box = (0, 0, SIZE[0], SIZE[1] - 20)
        assert shown.difference(found.crop(box), image.convert("RGB").crop(box)) < 4


def test_rows_that_are_missing_are_counted() -> None:
    image = pictures.photo(64, 1600)
    data = encoded(image, subsampling=0)
    said = shown.missing(data[: -len(data) // 40])
    rows = int(said.removeprefix("the last ").removesuffix(" rows are missing"))
    (found,) = shown.views(data[: -len(data) // 40], image.size)
    grey = [found.crop((0, y, 64, y + 1)).getextrema() == ((128, 128),) * 3 for y in range(1600)]
    assert sum(grey) <= rows <= sum(grey) + 8
    assert 16 <= rows < 100


@pytest.mark.parametrize("restart", [0, 1, 12])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_of_which_more_is_missing_is_truncated(share: float, restart: int) -> None:
    data = encoded(restart_marker_blocks=restart)
    assert shown.refusal(data[: int(len(data) * share)]) is FailReason.TRUNCATED


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_padding_is_no_data(filler: bytes) -> None:
    data = encoded()
    half = len(data) // 2
    assert shown.refusal(data[:half] + filler * half) is FailReason.TRUNCATED


def test_a_progressive_file_is_shown_when_its_first_pass_is_whole() -> None:
    data = encoded(progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert shown.refusal(data[: (scans[0] + scans[1]) // 2]) is FailReason.TRUNCATED
    for scan in scans[2:]:
        cut = data[: scan + 20]
        assert shown.missing(cut)
        assert shown.difference(shown.views(cut, SIZE)[0], in_vips(cut + b"\xff\xd9")) < 2


def test_a_whole_file_misses_nothing() -> None:
    for data in (encoded(), encoded(progressive=True), encoded(restart_marker_blocks=3)):
        assert not shown.missing(data)


def test_a_reduced_scale_changes_nothing_about_what_is_missing() -> None:
    data = encoded(pictures.photo(1024, 2048), subsampling=0)[:-2]
    small = Geometry(Resize.STRETCH, 64, 64, Resample.BILINEAR, 64, 64)
    facts = [decode(data, small, full=full).facts for full in (False, True)]
    assert facts[0] == facts[1]
    assert facts[0].missing


# Kinds that are not read


def patched(at: int, value: bytes) -> bytes:
    """Change bytes of the frame header, counted from its marker."""
    data = bytearray(encoded())
    begin = data.index(b"\xff\xc0") + at
    data[begin : begin + len(value)] = value
    return bytes(data)


RAMP = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)
DEEP = RAMP.astype(np.uint16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (imagecodecs.jpegls_encode(RAMP), FailReason.UNSUPPORTED),
        (imagecodecs.jpeg8_encode(DEEP, bitspersample=12), FailReason.UNSUPPORTED),
        (imagecodecs.ljpeg_encode(DEEP, bitspersample=14), FailReason.UNSUPPORTED),
        (patched(1, b"\xc5"), FailReason.UNSUPPORTED),
        (patched(1, b"\xc7"), FailReason.UNSUPPORTED),
        (patched(5, b"\0\0"), FailReason.UNSUPPORTED),
        (patched(9, b"\2"), FailReason.UNSUPPORTED),
        (patched(4, b"\x10"), FailReason.UNSUPPORTED),
        (encoded()[:100], FailReason.TRUNCATED),
        (b"\xff\xd8" + encoded(), FailReason.CORRUPT),
    ],
    ids=[
        "JPEG-LS", "12 bits", "lossless", "hierarchical", "hierarchical lossless", "no height",
        "two components", "16 bits", "cut header", "two starts",
    ],
)  # fmt: skip
def test_what_is_not_shown_is_refused_for_its_reason(data: bytes, reason: FailReason) -> None:
    assert shown.refusal(data) is reason

"""TIFF layouts: every cell of a matrix shows what viewers show, or is refused.

libvips, another reader, is held against the same cells.
"""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pictures
import pytest
import tifffile
from PIL import Image, ImageOps
from tiff_matrix import (
    ALPHA,
    COMPRESSIONS,
    DISPUTED,
    GREY,
    HEIGHT,
    PHOTO,
    TOLERANCE,
    WHOLE,
    WIDTH,
    Array,
    Cell,
    by_libvips,
    compare,
    difference,
    fax_cells,
    frames,
    jpeg_cells,
    layouts,
    matrix,
    one_strip,
    over_white,
    rgb,
    scaled,
    stacked,
    ycbcr_strips,
)
from tiff_writer import LONG, RATIONAL, UNDEFINED, shorts, tiff

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.formats import tiff_pixels, tiff_segments, tiff_tags
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.usefixtures("over_white_only"),
]


def test_every_layout_is_shown_as_it_was_written_or_refused() -> None:
    counts = compare(matrix())
    assert counts.wrong == []
    assert counts.right > 2000


def test_libvips_shows_the_same() -> None:
    compared, apart = 0, []
    for cell in matrix()[::3]:
        try:
            seen = frames(decode(cell.data, WHOLE))
        except DecodeError:
            continue
        viewer = by_libvips(cell.data)
        if viewer is None or cell.name.startswith(tuple(DISPUTED)):
            continue
        compared += 1
        if min(difference(viewer, one) for one in seen) > TOLERANCE:
            apart.append(cell.name)
    assert apart == []
    assert compared > 300


def test_pages_that_are_read_in_several_pieces_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiff_pixels, "_BATCH_BYTES", 1)
    monkeypatch.setattr(tiff_pixels, "_PIECE_BYTES", 1)
    monkeypatch.setattr(tiff_segments, "_CUT_BYTES", 300)
    whole = (
        Cell(f"{one.name}, one strip", *one_strip(one))
        for one in layouts()
        if one.shown and "bitspersample" not in one.options
    )
    counts = compare([*whole, *matrix()[::5]])
    assert counts.wrong == []
    assert counts.right > 400


# Compressions that know of pixels


def test_jpeg_compression_shows_the_picture() -> None:
    counts = compare(jpeg_cells())
    assert counts.wrong == []
    assert counts.right > 50


def test_fax_compressions_show_the_picture() -> None:
    counts = compare(fax_cells())
    assert counts.wrong == []
    assert counts.right == 96


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("compression", [1, 8])
def test_subsampled_ycbcr_shows_the_picture(factors: tuple[int, int], compression: int) -> None:
    strips = ycbcr_strips(*factors, rows=8)
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    tags = RGB_TAGS | {259: shorts(compression), 262: shorts(6), 278: 8, 530: shorts(*factors)}
    assert seen(tiff((tags, strips))) <= TOLERANCE * 2
    if factors == (2, 2):  # what holds when the tag is missing
        del tags[530]
        assert seen(tiff((tags, strips))) <= TOLERANCE * 2


def test_ycbcr_follows_its_reference_black_and_white() -> None:
    photo = np.asarray(Image.fromarray(PHOTO).convert("YCbCr")).astype(float)
    photo[..., 0] = 16 + photo[..., 0] * 219 / 255
    photo[..., 1:] = 128 + (photo[..., 1:] - 128) * 112 / 127
    video = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    tags = RGB_TAGS | {262: shorts(6), 530: shorts(1, 1), 532: (RATIONAL, video)}
    assert seen(tiff((tags, [photo.round().astype(np.uint8).tobytes()]))) < 2


def test_old_style_jpeg_is_read_from_its_one_stream() -> None:
    stream = pictures.encode(pictures.photo(WIDTH, HEIGHT), "JPEG", quality=95, subsampling=0)
    tags = RGB_TAGS | {259: shorts(6), 262: shorts(6), 513: 8, 514: len(stream)}
    data = tiff((tags | {530: shorts(1, 1)}, [stream]))
    assert seen(data) <= TOLERANCE


@pytest.mark.parametrize(("kind", "ways"), [(2, [True]), (0, [True, False])])
def test_a_colour_map_can_have_transparency_beside_it(kind: int, ways: list[bool]) -> None:
    small = pictures.photo(WIDTH, HEIGHT).quantize(64)
    colours = np.zeros((256, 3), np.uint16)
    colours[:64] = np.reshape(small.getpalette() or [], (-1, 3))[:64]
    tags = RGB_TAGS | {258: shorts(8, 8), 262: shorts(3), 277: shorts(2), 338: shorts(kind)}
    tags[320] = shorts(*(colours * 257).T.ravel().tolist())
    data = tiff((tags, [stacked(np.asarray(small), ALPHA).tobytes()]))
    opaque = colours[np.asarray(small)]
    for view, transparent in zip(frames(decode(data, WHOLE)), ways, strict=True):
        assert difference(view, over_white(opaque, ALPHA) if transparent else opaque) < TOLERANCE


# Pages, orientation, profiles


RGB_TAGS: dict[int, tuple[int, Any] | int] = {
    256: WIDTH,
    257: HEIGHT,
    258: shorts(8, 8, 8),
    259: shorts(1),
    262: shorts(2),
    277: shorts(3),
    278: HEIGHT,
}
PIXELS = PHOTO.tobytes()


def seen(data: bytes, shown: Array = PHOTO) -> float:
    """Return the mean difference between the only view of a file and what must be shown."""
    (only,) = frames(decode(data, WHOLE))
    return difference(only, shown)


def refusal(data: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(data, WHOLE)
    assert len(caught.value.detail.split()) > 2, "the detail is a sentence, no bare number"
    return caught.value


def grey_page(width: int, height: int, level: int, **more: Any) -> tuple[Any, list[bytes]]:
    tags = {256: width, 257: height, 258: shorts(8), 262: shorts(1), 278: height}
    return tags | more, [bytes([level]) * (width * height)]


def test_pages_of_different_sizes_are_views_of_their_own() -> None:
    thumbnail = grey_page(5, 4, 200)
    thumbnail[0][254] = 1  # NewSubfileType: a reduced picture
    data = tiff(grey_page(20, 10, 50), thumbnail, grey_page(64, 3, 100))
    decoded = decode(data, WHOLE)
    assert decoded.facts[:4] == ("TIFF", 20, 10, 3)
    assert [one.max() for one in frames(decoded)] == [50, 200, 100]
    assert decoded.facts.missing == ""


@pytest.mark.parametrize("after", [1 << 30, 5], ids=["behind-the-end", "into-the-header"])
def test_a_link_that_leads_nowhere_leaves_page_1_and_says_so(after: int) -> None:
    decoded = decode(tiff((RGB_TAGS, [PIXELS]), after=after), WHOLE)
    assert difference(frames(decoded)[0], PHOTO) == 0
    assert decoded.views == 1
    assert "what follows page" in decoded.facts.missing


def test_directories_in_a_circle_are_shown_once() -> None:
    data = tiff(grey_page(4, 4, 10), grey_page(4, 4, 20))
    first = struct.unpack_from("<I", data, 4)[0]
    circle = tiff(grey_page(4, 4, 10), grey_page(4, 4, 20), after=first)
    decoded = decode(circle, WHOLE)
    assert decoded.views == 2
    assert decoded.facts.missing


def test_a_later_page_that_cannot_be_shown_is_said_to_be_missing() -> None:
    odd = grey_page(4, 4, 20)
    odd[0][259] = shorts(34712)
    decoded = decode(tiff(grey_page(4, 4, 10), odd), WHOLE)
    assert [one.max() for one in frames(decoded)] == [10]
    assert "JPEG 2000" in decoded.facts.missing


def test_no_later_page_stands_in_for_a_first_one_that_cannot_be_shown() -> None:
    broken = (RGB_TAGS | {259: shorts(8)}, [b"no deflate data"])
    assert refusal(tiff(broken, grey_page(4, 4, 10))).reason is FailReason.CORRUPT
    odd = grey_page(4, 4, 20)
    odd[0][259] = shorts(34712)
    assert refusal(tiff(odd, grey_page(4, 4, 10))).reason is FailReason.UNSUPPORTED


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag_is_followed_and_the_facts_are_as_stored(
    orientation: int, planar: int, bits: int
) -> None:
    photo = pictures.photo(WIDTH, HEIGHT)
    samples = scaled(PHOTO, bits)
    tags = RGB_TAGS | {258: shorts(bits, bits, bits), 274: shorts(orientation)}
    planes = [samples] if planar == 1 else [samples[..., at] for at in range(3)]
    data = tiff((tags | {284: shorts(planar)}, [plane.tobytes() for plane in planes]))
    exif = Image.Exif()
    exif[274] = orientation
    photo.info["exif"] = exif.tobytes()
    expected = ImageOps.exif_transpose(photo)
    assert expected is not None
    geometry = Geometry(Resize.STRETCH, *expected.size, Resample.BILINEAR, *expected.size)
    decoded = decode(data, geometry)
    assert decoded.facts[1:3] == (WIDTH, HEIGHT)
    assert difference(frames(decoded, geometry)[0], np.asarray(expected)) < 1


@pytest.mark.parametrize("planar", [1, 2])
def test_an_icc_profile_holds_for_every_layout(planar: int) -> None:
    profile = pictures.icc_profile(pictures.P3)
    planes = [PHOTO] if planar == 1 else [PHOTO[..., at] for at in range(3)]
    tags = RGB_TAGS | {284: shorts(planar), 34675: (UNDEFINED, profile)}
    (shown,) = frames(decode(tiff((tags, [plane.tobytes() for plane in planes])), WHOLE))
    png = pictures.encode(pictures.photo(WIDTH, HEIGHT), "PNG", icc_profile=profile)
    assert difference(shown, PHOTO) > 1
    assert difference(shown, frames(decode(png, WHOLE))[0]) < 0.5


def test_white_of_16_bits_is_65535_however_dark_the_picture_is() -> None:
    dark = (GREY.astype(np.uint16) * 16).astype("<u2")  # as 12-bit scanners write it
    tags = RGB_TAGS | {258: shorts(16), 262: shorts(1), 277: shorts(1)}
    assert seen(tiff((tags, [dark.tobytes()])), rgb(GREY / 16.0)) < 1


# Refusals


@pytest.mark.parametrize("compression", [32766, 32809, 34676, 34677, 34712, 34887, 50001, 50002])
def test_compressions_that_are_not_read_are_unsupported(compression: int) -> None:
    data = tiff((RGB_TAGS | {259: shorts(compression)}, [PIXELS]))
    assert refusal(data).reason is FailReason.UNSUPPORTED


def test_tags_that_do_not_matter_may_be_broken() -> None:
    nowhere = (UNDEFINED, b"12345")
    odd = dict.fromkeys((274, 330, 347, 529, 530, 532, 34675, 305, 65000), nowhere)
    data = bytearray(tiff((RGB_TAGS | odd, [PIXELS])))
    for tag in odd:
        at = data.index(struct.pack("<HHI", tag, UNDEFINED, 5))
        struct.pack_into("<I", data, at + 8, 1 << 31)
    assert seen(bytes(data)) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {262: shorts(4)},
        {262: shorts(9)},
        {262: shorts(32844), 258: shorts(16, 16, 16)},
        {262: shorts(5), 277: shorts(4), 258: shorts(8, 8, 8, 8), 332: shorts(2)},
        {258: shorts(5, 6, 5)},
        {258: shorts(32, 32, 32)},
        {277: shorts(2), 258: shorts(8, 8)},
        {277: shorts(200)},
        {339: shorts(2, 2, 2)},
        {339: shorts(1, 2, 1)},
        {277: shorts(5), 258: shorts(*[8] * 5), 338: shorts(0, 2)},
        {262: shorts(0), 277: shorts(2), 258: shorts(8, 8), 338: shorts(2)},
        {277: shorts(4), 258: shorts(*[8] * 4), 338: shorts(2), 259: shorts(7)},
        {277: shorts(4), 258: shorts(*[4] * 4), 338: shorts(2)},
        {284: shorts(2), 259: shorts(32773)},
        {284: shorts(2), 262: shorts(1), 277: shorts(1), 258: shorts(1)},
        {284: shorts(2), 262: shorts(1), 277: shorts(2), 258: shorts(8, 8), 338: shorts(2)},
        {277: shorts(4), 258: shorts(*[8] * 4), 338: shorts(7)},
        {262: shorts(3), 277: shorts(1), 258: shorts(8)},
        {262: shorts(3), 277: shorts(1), 258: shorts(8), 320: shorts(*range(30))},
        {32997: 2},
        {32996: shorts(2)},
    ],
    ids=repr,
)
def test_layouts_that_are_not_read_are_unsupported(changed: dict[int, Any]) -> None:
    data = tiff((RGB_TAGS | changed, [PIXELS * 4]))
    assert refusal(data).reason is FailReason.UNSUPPORTED


def test_a_page_that_does_not_say_what_its_samples_mean_is_unsupported() -> None:
    tags = dict(RGB_TAGS)
    del tags[262]
    assert refusal(tiff((tags, [PIXELS]))).reason is FailReason.UNSUPPORTED


@pytest.mark.parametrize(
    "raw",
    [
        {50706: (1, (1, 4, 0, 0))},  # DNGVersion
        {262: shorts(32803)},
        {262: shorts(34892)},
        {259: shorts(34713)},
    ],
    ids=["DNG", "CFA", "linear", "NEF"],
)
@pytest.mark.parametrize("where", ["first", "second", "nested"])
def test_camera_raw_files_are_unsupported_not_scored_by_their_preview(
    raw: dict[int, Any], where: str
) -> None:
    sensor = (RGB_TAGS | raw, [PIXELS])
    match where:
        case "first":
            data = tiff(sensor)
        case "second":
            data = tiff((RGB_TAGS, [PIXELS]), sensor)
        case _:
            # The directory of the sensor's data is the first one written, and the nested one.
            chained = tiff(sensor, (RGB_TAGS | {330: 0}, [PIXELS]))
            at = struct.unpack_from("<I", chained, 4)[0]
            data = bytearray(tiff(sensor, (RGB_TAGS | {330: at}, [PIXELS])))
            entries = struct.unpack_from("<H", data, at)[0]
            second = struct.unpack_from("<I", data, at + 2 + 12 * entries)[0]
            struct.pack_into("<I", data, 4, second)
    error = refusal(bytes(data))
    assert error.reason is FailReason.UNSUPPORTED
    assert "camera raw" in error.detail


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("options", COMPRESSIONS[:3], ids=repr)
def test_a_file_that_was_cut_off_is_truncated(options: dict[str, Any], kept: float) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, PHOTO, metadata=None, photometric="rgb", rowsperstrip=4, **options)
    whole = file.getvalue()
    assert refusal(whole[: int(len(whole) * kept)]).reason is FailReason.TRUNCATED


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_floats_that_are_no_numbers_are_corrupt(value: float) -> None:
    samples = np.full((HEIGHT, WIDTH, 3), value, "<f4")
    tags = RGB_TAGS | {258: shorts(32, 32, 32), 339: shorts(3, 3, 3)}
    assert refusal(tiff((tags, [samples.tobytes()]))).reason is FailReason.CORRUPT


def test_an_unpacker_that_runs_short_is_corrupt() -> None:
    for bits, compression in ((8, 5), (8, 8), (4, 8), (8, 32773)):
        tags = RGB_TAGS | {258: shorts(*[bits] * 3), 259: shorts(compression)}
        packed_ = zlib.compress(PIXELS[:100]) if compression == 8 else b"\x80\x00\x01"
        assert refusal(tiff((tags, [packed_]))).reason is FailReason.CORRUPT


# Hostile directories


def timed(data: bytes) -> DecodeError:
    started = time.process_time()
    tracemalloc.start()
    try:
        return refusal(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - started < 2
        assert peak < 8 * len(data) + (16 << 20)


@pytest.mark.parametrize("tag", [258, 273, 279, 320, 330, 338, 339, 347, 529, 532, 34675])
@pytest.mark.parametrize("big", [False, True])
def test_counts_that_are_lies_cost_nothing(tag: int, big: bool) -> None:
    data = bytearray(tiff((RGB_TAGS | {tag: (LONG, (8, 8))}, [PIXELS]), big=big))
    at = data.index(struct.pack("<HH", tag, LONG), len(PIXELS))
    struct.pack_into("<Q" if big else "<I", data, at + 4, (1 << 62) if big else (1 << 32) - 1)
    started = time.process_time()
    with contextlib.suppress(DecodeError):
        decode(bytes(data), WHOLE)
    assert time.process_time() - started < 1


def test_many_strips_that_lie_over_one_another_are_corrupt() -> None:
    tags = RGB_TAGS | {256: 60_000, 257: 900, 278: 1, 259: shorts(8)}
    tags |= {273: (LONG, [8] * 900), 279: (LONG, [100_000] * 900)}
    error = timed(tiff((tags, [bytes(100_000)])))
    assert error.reason is FailReason.CORRUPT
    assert "overlap" in error.detail


def test_a_great_number_of_strips_is_refused() -> None:
    tags = RGB_TAGS | {256: 1, 257: 3_000_000, 278: 1}
    assert timed(tiff((tags, [PIXELS]))).reason is FailReason.UNSUPPORTED


def test_tables_that_lie_over_one_another_end() -> None:
    entry = struct.pack("<HHII", 256, LONG, 1, 4)
    count = 30_000
    body = bytearray(b"II*\0" + struct.pack("<I", 8))
    for at in range(count):
        body += struct.pack("<H", 1) + entry + struct.pack("<I", 8 + 18 * (at + 1))
    assert timed(bytes(body)).reason is FailReason.CORRUPT


def test_more_pages_than_anybody_scans_are_not_all_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiff_tags, "_MAX_DIRECTORIES", 3)
    decoded = decode(tiff(*(grey_page(4, 4, at) for at in range(5))), WHOLE)
    assert decoded.facts.frames == 3
    assert "page 3" in decoded.facts.missing


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_both_kinds_of_files_in_both_orders_are_read(order: str, big: bool) -> None:
    assert seen(tiff((RGB_TAGS, [PIXELS]), order=order, big=big)) == 0


def test_only_odd_layouts_load_numpy() -> None:
    code = """
import sys
from nsfwscan.values.geometry import *
from nsfwscan.media.decode.decode import decode
sizes = Geometry(Resize.STRETCH, 8, 8, Resample.BILINEAR, 8, 8)
decode(bytes.fromhex(sys.argv[1]), sizes)
print("numpy" in sys.modules)
"""
    for planar, loaded in ((1, "False"), (2, "True")):
        planes = [PIXELS] if planar == 1 else [PIXELS[::3]] * 3
        data = tiff((RGB_TAGS | {284: shorts(planar)}, planes))
        done = subprocess.run(
            [sys.executable, "-c", code, data.hex()], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == loaded

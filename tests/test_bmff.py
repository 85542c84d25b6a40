"""AVIF and HEIC against the picture that was put into them, transformed here."""

from __future__ import annotations

import collections
import contextlib
import itertools
import random
import struct
from typing import TYPE_CHECKING

import bmff_files as files
import pictures
import pytest
import pyvips
from bmff_files import box, clap, crop, edited, imir, irot, nclx
from PIL import Image, ImageChops, ImageOps, ImageStat

from nsfwscan.errors import DecodeError
from nsfwscan.geometry import Geometry, Resample, Resize
from nsfwscan.images.decode import decode
from nsfwscan.images.formats import heif, heif_grid, transfer
from nsfwscan.images.formats.bmff import Bmff
from nsfwscan.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")

SIDE = 48
SMALL = Geometry(Resize.STRETCH, SIDE, SIDE, Resample.BILINEAR, SIDE, SIDE)
SIZE = (160, 120)
TOLERANCE = 6
"""Levels of 255, in the mean, by which what is scored may differ from what is shown."""


def small(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def views(data: bytes) -> list[Image.Image]:
    decoded = decode(data, SMALL)
    each = SIDE * SIDE * 3
    parts = [decoded.pixels[at : at + each] for at in range(0, len(decoded.pixels), each)]
    assert len(parts) == decoded.frames
    return [Image.frombytes("RGB", (SIDE, SIDE), part) for part in parts]


def reason(data: bytes) -> FailReason:
    with pytest.raises(DecodeError) as caught:
        decode(data, SMALL)
    assert caught.value.detail
    return caught.value.reason


def outcome(data: bytes, expected: Sequence[Image.Image]) -> str:
    """Compare the views with all that viewers show: each must be there, and nothing else."""
    try:
        found = views(data)
    except DecodeError:
        return "refused"
    wanted = [small(one) for one in expected]
    known = all(min(difference(one, other) for other in wanted) <= TOLERANCE for one in found)
    complete = all(min(difference(one, other) for other in found) <= TOLERANCE for one in wanted)
    return "right" if known and complete else "wrong"


def by_libvips(data: bytes) -> Image.Image:
    """Decode as libvips shows it: libheif, which obeys `clap`."""
    image = pyvips.Image.new_from_buffer(data, "")
    if image.hasalpha():
        image = image.flatten(background=[255 if image.format == "uchar" else 65535] * 3)
    if image.format != "uchar":
        image = (image / 257).cast("uchar")
    return Image.frombytes("RGB", (image.width, image.height), image.write_to_memory())


# Crops, turns and mirrors


TURNS = (None, 0, 1, 2, 3)
AXES = (None, 0, 1)
APERTURES: dict[str, tuple[bytes, tuple[int, int, int, int]] | None] = {
    "whole": None,
    "from the corner": (crop(SIZE, (0, 0, 100, 70)), (0, 0, 100, 70)),
    "off the centre": (crop(SIZE, (90, 10, 150, 80)), (90, 10, 150, 80)),
    "of fractions": (clap(121, 2, 201, 3, 33, 4, -41, 5), (58, 18, 118, 85)),
    "beyond the edge": (clap(100, 1, 100, 1, 90, 1, 0, 1), (120, 10, 160, 110)),
}
ORDERS = (("clap", "irot", "imir"), ("clap", "imir", "irot"))
"""A crop after a turn has a test of its own."""


def turned(image: Image.Image, turns: int | None) -> Image.Image:
    ways = {
        1: Image.Transpose.ROTATE_90,
        2: Image.Transpose.ROTATE_180,
        3: Image.Transpose.ROTATE_270,
    }
    return image.transpose(ways[turns]) if turns else image


def mirrored(image: Image.Image, axis: int | None) -> Image.Image:
    if axis is None:
        return image
    return ImageOps.mirror(image) if axis else ImageOps.flip(image)


def transformed(
    image: Image.Image,
    order: Sequence[str],
    turns: int | None,
    axis: int | None,
    edges: tuple[int, int, int, int] | None,
) -> Image.Image:
    for kind in order:
        if kind == "clap" and edges is not None:
            image = image.crop(edges)
        elif kind == "irot":
            image = turned(image, turns)
        elif kind == "imir":
            image = mirrored(image, axis)
    return image


def with_exif(format_: str, orientation: int) -> bytes:
    """Write a file whose EXIF and XMP ask for a turn, which nothing in the boxes does."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'
    write = files.avif if format_ == "AVIF" else files.heic
    written = write(exif=exif.tobytes(), xmp=xmp.encode()) if orientation else write()
    return edited(written, drop=(b"irot", b"imir"))


@pytest.mark.parametrize("format_", ["AVIF", "HEIF"])
def test_every_crop_turn_and_mirror_is_shown_as_viewers_do(format_: str) -> None:
    source = files.source()
    counts: collections.Counter[str] = collections.Counter()
    wrong = []
    cells = itertools.product(TURNS, AXES, APERTURES, ORDERS, (0, 6))
    for turns, axis, aperture, order, orientation in cells:
        made = APERTURES[aperture]
        parts = {
            "clap": made[0] if made else b"",
            "irot": b"" if turns is None else irot(turns),
            "imir": b"" if axis is None else imir(axis),
        }
        data = edited(with_exif(format_, orientation), [parts[one] for one in order if parts[one]])
        edges = made[1] if made else None
        expected = [transformed(source, order, turns, axis, edges)]
        if format_ == "AVIF":
            expected.append(transformed(source, ("irot", "imir"), turns, axis, None))
            expected.append(transformed(source, ("clap", "irot", "imir"), turns, axis, edges))
        elif made:
            expected.append(transformed(source, order, turns, axis, None))
        found = outcome(data, expected)
        counts[found] += 1
        if found == "wrong":
            wrong.append((turns, axis, aperture, order, orientation))
    assert not wrong
    assert counts["right"] == 300, counts


@pytest.mark.parametrize("format_", ["AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_and_xmp_do_not_turn_a_picture(format_: str, orientation: int) -> None:
    for turns, axis in itertools.product((0, 1, 2, 3), AXES):
        added = [irot(turns)] + ([] if axis is None else [imir(axis)])
        data = edited(with_exif(format_, orientation), added)
        expected = transformed(files.source(), ("irot", "imir"), turns, axis, None)
        assert outcome(data, [expected]) == "right"


def test_what_libvips_shows_is_among_the_views() -> None:
    choose = random.Random(5)
    # libvips takes an aperture's size from a box that reaches beyond the raster.
    apertures = [one[0] for name, one in APERTURES.items() if one and "beyond" not in name]
    compared = 0
    for _ in range(40):
        added = [irot(choose.randrange(4)), imir(choose.randrange(2)), choose.choice(apertures)]
        choose.shuffle(added)
        data = edited(files.avif(), added[: choose.randrange(1, 4)])
        try:
            shown = small(by_libvips(data))
        except pyvips.Error:  # an aperture reaches beyond the edge of a turned picture
            continue
        compared += 1
        assert min(difference(shown, one) for one in views(data)) <= TOLERANCE
    assert compared >= 25


def test_an_aperture_after_a_turn_crops_the_turned_picture() -> None:
    source = files.source()
    edges = (10, 20, 60, 150)  # of 120 x 160
    parts = [irot(1), crop((120, 160), edges), imir(1)]
    cropped = ImageOps.mirror(turned(source, 1).crop(edges))
    whole = ImageOps.mirror(turned(source, 1))
    assert outcome(edited(files.heic(), parts), [cropped, whole]) == "right"
    # What is beyond the stored raster leaves a browser's crop.
    first = ImageOps.mirror(turned(source.crop((30, 0, 80, 115)), 1))
    assert outcome(edited(files.avif(), parts), [cropped, whole, first]) == "right"


@pytest.mark.parametrize(
    "senseless",
    [
        clap(100, 0, 100, 1, 0, 1, 0, 1),
        clap(0, 1, 100, 1, 0, 1, 0, 1),
        clap(100, 1, 100, 1, 5000, 1, 0, 1),
        clap(-100, 1, 100, 1, 0, 1, 0, 1),
        box(b"clap", bytes(5)),
    ],
)
def test_an_aperture_without_sense_leaves_the_whole_picture_or_refuses(senseless: bytes) -> None:
    for base in (files.avif(), files.heic()):
        assert outcome(edited(base, [senseless]), [files.source()]) in ("right", "refused")


def test_the_padding_of_an_encoder_is_no_second_view() -> None:
    for size in ((161, 121), (64, 48), (30, 20), (1001, 801)):
        data = pictures.encode(pictures.photo(*size), "HEIF")
        assert decode(data, SMALL).frames == 1


# Samples: depth, colour, alpha


def shown_of(primaries: int, curve: int) -> Image.Image:
    """Show the source's samples in another colour space."""
    curve = 13 if curve in (1, 2, 6, 14, 15) else curve  # as Chromium does in an AVIF
    space = transfer.of_code_points(1 if primaries == 2 else primaries, curve)
    return files.source() if space is None else space.to_srgb(files.source())


def described(format_: str, bits: int, primaries: int, curve: int, matrix: int = 6) -> bytes:
    base = files.deep(format_, bits) if bits > 8 else None
    base = base or (files.avif() if format_ == "AVIF" else files.heic())
    return edited(base, [nclx(primaries, curve, matrix)], drop=[b"colr"])


@pytest.mark.parametrize("format_", ["AVIF", "HEIF"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_every_depth_and_colour_space_is_shown_as_browsers_do(format_: str, bits: int) -> None:
    cells = list(itertools.product((1, 2, 9, 12), (1, 2, 4, 8, 13, 14, 16, 18)))
    wrong = [
        (primaries, curve)
        for primaries, curve in cells
        if outcome(described(format_, bits, primaries, curve), [shown_of(primaries, curve)])
        != "right"
    ]
    assert not wrong


@pytest.mark.parametrize("format_", ["AVIF", "HEIF"])
def test_a_profile_goes_before_code_points(format_: str) -> None:
    icc = box(b"colr", b"prof" + pictures.srgb_profile())
    for order in ([nclx(9, 16), icc], [icc, nclx(9, 16)]):
        base = files.avif() if format_ == "AVIF" else files.heic()
        assert outcome(edited(base, order, drop=[b"colr"]), [files.source()]) == "right"


def test_the_bitstream_names_the_colour_space_where_no_box_does() -> None:
    data = edited(files.stated(9, 16), drop=[b"colr"])
    assert outcome(data, [shown_of(9, 16)]) == "right"


def over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


@pytest.mark.parametrize("format_", ["AVIF", "HEIF"])
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("turns", [None, 1])
def test_alpha_is_shown_over_white_with_a_size_or_without(
    format_: str, sized: bool, turns: int | None
) -> None:
    base = files.avif("RGBA") if format_ == "AVIF" else files.heic("RGBA")
    if turns:
        base = edited(base, [irot(turns)])
    if not sized:
        base = edited(base, drop=[b"ispe"], of=2)
    assert outcome(base, [turned(over_white(files.source("RGBA")), turns)]) == "right"


def test_premultiplied_alpha_is_not_multiplied_again() -> None:
    for data in (files.avif("RGBA", alpha_premultiplied=True), files.premultiplied_heic()):
        assert outcome(data, [over_white(files.source("RGBA"))]) == "right"


# Stills and sequences


def sequence(frames: int = 3, size: tuple[int, int] = SIZE, seed: int = 1) -> bytes:
    first, *rest = [pictures.photo(*size, seed=seed + at) for at in range(frames)]
    options: dict[str, object] = {"save_all": True, "append_images": rest, "quality": 90}
    return pictures.encode(first, "AVIF", speed=9, **options)


def frames_of(frames: int = 3, size: tuple[int, int] = SIZE, seed: int = 1) -> list[Image.Image]:
    return [pictures.photo(*size, seed=seed + at) for at in range(frames)]


@pytest.mark.parametrize("brand", [b"avis", b"avif", b"mif1", b"msf1"])
@pytest.mark.parametrize("frames", [2, 3, 40])
def test_a_still_picture_and_another_sequence_are_both_shown(brand: bytes, frames: int) -> None:
    size = (64, 48)
    both = files.with_both(files.avif(), sequence(frames, size))
    data = both[:8] + brand + both[12:]
    decoded = decode(data, SMALL)
    assert decoded.facts.frames == frames
    assert decoded.frames == min(frames + 1, 16)
    found = views(data)
    for wanted in (files.source(), frames_of(frames, size)[0], frames_of(frames, size)[-1]):
        assert min(difference(small(wanted), one) for one in found) <= TOLERANCE


def test_a_sequence_that_begins_with_its_still_picture_has_no_other_view() -> None:
    decoded = decode(sequence(3), SMALL)
    assert (decoded.facts.frames, decoded.frames) == (3, 3)
    assert outcome(sequence(3), frames_of(3)) == "right"


def test_a_still_picture_that_shares_the_first_frame_but_is_cropped_is_shown_too() -> None:
    data = edited(sequence(3), [crop(SIZE, (90, 10, 150, 80))])
    cropped = frames_of(1)[0].crop((90, 10, 150, 80))
    assert outcome(data, [*frames_of(3), cropped]) == "right"


@pytest.mark.parametrize("major", [b"hevc", b"msf1", b"heic"])
def test_frames_of_an_hevc_sequence_are_shown_and_those_that_are_not_are_told(major: bytes) -> None:
    data = files.sequence_of(files.heic(), SIZE, samples=5)
    data = data[:8] + major + data[12:]
    decoded = decode(data, SMALL)
    assert decoded.facts.frames == 5
    assert decoded.facts.missing == "4 of 5 frames of its sequence"
    assert outcome(data, [files.source()]) == "right"


def test_every_picture_at_the_top_of_a_heic_is_shown() -> None:
    first, *rest = frames_of(3)
    options: dict[str, object] = {"save_all": True, "append_images": rest}
    data = pictures.encode(first, "HEIF", quality=90, **options)
    assert outcome(data, frames_of(3)) == "right"


def test_thumbnails_are_not_shown() -> None:
    data = pictures.encode(files.source(size=(400, 300)), "HEIF", thumbnails=[64, 128])
    assert decode(data, SMALL).facts.frames == 1


# Brands


@pytest.mark.parametrize("major", [b"heic", b"heix", b"mif1", b"msf1", b"miaf", b"MiHE", b"hevc"])
@pytest.mark.parametrize("codec", ["AVIF", "HEIF"])
def test_the_coding_decides_and_not_the_brand(codec: str, major: bytes) -> None:
    base = files.avif() if codec == "AVIF" else files.heic()
    data = files.with_brands(base, major, b"heic")
    assert decode(data, SMALL).facts.format == codec
    assert outcome(data, [files.source()]) == "right"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(b"vvc1", "VVC"), (b"evc1", "EVC"), (b"jpeg", "JPEG"), (b"unci", "uncompressed"),
     (b"av02", "AV2"), (b"zzzz", "zzzz")],
)  # fmt: skip
def test_other_codings_are_named(kind: bytes, name: str) -> None:
    for base, coding in ((files.avif(), b"av01"), (files.heic(), b"hvc1")):
        at = base.index(b"infe")
        data = base[:at] + base[at:].replace(coding, kind, 1)
        with pytest.raises(DecodeError, match=name) as caught:
            decode(data, SMALL)
        assert caught.value.reason is FailReason.UNSUPPORTED


def test_properties_that_must_be_known_and_are_not_are_unsupported() -> None:
    for base in (files.avif(), files.heic()):
        data = edited(base, [box(b"zzzz", bytes(8))], essential=True)
        assert reason(data) is FailReason.UNSUPPORTED
        assert outcome(edited(base, [box(b"zzzz", bytes(8))]), [files.source()]) == "right"


@pytest.mark.parametrize("kind", [b"ispe", b"av1C", b"hvcC"])
def test_a_picture_without_what_its_codec_needs_is_corrupt(kind: bytes) -> None:
    for base in (files.avif(), files.heic()):
        if kind in base:
            assert reason(edited(base, drop=[kind])) is FailReason.CORRUPT


@pytest.mark.parametrize("junk", [b"", b"\xff" * 40, b"junk" * 9, bytes(50), bytes(7)])
def test_bytes_after_the_boxes_do_not_matter(junk: bytes) -> None:
    for mode in ("RGB", "RGBA"):
        source = over_white(files.source("RGBA")) if mode == "RGBA" else files.source()
        for base in (files.avif(mode), files.heic(mode)):
            for data in (base, edited(base, drop=[b"ispe"], of=2)):
                at = data.index(b"mdat") - 4
                assert outcome(data + junk, [source]) == "right"
                assert outcome(data[:at] + bytes(4) + data[at + 4 :] + junk, [source]) == "right"


def test_the_minimized_form_is_named() -> None:
    data = box(b"ftyp", b"mif3avif") + box(b"mini", bytes(40))
    assert reason(data) is FailReason.UNSUPPORTED


# Large grids


@pytest.mark.parametrize("size", [(640, 384), (600, 330), (384, 900)])
@pytest.mark.parametrize("turns", [None, 1, 2])
def test_a_grid_that_is_too_large_at_once_is_decoded_row_by_row(
    size: tuple[int, int], turns: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = (size[0] // 2, 0, size[0], size[1])
    added = [crop(size, edges)] + ([] if turns is None else [irot(turns), imir(1)])
    data = edited(files.heic(size=size, tile_size=128), added, of=1)
    source = files.source(size=size)
    expected = [
        transformed(source, ("clap", "irot", "imir"), turns, 1 if turns else None, some)
        for some in (edges, None)
    ]
    assert outcome(data, expected) == "right"
    monkeypatch.setattr(heif, "MAX_PIXELS", 100_000)
    assert outcome(data, expected) == "right"


def test_a_grid_takes_the_memory_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    data = files.heic(size=(640, 384), tile_size=128)
    monkeypatch.setattr(heif, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(heif_grid, "REDUCED_PIXELS", 50_000)
    decode(data, SMALL, before_pixels=asked.append)
    assert asked == [12 * 640 * 128 + 8 * 50_000]


def test_a_picture_beyond_the_limit_is_refused_from_its_header() -> None:
    grid = files.heic(size=(640, 384), tile_size=128)
    for side, least in ((20_000, "400 MP"), (65_535, "4295 MP")):
        at = grid.index(struct.pack(">HH", 640, 384))
        data = grid[:at] + struct.pack(">HH", side, side) + grid[at + 4 :]
        at = data.index(struct.pack(">II", 640, 384))
        data = data[:at] + struct.pack(">II", side, side) + data[at + 8 :]
        with pytest.raises(DecodeError, match=least) as caught:
            decode(data, SMALL)
        assert caught.value.reason is FailReason.TOO_MANY_PIXELS


# Short and hostile files


def ending(data: bytes) -> str:
    """Say how decoding ends: the reason, or `partial`, or `whole`."""
    try:
        decoded = decode(data, SMALL)
    except DecodeError as error:
        return error.reason.value
    return "partial" if decoded.facts.missing else "whole"


@pytest.mark.parametrize("name", ["AVIF", "HEIF", "AVIF alpha", "AVIF sequence", "grid"])
def test_a_file_that_is_cut_is_called_truncated_or_shows_what_it_has(name: str) -> None:
    whole = {
        "AVIF": files.avif,
        "HEIF": files.heic,
        "AVIF alpha": lambda: files.avif("RGBA"),
        "AVIF sequence": lambda: sequence(3),
        "grid": lambda: files.heic(size=(300, 200), tile_size=128),
    }[name]()
    outcomes = set()
    for part in range(24, len(whole), max(1, len(whole) // 60)):
        outcomes.add(ending(whole[:part]))
    assert outcomes <= {"truncated", "partial"}
    assert "truncated" in outcomes
    assert ("partial" in outcomes) == (name in ("AVIF sequence", "grid"))


@pytest.mark.parametrize("build", [files.avif, files.heic], ids=["AVIF", "HEIF"])
def test_hostile_boxes_are_refused_or_decoded_and_never_take_long(
    build: Callable[[], bytes],
) -> None:
    choose, whole = random.Random(11), build()
    head = whole.index(b"mdat")
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(8, head)
            data[at : at + 4] = choose.choice(
                (b"\0\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\x08", b"free", b"meta",
                 b"\x7f\xff\xff\xff", bytes((choose.randrange(256),)) * 4)
            )  # fmt: skip
        with contextlib.suppress(DecodeError):
            Bmff(bytes(data))


@pytest.mark.parametrize(
    "tables",
    [
        box(b"iloc", bytes(4) + b"\0\0" + struct.pack(">H", 65535) + b"\0" * 600_000),
        box(b"iref", bytes(4) + box(b"dimg", b"\0\1\xff\xff" + b"\0\1" * 65535) * 20),
        box(b"iinf", bytes(4) + b"\xff\xff" + box(b"infe", b"\2\0\0\0\0\1\0\0av01") * 20_000),
        b"\0\0\0\0meta" * 10_000,
        b"\0\0\0\x08free" * 50_000,
    ],
)
def test_tables_without_end_are_refused_soon(tables: bytes) -> None:
    data = box(b"ftyp", b"avif\0\0\0\0mif1") + box(b"meta", bytes(4) + tables)
    assert reason(data) is FailReason.CORRUPT

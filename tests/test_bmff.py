"""AVIF and HEIC against the picture that was put into them, transformed here."""

from __future__ import annotations

import collections
import itertools
import random
from typing import TYPE_CHECKING

import bmff_files as files
import pictures
import pytest
import pyvips
from bmff_files import box, clap, crop, edited, imir, irot, nclx
from bmff_shown import (
    SIZE,
    SMALL,
    TOLERANCE,
    difference,
    frames_of,
    outcome,
    over_white,
    sequence,
    small,
    transformed,
    turned,
    views,
)
from PIL import Image, ImageOps

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.formats import transfer

if TYPE_CHECKING:
    pass

pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF"),
    pytest.mark.usefixtures("over_white_only"),
]


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
        assert decode(data, SMALL).views == 1


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


# All of it together


def cell(choose: random.Random) -> tuple[bytes, list[Image.Image]]:
    """Make a file with properties of all kinds, and what viewers show of it."""
    format_ = choose.choice(("AVIF", "HEIF"))
    mode, bits = choose.choice((("RGB", 8), ("RGB", 8), ("RGB", 10), ("RGB", 12), ("RGBA", 8)))
    # With alpha, the curves of high range are shown over white before the resize by browsers and
    # after it here: 6.3 of 255 in the mean.
    curves = (1, 2, 4, 13) if mode == "RGBA" else (1, 2, 4, 8, 13, 14, 16, 18)
    primaries, curve = choose.choice((1, 2, 9, 12)), choose.choice(curves)
    turns, axis = choose.choice(TURNS), choose.choice(AXES)
    made = APERTURES[choose.choice(list(APERTURES))]
    if bits > 8:
        base = files.deep(format_, bits)
    elif mode == "RGBA":
        base = files.avif(mode) if format_ == "AVIF" else files.heic(mode)
    else:
        base = with_exif(format_, choose.choice((0, 3, 6)))
    order = choose.choice(ORDERS)
    parts = {
        "clap": made[0] if made else b"",
        "irot": b"" if turns is None else irot(turns),
        "imir": b"" if axis is None else imir(axis),
    }
    added = [nclx(primaries, curve), *(parts[one] for one in order if parts[one])]
    data = edited(base, added, drop=[b"colr"])
    source = shown_of(primaries, curve).copy()
    if mode == "RGBA":
        source.putalpha(files.source("RGBA").getchannel("A"))
        source = over_white(source)
    edges = made[1] if made else None
    ways = [(order, edges), (order, None)]
    if format_ == "AVIF":
        ways = [(order, edges), (("irot", "imir"), None), (("clap", "irot", "imir"), edges)]
    expected = [transformed(source, one, turns, axis, some) for one, some in ways]
    if format_ == "AVIF" and mode == "RGB" and choose.random() < 0.3:
        data = files.with_both(data, sequence(2))
        expected += frames_of(2)
    return data, expected


def test_combinations_are_right_or_refused_and_never_wrong() -> None:
    choose = random.Random(17)
    counts = collections.Counter(outcome(*cell(choose)) for _ in range(200))
    assert counts["wrong"] == 0, counts
    assert counts["right"] >= 198, counts

"""AVIF and HEIC files of several items: right as all viewers show them, or refused."""

from __future__ import annotations

import struct

import bmff_files as files
import bmff_items as items
import pictures
import pytest
import shown
from bmff_items import ALPHA, DEPTH, Item, coded, file_of, gain_map, grid, size
from PIL import Image

from nsfwscan.values.results import FailReason

SIZE = WIDTH, HEIGHT = 128, 96
FORMATS = ("AVIF", "HEIF")
WIDE = pictures.photo(2 * WIDTH, HEIGHT, seed=2)
LEFT, RIGHT = WIDE.crop((0, 0, WIDTH, HEIGHT)), WIDE.crop((WIDTH, 0, 2 * WIDTH, HEIGHT))
PHOTO, OTHER = pictures.photo(*SIZE, seed=1), pictures.photo(*SIZE, seed=4)
MASK = Image.linear_gradient("L").resize(SIZE).convert("RGB")
PROFILE = files.box(b"colr", b"prof" + pictures.icc_profile(pictures.P3, gamma=1.0))

pytestmark = pytest.mark.usefixtures("over_white_only")


def tiles(format_: str, *properties: bytes, of_grid: tuple[bytes, ...] = ()) -> bytes:
    """Write a grid of two tiles; the properties are those of each tile."""
    left, right = (coded(one, format_).part(*properties) for one in (LEFT, RIGHT))
    whole = grid(2 * WIDTH, HEIGHT, 2, *of_grid)
    return file_of({1: whole, 2: left, 3: right}, (b"dimg", 1, (2, 3)))


def with_alpha(format_: str, *alphas: Item, of_picture: tuple[bytes, ...] = ()) -> bytes:
    """Write a picture with pictures that say they are its alpha."""
    parts = {1: coded(PHOTO, format_).with_(*of_picture), **dict(enumerate(alphas, 2))}
    return file_of(parts, *((b"auxl", number, (1,)) for number in range(2, 2 + len(alphas))))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_grid_is_shown_whole(format_: str) -> None:
    (view,) = shown.views(tiles(format_), WIDE.size)
    assert shown.difference(view, WIDE) <= shown.TOLERANCE


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("own", [(), (files.nclx(1, 13),)], ids=["none", "code-points"])
def test_the_profile_of_the_tiles_holds_for_a_grid_without_one(
    format_: str, own: tuple[bytes, ...]
) -> None:
    (view,) = shown.views(tiles(format_, PROFILE, of_grid=own), WIDE.size)
    (expected,) = shown.views(tiles(format_, of_grid=(PROFILE,)), WIDE.size)
    assert shown.difference(view, WIDE) > 5 * shown.TOLERANCE
    assert shown.difference(view, expected) < 1


@pytest.mark.parametrize("format_", FORMATS)
def test_tiles_of_different_profiles_are_refused(format_: str) -> None:
    left, right = coded(LEFT, format_).part(PROFILE), coded(RIGHT, format_).part()
    parts = {1: grid(2 * WIDTH, HEIGHT, 2), 2: left, 3: right}
    data = file_of(parts, (b"dimg", 1, (2, 3)))
    assert shown.refusal(data) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("turn", [files.irot(2), files.imir(0), files.crop(SIZE, (0, 0, 64, 48))])
def test_turned_tiles_of_an_avif_are_refused(turn: bytes) -> None:
    assert shown.refusal(tiles("AVIF", turn)) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("format_", FORMATS)
def test_a_grid_of_two_sizes_is_refused(format_: str) -> None:
    parts = {
        1: Item(b"grid", grid(2 * WIDTH, HEIGHT, 2).data, (size(WIDTH, HEIGHT),)),
        2: coded(LEFT, format_).part(),
        3: coded(RIGHT, format_).part(),
    }
    assert shown.refusal(file_of(parts, (b"dimg", 1, (2, 3)))) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("turn", [files.irot(1), files.imir(1), files.crop(SIZE, (0, 0, 96, 64))])
def test_alpha_is_turned_with_its_picture_or_the_file_is_refused(format_: str, turn: bytes) -> None:
    mask = coded(MASK, format_).part(ALPHA)
    assert shown.refusal(with_alpha(format_, mask.part(turn), of_picture=(turn,))) is None
    for data in (
        with_alpha(format_, mask, of_picture=(turn,)),
        with_alpha(format_, mask.part(turn)),
    ):
        assert shown.refusal(data) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("format_", FORMATS)
def test_two_pictures_of_alpha_are_refused(format_: str) -> None:
    mask, clear = coded(MASK, format_), coded(Image.new("RGB", SIZE), format_)
    data = with_alpha(format_, mask.part(ALPHA), clear.part(ALPHA))
    assert shown.refusal(data) is FailReason.UNSUPPORTED


def test_alpha_of_another_size_in_an_avif_is_refused() -> None:
    small = coded(MASK.resize((64, 48))).part(ALPHA)
    assert shown.refusal(with_alpha("AVIF", small)) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("format_", FORMATS)
def test_a_depth_map_is_no_alpha(format_: str) -> None:
    depth = coded(MASK.resize((64, 48)), format_).part(DEPTH)
    (view,) = shown.views(with_alpha(format_, depth, depth, of_picture=(files.irot(2),)), SIZE)
    turned = PHOTO.transpose(Image.Transpose.ROTATE_180)
    assert shown.difference(view, turned) <= shown.TOLERANCE


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("headroom", [0, 2])
def test_a_gain_map_that_makes_another_picture_on_ordinary_displays_is_refused(
    format_: str, headroom: int
) -> None:
    map_ = coded(Image.new("RGB", (32, 24), "white"), format_).part()
    parts = {1: coded(PHOTO, format_), 2: gain_map(headroom), 3: map_}
    data = file_of(parts, (b"dimg", 2, (1, 3)))
    assert shown.refusal(data) is (FailReason.UNSUPPORTED if headroom else None)
    if not headroom:
        (view,) = shown.views(data, SIZE)
        assert shown.difference(view, PHOTO) <= shown.TOLERANCE


def test_a_heic_is_laid_together_of_others() -> None:
    """ISO/IEC 23008-12, 6.6.2: identity and overlay, here one that reaches beyond its canvas."""
    photo, other = coded(PHOTO, "HEIF"), coded(OTHER, "HEIF")
    places = ((-40, -30), (30, 20))
    head = b"\0\0" + struct.pack(">4H2H", 0, 65535, 0, 65535, *SIZE)
    overlay = head + b"".join(struct.pack(">hh", *one) for one in places)
    data = file_of(
        {1: Item(b"iovl", overlay, (size(*SIZE),)), 2: photo.part(), 3: other.part()},
        (b"dimg", 1, (2, 3)),
    )
    expected = Image.new("RGB", SIZE, (0, 255, 0))
    for place, one in zip(places, (PHOTO, OTHER), strict=True):
        expected.paste(one, place)
    (view,) = shown.views(data, SIZE)
    assert shown.difference(view, expected) <= shown.TOLERANCE
    same = {1: Item(b"iden", b"", (size(*SIZE), files.irot(2))), 2: photo.part(files.imir(0))}
    (view,) = shown.views(file_of(same, (b"dimg", 1, (2,))), SIZE)
    assert shown.difference(view, PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) <= 6


def test_a_derivation_that_the_codec_does_not_know_is_unsupported() -> None:
    parts = {1: Item(b"iden", b"", (size(*SIZE),)), 2: coded(PHOTO).part()}
    assert shown.refusal(file_of(parts, (b"dimg", 1, (2,)))) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("handler", [b"pict", b"vide", b"auxv", b"soun", b"text"])
def test_two_sequences_are_one_too_many(handler: bytes) -> None:
    """Chromium passes over what is said to be sound, and libavif does not."""
    assert shown.refusal(items.with_two_tracks(handler)) is FailReason.UNSUPPORTED

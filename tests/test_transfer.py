from __future__ import annotations

import io

import pictures
import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from nsfwscan.media.decode.formats.transfer import (
    SRGB_PRIMARIES,
    ColourSpace,
    Curve,
    Primaries,
    of_code_points,
    usable,
)

LEVELS = (1, 16, 64, 100, 148, 180, 220, 255)

# What Chromium 156 paints for grey samples of `LEVELS` in a PNG whose cICP chunk has these code
# points, and for the colour (level, level // 2, level // 4). The page is sRGB.
GREYS = {
    (9, 16): (0, 1, 30, 76, 187, 242, 255, 255),
    (1, 16): (0, 1, 30, 76, 187, 242, 255, 255),
    (9, 18): (0, 3, 43, 75, 120, 166, 224, 255),
    (1, 8): (13, 71, 137, 168, 200, 219, 239, 255),
    (1, 1): (0, 4, 54, 91, 142, 176, 218, 255),
    (9, 14): (0, 4, 54, 91, 142, 176, 218, 255),
    (1, 4): (0, 7, 62, 100, 149, 181, 221, 255),
    (1, 5): (0, 1, 40, 76, 129, 165, 212, 255),
    (1, 6): (0, 4, 54, 91, 142, 176, 218, 255),
    (1, 7): (3, 34, 81, 115, 159, 188, 224, 255),
    (1, 11): (0, 4, 54, 91, 142, 176, 218, 255),
    (1, 17): (0, 3, 48, 87, 141, 177, 224, 255),
    (12, 13): LEVELS,
}
COLOURS = {
    (9, 16): ((39, 0, 0), (96, 0, 0), (233, 0, 0), (255, 0, 0), (255, 0, 0), (255, 0, 0)),
    (1, 16): ((30, 5, 1), (76, 17, 2), (187, 41, 7), (255, 52, 10), (255, 45, 6), (255, 32, 3)),
    (9, 18): ((49, 11, 2), (84, 24, 5), (135, 42, 13), (186, 49, 17), (255, 33, 12), (255, 0, 0)),
    (1, 18): (
        (39, 15, 4), (68, 32, 12), (110, 54, 24), (152, 70, 33), (230, 90, 45), (255, 90, 44),
    ),
    (9, 14): ((67, 11, 0), (112, 25, 1), (173, 43, 3), (214, 56, 4), (255, 71, 7), (255, 84, 7)),
    (12, 13): (
        (69, 30, 12), (108, 47, 17), (159, 69, 24), (193, 83, 28), (236, 102, 34), (255, 117, 37),
    ),
    (6, 13): (
        (63, 33, 16), (98, 51, 25), (145, 76, 36), (176, 92, 44), (215, 113, 54), (249, 130, 62),
    ),
    (8, 13): (
        (72, 30, 12), (112, 46, 17), (165, 69, 25), (200, 83, 29), (245, 102, 34), (255, 117, 38),
    ),
    (10, 13): (
        (103, 0, 18), (158, 0, 29), (232, 0, 44), (255, 0, 54), (255, 0, 67), (255, 0, 78),
    ),
    (11, 13): (
        (68, 30, 12), (105, 47, 18), (156, 69, 25), (190, 84, 29), (232, 102, 35), (255, 118, 38),
    ),
}  # fmt: skip


def space(codes: tuple[int, int]) -> ColourSpace:
    found = of_code_points(*codes)
    assert found is not None
    return found


def row(*colours: tuple[int, int, int]) -> Image.Image:
    return Image.frombytes("RGB", (len(colours), 1), bytes(v for colour in colours for v in colour))


@pytest.mark.parametrize("codes", GREYS, ids=str)
def test_grey_is_shown_as_chromium_shows_it(codes: tuple[int, int]) -> None:
    shown = space(codes).to_srgb(Image.frombytes("L", (len(LEVELS), 1), bytes(LEVELS)))
    assert shown.mode == "RGB"
    for at, expected in enumerate(GREYS[codes]):
        pixel = shown.getpixel((at, 0))
        assert isinstance(pixel, tuple)
        assert max(pixel) == min(pixel)
        assert abs(pixel[0] - expected) <= 1


@pytest.mark.parametrize("codes", COLOURS, ids=str)
def test_colours_are_shown_as_chromium_shows_them(codes: tuple[int, int]) -> None:
    source = row(*((level, level // 2, level // 4) for level in LEVELS[2:]))
    shown = space(codes).to_srgb(source)
    change = ImageChops.difference(shown, row(*COLOURS[codes]))
    assert max(high for _, high in change.getextrema()) <= 7
    assert max(ImageStat.Stat(change).mean) <= 2


@pytest.mark.parametrize("codes", GREYS, ids=str)
def test_grey_in_three_channels_is_shown_like_grey(codes: tuple[int, int]) -> None:
    grey = Image.linear_gradient("L")
    three = space(codes).to_srgb(grey.convert("RGB"))
    change = ImageChops.difference(three, space(codes).to_srgb(grey))
    assert max(ImageStat.Stat(change).mean) <= 4


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bits_of_grey_keep_their_dark_tones(mode: str) -> None:
    linear = ColourSpace(Curve(1.0))
    image = Image.new("I;16", (1, 1), 100).convert(mode)
    # 100 of 65535 in linear light are 12.92 * 255 * 100 / 65535 levels of sRGB.
    assert linear.to_srgb(image).getpixel((0, 0)) == (5, 5, 5)


def test_primaries_are_converted_as_a_colour_profile_converts_them() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(pictures.icc_profile(pictures.P3)))
    image = pictures.photo(64, 64)
    expected = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
    assert isinstance(expected, Image.Image)
    white, red, green, blue = (0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)
    shown = ColourSpace(Curve(2.2), Primaries(white, red, green, blue)).to_srgb(image)
    assert max(ImageStat.Stat(ImageChops.difference(shown, expected)).mean) < 2


@pytest.mark.parametrize("codes", [(1, 13), (2, 2), (1, 2), (1, 9), (12, 12), (3, 13), (255, 255)])
def test_code_points_that_say_srgb_or_nothing_change_nothing(codes: tuple[int, int]) -> None:
    assert of_code_points(*codes) is None


def test_a_dimmer_peak_of_pq_is_shown_brighter() -> None:
    grey = Image.new("L", (1, 1), 120)
    levels = [
        ColourSpace(space((9, 16)).curve, peak_nits=nits).to_srgb(grey).getpixel((0, 0))
        for nits in (4000.0, 1000.0, 400.0, 203.0)
    ]
    assert levels[0] == levels[1] < levels[2] < levels[3]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        (SRGB_PRIMARIES, True),
        (Primaries((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), False),
        (Primaries((0.3, 0.3), (0.5, 0.3), (0.5, 0.3), (0.1, 0.1)), False),
        (Primaries((0.3, 0.3), (0.1, 0.1), (0.2, 0.2), (0.4, 0.4)), False),
    ],
    ids=["srgb", "zero", "two", "line"],
)
def test_primaries_that_span_no_colours_are_not_usable(corners: Primaries, expected: bool) -> None:
    assert usable(corners) is expected

"""Likenesses: the definition, what they survive, and how they travel from decoder to library."""

from __future__ import annotations

import io
import math
import statistics

import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.geometry import Geometry, Resample, Resize

GEOMETRY = Geometry(Resize.STRETCH, 224, 224, Resample.BILINEAR, 224, 224)
OTHER_GEOMETRY = Geometry(Resize.SHORTEST_EDGE, 256, 256, Resample.BICUBIC, 224, 224)
PLAIN = bytes([200]) * likeness.SIDE**2
SIZE = (400, 300)


def of(data: bytes, geometry: Geometry = GEOMETRY) -> int:
    return likeness.unpack(decode(data, geometry).content_facts[LIKENESS])


def jpeg(image: Image.Image, **options: object) -> bytes:
    return pictures.encode(image, "JPEG", **options)


def as_defined(luma: bytes) -> int:
    """Compute pHash straight from its definition: two-dimensional DCT-II, 8 x 8, median."""
    side = likeness.SIDE

    def wave(k: int, at: int) -> float:
        return math.cos(math.pi * k * (2 * at + 1) / (2 * side))

    low = [
        sum(
            luma[side * y + x] * wave(down, y) * wave(across, x)
            for y in range(side)
            for x in range(side)
        )
        for down in range(8)
        for across in range(8)
    ]
    middle = statistics.median(low)
    return int("".join(str(int(one > middle)) for one in low), 2)


def test_it_is_the_well_known_definition() -> None:
    for seed in range(3):
        image = pictures.photo(*SIZE, seed=seed).convert("L")
        luma = image.resize((likeness.SIDE, likeness.SIDE), Image.Resampling.BOX).tobytes()
        assert likeness.of_luma(luma) == as_defined(luma)


@given(st.binary(min_size=likeness.SIDE**2, max_size=likeness.SIDE**2))
def test_any_brightness_gives_a_likeness_or_none(luma: bytes) -> None:
    bits = likeness.of_luma(luma)
    assert bits == likeness.NONE or likeness.is_sound(bits)
    assert bits != likeness.UNKNOWN


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
def test_what_is_plain_has_none(grey: int) -> None:
    assert likeness.of_luma(bytes([grey]) * likeness.SIDE**2) == likeness.NONE
    faint = bytearray([grey]) * likeness.SIDE**2
    faint[17] = 255 - grey
    assert likeness.of_luma(bytes(faint)) == likeness.NONE


def test_no_likeness_is_near_what_stands_for_none() -> None:
    for seed in range(7):
        bits = of(jpeg(pictures.photo(*SIZE, seed=seed)))
        for stand_in in (likeness.UNKNOWN, likeness.NONE):
            assert likeness.distance(bits, stand_in) > likeness.MOST_WITHIN


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("scale", [0.25, 1, 2])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_it_survives_another_quality_size_and_format(
    format_: str, scale: float, quality: int
) -> None:
    image = pictures.photo(*SIZE)
    size = (int(SIZE[0] * scale), int(SIZE[1] * scale))
    again = pictures.encode(image.resize(size), format_, quality=quality)
    assert likeness.distance(of(jpeg(image)), of(again)) <= likeness.DEFAULT_WITHIN


def test_it_is_the_same_for_models_of_any_shape() -> None:
    data = jpeg(pictures.photo(900, 500))
    assert likeness.distance(of(data), of(data, OTHER_GEOMETRY)) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_compared_as_it_is_seen(orientation: int) -> None:
    stored = pictures.photo(*SIZE)
    stream = io.BytesIO(pictures.with_orientation(stored, orientation, "PNG"))
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    with Image.open(stream) as image:
        seen = image.copy()
        if orientation in turn:
            seen = seen.transpose(Image.Transpose(turn[orientation]))
    assert (
        likeness.distance(of(stream.getvalue()), of(pictures.encode(seen, "PNG")))
        <= likeness.DEFAULT_WITHIN
    )


def test_different_pictures_are_far_apart() -> None:
    found = [of(jpeg(pictures.photo(*SIZE, seed=seed).rotate(40 * seed))) for seed in range(4)]
    for at, one in enumerate(found):
        for other in found[at + 1 :]:
            assert likeness.distance(one, other) > likeness.DEFAULT_WITHIN


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_has_none(format_: str) -> None:
    assert of(pictures.animation(format_, 3)) == likeness.NONE


def test_it_comes_out_of_the_decode_process_as_it_was_computed() -> None:
    with DecodePool(1) as pool:
        for data in (
            jpeg(pictures.photo(*SIZE)),
            jpeg(Image.new("RGB", SIZE)),
            pictures.animation("GIF", 2),
        ):
            assert pool.decode(data, GEOMETRY).content_facts == {LIKENESS: likeness.pack(of(data))}


def test_a_picture_that_shows_otherwise_over_black_has_no_likeness() -> None:
    picture = pictures.photo(200, 150)
    clear = picture.copy()
    clear.putalpha(40)
    geometry = Geometry(Resize.STRETCH, 64, 64, Resample.BILINEAR, 64, 64)
    assert likeness.is_comparable(of(pictures.encode(picture, "PNG"), geometry))
    assert of(pictures.encode(clear, "PNG"), geometry) == likeness.NONE

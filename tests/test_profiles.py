"""ICC profiles are followed as viewers follow them, or the picture is refused."""

from __future__ import annotations

import struct

import pictures
import profile_files as icc
import pytest
import shown
from PIL import Image

from nsfwscan.media.decode.profiles import MAX_ICC_BYTES
from nsfwscan.values.results import FailReason

SIZE = (96, 64)
PHOTO = pictures.photo(*SIZE)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")

LINEAR = icc.profile(*icc.matrix(icc.gamma(1.0)))
SRGB = icc.profile(*icc.matrix(icc.formula(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))


def inverted(_red: float, green: float, _blue: float) -> tuple[float, float, float]:
    """Return L*, a* and b* of a grey that is the negative of green."""
    return 1 - green, 128 / 255, 128 / 255


def upright(_red: float, green: float, _blue: float) -> tuple[float, float, float]:
    return green, 128 / 255, 128 / 255


NEGATIVE, POSITIVE = icc.table(inverted), icc.table(upright)
CURVES = icc.matrix(icc.gamma(2.2))


def written(format_: str, profile: bytes, image: Image.Image = PHOTO) -> bytes:
    """Encode the picture with little loss."""
    options = {
        "JPEG": {"quality": 98, "subsampling": 0},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 95, "speed": 9, "subsampling": "4:4:4"},
    }
    return pictures.encode(image, format_, icc_profile=profile, **options.get(format_, {}))


def linear_to_srgb(image: Image.Image) -> Image.Image:
    def encoded(value: float) -> float:
        return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055

    levels = [round(255 * encoded(level / 255)) for level in range(256)]
    return image.point(levels * len(image.getbands()))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_matrix_profile_is_followed(format_: str) -> None:
    (view,) = shown.views(written(format_, LINEAR), SIZE)
    assert shown.difference(view, linear_to_srgb(PHOTO)) <= shown.TOLERANCE


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "tags",
    [
        [(b"A2B0", NEGATIVE)],
        [(b"A2B0", NEGATIVE), *CURVES],
        [(b"A2B1", NEGATIVE), *CURVES],
        [(b"A2B0", NEGATIVE), (b"A2B1", NEGATIVE)],
    ],
    ids=["perceptual", "beside-a-matrix", "colorimetric", "both"],
)
def test_tables_go_before_curves_whatever_their_intent(format_: str, tags: list[icc.Tag]) -> None:
    (negative,) = shown.views(written(format_, icc.profile(*tags, pcs=b"Lab ")), SIZE)
    (positive,) = shown.views(written(format_, icc.profile((b"A2B0", POSITIVE), pcs=b"Lab ")), SIZE)
    # L* of a picture and of its negative add up to 100, so they are alike where both are grey.
    assert shown.difference(negative, PHOTO) > 10 * shown.TOLERANCE
    assert shown.difference(positive, negative) > 10 * shown.TOLERANCE


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_browsers_show_grey_through_a_profile_of_rgb(format_: str) -> None:
    grey = PHOTO.convert("L")
    (view,) = shown.views(written(format_, LINEAR, grey), SIZE)
    assert shown.difference(view, linear_to_srgb(grey)) <= shown.TOLERANCE


def test_viewers_of_tiff_do_not_apply_a_profile_of_rgb_to_grey() -> None:
    grey = PHOTO.convert("L")
    (view,) = shown.views(written("TIFF", LINEAR, grey), SIZE)
    assert shown.difference(view, grey) <= shown.TOLERANCE


OUTSIDE = LINEAR[:136] + struct.pack(">I", 1 << 30) + LINEAR[140:]
DISPUTED = {
    "two tables": icc.profile((b"A2B0", POSITIVE), (b"A2B1", NEGATIVE), pcs=b"Lab "),
    "two tables, the other way": icc.profile((b"A2B0", NEGATIVE), (b"A2B1", POSITIVE), pcs=b"Lab "),
    "tables of XYZ": icc.profile((b"A2B0", NEGATIVE), *CURVES),
    "tables of floats": icc.profile((b"D2B0", b"mpet" + bytes(24)), *CURVES),
    "a tag twice": icc.profile(*icc.matrix(icc.gamma(1.0)), *CURVES),
    "a tag outside": OUTSIDE,
    "code points of another space": icc.profile((b"cicp", icc.code_points(1, 8)), *CURVES),
    "code points of PQ": icc.profile((b"cicp", icc.code_points(9, 16)), *CURVES),
    "code points of sRGB": icc.profile(
        (b"cicp", icc.code_points(1, 13)), *icc.matrix(icc.gamma(1.0))
    ),
    "a negative exponent": icc.profile(*icc.matrix(icc.formula(0, -1.0))),
    "a falling curve": icc.profile(*icc.matrix(icc.formula(1, 2.0, -1.0, 1.0))),
    "a falling start": icc.profile(*icc.matrix(icc.formula(3, 2.0, 1.0, 0.0, -1.0, 0.5))),
    "large": LINEAR + bytes(MAX_ICC_BYTES),
}


@pytest.mark.parametrize("format_", [one for one in FORMATS if one != "PNG"])
@pytest.mark.parametrize("name", DISPUTED)
def test_a_profile_that_viewers_read_in_two_ways_is_refused(name: str, format_: str) -> None:
    assert shown.refusal(written(format_, DISPUTED[name])) is FailReason.UNSUPPORTED


@pytest.mark.parametrize("name", [one for one in DISPUTED if one != "large"])
def test_a_png_with_such_a_profile_is_refused(name: str) -> None:
    assert shown.refusal(written("PNG", DISPUTED[name])) is FailReason.UNSUPPORTED


def test_a_large_profile_of_a_png_is_refused() -> None:
    large = struct.pack(">I", len(LINEAR) + MAX_ICC_BYTES) + LINEAR[4:] + bytes(MAX_ICC_BYTES)
    assert shown.refusal(written("PNG", large)) is FailReason.UNSUPPORTED


def test_a_profile_that_says_it_is_longer_than_it_is_is_refused_if_it_matters() -> None:
    for profile, refused in ((LINEAR, True), (SRGB, False)):
        short = struct.pack(">I", len(profile) + 4) + profile[4:]
        expected = FailReason.UNSUPPORTED if refused else None
        assert shown.refusal(written("JPEG", short)) is expected
        assert shown.refusal(written("PNG", short)) is None  # there, no viewer follows it


@pytest.mark.parametrize(
    "tags",
    [
        [(b"cicp", icc.code_points(1, 4)), *CURVES],
        [(b"cicp", icc.code_points(1, 1)), *CURVES],
        CURVES,
    ],
    ids=["gamma", "video", "none"],
)
def test_code_points_that_agree_with_the_curves_are_no_dispute(tags: list[icc.Tag]) -> None:
    (view,) = shown.views(written("JPEG", icc.profile(*tags)), SIZE)
    assert shown.difference(view, PHOTO) <= shown.TOLERANCE

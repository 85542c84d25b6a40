"""TIFF files that viewers show differently are refused."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image
from test_tiff import RGB_TAGS, refusal, seen
from tiff_matrix import HEIGHT, PHOTO, TOLERANCE, ycbcr_strips
from tiff_writer import LONG, RATIONAL, shorts, tiff

from nsfwscan.values.results import FailReason

pytestmark = pytest.mark.usefixtures("over_white_only")


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        (529, (1, 1, 1, 1, 1, 1)),
        (529, (0, 1, 0, 1, 0, 1)),
        (532, (255, 1, 0, 1, 128, 1, 255, 1, 128, 1, 255, 1)),
        (532, (0, 1, 0, 1, 128, 1, 255, 1, 128, 1, 255, 1)),
    ],
    ids=["odd", "zero", "inverted", "flat"],
)
def test_ycbcr_that_viewers_decode_differently_is_refused(
    tag: int, values: tuple[int, ...]
) -> None:
    strips = ycbcr_strips(1, 1, rows=8)
    tags = RGB_TAGS | {262: shorts(6), 278: 8, 530: shorts(1, 1)}
    assert seen(tiff((tags, strips))) <= TOLERANCE * 2
    assert (
        refusal(tiff((tags | {tag: (RATIONAL, values)}, strips))).reason is FailReason.UNSUPPORTED
    )


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_jpeg_data_that_is_subsampled_otherwise_than_its_page_says_is_refused(
    factors: tuple[int, int],
) -> None:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=95, subsampling="4:2:0")
    tags = RGB_TAGS | {259: shorts(7), 262: shorts(6), 278: HEIGHT, 530: shorts(*factors)}
    data = tiff((tags, [file.getvalue()]))
    if factors == (2, 2):
        assert seen(data) <= TOLERANCE * 2
    else:
        assert refusal(data).reason is FailReason.UNSUPPORTED


@pytest.mark.parametrize("compression", [1, 8])
def test_a_page_that_leaves_out_strips_is_unsupported(compression: int) -> None:
    rows = [one.tobytes() for one in PHOTO]
    strips = [zlib.compress(row) if compression == 8 else row for row in rows]
    strips[3] = b""
    places = [8 + sum(map(len, strips[:at])) if strip else 0 for at, strip in enumerate(strips)]
    tags = RGB_TAGS | {259: shorts(compression), 278: 1, 273: (LONG, places)}
    assert refusal(tiff((tags, strips))).reason is FailReason.UNSUPPORTED

"""What is scored is what viewers show: thousands of files, each compared with what it shows.

What viewers show follows from how a file was made (`wrappings`), and libvips, another decoder with
other libraries, is asked to confirm it. `python -m benchmarks.shown FOLDER` compares files that
already exist, also with a browser.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
import wrappings
from hypothesis import HealthCheck, given, settings
from PIL import Image
from sizes import trials

from benchmarks.shown import difference, vips_picture
from nsfwscan.media.decode.decode import decode
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize

_GEOMETRY = Geometry(Resize.STRETCH, 64, 48, Resample.BILINEAR, 64, 48)
_SIZE = (64, 48)
_TOLERANCE = 6.0
"""Levels of 255, mean over the picture at the model's size."""

_FILES = {"JPEG": 450, "PNG": 450, "TIFF": 400, "GIF": 250, "WEBP": 250, "BMP": 200, "AVIF": 60,
          "HEIF": 60}  # fmt: skip
_LEAST_SCORED = 0.85
"""Refusing everything must not pass."""

# Where libvips shows something else than browsers do, so that it cannot confirm.
_VIPS_DIFFERS = {
    "JPEG": ("CMYK",),  # by an ink profile of its own
    "PNG": (
        "raw profile",  # takes the orientation out of it
        "bad",  # refuses chunks that browsers leave out
        "xmp",
        "late",
        "short",
        "empty",
    ),
    "TIFF": ("separated",),
    "GIF": ("early",),  # its first frame is empty: the stray one lies outside of the screen
}

_VIPS_CANNOT = ("BMP", "HEIF")
"""Formats that libvips of the Python package index does not read."""


class _Seen(NamedTuple):
    scored: bool
    worst: float
    said: str


@pytest.mark.timeout(600)
@pytest.mark.parametrize("format_", list(wrappings.FORMATS))
@pytest.mark.filterwarnings("ignore")
def test_what_is_scored_is_what_viewers_show(format_: str) -> None:
    counts: Counter[str] = Counter()
    files = trials(_FILES[format_], 20 * _FILES[format_])

    @settings(
        max_examples=files,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(wrappings.FORMATS[format_]())
    def check(wrapped: wrappings.Wrapped) -> None:
        seen = _compare(wrapped)
        counts["scored" if seen.scored else "refused"] += 1
        assert not seen.scored or seen.worst <= _TOLERANCE, f"{wrapped.kind}: {seen}"
        confirmed = _confirm(format_, wrapped)
        assert confirmed is None or confirmed <= _TOLERANCE, f"libvips: {wrapped.kind}"
        counts["confirmed"] += confirmed is not None

    check()
    assert counts["scored"] + counts["refused"] >= files
    assert counts["scored"] >= _LEAST_SCORED * files, counts
    assert counts["confirmed"] >= 0.2 * files or format_ in _VIPS_CANNOT, counts


def test_a_picture_of_other_pixels_is_told_from_this_one() -> None:
    """Otherwise the comparison could not fail."""
    wrapped = wrappings.Wrapped(
        "PNG", wrappings.pictures.seeds()["PNG RGB"], (wrappings.pictures.photo(20, 16, seed=3),)
    )
    assert _compare(wrapped).worst > 3 * _TOLERANCE


def _compare(wrapped: wrappings.Wrapped) -> _Seen:
    """Return how far the nearest scored view is from each picture that viewers show, at most."""
    try:
        decoded = decode(wrapped.data, _GEOMETRY)
    except DecodeError as error:
        return _Seen(False, 0.0, str(error))
    each = _SIZE[0] * _SIZE[1] * 3
    views = [
        Image.frombytes("RGB", _SIZE, decoded.pixels[at * each : (at + 1) * each])
        for at in range(decoded.views)
    ]
    # A file without its last bytes may hold all of its pixels.
    assert not (wrapped.whole and decoded.facts.missing), f"{wrapped.kind}: {decoded.facts}"
    worst = max(min(difference(view, _small(shown)) for view in views) for shown in wrapped.shown)
    return _Seen(True, worst, decoded.facts.missing)


def _small(image: Image.Image) -> Image.Image:
    return image.resize(_SIZE, Image.Resampling.BILINEAR)


def _confirm(format_: str, wrapped: wrappings.Wrapped) -> float | None:
    """Return how far libvips is from what viewers show; None where it cannot say."""
    if any(word in wrapped.kind for word in _VIPS_DIFFERS.get(format_, ())) or not wrapped.whole:
        return None
    image = vips_picture(wrapped.data)
    return None if image is None else difference(_small(image), _small(wrapped.shown[0]))

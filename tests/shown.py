"""What the decoder makes of a picture at its own size, and how a matrix of pictures comes out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageStat

from nsfwscan.media.decode.decode import decode
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsfwscan.values.results import FailReason

TOLERANCE = 6
"""Levels of 255, in the mean, that another decoder's rounding or smoothing may make."""


def views(data: bytes, size: tuple[int, int]) -> list[Image.Image]:
    """Decode all views of a picture without resizing it; `size` is that after any rotation."""
    decoded = decode(data, Geometry(Resize.STRETCH, *size, Resample.BILINEAR, *size))
    length = size[0] * size[1] * 3
    return [
        Image.frombytes("RGB", size, decoded.pixels[at * length : (at + 1) * length])
        for at in range(decoded.views)
    ]


def refusal(data: bytes) -> FailReason | None:
    """Return the reason why a picture is refused, or None when it is not."""
    try:
        views(data, (8, 8))
    except DecodeError as error:
        return error.reason
    return None


def missing(data: bytes) -> str:
    """Return what the decoder says is missing of a picture."""
    return decode(data, Geometry(Resize.STRETCH, 8, 8, Resample.BILINEAR, 8, 8)).facts.missing


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures in levels of 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other.convert("RGB"))).mean) / 3


def over_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency over white."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def tally(cells: Iterable[tuple[str, bytes, list[Image.Image]]]) -> tuple[Counter[str], list[str]]:
    """Count the right, refused and wrong cells of a matrix, and name the wrong ones.

    A cell is its name, a file, and what has to be among its views, each at the size of the first.
    """
    counts, wrong = Counter[str](), list[str]()
    for name, data, expected in cells:
        try:
            found = views(data, expected[0].size)
        except DecodeError:
            counts["refused"] += 1
            continue
        furthest = max(min(difference(view, one) for view in found) for one in expected)
        counts["right" if furthest <= TOLERANCE else "wrong"] += 1
        if furthest > TOLERANCE:
            wrong.append(f"{name}: {furthest:.1f}")
    return counts, wrong

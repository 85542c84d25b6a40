"""What AVIF and HEIC files show, and the comparison with what is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pictures
from PIL import Image, ImageChops, ImageOps, ImageStat

from nsfwscan.media.decode.decode import decode
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    assert len(parts) == decoded.views
    return [Image.frombytes("RGB", (SIDE, SIDE), part) for part in parts]


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


def over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def sequence(frames: int = 3, size: tuple[int, int] = SIZE, seed: int = 1) -> bytes:
    first, *rest = [pictures.photo(*size, seed=seed + at) for at in range(frames)]
    options: dict[str, object] = {"save_all": True, "append_images": rest, "quality": 90}
    return pictures.encode(first, "AVIF", speed=9, **options)


def frames_of(frames: int = 3, size: tuple[int, int] = SIZE, seed: int = 1) -> list[Image.Image]:
    return [pictures.photo(*size, seed=seed + at) for at in range(frames)]

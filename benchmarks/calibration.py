"""Make pictures to calibrate a model on, from photographs that anybody may pass on.

`python -m benchmarks.calibration FOLDER` cuts them from the photographs in scikit-image's wheel
that are in the public domain or under CC0 (`SOURCES`), and draws some. Half of the photographs are
turned in colour, brightness or sharpness: photographs alone do not show what a layer returns for a
drawing or a coloured light.
"""

from __future__ import annotations

import argparse
import os
import random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from benchmarks import photos

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = (*photos.PACKAGED, "brick.png", "grass.png", "gravel.png")
"""In scikit-image's `data/`. `skimage.data` says of each: in the public domain or under CC0."""
COUNT = 1200

_EDGE = 256
_DRAWN = 6
"""One of so many is drawn."""


def make(folder: str, count: int = COUNT, seed: int = 5) -> list[str]:
    """Write `count` PNG files to the new `folder`. Equal arguments give equal pictures."""
    os.makedirs(folder)
    inside = os.path.dirname(photos.packaged()[0])
    sources = []
    for name in SOURCES:
        with Image.open(os.path.join(inside, name)) as image:
            sources.append(image.convert("RGB"))
    choose = random.Random(seed)
    paths = []
    for number in range(count):
        source, name = sources[number % len(sources)], SOURCES[number % len(sources)]
        if number % _DRAWN == _DRAWN - 1:
            picture, name = _drawing(choose), "drawing"
        else:
            picture = _crop(source, choose)
            if choose.random() < 0.5:
                picture = _altered(picture, choose)
        paths.append(os.path.join(folder, f"{number:04d}-{name}.png"))
        picture.save(paths[-1])
    return paths


def _crop(image: Image.Image, choose: random.Random) -> Image.Image:
    share = choose.uniform(0.15, 1)
    width = int(image.width * share)
    height = int(image.height * min(1, share * choose.uniform(0.7, 1.4)))
    left, top = choose.randint(0, image.width - width), choose.randint(0, image.height - height)
    box = (left, top, left + width, top + height)
    crop = image.resize((_EDGE, _EDGE), Image.Resampling.BILINEAR, box)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if choose.random() < 0.5 else crop


def _altered(picture: Image.Image, choose: random.Random) -> Image.Image:
    match choose.randrange(4):
        case 0:
            return ImageEnhance.Color(picture).enhance(choose.uniform(0.2, 3))
        case 1:
            turned = np.array(picture.convert("HSV"))
            turned[..., 0] += np.uint8(choose.randrange(256))
            return ImageEnhance.Color(Image.fromarray(turned, "HSV").convert("RGB")).enhance(
                choose.uniform(1, 3)
            )
        case 2:
            bright = ImageEnhance.Brightness(picture).enhance(choose.uniform(0.4, 1.8))
            return ImageEnhance.Contrast(bright).enhance(choose.uniform(0.4, 2))
        case _:
            return picture.filter(ImageFilter.GaussianBlur(choose.uniform(1, 10)))


def _drawing(choose: random.Random) -> Image.Image:
    def colour() -> tuple[int, int, int]:
        return choose.randrange(256), choose.randrange(256), choose.randrange(256)

    picture = Image.new("RGB", (_EDGE, _EDGE), colour())
    if choose.random() < 0.3:
        share = np.linspace(0, 1, _EDGE)[:, None, None]
        one, other = np.array(colour()), np.array(colour())
        slope = np.broadcast_to(one + (other - one) * share, (_EDGE, _EDGE, 3)).astype(np.uint8)
        picture = Image.fromarray(slope).rotate(choose.choice((0, 90)))
    draw = ImageDraw.Draw(picture)
    for _ in range(choose.randrange(1, 25)):
        x, y = choose.randrange(_EDGE), choose.randrange(_EDGE)
        most = choose.choice((40, 120, _EDGE))
        right, bottom = x + choose.randrange(4, most), y + choose.randrange(4, most)
        match choose.randrange(4):
            case 0:
                draw.ellipse((x, y, right, bottom), colour())
            case 1:
                draw.rectangle((x, y, right, bottom), colour())
            case 2:
                draw.line((x, y, right, bottom), colour(), choose.randrange(1, 12))
            case _:
                draw.polygon([(x, y), (right, bottom), (y, x)], colour())
    if choose.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(choose.uniform(0.5, 6)))
    return picture


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a set and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the set is written; must not exist")
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args(arguments)
    made = make(given.folder, given.count)
    print(f"{len(made)} pictures, most of them from {len(SOURCES)} photographs of scikit-image")


if __name__ == "__main__":
    main()

"""Make a set of photographs to measure with: camera-like JPEG files cut from real photographs.

`python -m benchmarks.photos FOLDER` gathers the photographs (mountain, flower, street, portrait:
none is anybody's private picture) from packages that carry some, and writes the set to FOLDER.
"""

from __future__ import annotations

import argparse
import fnmatch
import glob
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WHEELS = {
    "gradio==6.31.0": (
        "gradio/media_assets/images/cheetah.jpg",
        "gradio/media_assets/images/tower.jpg",
        "gradio/test_data/cheetah2.jpg",
    ),
    "insightface==2.1": ("insightface/data/images/t1.jpg",),
    "matplotlib==3.11.2": ("*/sample_data/grace_hopper.jpg",),
    "scikit-image==0.26.0": (
        "skimage/data/astronaut.png",
        "skimage/data/brick.png",
        "skimage/data/camera.png",
        "skimage/data/coffee.png",
        "skimage/data/grass.png",
        "skimage/data/gravel.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/moon.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/retina.jpg",
        "skimage/data/rocket.jpg",
    ),
    "scikit-learn==1.9.1": ("sklearn/datasets/images/*.jpg",),
    "ultralytics==8.4.190": ("ultralytics/assets/*.jpg",),
}
"""Photographs in wheels of the Python package index: requirement -> patterns of members."""

PACKAGED = (
    "astronaut.png camera.png chelsea.png coffee.png hubble_deep_field.jpg retina.jpg rocket.jpg"
).split()
"""Photographs in the wheel of scikit-image, all in the public domain or under CC0."""

DEBS = {
    "mate-backgrounds": ("usr/share/backgrounds/mate/nature/*.jpg",),
    "plasma-workspace-wallpapers": tuple(
        f"usr/share/wallpapers/{name}/contents/images/*.jpg"
        for name in (
            "BytheWater ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut "
            "Path summer_1am Volna"
        ).split()
    ),
}
"""Photographs in Debian's packages. Their other backgrounds are drawings."""

GATHERED = os.path.join(tempfile.gettempdir(), "nsfwscan-photographs")
"""Where photographs are kept between runs."""

_MEGAPIXELS = (2.0, 12.0)
_QUALITIES = (85, 88, 90, 92)
_NOISE_LEVELS = 6
"""A scaled crop is smoother than what a sensor sees; without noise its file is half as large."""


def gather(folder: str) -> list[str]:
    """Fetch the photographs that are not in `folder` yet, and return the paths of all.

    What cannot be fetched is said on stderr and left out. Raises SystemExit when none can.
    """
    os.makedirs(folder, exist_ok=True)
    for requirement, patterns in WHEELS.items():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        _fetch(folder, requirement, [*command, requirement], patterns)
    for package, patterns in DEBS.items():
        _fetch(folder, package, ["apt-get", "download", package], patterns)
    found = photographs(folder)
    if not found:
        sys.exit(f"no photographs could be fetched; put some into {folder}")
    return found


def photographs(*folders: str) -> list[str]:
    """Return the paths of all JPEG and PNG files below `folders`, sorted by name."""
    found = [
        os.path.join(parent, name)
        for folder in folders
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith((".jpg", ".jpeg", ".png"))
    ]
    return sorted(found, key=lambda path: (os.path.basename(path), path))


def packaged() -> list[str]:
    """Return the paths of the photographs in scikit-image, which the extra `dev` installs.

    They are the same on every machine. Raises `ModuleNotFoundError` without scikit-image.
    """
    found = importlib.util.find_spec("skimage")  # importing it would load scipy
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'skimage'; install the extra dev")
    folder = os.path.join(found.submodule_search_locations[0], "data")
    return [os.path.join(folder, name) for name in PACKAGED]


def make(folder: str, sources: list[str], count: int, seed: int = 1) -> list[str]:
    """Write `count` JPEG files of 2 to 12 megapixels to `folder`, unless they are there.

    Each is a crop of one of `sources`, scaled to a camera's size, with a little noise, at quality
    85 to 92, one in seven progressive. The same arguments give the same pictures.
    """
    recipe = {"sources": [os.path.basename(one) for one in sources], "count": count, "seed": seed}
    note = os.path.join(folder, ".recipe.json")
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            if json.load(file) == recipe:
                return photographs(folder)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    choose = random.Random(seed)
    order = [sources[at % len(sources)] for at in range(count)]
    noise = np.random.default_rng(seed).normal(0, _NOISE_LEVELS, (512, 512, 3))
    grain = noise.round().astype(np.int16)
    for number, source in enumerate(order):
        with Image.open(source) as image:
            crop = _crop(image.convert("RGB"), choose)
        _grained(crop, grain).save(
            os.path.join(folder, f"IMG_{number:04d}.jpg"),
            quality=choose.choice(_QUALITIES),
            subsampling=choose.choice(("4:4:4", "4:2:0", "4:2:0")),
            progressive=choose.random() < 1 / 7,
        )
    with open(note, "w", encoding="utf-8") as file:
        json.dump(recipe, file)
    return photographs(folder)


def default_set(count: int) -> list[str]:
    """Return the paths of the usual set of `count` photographs, made when it is not there."""
    return make(f"{GATHERED}-{count}", gather(GATHERED), count)


def _fetch(folder: str, package: str, command: list[str], patterns: tuple[str, ...]) -> None:
    """Download one package and keep the files that match, in a folder of its own."""
    target = os.path.join(folder, package.partition("=")[0])
    if os.path.isdir(target):
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=600)
            _unpack(scratch)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"left out: the photographs of {package} ({error})", file=sys.stderr)
            return
        members = [
            os.path.relpath(path, scratch)
            for path in glob.glob(os.path.join(scratch, "**"), recursive=True)
            if os.path.isfile(path) and not os.path.islink(path)
        ]
        chosen = [name for name in members if any(fnmatch.fnmatch(name, p) for p in patterns)]
        os.mkdir(target)
        for name in chosen:
            # Wallpapers are named by their size; the folder's name says which is which.
            flat = name.replace("/contents/images/", "-")
            shutil.copyfile(
                os.path.join(scratch, name), os.path.join(target, os.path.basename(flat))
            )


def _unpack(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".whl"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        elif name.endswith(".deb"):
            subprocess.run(["dpkg", "-x", path, folder], check=True, capture_output=True)


def _crop(image: Image.Image, choose: random.Random) -> Image.Image:
    """Cut out between half and all of the picture and scale it to a camera's size."""
    share = choose.uniform(0.7, 1.0)
    width, height = int(image.width * share), int(image.height * share)
    left, top = choose.randint(0, image.width - width), choose.randint(0, image.height - height)
    scale = (choose.uniform(*_MEGAPIXELS) * 1e6 / (width * height)) ** 0.5
    box = (left, top, left + width, top + height)
    size = (round(width * scale), round(height * scale))
    return image.resize(size, Image.Resampling.BICUBIC, box)


def _grained(image: Image.Image, grain: NDArray[np.int16]) -> Image.Image:
    across, down = -(-image.width // grain.shape[1]), -(-image.height // grain.shape[0])
    tiled = np.tile(grain, (down, across, 1))[: image.height, : image.width]
    return Image.fromarray(np.clip(np.asarray(image) + tiled, 0, 255).astype(np.uint8))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a set and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the set is written")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders of photographs; without it they are fetched",
    )
    given = parser.parse_args(arguments)
    sources = photographs(*given.sources) or gather(GATHERED)
    paths = make(given.folder, sources, given.count, given.seed)
    print(describe(paths, len(sources)))


def describe(paths: list[str], sources: int | None = None) -> str:
    """Say what a set holds, in one sentence."""
    pixels = []
    for path in paths:
        with Image.open(path) as image:
            pixels.append(image.width * image.height / 1e6)
    mb = sum(map(os.path.getsize, paths)) / 1e6
    origin = f" from {sources} photographs" if sources else ""
    return (
        f"{len(paths)} JPEG files{origin}, {min(pixels):.1f} to {max(pixels):.1f} megapixels "
        f"(mean {sum(pixels) / len(pixels):.1f}), {mb / len(paths):.1f} MB each"
    )


if __name__ == "__main__":
    main()

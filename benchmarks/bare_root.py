"""The same scores where there is no Python: photographs of all formats, by `packaging/bare-root`.

`python -m benchmarks.bare_root dist/nsfwscan-VERSION-linux-x86_64`: gathers 43 photographs, turns
some of them into WebP, AVIF, HEIC, TIFF, GIF and BMP, and compares the scores of the bundle, in a
root that holds the C library alone and has no network, with those of the nsfwscan installed here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pillow_heif
from PIL import Image

from benchmarks import measure, photos

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMATS = ("webp", "avif", "heic", "tif", "gif", "bmp")
_EACH = 2
_EDGE = 1600


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, and exit with 1 when a score differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_root", description=__doc__)
    parser.add_argument("bundle", help="the folder that `packaging/build` made")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        make(folder)
        tool = os.path.join(measure.ROOT, "packaging", "bare-root")
        command = [sys.executable, tool, given.bundle, folder, "--python", sys.executable]
        sys.exit(subprocess.run(command, check=False).returncode)


def make(folder: str) -> None:
    """Fill `folder` with the photographs as they are, and with some in other formats."""
    pillow_heif.register_heif_opener()
    sources = photos.gather(photos.GATHERED)
    for number, source in enumerate(sources):
        shutil.copyfile(source, os.path.join(folder, f"{number:02}-{os.path.basename(source)}"))
    for number, source in enumerate(sources[: _EACH * len(_FORMATS)]):
        with Image.open(source) as image:
            picture = image.convert("RGB")
        picture.thumbnail((_EDGE, _EDGE))
        picture.save(os.path.join(folder, f"made-{number:02}.{_FORMATS[number % len(_FORMATS)]}"))


if __name__ == "__main__":
    main()

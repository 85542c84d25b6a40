"""Compare a package's scores on this processor with those on one without VNNI (Haswell).

    python -m benchmarks.vit_portable PACKAGE PICTURE [PICTURE ...]

Needs qemu-x86_64 (Debian: qemu-user), which takes half a minute for each picture of a ViT-B. The
pictures are decoded once, here; what is compared is the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.decode import decode
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.package import open_package
from nsfwscan.models.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

_BAR = 0.01


def scores(package: str, pixels: str) -> Iterator[float]:
    """Score the pictures in the .npy file `pixels` with the scanner's classifier, one by one."""
    model = open_package(package)
    classifier = OrtClassifier(model, threads=1, provider=Provider.CPU, warn=print)
    for one in np.load(pixels):
        yield classifier.classify(one.tobytes(), 1)[0].unsafe


def main(package: str, paths: list[str]) -> int:
    """Print one line for each picture and return 1 when a score or a decision differs."""
    manifest = open_package(package).manifest
    geometry = manifest.input.geometry
    shape = (geometry.crop_height, geometry.crop_width, 3)
    stack = []
    for path in paths:
        with open(path, "rb") as stream:
            decoded = decode(stream.read(), geometry)
        stack.append(np.frombuffer(decoded.pixels, np.uint8).reshape(-1, *shape)[0])
    with tempfile.TemporaryDirectory() as folder:
        pixels = os.path.join(folder, "pixels.npy")
        np.save(pixels, np.stack(stack))
        native = list(scores(package, pixels))
        command = [
            "qemu-x86_64",
            "-cpu",
            "Haswell",
            sys.executable,
            "-m",
            "benchmarks.vit_portable",
            package,
        ]
        policy = Policy(manifest.thresholds.review_at, manifest.thresholds.flag_at)
        worst, differ = 0.0, 0
        with subprocess.Popen(
            [*command, "--scores", pixels], stdout=subprocess.PIPE, text=True
        ) as emulated:
            assert emulated.stdout is not None
            # One by one: what was compared is not lost when the last picture takes too long.
            for path, one, line in zip(paths, native, emulated.stdout, strict=True):
                other = float(line)
                worst = max(worst, abs(one - other))
                differ += policy.decide(one) is not policy.decide(other)
                print(f"{one:.5f}  {other:.5f}  {abs(one - other):.5f}  {path}", flush=True)
        if emulated.returncode:
            return 2
    print(f"{len(paths)} pictures: scores differ by at most {worst:.5f}, {differ} decisions differ")
    return int(worst > _BAR or differ > 0)


if __name__ == "__main__":
    if sys.argv[2] == "--scores":
        for score in scores(sys.argv[1], sys.argv[3]):
            print(repr(score), flush=True)
    else:
        sys.exit(main(sys.argv[1], sys.argv[2:]))

"""How close OpenNSFW's scores are to the reference: preprocessing, reduced decoding, and INT8.

`python -m benchmarks.accuracy` scores real photographs and crops of them four ways: by the
reference (Pillow decodes in full, RGB, 256 x 256 bilinear, centre crop 224, BGR minus mean; without
the JPEG that the published script puts between), by nsfwscan decoding in full, by nsfwscan as it
scans, with JPEG at a reduced scale, and so with the INT8 form of the model. It prints how the
scores differ. `--int8` names the package of the INT8 form. Without it, the installed package is
taken for that, and its row is left out if it is float.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks import measure, photos
from benchmarks.scan import installed_opennsfw, published_opennsfw
from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.package import open_package

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FULL_TOLERANCE = 1e-3
"""How far a score may be from the reference's when decoded in full."""
REDUCED_TOLERANCE = 0.02
"""How far reduced-scale decoding may move a score."""
INT8_TOLERANCE = 0.03
"""How far the INT8 form may move a score."""

_SMALLEST_EDGE = 300
_QUALITIES = (85, 88, 90, 92, 95)
_MEAN_BGR = np.array([104, 117, 123], np.float32)


@dataclass(frozen=True, slots=True)
class Compared:
    """The unsafe scores of one picture, 0 to 1, by the four ways."""

    name: str
    reference: float
    full: float
    reduced: float
    int8: float


class Scorer:
    """Scores pictures by the four ways, with one model. Close it after use."""

    def __init__(self, package: str, int8: str) -> None:
        """Load OpenNSFW's float form from the folder `package`, and its INT8 form from `int8`."""
        self._int8 = OrtClassifier(open_package(int8), threads=1, warn=print)
        self._classifier = OrtClassifier(open_package(package), threads=1, warn=print)
        self._reference = onnxruntime.InferenceSession(
            os.path.join(package, "model.onnx"), providers=["CPUExecutionProvider"]
        )
        self._pool = DecodePool(1)
        self._pool.start()

    def close(self) -> None:
        """End the decoding process."""
        self._pool.close()

    def nsfwscan(self, data: bytes, *, full: bool = False) -> float:
        """Return the score of the whole path: the worst frame's."""
        geometry = self._classifier.manifest.input.geometry
        decoded = self._pool.decode(data, geometry, full=full)
        return self._classifier.read(decoded.pixels, decoded.views).scores.unsafe

    def int8(self, data: bytes) -> float:
        """Return the score of the whole path with the INT8 form."""
        decoded = self._pool.decode(data, self._int8.manifest.input.geometry)
        return self._int8.read(decoded.pixels, decoded.views).scores.unsafe

    def reference(self, image: Image.Image) -> float:
        """Return the score by the reference preprocessing."""
        small = image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
        pixels = np.asarray(small.crop((16, 16, 240, 240)), np.float32)[:, :, ::-1] - _MEAN_BGR
        (output,) = self._reference.run(["outputs"], {"input:0": pixels[np.newaxis]})
        return float(output[0, 1])

    def compare(self, name: str, data: bytes) -> Compared:
        """Score one picture by the four ways."""
        with Image.open(io.BytesIO(data)) as image:
            reference = self.reference(image)
        full, reduced = self.nsfwscan(data, full=True), self.nsfwscan(data)
        return Compared(name, reference, full, reduced, self.int8(data))


def pictures(sources: Sequence[str], crops: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield the photographs as they are, then `crops` crops of them, as JPEG, in various sizes."""
    for path in sources:
        with open(path, "rb") as file:
            yield os.path.basename(path), file.read()
    choose = random.Random(seed)
    for number in range(crops):
        path = sources[number % len(sources)]
        with Image.open(path) as image:
            yield f"crop {number} of {os.path.basename(path)}", _crop(image, choose)


def _crop(image: Image.Image, choose: random.Random) -> bytes:
    """Return a crop of any place, shape and size, half of them scaled to 1 to 12 megapixels."""
    width, height = (
        choose.randint(min(_SMALLEST_EDGE, edge), edge) for edge in (image.width, image.height)
    )
    left, top = choose.randint(0, image.width - width), choose.randint(0, image.height - height)
    crop = image.convert("RGB").crop((left, top, left + width, top + height))
    if choose.random() < 0.5:
        scale = (choose.uniform(1e6, 12e6) / (width * height)) ** 0.5
        size = (round(width * scale), round(height * scale))
        crop = crop.resize(size, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    subsampling = choose.choice(("4:4:4", "4:2:0", "4:2:0"))
    progressive = choose.random() < 1 / 7
    crop.save(
        stream,
        "JPEG",
        quality=choose.choice(_QUALITIES),
        subsampling=subsampling,
        progressive=progressive,
    )
    return stream.getvalue()


def compare(package: str, int8: str, chosen: Iterable[tuple[str, bytes]]) -> list[Compared]:
    """Score every picture by the four ways."""
    scorer = Scorer(package, int8)
    try:
        found = []
        for name, data in chosen:
            measure.note(name)
            found.append(scorer.compare(name, data))
        measure.note("")
        return found
    finally:
        scorer.close()


def report(found: Sequence[Compared], policy: Policy) -> str:
    """Lay out how the scores differ."""
    rows = [
        _row(
            "decoded in full, against the reference",
            [(one.reference, one.full) for one in found],
            policy,
        ),
        _row(
            "as scanned, against decoded in full",
            [(one.full, one.reduced) for one in found],
            policy,
        ),
        _row(
            "as scanned, against the reference",
            [(one.reference, one.reduced) for one in found],
            policy,
        ),
    ]
    if any(one.int8 != one.reduced for one in found):
        pairs = [(one.reduced, one.int8) for one in found]
        rows.append(_row("INT8, against float, both as scanned", pairs, policy))
    header = (
        "difference of unsafe scores",
        "largest",
        "99th percentile",
        "mean",
        "equal decisions",
    )
    worst = sorted(found, key=lambda one: -abs(one.full - one.reduced))[:3]
    moved = sorted(found, key=lambda one: -abs(one.int8 - one.reduced))[:3]
    scores = sorted(one.reference for one in found)
    return (
        measure.table(header, rows)
        + f"\n\nreference scores: {scores[0]:.4f} to {scores[-1]:.4f}, "
        + f"median {scores[len(scores) // 2]:.4f}, "
        + f"{sum(score > 0.1 for score in scores)} above 0.1\n"
        + "moved most by reduced decoding: "
        + "; ".join(f"{one.name} {one.full:.4f} to {one.reduced:.4f}" for one in worst)
        + "\nmoved most by INT8: "
        + "; ".join(f"{one.name} {one.reduced:.4f} to {one.int8:.4f}" for one in moved)
    )


def _row(name: str, pairs: Sequence[tuple[float, float]], policy: Policy) -> tuple[str, ...]:
    differences = sorted(abs(one - other) for one, other in pairs)
    equal = sum(policy.decide(one) is policy.decide(other) for one, other in pairs)
    return (
        name,
        f"{differences[-1]:.6f}",
        f"{np.percentile(differences, 99):.6f}",
        f"{sum(differences) / len(differences):.6f}",
        f"{equal} of {len(pairs)}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and print; exit with 1 when a score is further off than it may be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=220)
    parser.add_argument("--photographs", metavar="FOLDER", nargs="+", default=[])
    parser.add_argument("--int8", metavar="PACKAGE", default="")
    given = parser.parse_args(arguments)
    sources = photos.photographs(*given.photographs) or photos.gather(photos.GATHERED)
    package = published_opennsfw()
    thresholds = open_package(package).manifest.thresholds
    int8 = given.int8 or installed_opennsfw()
    found = compare(package, int8, pictures(sources, given.crops))
    print(f"{len(sources)} photographs and {given.crops} crops of them, OpenNSFW\n")
    print(report(found, Policy(thresholds.review_at, thresholds.flag_at)))
    off = max(abs(one.full - one.reference) for one in found) > FULL_TOLERANCE
    moved = max(abs(one.full - one.reduced) for one in found) > REDUCED_TOLERANCE
    by_int8 = max(abs(one.reduced - one.int8) for one in found) > INT8_TOLERANCE
    sys.exit(1 if off or moved or by_int8 else 0)


if __name__ == "__main__":
    main()

"""The stages of a scan on their own: hashing, decoding, inference, one after the other.

`python -m benchmarks.stages PACKAGE LIST` measures, in one thread, the photographs that the file
LIST names, with the model in the folder PACKAGE, and prints core milliseconds a picture as JSON. It
is the base of the ceiling in `benchmarks.scan`: a scan cannot take less core time than its stages.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING

from nsfwscan.media.decode.decode import decode, prepare_process
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.package import open_package

if TYPE_CHECKING:
    from collections.abc import Sequence


def stages(package: str, paths: Sequence[str]) -> dict[str, float]:
    """Return core milliseconds a picture for each stage, and the wall time of all, in ms."""
    prepare_process()
    classifier = OrtClassifier(open_package(package), threads=1, warn=print)
    geometry = classifier.manifest.input.geometry
    spent = dict.fromkeys(("hash", "decode", "inference"), 0.0)
    # The first of anything pays for lazy imports and page faults: the scan's start, not a stage.
    for path in paths[:1]:
        with open(path, "rb") as file:
            classifier.read(decode(file.read(), geometry).pixels, 1)
    begun = time.perf_counter()
    for path in paths:
        at = [time.process_time()]
        with open(path, "rb") as file:
            data = file.read()
        hashlib.sha256(data).digest()
        at.append(time.process_time())
        decoded = decode(data, geometry)
        at.append(time.process_time())
        classifier.read(decoded.pixels, decoded.views)
        at.append(time.process_time())
        for name, (start, end) in zip(spent, itertools.pairwise(at), strict=True):
            spent[name] += end - start
    spent["wall"] = time.perf_counter() - begun
    return {name: 1e3 * seconds / len(paths) for name, seconds in spent.items()}


def main() -> None:
    """Measure and print."""
    package, names = sys.argv[1:]
    with open(names, encoding="utf-8") as file:
        paths = file.read().splitlines()
    print(json.dumps(stages(package, paths)))


if __name__ == "__main__":
    main()

"""Pull and scan with a model as it is published, and compare what runs with the published file.

    python -m benchmarks.published PICTURES [--image 224] [--file FILE.onnx] [--rounds 9]

A real-size ViT with random weights, or FILE, is served by a hub on the loopback interface in
falconsai's place (adamcodd's for 384 pixels), with a checksum of its own. `nsfwscan models pull`
and `nsfwscan scan` are run as a person types them. Then the published file and what the package
runs take turns on the same pictures, on one and on all cores. Prints milliseconds a picture, ratios
and how many logits are equal bit for bit.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.exported_vit import Exported, export
from nsfwscan.media.decode.decode import decode
from nsfwscan.models.classifier import as_published, to_input
from nsfwscan.models.package import open_package
from nsfwscan.models.runtime import OrtGraph, Runnable
from nsfwscan.system import cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.models.package import InstalledModel

_TESTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests")
_MOST_PICTURES = 40

_PROGRAM = """
import dataclasses, hashlib, sys
from nsfwscan.models import catalogue
name, file = sys.argv.pop(1), sys.argv.pop(1)
entries = dict(catalogue.load())
hub = entries[name].origin
sha256 = hashlib.sha256(open(file, "rb").read()).hexdigest()
files = tuple(dataclasses.replace(one, sha256=sha256, bytes=None) for one in hub.files)
origin = dataclasses.replace(hub, files=files)
entries[name] = dataclasses.replace(entries[name], origin=origin)
catalogue.load = lambda: entries
from nsfwscan.__main__ import run
sys.exit(run())
"""
"""nsfwscan, for which FILE is what the model NAME is published as."""


def pull_and_scan(name: str, file: str, pictures: str, home: str) -> InstalledModel:
    """Run the two commands against a loopback hub, print what they print, return the package."""
    sys.path.insert(0, _TESTS)
    loopback_hub: Any = importlib.import_module("loopback_hub")

    from nsfwscan.models import catalogue
    from nsfwscan.models.catalogue import HubSource

    origin = catalogue.load()[name].origin
    assert isinstance(origin, HubSource)
    with open(file, "rb") as stream, loopback_hub.running() as hub:
        hub.put(origin.repo, origin.revision, origin.files[0].path, stream.read())
        environ = {**os.environ, "HF_ENDPOINT": hub.endpoint, "NSFWSCAN_HOME": home}
        for words in (["models", "pull", name], ["scan", "--model", name, pictures]):
            print("$ nsfwscan", *words, flush=True)
            command = [sys.executable, "-c", _PROGRAM, name, file, *words]
            subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL)
    package = f"{name}-{catalogue.load()[name].version}"
    return open_package(os.path.join(home, "models", package))


def fast(model: InstalledModel) -> Runnable:
    """Return the rewritten graph of a package."""
    rewriting = model.manifest.rewriting
    assert rewriting is not None
    assert rewriting.graph, rewriting.problem
    return Runnable(model.read_artefact(rewriting.graph), model.folder)


def inputs(model: InstalledModel, folder: str) -> list[Any]:
    """Return the graph's inputs for the first pictures in a folder."""
    spec, found = model.manifest.input, []
    crop = (spec.geometry.crop_height, spec.geometry.crop_width, 3)
    for name in sorted(os.listdir(folder))[:_MOST_PICTURES]:
        with open(os.path.join(folder, name), "rb") as stream:
            pixels = decode(stream.read(), spec.geometry).pixels
        found.append(to_input(np.frombuffer(pixels, np.uint8).reshape(-1, *crop)[0], spec))
    return found


def compare(model: InstalledModel, feeds: Sequence[Any], threads: int, rounds: int) -> None:
    """Print times and equal logits of the published and the rewritten graph, in turn."""
    name, output = model.manifest.input.name, model.manifest.output.name
    graphs = {
        "published": OrtGraph(as_published(model), threads=threads),
        "rewritten": OrtGraph(fast(model), threads=threads),
    }
    wall: dict[str, list[float]] = {one: [] for one in graphs}
    core: dict[str, list[float]] = {one: [] for one in graphs}
    for feed in feeds[:rounds]:
        for one, graph in graphs.items():
            begun, worked = time.perf_counter(), time.process_time()
            graph.run([output], {name: feed})
            wall[one].append(1000 * (time.perf_counter() - begun))
            core[one].append(1000 * (time.process_time() - worked))
    ratios = [
        [before / after for before, after in zip(kind["published"], kind["rewritten"], strict=True)]
        for kind in (wall, core)
    ]
    print(
        f"{threads} thread(s): published {median(wall['published']):.1f} ms, rewritten "
        f"{median(wall['rewritten']):.1f} ms; {median(ratios[0]):.2f}x the pictures a second, "
        f"{median(ratios[1]):.2f}x by core time"
    )
    if threads == 1:
        logits = [
            [np.asarray(graph.run([output], {name: feed})[0]) for feed in feeds]
            for graph in graphs.values()
        ]
        equal = sum(a.tobytes() == b.tobytes() for a, b in zip(*logits, strict=True))
        print(f"logits equal bit for bit on {equal} of {len(feeds)} pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures")
    parser.add_argument("--image", type=int, default=224, choices=(224, 384))
    parser.add_argument("--file")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    name = "falconsai" if options.image == 224 else "adamcodd"
    with tempfile.TemporaryDirectory() as scratch:
        file = options.file or os.path.join(scratch, "published.onnx")
        if options.file is None:
            export(Exported(image=options.image), file)
        model = pull_and_scan(name, file, options.pictures, os.path.join(scratch, "home"))
        rewriting = model.manifest.rewriting
        print(rewriting)
        feeds = inputs(model, options.pictures)
        for threads in sorted({1, cores.available()}):
            compare(model, feeds, threads, options.rounds)


if __name__ == "__main__":
    main()

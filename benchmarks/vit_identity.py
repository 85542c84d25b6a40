"""Show that a picture's score is the same bits whatever the company and the number of threads.

    python -m benchmarks.vit_identity [--shapes base-224 tiny-384] [--recipes NAME ...]

For every candidate recipe, at real size: batches of 1 to 16 pictures, on 1 and on 2 threads, and
the score at each place of each batch compared bit by bit with that of the same picture alone on one
thread. Logits, embedding and attention of the CLS token are compared. Exits with 1 when a bit
differs. `--turns 16` runs every batch again with its pictures moved on by one place, so that each
picture stands everywhere; without it a ViT-B takes one to two minutes a recipe.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import vit_fixture
from nsfwscan.models.graphs import onnx_file
from quantize import checkpoint, int8, pictures, recipes, tensors, vit_graph
from quantize.calibrate import calibrate
from quantize.session import OrtSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsfwscan.models.graphs.graph import Array, Graph
    from nsfwscan.values.geometry import Geometry
    from quantize.recipes import Recipe

_SHAPES = {"base-224": ("base", 224, "transformers"), "tiny-384": ("tiny", 384, "timm")}
_LARGEST = 16
_CALIBRATE = 4
_OUTPUTS = (vit_graph.LOGITS, vit_graph.EMBEDDING, vit_graph.CLS_ATTENTION)


def graphs(shape: str, names: Sequence[str], folder: str) -> Iterator[tuple[Recipe, Array, str]]:
    """Write each recipe's graph below `folder`; give it with 16 pictures of the right size."""
    size, image, naming = _SHAPES[shape]
    source = os.path.join(folder, "checkpoint")
    vit_fixture.make(source, size=size, image=image, naming=naming)
    found = checkpoint.open_checkpoint(source)
    assert found.meaning.preprocessing is not None
    weights = found.weights()
    plain = vit_graph.build(found.shape, weights, found.meaning.preprocessing.normalisation)
    os.unlink(os.path.join(source, tensors.WEIGHTS_NAME))
    stack = _pictures(found.meaning.preprocessing.geometry)
    smoothed: dict[float, tuple[Graph, int8.Rounded]] = {0.0: (plain, int8.Rounded())}
    for recipe in recipes.load().recipes:
        if recipe.name not in names:
            continue
        if recipe.smoothing not in smoothed:
            graph = int8.smooth(plain, recipe.smoothing)
            smoothed[recipe.smoothing] = (graph, int8.Rounded())
        graph, rounded = smoothed[recipe.smoothing]
        if recipe.scales is recipes.Scales.STATIC:
            ranges = calibrate(graph, list(stack[:_CALIBRATE]))[recipe.clip]
        else:
            ranges = {}
        target = os.path.join(folder, recipe.name)
        os.mkdir(target)
        onnx_file.write(int8.quantize(graph, recipe, ranges, rounded), target)
        yield recipe, stack, target


def _pictures(geometry: Geometry) -> Array:
    made = [one.pixels for one in pictures.generated(geometry)]
    # The generated ones are fewer than sixteen; upside down they are others.
    return np.stack([*made, *(one[::-1] for one in made)])[:_LARGEST]


def compare(folder: str, stack: Array, turns: int) -> tuple[int, int]:
    """Return how many scores were compared with the picture's own, and how many differ."""
    single = OrtSession(folder)
    alone = [single.run(one[np.newaxis], _OUTPUTS) for one in stack]
    compared = differ = 0
    for threads in (1, 2):
        session = OrtSession(folder, threads=threads)
        for count, turn in itertools.product(range(1, _LARGEST + 1), range(turns)):
            order = np.roll(np.arange(_LARGEST), -count - turn)[:count]
            together = session.run(stack[order], _OUTPUTS)
            for place, picture in enumerate(order):
                compared += 1
                differ += any(
                    whole[place].tobytes() != one[0].tobytes()
                    for whole, one in zip(together, alone[picture], strict=True)
                )
    return compared, differ


def main() -> int:
    """Compare, print a line a recipe, and return 1 when a bit differs."""
    candidates = [one.name for one in recipes.load().recipes if one.candidate]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=_SHAPES, default=list(_SHAPES))
    parser.add_argument("--recipes", nargs="+", default=candidates)
    parser.add_argument("--turns", type=int, default=1, metavar="1..16", help="a batch, moved on")
    options = parser.parse_args()
    wrong = 0
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as folder:
            for recipe, stack, target in graphs(shape, options.recipes, folder):
                begun = time.monotonic()
                compared, differ = compare(target, stack, options.turns)
                wrong += differ
                print(
                    f"{shape}, {recipe.name}: {compared} scores in batches of 1 to {_LARGEST} on "
                    f"1 and 2 threads, {differ} differ from the picture alone "
                    f"({time.monotonic() - begun:.0f} s)",
                    flush=True,
                )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

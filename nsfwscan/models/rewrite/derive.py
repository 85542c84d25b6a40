"""Builds the fast graph of a published model, and compares it with the published one.

In: a package. Out: a `Rewriting`, and the files that it names. A file that is not recognised, or
whose fast graph gives other bits on any test picture, runs as it is: the `Rewriting` then says why.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.models.classifier import as_published, to_input
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.manifest import MODEL_NAME, Rewriting, WeightForm
from nsfwscan.models.probes import PROBES, noise
from nsfwscan.models.rewrite import DYNAMIC_VIT
from nsfwscan.models.rewrite.fused_vit import build
from nsfwscan.models.rewrite.published_vit import PublishedVit, recognise
from nsfwscan.models.rewrite.walk import NotRecognised
from nsfwscan.models.runtime import OrtGraph, Runnable, exact_int8
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelUnusable
from nsfwscan.values.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nsfwscan.models.package import InstalledModel
    from nsfwscan.values.geometry import Geometry

GRAPH_NAME, WEIGHTS_NAME = "fast.onnx", "fast.bin"
_NOISE_SEEDS = (1, 2)


def network(model: InstalledModel) -> PublishedVit | None:
    """Return what is recognised in a package's graph; None if it was not quantized dynamically.

    Raises `NotRecognised`.
    """
    try:
        graph = onnx_file.parse(model.read_artefact(MODEL_NAME), MODEL_NAME)
    except ModelUnusable as error:
        raise NotRecognised(str(error)) from error
    if not any(node.op == "MatMulInteger" for node in graph.nodes):
        return None
    return recognise(graph, model.manifest.input.geometry)


def derive(model: InstalledModel, vit: PublishedVit, folder: str) -> Rewriting:
    """Write the fast graph for this processor into `folder`, unless it gives other scores.

    Raises OSError.
    """
    form = best_form()
    onnx_file.write(build(vit, form), folder, name=GRAPH_NAME, weights_name=WEIGHTS_NAME)
    problem = _difference(model, folder)
    if not problem:
        return Rewriting(DYNAMIC_VIT, form, GRAPH_NAME, WEIGHTS_NAME)
    for name in (GRAPH_NAME, WEIGHTS_NAME):
        os.unlink(os.path.join(folder, name))
    return failed(problem)


def nothing_to_do() -> Rewriting:
    """Return the record of a model for which this way of rewriting is not meant."""
    return Rewriting(DYNAMIC_VIT)


def failed(problem: str) -> Rewriting:
    """Return the record of a model that runs as it was published."""
    return Rewriting(DYNAMIC_VIT, problem=printable(problem)[:500] or "no reason given")


def best_form() -> WeightForm:
    """Return the form of weights that is fast on this processor and gives the right products."""
    return WeightForm.INT8 if exact_int8() else WeightForm.UINT8


def _difference(model: InstalledModel, folder: str) -> str:
    """Return how the fast graph in `folder` differs on test pictures; empty if not at all."""
    spec, output = model.manifest.input, model.manifest.output.name
    with open_bytes(os.path.join(folder, GRAPH_NAME)) as stream:
        fast = Runnable(stream.read(), folder)
    graphs: list[OrtGraph] = []
    for graph in (as_published(model), fast):
        try:
            graphs.append(OrtGraph(graph, threads=1))
        except ModelUnusable as error:
            return f"{'the fast graph' if graphs else MODEL_NAME} does not load: {error}"
    for pixels in _test_pictures(spec.geometry):
        feed = {spec.name: to_input(pixels, spec)}
        try:
            given, found = (np.asarray(one.run([output], feed)[0]) for one in graphs)
        except ModelUnusable as error:
            return f"it does not run: {error}"
        if given.shape != found.shape or given.tobytes() != found.tobytes():
            return "the fast graph gives other scores than the published one"
    return ""


def _test_pictures(geometry: Geometry) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures, (H, W, 3) RGB: the probes, enlarged, and noise."""
    height, width = geometry.crop_height, geometry.crop_width
    edge = 96
    for colour in PROBES.values():
        rows = [[colour(x, y) for x in range(edge)] for y in range(edge)]
        small = np.array(rows, np.uint8)
        yield small[np.arange(height) * edge // height][:, np.arange(width) * edge // width]
    for seed in _NOISE_SEEDS:
        yield np.frombuffer(noise(height * width * 3, seed), np.uint8).reshape(height, width, 3)

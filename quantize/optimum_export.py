"""The optimum front end, for architectures that the direct one does not support.

The only module that imports optimum. It needs torch and transformers (extra `export`), and is the
reference for checking the direct front end. onnxruntime's offline optimizer cleans the exported
graph, to which uint8 pixels and normalisation are prepended, so that the later steps are the same
for both front ends.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.graphs.graph import Builder, Graph, Node, Value
from nsfwscan.values.errors import ModelUnusable
from quantize import checkpoint, session
from quantize.tensors import open_weights
from quantize.vit_graph import LOGITS, PIXELS

if TYPE_CHECKING:
    from quantize.preprocessing import Preprocessing
    from quantize.vit_graph import Normalisation

_FILE = "model.onnx"


def export(folder: str, known: Preprocessing | None) -> Graph:
    """Export the checkpoint in `folder`, without the network.

    `known` is the catalogue's preprocessing, if any; otherwise `preprocessor_config.json` must have
    it. Raises `ModelUnusable` if optimum cannot export the architecture, ModuleNotFoundError if it
    is not installed.
    """
    open_weights(folder)  # without safetensors, a pickle in the folder would be loaded
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import
    meaning = checkpoint.describe(folder)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _export(folder, scratch)
        except ModuleNotFoundError:
            raise  # the command names the extra
        except Exception as error:  # optimum, transformers and torch share no base class
            raise ModelUnusable(f"optimum cannot export {folder}: {error}") from error
        cleaned = os.path.join(scratch, "cleaned.onnx")
        session.optimise(os.path.join(scratch, _FILE), cleaned)
        graph = onnx_file.read(cleaned)
    preprocessing = known or meaning.preprocessing
    if preprocessing is None:
        raise ModelUnusable(f"{folder} does not describe its preprocessing")
    return _with_pixels(graph, preprocessing.normalisation, meaning.image)


def _export(folder: str, target: str) -> None:
    from optimum.exporters.onnx import main_export, onnx_export_from_model

    task = "image-classification"
    if not checkpoint.is_timm(folder):
        main_export(folder, target, task=task, do_validation=False)
        return
    # optimum would take a local timm folder for a repository's name, so load the network here.
    # `local-dir` with safetensors never opens a pickle.
    import timm
    from optimum.exporters.tasks import TasksManager

    model = timm.create_model(f"local-dir:{os.path.abspath(folder)}", pretrained=True).eval()
    TasksManager.standardize_model_attributes(model, library_name="timm")
    onnx_export_from_model(model, target, task=task, do_validation=False)


def _with_pixels(graph: Graph, norm: Normalisation, image: int) -> Graph:
    """Return `graph` with a uint8 NHWC input and normalisation in front."""
    if len(graph.inputs) != 1 or LOGITS not in {one.name for one in graph.outputs}:
        raise ModelUnusable("the exported graph is not an image classifier: one input, logits out")
    std = np.asarray(norm.std, np.float64)
    gain = (norm.scale / std).astype(np.float32).reshape(1, 3, 1, 1)
    offset = (-np.asarray(norm.mean, np.float64) / std).astype(np.float32).reshape(1, 3, 1, 1)
    front = Builder()
    turned = front.transpose(PIXELS, "pixels.nchw", 0, 3, 1, 2)
    wide = front.node("Cast", (turned,), "pixels.float", {"to": 1})
    scaled = front.node("Mul", (wide, front.constant("pixels.gain", gain)), "pixels.scaled")
    inputs = (scaled, front.constant("pixels.offset", offset))
    front.nodes.append(Node("Add", inputs, (graph.inputs[0].name,), name="pixels.normalised"))
    pixels = Value(PIXELS, np.dtype(np.uint8), ("batch", image, image, 3))
    logits = tuple(one for one in graph.outputs if one.name == LOGITS)
    return replace(
        graph,
        nodes=(*front.nodes, *graph.nodes),
        weights={**graph.weights, **front.weights},
        inputs=(pixels,),
        outputs=logits,
    ).pruned()

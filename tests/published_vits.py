"""Small Vision Transformers as others publish them, and packages of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_packages import describe

from benchmarks.exported_vit import Exported
from nsfwscan.models import catalogue
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME, MODEL_NAME
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsfwscan.models.manifest import ModelManifest

SMALL = Exported(image=48, hidden=64, heads=2, layers=3)


def manifest(data: bytes, image: int = 48, licence: bytes = b"free\n") -> ModelManifest:
    """Return falconsai's manifest for these bytes of a graph that takes so many pixels."""
    files = {MODEL_NAME: describe(data), LICENCE_NAME: describe(licence)}
    base = catalogue.load()["falconsai"].manifest(files)
    geometry = Geometry(Resize.STRETCH, image, image, Resample.BILINEAR, image, image)
    return replace(base, input=replace(base.input, geometry=geometry))


def package(folder: Path, data: bytes, image: int = 48) -> Path:
    """Write a package with this graph, as `falconsai` is pulled."""
    folder.mkdir(parents=True)
    (folder / MODEL_NAME).write_bytes(data)
    (folder / LICENCE_NAME).write_bytes(b"free\n")
    (folder / MANIFEST_NAME).write_text(manifest(data, image).dump())
    return folder


def change(data: bytes, edit: Callable[[Any], object]) -> bytes:
    """Return the graph after `edit` of its message."""
    model = onnx.load_from_string(data)
    edit(model)
    changed: bytes = model.SerializeToString()
    return changed


def identity(image: int) -> bytes:
    """Return a graph with the same input and output that is no Vision Transformer."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    weight = numpy_helper.from_array(np.array([[1, 0], [0, 1], [0, 0]], np.float32), "weight")
    shape = ["batch_size", 3, image, image]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", 2])],
        [weight],
    )
    opset = helper.make_opsetid("", 18)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return data

"""A model package of a few hundred bytes whose score is how red a picture is.

It stands in for a real model where a test is about the way to the model and back, and not about
what it says: red is flagged, orange is for review, everything else is safe.
"""

from __future__ import annotations

import hashlib
import os

import onnx
from onnx import TensorProto, helper

from nsfwscan.models.manifest import (
    Artefact,
    ChannelOrder,
    DType,
    InputSpec,
    Layout,
    ModelManifest,
    OutputKind,
    OutputSpec,
    Reduction,
    Thresholds,
)
from nsfwscan.values.geometry import Geometry, Resample, Resize

EDGE = 32
RED = (255, 0, 0)
"""Scores above 0.9."""
ORANGE = (255, 96, 0)
"""Scores between 0.5 and 0.8."""
GREEN = (0, 160, 0)
"""Scores below 0.01."""


def graph() -> bytes:
    """Return an ONNX graph: mean colour, then two logits, (0, 8 * (red - green - blue - 0.5))."""
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 2], [0, 8, 0, -8, 0, -8])
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [2], [0, -4])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", EDGE, EDGE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    whole = helper.make_graph(nodes, "redness", [pixels], [logits], [weights, bias, axes])
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def manifest(model: bytes, *, name: str = "tiny", version: str = "1") -> ModelManifest:
    """Return the manifest of a package around `model`."""
    return ModelManifest(
        name=name,
        version=version,
        title="How red a picture is",
        source="generated",
        revision="none",
        licence="Apache-2.0",
        files={"model.onnx": Artefact(hashlib.sha256(model).hexdigest(), len(model))},
        input=InputSpec(
            name="pixels",
            dtype=DType.FLOAT32,
            layout=Layout.NHWC,
            channel_order=ChannelOrder.RGB,
            geometry=Geometry(Resize.STRETCH, EDGE, EDGE, Resample.BILINEAR, EDGE, EDGE),
            scale=1 / 255,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        output=OutputSpec(
            name="logits",
            kind=OutputKind.LOGITS,
            labels=("other", "red"),
            unsafe_labels=("red",),
            reduction=Reduction.SUM,
        ),
        thresholds=Thresholds(review_at=0.5, flag_at=0.8, source="chosen for tests"),
        recipe="published",
    )


def write_package(folder: str, *, name: str = "tiny", version: str = "1") -> str:
    """Write a package folder below `folder` and return its path."""
    model = graph()
    described = manifest(model, name=name, version=version)
    package = os.path.join(folder, described.package)
    os.makedirs(package)
    with open(os.path.join(package, "model.onnx"), "wb") as file:
        file.write(model)
    with open(os.path.join(package, "manifest.json"), "w", encoding="utf-8") as file:
        file.write(described.dump())
    return package

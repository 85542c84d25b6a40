"""A model package of a few hundred bytes, for what does not depend on the model."""

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

_EDGE = 32


def write_package(folder: str, *, sees_red: bool = False) -> str:
    """Write a package that calls every picture safe, and return its folder.

    One that `sees_red` flags red pictures, has orange ones reviewed, and calls all others safe.
    """
    graph = _graph(sees_red=sees_red)
    manifest = ModelManifest(
        name="tiny-red" if sees_red else "tiny",
        version="1",
        title="Red pictures are flagged" if sees_red else "Every picture is safe",
        source="generated",
        revision="none",
        licence="Apache-2.0",
        files={"model.onnx": Artefact(hashlib.sha256(graph).hexdigest(), len(graph))},
        input=InputSpec(
            name="pixels",
            dtype=DType.FLOAT32,
            layout=Layout.NHWC,
            channel_order=ChannelOrder.RGB,
            geometry=Geometry(Resize.STRETCH, _EDGE, _EDGE, Resample.BILINEAR, _EDGE, _EDGE),
            scale=1 / 255,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        output=OutputSpec(
            name="logits",
            kind=OutputKind.LOGITS,
            labels=("safe", "unsafe"),
            unsafe_labels=("unsafe",),
            reduction=Reduction.SUM,
        ),
        thresholds=Thresholds(review_at=0.5, flag_at=0.8, source="chosen"),
        recipe="published",
    )
    package = os.path.join(folder, manifest.package)
    os.makedirs(package, exist_ok=True)
    with open(os.path.join(package, "model.onnx"), "wb") as file:
        file.write(graph)
    with open(os.path.join(package, "manifest.json"), "w", encoding="utf-8") as text:
        text.write(manifest.dump())
    return package


def _graph(*, sees_red: bool) -> bytes:
    """Return a graph that maps the mean colour, as values of 0 to 1, to two logits.

    They are (4, 0), or (0, 8 * (red - green - blue - 0.5)) for one that `sees_red`.
    """
    factors = [0.0, 8.0, 0.0, -8.0, 0.0, -8.0] if sees_red else [0.0] * 6
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 2], factors)
    offsets = [0.0, -4.0] if sees_red else [4.0, 0.0]
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [2], offsets)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", _EDGE, _EDGE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    whole = helper.make_graph(nodes, "safe", [pixels], [logits], [weights, bias, axes])
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())

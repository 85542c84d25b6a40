"""Small Vision Transformers as others publish them: exported to ONNX, then quantized dynamically.

The graphs are laid out as optimum's exporter lays them out, whose older versions know no operator
for a LayerNorm and divide the attention's scores; newer ones scale queries and keys.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tiny_packages import describe

from nsfwscan.models import catalogue
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME, MODEL_NAME
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsfwscan.models.manifest import ModelManifest


@dataclass(frozen=True)
class Exported:
    """A way to export and quantize, and the network's size."""

    modern: bool = True
    """With operators for LayerNorm, and scaled queries and keys."""
    per_channel: bool = False
    weights: QuantType = QuantType.QUInt8
    convolution: bool = True
    """Whether the first layer is quantized, too."""
    image: int = 48
    patch: int = 16
    hidden: int = 64
    heads: int = 2
    layers: int = 3
    seed: int = 0


class _Exporter:
    def __init__(self, way: Exported) -> None:
        self.way = way
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(way.seed)
        self._count = 0

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(self, *shape: int, spread: float = 0.02, middle: float = 0.0) -> str:
        values = self._random.standard_normal(shape) * spread + middle
        return self.constant(values.astype(np.float32), f"weight_{len(self.weights)}")

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        self._count += 1
        output = name or f"/{op}_{self._count}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def norm(self, x: str) -> str:
        gain = self.random(self.way.hidden, spread=0.1, middle=1.0)
        bias = self.random(self.way.hidden, spread=0.1)
        if self.way.modern:
            return self.node("LayerNormalization", x, gain, bias, axis=-1, epsilon=1e-12)
        mean = self.node("ReduceMean", x, axes=[-1])
        centred = self.node("Sub", x, mean)
        power = self.node("Pow", centred, self.constant(np.float32(2)))
        variance = self.node("ReduceMean", power, axes=[-1])
        added = self.node("Add", variance, self.constant(np.float32(1e-12)))
        divided = self.node("Div", centred, self.node("Sqrt", added))
        return self.node("Add", self.node("Mul", divided, gain), bias)

    def linear(self, x: str, narrow: int, wide: int) -> str:
        product = self.node("MatMul", x, self.random(narrow, wide, spread=narrow**-0.5))
        return self.node("Add", self.random(wide), product)

    def gelu(self, x: str) -> str:
        divided = self.node("Div", x, self.constant(np.float32(2**0.5)))
        erf = self.node("Add", self.node("Erf", divided), self.constant(np.float32(1)))
        return self.node("Mul", self.node("Mul", x, erf), self.constant(np.float32(0.5)))

    def heads(self, x: str, order: tuple[int, ...]) -> str:
        way = self.way
        batch = self.node("Gather", self.node("Shape", x), self.constant(np.int64(0)), axis=0)
        batch = self.node("Unsqueeze", batch, self.constant(np.array([0], np.int64)))
        numbers = (-1, way.heads, way.hidden // way.heads)
        parts = [self.constant(np.array([one], np.int64)) for one in numbers]
        wide = self.node("Reshape", x, self.node("Concat", batch, *parts, axis=0))
        return self.node("Transpose", wide, perm=list(order))

    def block(self, x: str) -> str:
        way = self.way
        normed = self.norm(x)
        k, v, q = (
            self.heads(self.linear(normed, way.hidden, way.hidden), order)
            for order in ((0, 2, 3, 1), (0, 2, 1, 3), (0, 2, 1, 3))
        )
        width = way.hidden // way.heads
        if way.modern:
            factor = np.float32(width**-0.25)
            q, k = (self.node("Mul", one, self.constant(factor)) for one in (q, k))
        scores = self.node("MatMul", q, k)
        if not way.modern:
            scores = self.node("Div", scores, self.constant(np.float32(width**0.5)))
        context = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        context = self.node("Transpose", context, perm=[0, 2, 1, 3])
        shape = self.constant(np.array([0, -1, way.hidden], np.int64))
        context = self.node("Reshape", context, shape)
        x = self.node("Add", self.linear(context, way.hidden, way.hidden), x)
        hidden = self.gelu(self.linear(self.norm(x), way.hidden, 4 * way.hidden))
        return self.node("Add", self.linear(hidden, 4 * way.hidden, way.hidden), x)

    def model(self) -> Any:
        way = self.way
        tokens = (way.image // way.patch) ** 2 + 1
        weight = self.random(way.hidden, 3, way.patch, way.patch, spread=(3 * way.patch**2) ** -0.5)
        conv = self.node(
            "Conv",
            "pixel_values",
            weight,
            self.random(way.hidden),
            kernel_shape=[way.patch] * 2,
            strides=[way.patch] * 2,
            pads=[0] * 4,
            dilations=[1, 1],
            group=1,
        )
        flat = self.node("Reshape", conv, self.constant(np.array([0, way.hidden, -1], np.int64)))
        patches = self.node("Transpose", flat, perm=[0, 2, 1])
        cls = self.random(1, 1, way.hidden, spread=0.5)
        batch = self.node("Gather", self.node("Shape", conv), self.constant(np.int64(0)), axis=0)
        batch = self.node("Unsqueeze", batch, self.constant(np.array([0], np.int64)))
        ones = [self.constant(np.array([one], np.int64)) for one in (1, way.hidden)]
        cls = self.node("Expand", cls, self.node("Concat", batch, *ones, axis=0))
        joined = self.node("Concat", cls, patches, axis=1)
        x = self.node("Add", joined, self.random(1, tokens, way.hidden, spread=0.2))
        for _ in range(way.layers):
            x = self.block(x)
        first = self.node("Gather", self.norm(x), self.constant(np.int64(0)), axis=1)
        head = self.random(2, way.hidden, spread=1.0)
        self.node("Gemm", first, head, self.random(2), transB=1, name="logits")
        shape = ["batch_size", "num_channels", "height", "width"]
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", 2])],
            self.weights,
        )
        opset = helper.make_opsetid("", 18 if way.modern else 13)
        if way.modern:
            _axes_as_inputs(graph)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def _axes_as_inputs(graph: Any) -> None:
    assert not any(node.op_type == "ReduceMean" for node in graph.node)


def export(way: Exported, path: Path) -> Path:
    """Write the quantized graph to `path`, as a publisher would."""
    plain = path.with_name("float.onnx")
    onnx.save(_Exporter(way).model(), plain)
    types = None if way.convolution else ["MatMul", "Gemm"]
    quantize_dynamic(
        plain,
        path,
        weight_type=way.weights,
        per_channel=way.per_channel,
        op_types_to_quantize=types,
    )
    os.unlink(plain)
    return path


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

"""Export a Vision Transformer with random weights and quantize it, as publishers do.

    python -m benchmarks.exported_vit FILE.onnx [--image 224]

The graph is laid out as optimum's exporter lays it out, without torch. Older versions of that know
no operator for a LayerNorm and divide the attention's scores; newer ones scale queries and keys.
The network has learned nothing, but its time and its rounding errors are those of a real one.
"""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic


@dataclass(frozen=True)
class Exported:
    """A way to export and quantize, and the network's size."""

    modern: bool = True
    """With operators for LayerNorm, and scaled queries and keys."""
    per_channel: bool = False
    weights: QuantType = QuantType.QUInt8
    convolution: bool = True
    """Whether the first layer is quantized, too."""
    image: int = 224
    patch: int = 16
    hidden: int = 768
    heads: int = 12
    layers: int = 12
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
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def export(way: Exported, path: str) -> None:
    """Write the quantized graph to `path`, as a publisher would."""
    logging.disable()  # the quantizer recommends a step that publishers leave out
    plain = f"{path}.float"
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
    logging.disable(logging.NOTSET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--image", type=int, default=224)
    options = parser.parse_args()
    export(Exported(image=options.image), options.file)


if __name__ == "__main__":
    main()

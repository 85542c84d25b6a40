"""Reads a quantized network's graph backwards, from a value to what it was computed from.

Each step expects an operator and returns the values before it, or raises `NotRecognised`, which
says what was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.models.graphs.graph import MICROSOFT

if TYPE_CHECKING:
    from nsfwscan.models.graphs.graph import Array, Graph, Node

_ROOT_2 = 2**0.5


class NotRecognised(Exception):
    """The graph is not, or not in every part, one that can be rewritten. Says what is different."""


class Product(NamedTuple):
    """y = x W + bias, in integers."""

    weight: Array
    """(in, out) uint8 or int8."""
    zero: Array
    """(), or (out,) with one for each column; of the weight's type."""
    scale: Array
    """float32, shaped like `zero`."""
    bias: Array
    """(out,) float32."""


class LayerNorm(NamedTuple):
    """A LayerNorm over the last axis."""

    gain: Array
    bias: Array
    epsilon: float


class Quantized(NamedTuple):
    """An activation before it was quantized, and the nodes that compute its integers."""

    value: str
    quantizer: Node


class GraphWalk:
    """Steps through one graph. Whoever builds on what it finds may not trust shapes yet."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights = graph.weights
        self.producer: dict[str, Node] = {}
        for node in graph.nodes:
            if node.domain not in {"", MICROSOFT}:
                raise NotRecognised(f"it has an operator {node.domain}.{node.op}")
            for name in filter(None, node.outputs):
                if name in self.producer or name in graph.weights:
                    raise NotRecognised(f"two nodes return {name!r}")
                self.producer[name] = node

    def take(self, name: str) -> Node:
        """Return the node that computes `name`."""
        node = self.producer.get(name)
        if node is None:
            raise NotRecognised(f"nothing computes {name!r}")
        return node

    def node(self, name: str, op: str, **attributes: object) -> Node:
        """Return the node that computes `name`, which must be this operator."""
        node = self.take(name)
        if node.op != op:
            raise NotRecognised(f"{name!r} comes from {node.op}, not from {op}")
        for key, value in attributes.items():
            if node.attributes.get(key) != value:
                raise NotRecognised(f"{name!r}: {op} has {key} {node.attributes.get(key)}")
        return node

    def constant(self, name: str, rank: int | None = None) -> Array:
        """Return a constant, with that many axes if `rank` is given. Floats are finite float32."""
        value = self.weights.get(name)
        if value is None:
            raise NotRecognised(f"{name!r} is not a constant")
        if rank is not None and value.ndim != rank:
            raise NotRecognised(f"{name!r} has the shape {value.shape}")
        if value.dtype.kind == "f" and not (
            value.dtype == np.float32 and bool(np.isfinite(value).all())
        ):
            raise NotRecognised(f"{name!r} has {value.dtype} numbers, or some that are not finite")
        return value

    def number(self, name: str) -> float | None:
        """Return a constant that is a single number, otherwise None."""
        value = self.weights.get(name)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def with_constant(self, name: str, op: str, rank: int | None) -> tuple[str, Array]:
        """Return the two inputs of a node: a value, and a constant of that rank."""
        node = self.node(name, op)
        for value, constant in (node.inputs, node.inputs[::-1]):
            if constant in self.weights and value not in self.weights:
                return value, self.constant(constant, rank)
        raise NotRecognised(f"{name!r} has no constant")

    def agree(self, one: str, other: str) -> None:
        """Check that two names are of the same value."""
        if one != other:
            raise NotRecognised(f"{one!r} stands where {other!r} is expected")

    def linear(self, name: str) -> tuple[str, Product]:
        """Return the input of a quantized layer that returns `name`, and its weights."""
        scaled, bias = self.with_constant(name, "Add", 1)
        product, scales = self.unscaled(scaled, "MatMulInteger")
        weight = self.constant(product.inputs[1], 2)
        source = self.quantized(product)
        return source.value, Product(
            weight, self.zero(product, weight), self.scale(scales, source), bias
        )

    def is_linear(self, name: str) -> bool:
        """Return True if `name` ends in the bias of a layer."""
        node = self.producer.get(name)
        return (
            node is not None
            and node.op == "Add"
            and any(one in self.weights for one in node.inputs)
        )

    def unscaled(self, name: str, op: str) -> tuple[Node, Node]:
        """Return the integer product behind `name`, and the product of its scales."""
        node = self.node(name, "Mul")
        for integers, scales in (node.inputs, node.inputs[::-1]):
            cast = self.take(integers)
            if cast.op == "Cast" and cast.attributes.get("to") == 1:
                return self.node(cast.inputs[0], op), self.node(scales, "Mul")
        raise NotRecognised(f"{name!r} does not scale the integers of {op}")

    def quantized(self, product: Node) -> Quantized:
        """Return the activation that an integer product multiplies."""
        node = self.node(product.inputs[0], "DynamicQuantizeLinear")
        if product.inputs[0] != node.outputs[0] or product.inputs[2] != node.outputs[2]:
            raise NotRecognised(f"{product.outputs[0]!r} mixes two activations")
        return Quantized(node.inputs[0], node)

    def zero(self, product: Node, weight: Array) -> Array:
        """Return the zero points of an integer product's weights."""
        name = product.inputs[3] if len(product.inputs) > 3 else ""
        zero = self.constant(name) if name else np.zeros((), weight.dtype)
        zero = zero.reshape(()) if zero.size == 1 else zero
        if (
            weight.dtype not in {np.dtype(np.uint8), np.dtype(np.int8)}
            or zero.dtype != weight.dtype
        ):
            raise NotRecognised(f"its weights are {weight.dtype} with zero points {zero.dtype}")
        return zero

    def scale(self, scales: Node, source: Quantized) -> Array:
        """Return the scales of the weights from their product with that of the activation."""
        of_activation = source.quantizer.outputs[1]
        for mine, other in (scales.inputs, scales.inputs[::-1]):
            if mine == of_activation:
                scale = self.constant(other)
                return scale.reshape(()) if scale.size == 1 else scale
        raise NotRecognised(f"{scales.outputs[0]!r} scales by another activation")

    def scaled(self, name: str) -> tuple[str, float]:
        """Return what a constant factor multiplies, and the factor; the value and 1 without."""
        node = self.take(name)
        if node.op not in {"Mul", "Div"}:
            return name, 1.0
        value, factor = node.inputs
        if node.op == "Mul" and self.number(value) is not None:
            value, factor = factor, value
        number = self.number(factor)
        if number is None or number <= 0:
            raise NotRecognised(f"{name!r} is not scaled by a constant")
        return value, number if node.op == "Mul" else float(np.float32(1) / np.float32(number))

    def norm(self, name: str) -> tuple[str, LayerNorm]:
        """Return the input of a LayerNorm, which may be one operator or nine."""
        node = self.take(name)
        if node.op == "LayerNormalization":
            if node.attributes.get("axis", -1) not in {-1, 2}:
                raise NotRecognised("a LayerNorm is over another axis")
            epsilon = float(node.attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]
            gain, bias = (self.constant(one, 1) for one in node.inputs[1:3])
            return node.inputs[0], LayerNorm(gain, bias, epsilon)
        scaled, bias = self.with_constant(name, "Add", 1)
        divided, gain = self.with_constant(scaled, "Mul", 1)
        node = self.node(divided, "Div")
        centred = self.node(node.inputs[0], "Sub")
        root = self.node(node.inputs[1], "Sqrt")
        variance, epsilon_array = self.with_constant(root.inputs[0], "Add", None)
        mean_square = self._mean(variance)
        power = self.node(mean_square, "Pow")
        if self.number(power.inputs[1]) != 2:
            raise NotRecognised("a LayerNorm does not square")
        self.agree(power.inputs[0], node.inputs[0])
        x = centred.inputs[0]
        self.agree(self._mean(centred.inputs[1]), x)
        return x, LayerNorm(gain, bias, float(epsilon_array.reshape(())))

    def _mean(self, name: str) -> str:
        """Return what a `ReduceMean` over the last axis takes the mean of."""
        node = self.node(name, "ReduceMean")
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            axes = tuple(self.constant(node.inputs[1]).reshape(-1).tolist())
        if axes not in {(-1,), (2,)} or node.attributes.get("keepdims", 1) != 1:
            raise NotRecognised("a LayerNorm is over another axis")
        return node.inputs[0]

    def gelu(self, name: str) -> str:
        """Return x of x * (1 + erf(x / sqrt 2)) / 2, as transformers exports it."""
        node = self.take(name)
        if node.op == "Gelu" and node.attributes.get("approximate", "none") == "none":
            return node.inputs[0]
        if node.op != "Mul":
            raise NotRecognised(f"{name!r} comes from {node.op}, not from a GELU")
        product = self._half(node)
        node = self.node(product, "Mul")
        # The one input is x, the other erf(x / sqrt 2) + 1.
        for x, plus_one in (node.inputs, node.inputs[::-1]):
            divided = self._inside_erf(plus_one)
            if divided is not None and divided.inputs[0] == x:
                return x
        raise NotRecognised(f"{name!r} is not a GELU")

    def _half(self, node: Node) -> str:
        for value, number in (node.inputs, node.inputs[::-1]):
            if self.number(number) == 0.5:
                return value
        raise NotRecognised(f"{node.outputs[0]!r} is not a GELU")

    def _inside_erf(self, name: str) -> Node | None:
        """Return the node x / sqrt 2 of erf(x / sqrt 2) + 1; None for anything else."""
        try:
            erf, one = self.with_constant(name, "Add", None)
            divided = self.node(self.node(erf, "Erf").inputs[0], "Div")
        except NotRecognised:
            return None
        root = self.number(divided.inputs[1])
        right = one.size == 1 and float(one.reshape(())) == 1 and root is not None
        return divided if right and root and abs(root - _ROOT_2) < 1e-6 else None

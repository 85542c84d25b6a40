"""Builds the INT8 graph of a convolutional network from its float graph and a calibration.

Everything between the pixels and the pooling is channels-last, the layout of onnxruntime's integer
kernels. Convolutions whose result is only an input of others return uint8 (`QLinearConv`, which
also does the ReLU). Those of one pixel whose result is added to others are matrix products that
return float (`MatMulIntegerToFloat`): a residual stream that is rounded at every block would lose
most of the accuracy. What a picture gives is the same on every processor but for float sums.

The graph takes the pixels themselves, uint8 RGB. Mean and scale are folded into the first
convolution if it can be: then its input is exact, too.

`quantize` measures candidates that this module builds, so what is measured is what is installed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from nsfwscan.models.graphs.graph import MICROSOFT, Array, Graph, Value
from nsfwscan.models.manifest import ChannelOrder, Layout
from nsfwscan.models.rewrite import rounding
from nsfwscan.models.rewrite.conv_forms import FLOAT, TO_FIRST, ConvForms, Integers
from nsfwscan.models.rewrite.conv_nodes import (
    as_columns,
    as_sums,
    conv_attributes,
    convolutions,
    four,
    groups_of,
    is_convertible,
    is_product,
    one_picture,
    pair,
)
from nsfwscan.models.rewrite.evening import evened
from nsfwscan.models.rewrite.install import PIXELS
from nsfwscan.models.rewrite.plan import STEPS
from nsfwscan.values.errors import ModelUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.models.graphs.graph import Node
    from nsfwscan.models.manifest import InputSpec
    from nsfwscan.models.rewrite.plan import ConvPlan

_ELEMENTWISE = frozenset(
    "Add Clip Div Erf Gelu HardSigmoid HardSwish Mul Relu Sigmoid Sub Tanh".split()
)
"""Operators that give the same in any layout, apart from the shape of their constants."""
_MOST_BIAS = 1 << 30

Rounder: TypeAlias = "Callable[[Node, Array, Array], bytes]"
"""From a convolution, its weights and scales: which are rounded to the farther neighbour."""


def convert(graph: Graph, spec: InputSpec, plan: ConvPlan, rounder: Rounder | None = None) -> Graph:
    """Return the INT8 graph of the float `graph`, whose input `spec` describes.

    It takes `PIXELS`, (1, height, width, 3) uint8 RGB, and returns what `graph` returns. `rounder`
    says how weights are rounded, in place of `plan.farther`. Raises
    `ModelUnusable` for a graph without convolutions or a plan for another one.
    """
    if not convolutions(graph):
        raise ModelUnusable("the graph has no convolutions that could be converted")
    try:
        return _ConvRewrite(evened(graph, plan.sizes), spec, plan, rounder).run()
    except KeyError as error:
        raise ModelUnusable(f"the plan does not fit the graph: it lacks {error}") from error
    except (IndexError, TypeError, ValueError) as error:  # such as shapes that do not fit
        raise ModelUnusable(f"the plan does not fit the graph: {error}") from error


class _Kernel(NamedTuple):
    """A convolution's weights as integers."""

    rounded: Array
    """(out, in of a group, height, width) int8."""
    scale: Array
    """(out,) float32."""
    bias: Array
    """(out,) float64, of the float result, without what rounding shifts."""


class _ConvRewrite(ConvForms):
    """One pass over the nodes."""

    def __init__(
        self, graph: Graph, spec: InputSpec, plan: ConvPlan, rounder: Rounder | None
    ) -> None:
        super().__init__(graph, spec, plan)
        self._rounder = rounder

    def run(self) -> Graph:
        done: set[str] = set()
        for node in self._graph.nodes:
            if node.outputs[0] in done:
                continue
            relu = self._net.relu(node) if node.op in {"Conv", "Add"} else None
            result = (relu or node).outputs[0]
            if self._convert(node, result, has_relu=relu is not None):
                done.add(result)
            else:
                for name in filter(None, node.inputs):
                    self._given(name)
                self._b.nodes.append(node)
                self._as_given.update(node.outputs)
        for value in self._graph.outputs:
            self._given(value.name)
        height = self._spec.geometry.crop_height
        shape = (1, height, self._spec.geometry.crop_width, 3)
        pixels = Value(PIXELS, np.dtype(np.uint8), shape)
        outputs = [replace(one, shape=one_picture(one)) for one in self._graph.outputs]
        return self._b.graph((pixels,), tuple(outputs)).pruned()

    def _convert(self, node: Node, result: str, *, has_relu: bool) -> bool:
        """Emit a node channels-last; return False if it must stay as it is."""
        source = node.inputs[0] if node.inputs else ""
        if self._is_turn(node):
            return True
        if is_convertible(node, self._graph.weights):
            if node.outputs[0] in self._plan.keep_float:
                return self._float_product(node, result, has_relu=has_relu)
            self._conv(node, result, has_relu=has_relu)
            return True
        if node.op == "MaxPool" and source in self._integers and len(node.outputs) == 1:
            return self._max_pool(node)
        if node.op == "BatchNormalization" and self._is_last(source):
            return self._batch_norm(node)
        if node.op == "Add" and self._integer_sum(node, result):
            return True
        return self._elementwise(node, result, has_relu=has_relu)

    # Convolutions

    def _conv(self, node: Node, result: str, *, has_relu: bool) -> None:
        name = node.outputs[0]
        if border := self._border(node):
            self._first(node, result, border)
            return
        source = self._uint8(node.inputs[0])
        weight = self._graph.weights[node.inputs[1]]
        span = self._plan.spans[node.inputs[0]]
        # What a MaxPool returns has the steps of what it took.
        unit = float(self._b.weights[source.scale])
        kernel = self._kernel(node, unit)
        means = np.rint(np.array(span.means) * (float(span.scale) / unit))
        means = means.reshape(groups_of(node), -1)
        lost = rounding.shift(weight, kernel.rounded, kernel.scale, means)
        step = kernel.scale.astype(np.float64) * unit
        if is_product(node, weight) and not self._returns_integers(result):
            columns = self._b.constant(f"{name}#int8", as_columns(kernel.rounded))
            scale = self._b.constant(f"{name}#weight_scale", kernel.scale)
            bias = (kernel.bias + lost * step).astype(np.float32)
            integers = self._thinned(source.name, node)
            inputs = (integers, columns, source.scale, scale, source.zero, "")
            made = f"{name}#last"
            bias_name = self._b.constant(f"{name}#bias", bias)
            self._b.node("MatMulIntegerToFloat", (*inputs, bias_name), made, {}, MICROSOFT)
            self._last[result] = (
                self._b.node("Relu", (made,), f"{result}#last") if has_relu else made
            )
            return
        self._integer_conv(node, result, source, kernel, np.rint(kernel.bias / step + lost))

    def _kernel(self, node: Node, unit: float) -> _Kernel:
        weight = self._graph.weights[node.inputs[1]]
        farther = self._plan.farther.get(node.outputs[0])
        nearest = farther is None and self._rounder is None
        least = rounding.pair_scale if nearest else rounding.spread_scale
        scale = self._stretched(node, least(as_sums(weight)))
        bias = self._bias(node, len(weight))
        # A channel with almost no weights must leave room for its bias in 32 bits.
        scale = np.maximum(scale, (np.abs(bias) / (unit * _MOST_BIAS)).astype(np.float32))
        if self._rounder is not None:
            farther = self._rounder(node, weight, scale)
        if farther is None:
            return _Kernel(rounding.round_nearest(weight, scale), scale, bias)
        return _Kernel(rounding.round_chosen(weight, scale, farther), scale, bias)

    def _stretched(self, node: Node, scale: Array) -> Array:
        factor = self._plan.stretch.get(node.outputs[0], 1.0)
        stretched: Array = scale * np.float32(factor)
        return stretched

    def _bias(self, node: Node, count: int) -> Array:
        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(count)
        return self._graph.weights[node.inputs[2]].astype(np.float64)

    def _integer_conv(
        self, node: Node, result: str, source: Integers, kernel: _Kernel, bias: Array
    ) -> None:
        """Emit a convolution of integers; a ReLU follows from a zero point of 0."""
        span = self._plan.spans[result]
        self._integers[result] = self._emit_conv(
            node, result, source, kernel, bias, (span.scale, span.zero)
        )

    def _emit_conv(
        self,
        node: Node,
        result: str,
        source: Integers,
        kernel: _Kernel,
        bias: Array,
        step: tuple[np.float32, np.uint8],
    ) -> Integers:
        name = node.outputs[0]
        constant = self._b.constant
        made = Integers(
            f"{result}#uint8",
            constant(f"{result}#scale", np.asarray(step[0])),
            constant(f"{result}#zero", np.asarray(step[1])),
        )
        inputs = (
            *source,
            constant(f"{name}#int8", kernel.rounded),
            constant(f"{name}#weight_scale", kernel.scale),
            constant(f"{name}#weight_zero", np.zeros(len(kernel.scale), np.int8)),
            made.scale,
            made.zero,
            constant(f"{name}#bias", bias.astype(np.int32)),
        )
        attributes = {**conv_attributes(node, kernel.rounded), "channels_last": 1}
        if source.name == f"{PIXELS}#padded":
            attributes["pads"] = (0, 0, 0, 0)
        self._b.node("QLinearConv", inputs, made.name, attributes, MICROSOFT)
        return made

    def _returns_integers(self, result: str) -> bool:
        """Return True if what a convolution of one pixel returns is only used as integers."""
        users = self._net.users(result)
        return bool(users) and all(
            (user.op == "Conv" and user.outputs[0] not in self._plan.keep_float)
            or (user.op == "Add" and self._net.after_relu(user) in self._plan.integer_sums)
            for user in users
        )

    def _thinned(self, integers: str, node: Node) -> str:
        """Leave out the pixels that a convolution of one pixel steps over."""
        down, across = pair(node.attributes.get("strides", (1, 1)))
        if (down, across) == (1, 1):
            return integers
        constant = self._b.constant
        inputs = (
            integers,
            constant("#thin.from", np.array([0, 0])),
            constant("#thin.to", np.array([2**31 - 1] * 2)),
            constant("#thin.axes", np.array([1, 2])),
            constant(f"#thin.{down}_{across}", np.array([down, across])),
        )
        return self._b.node("Slice", inputs, f"{node.outputs[0]}#thinned")

    def _float_product(self, node: Node, result: str, *, has_relu: bool) -> bool:
        weight = self._graph.weights[node.inputs[1]]
        if border := self._border(node):
            self._first_float(node, border)
            if has_relu:
                self._b.node("Relu", (node.outputs[0],), result)
            self._as_given.add(result)
            return True
        if not is_product(node, weight):
            self._turnable.add(result)
            return False
        name = node.outputs[0]
        source = self._thinned(self._float_last(node.inputs[0]), node)
        columns = self._b.constant(f"{name}#columns", as_columns(weight))
        made = self._b.node("MatMul", (source, columns), f"{name}#product")
        bias = self._bias(node, len(weight)).astype(np.float32)
        made = self._b.node("Add", (made, self._b.constant(f"{name}#bias", bias)), f"{name}#last")
        self._last[result] = self._b.node("Relu", (made,), f"{result}#last") if has_relu else made
        return True

    # The first convolution

    def _first_float(self, node: Node, border: tuple[int, ...]) -> None:
        """Emit the first convolution in float; mean and scale are in its weights and border."""
        weight = self._on_pixels(self._graph.weights[node.inputs[1]])
        name = node.outputs[0]
        planes = self._b.transpose(PIXELS, f"{name}#planes", *TO_FIRST)
        made = self._b.node("Cast", (planes,), f"{name}#pixels", {"to": FLOAT})
        zero = np.array(border, np.float32).reshape(1, 3, 1, 1)
        made = self._b.node(
            "Sub", (made, self._b.constant(f"{name}#zero", zero)), f"{name}#shifted"
        )
        inputs = (
            made,
            self._b.constant(f"{name}#weight", weight.astype(np.float32)),
            self._b.constant(f"{name}#bias", self._bias(node, len(weight)).astype(np.float32)),
        )
        self._b.node("Conv", inputs, name, conv_attributes(node, weight))

    def _on_pixels(self, weight: Array) -> Array:
        """Return the first convolution's weights for the pixels themselves, less the border."""
        factors = np.float32(self._spec.scale) / np.asarray(self._spec.std, np.float32)
        scaled: Array = weight * factors[None, :, None, None]
        return scaled[:, ::-1] if self._spec.channel_order is ChannelOrder.BGR else scaled

    def _border(self, node: Node) -> tuple[int, ...]:
        """Return the pixel (RGB) that the float graph takes for zero; empty if it is none.

        Padding stands for this pixel, so it must be a whole number.
        """
        spec = self._spec
        pixels = self._graph.inputs[0].name
        direct = node.inputs[0] == pixels and spec.layout is Layout.NCHW
        turned = any(
            self._is_turn(user) and user.outputs[0] == node.inputs[0]
            for user in self._net.users(pixels)
        )
        numbers = [mean / spec.scale for mean in spec.mean]
        near = all(abs(one - round(one)) < 1e-6 and 0 <= one <= STEPS for one in numbers)
        if not (direct or turned) or not near or groups_of(node) != 1:
            return ()
        if spec.channel_order is ChannelOrder.BGR:
            numbers.reverse()
        return tuple(round(one) for one in numbers)

    def _first(self, node: Node, result: str, border: tuple[int, ...]) -> None:
        """Emit the first convolution, on the pixels themselves with a border around them."""
        weight = self._on_pixels(self._graph.weights[node.inputs[1]])
        bias = self._bias(node, len(weight))
        scale = self._stretched(node, rounding.spread_scale(as_sums(weight)))
        scale = np.maximum(scale, (np.abs(bias) / _MOST_BIAS).astype(np.float32))
        rounded, scale = rounding.round_spread(weight, scale)
        zero = (rounded.astype(np.int64) * np.array(border)[None, :, None, None]).sum(
            axis=(1, 2, 3)
        )
        kernel = _Kernel(np.ascontiguousarray(rounded), scale, bias)
        source = Integers(
            self._framed(node, np.array(border, np.uint8)),
            self._b.constant(f"{PIXELS}#scale", np.asarray(np.float32(1))),
            self._b.constant(f"{PIXELS}#zero", np.asarray(np.uint8(0))),
        )
        steps = np.rint(bias / scale.astype(np.float64)) - zero
        self._integer_conv(node, result, source, kernel, steps)

    def _framed(self, node: Node, pixel: Array) -> str:
        """Surround the pixels with the border that the convolution pads with."""
        top, left, bottom, right = four(node.attributes.get("pads", (0, 0, 0, 0)))
        geometry = self._spec.geometry
        height, width = geometry.crop_height, geometry.crop_width + left + right
        made = PIXELS
        for axis, before, after, shape in (
            (2, left, right, (1, height, -1, 3)),
            (1, top, bottom, (1, -1, width, 3)),
        ):
            parts = []
            for side, count in (("before", before), ("after", after)):
                area = tuple(count if one < 0 else one for one in shape)
                frame = np.ascontiguousarray(np.broadcast_to(pixel, area))
                parts.append(self._b.constant(f"{PIXELS}#{side}{axis}", frame))
            inputs = (parts[0], made, parts[1])
            last = f"{PIXELS}#padded" if axis == 1 else f"{PIXELS}#wide"
            made = self._b.node("Concat", inputs, last, {"axis": axis})
        return made

    # Everything else

    def _max_pool(self, node: Node) -> bool:
        if node.attributes.get("storage_order", 0) or "kernel_shape" not in node.attributes:
            return False
        source, made = node.inputs[0], f"{node.outputs[0]}#uint8"
        integers = self._integers[source]
        self._b.node("NhwcMaxPool", (integers.name,), made, node.attributes, MICROSOFT)
        self._integers[node.outputs[0]] = integers._replace(name=made)
        return True

    def _batch_norm(self, node: Node) -> bool:
        gain, bias, mean, variance = (self._graph.weights[one] for one in node.inputs[1:5])
        epsilon = np.float32(node.attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]
        factor = gain / np.sqrt(variance + epsilon)
        name = node.outputs[0]
        by = self._b.constant(f"{name}#factor", factor)
        plus = self._b.constant(f"{name}#plus", bias - mean * factor)
        made = self._b.node("Mul", (self._float_last(node.inputs[0]), by), f"{name}#scaled")
        self._last[name] = self._b.node("Add", (made, plus), f"{name}#last")
        return True

    def _integer_sum(self, node: Node, result: str) -> bool:
        """Add integers, if the residual stream is to be one of integers."""
        known = all(self._is_last(one) and one in self._plan.spans for one in node.inputs)
        if result not in self._plan.integer_sums or result not in self._plan.spans or not known:
            return False
        made = Integers(f"{result}#uint8", *self._step(result))
        one, other = (self._uint8(name) for name in node.inputs)
        self._b.node("QLinearAdd", (*one, *other, *made[1:]), made.name, {}, MICROSOFT)
        self._integers[result] = made
        return True

    def _elementwise(self, node: Node, result: str, *, has_relu: bool) -> bool:
        """Emit an operator on single numbers in the layout of its inputs."""
        inputs = [name for name in node.inputs if name and name not in self._graph.weights]
        if node.op not in _ELEMENTWISE or node.domain or not inputs:
            return False
        constants = {name: self._turned(name) for name in node.inputs if name not in inputs}
        last = [self._is_last(name) for name in inputs]
        if None in constants.values() or not any(last):
            return False
        if not all(self._is_last(name) or name in self._turnable for name in inputs):
            return False
        names = [
            constants[one] if one in constants else self._float_last(one) for one in node.inputs
        ]
        made = f"{node.outputs[0]}#last"
        self._b.node(node.op, tuple(map(str, names)), made, node.attributes)
        # Becoming integers, whose smallest is zero, does what the ReLU would.
        if has_relu and not (self._returns_integers(result) and self._plan.spans[result].low >= 0):
            made = self._b.node("Relu", (made,), f"{result}#last")
        self._last[result] = made
        return True

    def _turned(self, name: str) -> str | None:
        """Return a constant that gives the same channels-last; None if there is none."""
        if not name:
            return ""
        value = self._graph.weights[name]
        if value.size == 1:
            return self._b.constant(f"{name}#one", value.reshape(()))
        if value.ndim in {3, 4} and value.shape[-2:] == (1, 1) and value.size == value.shape[-3]:
            return self._b.constant(f"{name}#channels", value.reshape(-1))
        return None

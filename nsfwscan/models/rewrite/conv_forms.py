"""The forms that a value of a network may exist in while it is converted; see `convolutions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.models.graphs.graph import MICROSOFT, Builder, Graph, Node
from nsfwscan.models.manifest import ChannelOrder, Layout
from nsfwscan.models.rewrite.conv_nodes import Users
from nsfwscan.models.rewrite.install import PIXELS

if TYPE_CHECKING:
    from nsfwscan.models.manifest import InputSpec
    from nsfwscan.models.rewrite.plan import ConvPlan

FLOAT = 1  # TensorProto.DataType
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class Integers(NamedTuple):
    """A channels-last uint8 value: the names of its integers, scale and zero point."""

    name: str
    scale: str
    zero: str


class ConvForms:
    """A value may exist in several forms, each made when needed."""

    def __init__(self, graph: Graph, spec: InputSpec, plan: ConvPlan) -> None:
        self._graph = graph
        self._spec = spec
        self._plan = plan
        self._net = Users(graph)
        self._b = Builder()
        self._b.weights.update(graph.weights)
        self._integers: dict[str, Integers] = {}
        self._last: dict[str, str] = {}
        """Float values that exist channels-last, by their name in the float graph."""
        self._turnable: set[str] = set()
        """Values of convolutions in float that exist as given, and may be turned."""
        self._as_given = set(graph.weights)
        """Values that exist as in the float graph."""

    def _is_last(self, name: str) -> bool:
        made = name in self._last or name in self._integers
        return made or name == self._graph.inputs[0].name

    def _is_turn(self, node: Node) -> bool:
        """Take note of a Transpose of channels-last pixels, as converters from TensorFlow add."""
        pixels = self._graph.inputs[0].name
        if (
            node.op != "Transpose"
            or node.inputs[0] != pixels
            or node.attributes.get("perm") != TO_FIRST
            or self._spec.layout is not Layout.NHWC
        ):
            return False
        self._last[node.outputs[0]] = self._float_last(pixels)
        return True

    def _given(self, name: str) -> None:
        """Make a value exist as in the float graph."""
        if name in self._as_given:
            return
        last = self._float_last(name)
        if name == self._graph.inputs[0].name and self._spec.layout is Layout.NHWC:
            self._b.node("Identity", (last,), name)
        else:
            self._b.transpose(last, name, *TO_FIRST)
        self._as_given.add(name)

    def _float_last(self, name: str) -> str:
        """Return the name of a value as float, channels-last."""
        if name not in self._last:
            made = f"{name}#last"
            if name in self._integers:
                made = self._b.node("DequantizeLinear", self._integers[name], made, {}, MICROSOFT)
            elif name == self._graph.inputs[0].name:
                made = self._prepared()
            else:
                made = self._b.transpose(name, made, *TO_LAST)
            self._last[name] = made
        return self._last[name]

    def _uint8(self, name: str) -> Integers:
        """Return a value as integers, channels-last."""
        if name not in self._integers:
            made = Integers(f"{name}#uint8", *self._step(name))
            source = self._float_last(name)
            self._b.node(
                "QuantizeLinear", (source, made.scale, made.zero), made.name, {}, MICROSOFT
            )
            self._integers[name] = made
        return self._integers[name]

    def _step(self, name: str) -> tuple[str, str]:
        span = self._plan.spans[name]
        scale = self._b.constant(f"{name}#scale", np.asarray(span.scale))
        return scale, self._b.constant(f"{name}#zero", np.asarray(span.zero))

    def _prepared(self) -> str:
        """Compute what the float graph takes from the pixels."""
        spec = self._spec
        made = self._b.node("Cast", (PIXELS,), f"{PIXELS}#float", {"to": FLOAT})
        if spec.channel_order is ChannelOrder.BGR:
            turned = self._b.constant(f"{PIXELS}.bgr", np.array([2, 1, 0]))
            made = self._b.node("Gather", (made, turned), f"{PIXELS}#turned", {"axis": 3})
        for op, numbers, idle in (
            ("Mul", spec.scale, 1),
            ("Sub", spec.mean, 0),
            ("Div", spec.std, 1),
        ):
            value = np.asarray(numbers, np.float32)
            if (value != idle).any():
                number = self._b.constant(f"{PIXELS}#{op}.by", value)
                made = self._b.node(op, (made, number), f"{PIXELS}#{op}")
        return made

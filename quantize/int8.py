"""Converts a float graph of either front end to INT8, by a recipe.

A matrix product with constant weights becomes `MatMulIntegerToFloat` (uint8 activations, int8
weights with one scale per output channel, bias inside) behind a `QuantizeLinear` with a fixed
scale, or `DynamicQuantizeMatMul`, which measures the scale itself. Only the kernels of these two
operators use a processor's VNNI instructions at full rate; int8 x int8 and uint8 x uint8 are 2.5 to
20 times slower.

Processors without VNNI multiply with `vpmaddubsw`, which adds two adjacent products in a signed
16-bit number and saturates. Weights are therefore rounded so that no pair can overflow; then the
integers are the same on every processor.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, assert_never

import numpy as np

from nsfwscan.models.graphs.graph import MICROSOFT, Array, Dimension, Graph, Node, Value
from quantize.recipes import Attention, Recipe, Scales, WeightRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MAX_INT8 = 127
_MAX_PAIR = 128
"""255 * 128 = 32,640 fits in 16 bits; 255 * 129 does not."""

_FIRST = "first_axis"


class Range(NamedTuple):
    """The range of an activation, from `low` to `high`; includes zero."""

    low: float
    high: float


class Rounded:
    """Caches rounded weights by name and kind, because recipes share them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, WeightRange], tuple[Array, Array]] = {}

    def get(self, name: str, weight: Array, kind: WeightRange) -> tuple[Array, Array]:
        """Return `round_weights` of `weight`, whose name in the graph is `name`."""
        if (name, kind) not in self._known:
            self._known[name, kind] = round_weights(weight, kind)
        return self._known[name, kind]


def observed(graph: Graph) -> tuple[str, ...]:
    """Return the names of the activations whose ranges `quantize` needs for fixed scales."""
    site = _Sites(graph)
    names = [node.inputs[0] for node in site.linears()]
    for scores in site.attentions():
        names.extend(scores.sources)
    return tuple(sorted(set(names)))


def quantize(
    graph: Graph, recipe: Recipe, ranges: Mapping[str, Range], rounded: Rounded | None = None
) -> Graph:
    """Return `graph`, which is already smoothed, in INT8 by `recipe`.

    `ranges` has the range of each name in `observed`; a recipe with dynamic scales needs none.
    """
    if recipe.scales is Scales.NONE:
        return graph
    made = _Rewrite(graph, recipe, ranges, rounded or Rounded()).run()
    if recipe.scales is Scales.DYNAMIC:
        # A scale measured over a batch would make a picture's score depend on the others.
        return _one_by_one(made)
    return made


def round_weights(weight: Array, kind: WeightRange) -> tuple[Array, Array]:
    """Round (in, out) float weights to int8 with one float32 scale per output channel."""
    wide = weight.astype(np.float32)
    largest = np.abs(wide).max(axis=0)
    match kind:
        case WeightRange.FULL:
            scale, limit = largest / _MAX_INT8, _MAX_INT8
        case WeightRange.SEVEN_BIT:
            scale, limit = largest / (_MAX_PAIR // 2), _MAX_PAIR // 2
        case WeightRange.PAIRS:
            # The smallest scale at which no two neighbours of the same sign exceed the limit,
            # plus a little, because both might be rounded up.
            second = wide[1::2]
            first = wide[0::2][: len(second)]
            sums = np.where((first > 0) == (second > 0), np.abs(first + second), 0)
            scale = np.maximum(largest / _MAX_INT8, sums.max(axis=0) / (_MAX_PAIR - 1e-3))
            limit = _MAX_INT8
        case _:
            assert_never(kind)
    # A channel of zeros, or of numbers too small to divide by, becomes zeros.
    scale = np.where(scale > 1e-30, scale, 1.0).astype(np.float32)
    rounded = np.clip(np.rint(wide / scale), -limit, limit).astype(np.int8)
    return rounded, scale


def smooth(graph: Graph, strength: float) -> Graph:
    """Move outlier channels of each LayerNorm into the weights that follow it, exactly.

    A channel of x is divided by s and its weights are multiplied by s, with
    s = |x| ** strength / |w| ** (1 - strength) (SmoothQuant, arXiv 2211.10438). The largest value
    of a channel is estimated from the LayerNorm, as its bias plus four times its gain, so no
    pictures are needed.
    """
    site = _Sites(graph)
    weights = dict(graph.weights)
    linears = {node.outputs[0]: node for node in site.linears()}
    for norm in graph.nodes:
        if norm.op != "LayerNormalization":
            continue
        users = site.users(norm.outputs[0])
        following = [linears[user.outputs[0]] for user in users if user.outputs[0] in linears]
        if not following or len(following) != len(users):
            continue
        gain, bias = (weights[name] for name in norm.inputs[1:3])
        reach = np.abs(bias) + 4 * np.abs(gain)
        rows = np.max([np.abs(weights[node.inputs[1]]).max(axis=1) for node in following], axis=0)
        usable = (reach > 0) & (rows > 0)
        s = np.ones_like(reach)
        s[usable] = reach[usable] ** strength / rows[usable] ** (1 - strength)
        s /= np.exp(np.log(s).mean())
        weights[norm.inputs[1]], weights[norm.inputs[2]] = gain / s, bias / s
        for name in {node.inputs[1] for node in following}:
            weights[name] = weights[name] * s[:, None]
    return replace(graph, weights=weights)


class _AttentionScores(NamedTuple):
    """An attention whose products can be computed in integers."""

    product: Node
    """FusedMatMul of queries and keys."""
    context: Node
    """MatMul of the probabilities and the values."""
    sources: tuple[str, str, str, str]
    """Queries, keys and values before they are split into heads, and the probabilities."""


class _Sites:
    """Finds the parts of a graph that can be quantized."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._users: dict[str, list[Node]] = {}
        self.producer: dict[str, Node] = {}
        for node in graph.nodes:
            for name in filter(None, node.inputs):
                self._users.setdefault(name, []).append(node)
            for name in node.outputs:
                self.producer[name] = node

    def users(self, name: str) -> list[Node]:
        return self._users.get(name, [])

    def linears(self) -> list[Node]:
        weights = self._graph.weights
        return [
            node
            for node in self._graph.nodes
            if node.op == "MatMul"
            and node.inputs[1] in weights
            and weights[node.inputs[1]].ndim == 2
            and node.inputs[0] not in weights
        ]

    def bias(self, linear: Node) -> Node | None:
        """Return the `Add` of a constant (out,) bias if it is the product's only user."""
        users = self.users(linear.outputs[0])
        if len(users) != 1 or users[0].op != "Add":
            return None
        (other,) = [name for name in users[0].inputs if name != linear.outputs[0]] or [""]
        known = self._graph.weights.get(other)
        return users[0] if known is not None and known.ndim == 1 and known.size > 1 else None

    def attentions(self) -> list[_AttentionScores]:
        found = []
        for node in self._graph.nodes:
            if node.op != "FusedMatMul" or node.attributes.get("transB") != 1:
                continue
            softmax = self._only_user(node.outputs[0], "Softmax")
            context = softmax and self._only_user(softmax.outputs[0], "MatMul")
            if softmax is None or not context:
                continue
            sources = [self._before_heads(name) for name in (*node.inputs, context.inputs[1])]
            if all(sources):
                q, k, v = (str(one) for one in sources)
                found.append(_AttentionScores(node, context, (q, k, v, softmax.outputs[0])))
        return found

    def _only_user(self, name: str, op: str) -> Node | None:
        users = self.users(name)
        return users[0] if len(users) == 1 and users[0].op == op else None

    def _before_heads(self, name: str) -> str | None:
        """Return the (N, tokens, hidden) value before Reshape and Transpose(0, 2, 1, 3)."""
        node = self.producer.get(name)
        if node is None or node.op != "Transpose" or node.attributes["perm"] != (0, 2, 1, 3):
            return None
        node = self.producer.get(node.inputs[0])
        return node.inputs[0] if node is not None and node.op == "Reshape" else None


class _Rewrite:
    """One pass over the nodes, from first to last."""

    def __init__(
        self, graph: Graph, recipe: Recipe, ranges: Mapping[str, Range], rounded: Rounded
    ) -> None:
        self._rounded = rounded
        self._graph = graph
        self._recipe = recipe
        self._ranges = ranges
        self._site = _Sites(graph)
        self._weights = dict(graph.weights)
        self._out: list[Node] = []
        self._quantized: set[str] = set()

    def run(self) -> Graph:
        linears = {
            node.outputs[0]: node
            for node in self._site.linears()
            if not any(fnmatchcase(node.name, kept) for kept in self._recipe.keep_float)
        }
        attention = self._recipe.attention
        scores, contexts = {}, {}
        if attention is not Attention.FLOAT:
            for one in self._site.attentions():
                scores[one.product.name] = one
                if attention is Attention.INT8:
                    contexts[one.context.name] = one
        merged = set()
        for node in self._graph.nodes:
            if node.outputs[0] in merged:
                continue
            if node.outputs[0] in linears:
                bias = self._site.bias(node)
                self._linear(node, bias)
                if bias is not None:
                    merged.add(bias.outputs[0])
            elif node.name in scores:
                self._scores(scores[node.name])
            elif node.name in contexts:
                self._context(contexts[node.name])
            else:
                self._out.append(node)
        return replace(self._graph, nodes=tuple(self._out), weights=self._weights).pruned()

    def _linear(self, node: Node, bias: Node | None) -> None:
        activation, weight = node.inputs
        rounded, scale = self._rounded.get(weight, self._weights[weight], self._recipe.weights)
        scale_name = f"{weight}.scale"
        # Named after the weights, because two products may share them.
        self._weights[f"{weight}.int8"], self._weights[scale_name] = rounded, scale
        output, bias_name = node.outputs[0], ""
        if bias is not None:
            output = bias.outputs[0]
            (bias_name,) = (name for name in bias.inputs if name != node.outputs[0])
        known = self._site.producer.get(activation)
        if known is not None and known.op == "DequantizeLinear":
            quantized, a_scale, zero = known.inputs
        elif self._recipe.scales is Scales.DYNAMIC:
            dynamic = (activation, f"{weight}.int8", scale_name, "", bias_name)
            self._emit("DynamicQuantizeMatMul", dynamic, output, MICROSOFT)
            return
        else:
            quantized, a_scale, zero = self._uint8(activation)
        inputs = (quantized, f"{weight}.int8", a_scale, scale_name, zero, "", bias_name)
        self._emit("MatMulIntegerToFloat", inputs, output, MICROSOFT)

    def _scores(self, one: _AttentionScores) -> None:
        """Multiply queries by keys. Keys have seven bits, so that no pair overflows."""
        q, k, _, _ = one.sources
        queries, q_scale, q_zero = self._uint8(q)
        keys, k_scale = self._int8(k, _MAX_PAIR // 2)
        queries = self._heads(queries, one.product.inputs[0])
        # (N, tokens, hidden) to (N, hidden, tokens): bytes, and onnxruntime's fast transpose.
        self._emit("Transpose", (keys,), f"{keys}.turned", attributes={"perm": (0, 2, 1)})
        heads = self._weights[self._reshape_of(one.product.inputs[1]).inputs[1]]
        _, tokens, count, width = (int(number) for number in heads)
        turned = np.array([0, count, width, tokens], np.int64)
        self._weights["keys.heads.shape"] = turned
        self._emit("Reshape", (f"{keys}.turned", "keys.heads.shape"), f"{keys}.heads")
        inputs = (queries, f"{keys}.heads", q_scale, k_scale, q_zero)
        self._emit("MatMulIntegerToFloat", inputs, one.product.outputs[0], MICROSOFT)

    def _context(self, one: _AttentionScores) -> None:
        """Multiply probabilities by values. Each row adds up to 1, so no pair overflows."""
        _, _, v, p = one.sources
        probabilities, p_scale, p_zero = self._uint8(p)
        values, v_scale = self._int8(v, _MAX_INT8)
        values = self._heads(values, one.context.inputs[1])
        inputs = (probabilities, values, p_scale, v_scale, p_zero)
        self._emit("MatMulIntegerToFloat", inputs, one.context.outputs[0], MICROSOFT)

    def _heads(self, quantized: str, float_heads: str) -> str:
        """Split a quantized activation into heads, like the float one."""
        reshape = self._reshape_of(float_heads)
        self._emit("Reshape", (quantized, reshape.inputs[1]), f"{quantized}.wide")
        order: Mapping[str, tuple[int, ...]] = {"perm": (0, 2, 1, 3)}
        self._emit("Transpose", (f"{quantized}.wide",), f"{quantized}.heads", attributes=order)
        return f"{quantized}.heads"

    def _reshape_of(self, heads: str) -> Node:
        return self._site.producer[self._site.producer[heads].inputs[0]]

    def _uint8(self, name: str) -> tuple[str, str, str]:
        """Quantize an activation once; return its uint8, scale and zero point."""
        low, high = self._range(name)
        scale = np.float32(max((high - low) / 255, 1e-12))
        zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
        return self._quantize(name, f"{name}.uint8", scale, zero)

    def _int8(self, name: str, limit: int) -> tuple[str, str]:
        low, high = self._range(name)
        scale = np.float32(max(-low, high, 1e-12) / limit)
        quantized, scale_name, _ = self._quantize(name, f"{name}.int8", scale, np.int8(0))
        return quantized, scale_name

    def _quantize(
        self, name: str, output: str, scale: np.float32, zero: np.uint8 | np.int8
    ) -> tuple[str, str, str]:
        names = (output, f"{output}.scale", f"{output}.zero")
        if output not in self._quantized:
            self._quantized.add(output)
            self._weights[names[1]], self._weights[names[2]] = np.asarray(scale), np.asarray(zero)
            self._emit("QuantizeLinear", (name, *names[1:]), output)
        return names

    def _range(self, name: str) -> Range:
        known = self._ranges[name]
        return Range(min(known.low, 0.0), max(known.high, 0.0))

    def _emit(
        self,
        op: str,
        inputs: Iterable[str],
        output: str,
        domain: str = "",
        attributes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._out.append(Node(op, tuple(inputs), (output,), attributes or {}, domain, output))


def _one_by_one(graph: Graph) -> Graph:
    """Run `graph` once for each picture of a batch, inside one `Scan`."""
    (pixels,) = graph.inputs
    # Names inside a Scan may not repeat those outside.
    inside = {value.name: f"{value.name}.batch" for value in (pixels, *graph.outputs)}

    def renamed(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(inside.get(name, name) for name in names)

    nodes = [Node("Unsqueeze", ("picture", _FIRST), (inside[pixels.name],), name="batch_of_one")]
    nodes += [
        replace(node, inputs=renamed(node.inputs), outputs=renamed(node.outputs))
        for node in graph.nodes
    ]
    returned = []
    for value in graph.outputs:
        name = f"{value.name}.one"
        nodes.append(Node("Squeeze", (inside[value.name], _FIRST), (name,), name=name))
        returned.append(Value(name, value.dtype, _without_batch(value)))
    picture = Value("picture", pixels.dtype, _without_batch(pixels))
    scan = Node(
        "Scan",
        (pixels.name,),
        tuple(value.name for value in graph.outputs),
        {"num_scan_inputs": 1},
        name="each_picture",
        subgraph=Graph(tuple(nodes), {}, (picture,), tuple(returned)),
    )
    weights = {**graph.weights, _FIRST: np.array([0], np.int64)}
    return Graph((scan,), weights, graph.inputs, graph.outputs)


def _without_batch(value: Value) -> tuple[Dimension, ...] | None:
    return value.shape and value.shape[1:]

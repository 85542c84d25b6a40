"""Recognises a Vision Transformer that was exported and then quantized dynamically.

In: the graph of a file such as the published INT8 conversions of falconsai and adamcodd: exported
from transformers by optimum, its matrix products turned into `DynamicQuantizeLinear` and
`MatMulInteger` by onnxruntime's `quantize_dynamic`. Out: its weights, by their place in it.

The graph is read backwards, from the logits to the pixels. Each operator and each constant on that
way must be the expected one, with the expected shape; otherwise `NotRecognised` says what was
found. Only the shapes that a `Reshape` takes are not followed: exporters compute them in many ways.
Whoever builds on the result compares it with the file on pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.models.rewrite.walk import GraphWalk, LayerNorm, NotRecognised, Product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.models.graphs.graph import Array, Graph, Node
    from nsfwscan.values.geometry import Geometry

_MOST_BLOCKS = 64


class PublishedBlock(NamedTuple):
    """One block of the encoder."""

    norm1: LayerNorm
    query: Product
    key: Product
    value: Product
    scale: float
    """Factor of the attention's scores, as onnxruntime folds it: a float32."""
    out: Product
    norm2: LayerNorm
    up: Product
    down: Product


class FloatPatch(NamedTuple):
    """A first layer that was left in float."""

    weight: Array
    """(hidden, 3, patch, patch) float32."""
    bias: Array
    """(hidden,) float32."""


@dataclass(frozen=True, slots=True)
class PublishedVit:
    """A dynamically quantized Vision Transformer."""

    pixels: str
    """Name of the input, (N, 3, H, W) float32."""
    logits: str
    patch: Product | FloatPatch
    """The first layer."""
    edge: int
    """Pixels along an edge of a patch."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    cls: Array
    """(1, 1, hidden)."""
    position: Array
    """(1, tokens, hidden)."""
    blocks: tuple[PublishedBlock, ...]
    norm: LayerNorm
    head: Product
    heads: int
    """Of the attention."""

    @property
    def hidden(self) -> int:
        """The width of a token."""
        return int(self.position.shape[2])

    @property
    def tokens(self) -> int:
        """The patches and the CLS token."""
        return int(self.position.shape[1])


def recognise(graph: Graph, geometry: Geometry) -> PublishedVit:
    """Return the network in `graph`, which takes pictures of the `geometry`'s crop.

    Raises `NotRecognised`.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise NotRecognised("it has several inputs or outputs")
    if graph.inputs[0].dtype != np.float32:
        raise NotRecognised(f"its input is {graph.inputs[0].dtype}")
    try:
        return _VitWalk(graph).read((geometry.crop_height, geometry.crop_width))
    except (LookupError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        # The bytes are not trusted: an attribute may be missing or have another type.
        raise NotRecognised(f"a part of it is malformed ({error})") from error


class _VitWalk(GraphWalk):
    """From the logits to the pixels."""

    def read(self, image: tuple[int, int]) -> PublishedVit:
        logits = self.graph.outputs[0].name
        cls, head = self.linear(logits)
        normed = self._cls_row(cls)
        x, norm = self.norm(normed)
        blocks: list[PublishedBlock] = []
        heads: set[int] = set()
        while (found := self._block(x)) is not None:
            x, block, count = found
            blocks.append(block)
            heads.add(count)
            if len(blocks) > _MOST_BLOCKS:
                raise NotRecognised(f"it has more than {_MOST_BLOCKS} blocks")
        if len(heads) != 1:
            raise NotRecognised("its blocks differ in their heads")
        patch, edge, token, position = self._embedding(x)
        vit = PublishedVit(
            pixels=self.graph.inputs[0].name,
            logits=logits,
            patch=patch,
            edge=edge,
            grid=(image[0] // edge, image[1] // edge),
            cls=token,
            position=position,
            blocks=tuple(reversed(blocks)),
            norm=norm,
            head=head,
            heads=heads.pop(),
        )
        _check_shapes(vit, image)
        return vit

    def _block(self, x: str) -> tuple[str, PublishedBlock, int] | None:
        """Read the block that ends at `x`; None if an embedding ends there."""
        node = self.node(x, "Add")
        if any(one in self.weights for one in node.inputs):
            return None
        branch, middle = self._residual(node)
        hidden, down = self.linear(branch)
        gelu_in = self.gelu(hidden)
        normed2, up = self.linear(gelu_in)
        same, norm2 = self.norm(normed2)
        self.agree(same, middle)
        branch, start = self._residual(self.node(middle, "Add"))
        context, out = self.linear(branch)
        attention = self._attention(context)
        start_too, norm1 = self.norm(attention.source)
        self.agree(start_too, start)
        block = PublishedBlock(
            norm1,
            attention.query,
            attention.key,
            attention.value,
            attention.scale,
            out,
            norm2,
            up,
            down,
        )
        return start, block, attention.heads

    def _residual(self, node: Node) -> tuple[str, str]:
        """Return the result of a layer, and what it is added to."""
        for branch, other in (node.inputs, node.inputs[::-1]):
            if self.is_linear(branch):
                return branch, other
        raise NotRecognised(f"{node.outputs[0]!r} does not add the result of a layer")

    def _attention(self, context: str) -> _PublishedAttention:
        merged = self.node(context, "Reshape")
        turned = self.node(merged.inputs[0], "Transpose", perm=(0, 2, 1, 3))
        mixed = self.node(turned.inputs[0], "MatMul")
        softmax = self.node(mixed.inputs[0], "Softmax")
        if softmax.attributes.get("axis", -1) not in {-1, 3}:
            raise NotRecognised("its softmax is over another axis")
        scores, scale = self.scaled(softmax.inputs[0])
        product = self.node(scores, "MatMul")
        query, query_scale = self.scaled(product.inputs[0])
        key, key_scale = self.scaled(product.inputs[1])
        parts = [
            self._heads_of(query, (0, 2, 1, 3)),
            self._heads_of(key, (0, 2, 3, 1)),
            self._heads_of(mixed.inputs[1], (0, 2, 1, 3)),
        ]
        linears = [self.linear(one) for one, _ in parts]
        source = linears[0][0]
        for other, _ in linears:
            self.agree(other, source)
        # A shape that is computed while the graph runs has no number of heads to read.
        counts = {count for _, count in parts if count}
        if len(counts) != 1:
            raise NotRecognised("the number of its heads is not a constant")
        whole = np.float32(scale) * np.float32(query_scale) * np.float32(key_scale)
        return _PublishedAttention(
            source, linears[0][1], linears[1][1], linears[2][1], float(whole), counts.pop()
        )

    def _heads_of(self, name: str, order: tuple[int, ...]) -> tuple[str, int]:
        """Return the value before it was split into heads, and their number, 0 if unknown."""
        perm = self.node(name, "Transpose").attributes.get("perm")
        if perm == (0, 1, 3, 2) and order == (0, 2, 3, 1):  # heads first, then the transposition
            name = self.take(name).inputs[0]
            order = (0, 2, 1, 3)
        turned = self.node(name, "Transpose", perm=order)
        wide = self.node(turned.inputs[0], "Reshape")
        return wide.inputs[0], self._third_dimension(wide.inputs[1])

    def _third_dimension(self, shape: str) -> int:
        """Return the third number of a shape, a constant or a `Concat` of numbers."""
        known = self.weights.get(shape)
        if known is not None:
            return int(known.reshape(-1)[2])
        node = self.producer[shape]
        if node.op == "Concat" and (part := self.weights.get(node.inputs[2])) is not None:
            return int(part.reshape(-1)[0])
        return 0

    def _embedding(self, x: str) -> tuple[Product | FloatPatch, int, Array, Array]:
        added, position = self.with_constant(x, "Add", 3)
        joined = self.node(added, "Concat", axis=1)
        token, patches = joined.inputs
        if token not in self.weights:
            token = self.node(token, "Expand").inputs[0]
        turned = self.node(patches, "Transpose", perm=(0, 2, 1))
        flat = self.node(turned.inputs[0], "Reshape")
        first, edge = self._convolution(flat.inputs[0])
        return first, edge, self.constant(token, 3), position

    def _convolution(self, name: str) -> tuple[Product | FloatPatch, int]:
        """Return the first layer, and the edge of its patches."""
        node = self.take(name)
        if node.op == "Conv":
            self.agree(node.inputs[0], self.graph.inputs[0].name)
            weight, bias = self.constant(node.inputs[1], 4), self.constant(node.inputs[2], 1)
            return FloatPatch(weight, bias), self._patch_edge(node)
        scaled, offset = self.node(name, "Add").inputs
        if self.producer[scaled].op == "Reshape":
            scaled, offset = offset, scaled
        if offset not in self.weights:
            offset = self.node(offset, "Reshape").inputs[0]
        conv, scales = self.unscaled(scaled, "ConvInteger")
        weight = self.constant(conv.inputs[1], 4)
        source = self.quantized(conv)
        self.agree(source.value, self.graph.inputs[0].name)
        product = Product(
            np.ascontiguousarray(weight.reshape(len(weight), -1).T),
            self.zero(conv, weight),
            self.scale(scales, source),
            self.constant(offset).reshape(-1),
        )
        return product, self._patch_edge(conv)

    def _patch_edge(self, conv: Node) -> int:
        """Return the edge of the patches that a convolution multiplies, which do not overlap."""
        _, channels, edge, width = self.constant(conv.inputs[1], 4).shape
        expected = {
            "dilations": ((1, 1), None),
            "group": (1, None),
            "kernel_shape": ((edge, edge), None),
            "pads": ((0, 0, 0, 0), None),
            "strides": ((edge, edge),),
            "auto_pad": ("NOTSET", None),
        }
        for key, allowed in expected.items():
            if conv.attributes.get(key) not in allowed:
                raise NotRecognised(f"its first layer has {key} {conv.attributes.get(key)}")
        if channels != 3 or width != edge:
            raise NotRecognised(f"its first layer takes {channels} channels of {width}x{edge}")
        return int(edge)

    def _cls_row(self, name: str) -> str:
        node = self.take(name)
        if node.op == "Gather" and node.attributes.get("axis", 0) == 1:
            index = self.number(node.inputs[1])
        elif node.op == "Squeeze":
            node = self.node(node.inputs[0], "Slice")
            index = self.number(node.inputs[1])
            if (self.number(node.inputs[2]), self.number(node.inputs[3])) != (1, 1):
                index = None
        else:
            index = None
        if index != 0:
            raise NotRecognised("its classifier does not read the first token")
        return node.inputs[0]


class _PublishedAttention(NamedTuple):
    source: str
    query: Product
    key: Product
    value: Product
    scale: float
    heads: int


def _check_shapes(vit: PublishedVit, image: tuple[int, int]) -> None:
    """Check each tensor's shape. Raises `NotRecognised`."""
    hidden, patches = vit.hidden, vit.grid[0] * vit.grid[1]
    if image[0] % vit.edge or image[1] % vit.edge or vit.tokens != patches + 1:
        raise NotRecognised(f"it has {vit.tokens} tokens for a picture of {image[1]}x{image[0]}")
    if vit.cls.shape != (1, 1, hidden) or vit.position.shape[0] != 1 or hidden % vit.heads:
        raise NotRecognised("its tokens and positions have different widths")
    if isinstance(vit.patch, Product):
        _check_product("the first layer", vit.patch, (3 * vit.edge**2, hidden))
    elif len(vit.patch.weight) != hidden or vit.patch.bias.shape != (hidden,):
        raise NotRecognised(f"its first layer has weights of the shape {vit.patch.weight.shape}")
    _check_product("the classifier", vit.head, (hidden, len(vit.head.bias)))
    _check_norm(vit.norm, hidden)
    for at, block in enumerate(vit.blocks):
        mlp = len(block.up.bias)
        wanted: Sequence[tuple[str, tuple[int, int]]] = (
            ("query", (hidden, hidden)),
            ("key", (hidden, hidden)),
            ("value", (hidden, hidden)),
            ("out", (hidden, hidden)),
            ("up", (hidden, mlp)),
            ("down", (mlp, hidden)),
        )
        for name, shape in wanted:
            _check_product(f"block {at}, {name}", getattr(block, name), shape)
        _check_norm(block.norm1, hidden)
        _check_norm(block.norm2, hidden)


def _check_product(what: str, product: Product, shape: tuple[int, int]) -> None:
    if (
        product.weight.shape != shape
        or product.bias.shape != (shape[1],)
        or product.bias.dtype != np.float32
        or product.scale.dtype != np.float32
        or product.scale.shape != product.zero.shape
        or product.scale.shape not in {(), (shape[1],)}
    ):
        raise NotRecognised(f"{what} has weights of the shape {product.weight.shape}")


def _check_norm(norm: LayerNorm, hidden: int) -> None:
    if norm.gain.shape != (hidden,) or norm.bias.shape != (hidden,) or not 0 < norm.epsilon < 1:
        raise NotRecognised(f"a LayerNorm has weights of the shape {norm.gain.shape}")

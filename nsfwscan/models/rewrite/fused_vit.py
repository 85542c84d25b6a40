"""Builds the fast graph of a published Vision Transformer: the same numbers in fewer operators.

The operators and their order are those to which onnxruntime's own optimiser turns the published
file, so the logits are equal bit for bit. What is saved:

- Products of uint8 activations and int8 weights run twice as fast as those of uint8 weights, on
  processors with instructions for them. The integers are the same: both weight and zero point are
  moved by 128.
- The first layer is a matrix product; onnxruntime's integer convolution uses one thread.
- Shapes are constants, for one picture.
- Only the CLS token passes the end of the last block. Everything before is needed for all tokens,
  because the scale of an activation depends on all of them.

It also returns `embedding` and `cls_attention`, as the graphs of `quantize` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.models.graphs.graph import MICROSOFT, Array, Builder, Graph, Value
from nsfwscan.models.rewrite.walk import Product

if TYPE_CHECKING:
    from nsfwscan.models.manifest import WeightForm
    from nsfwscan.models.rewrite.published_vit import FloatPatch, PublishedBlock, PublishedVit
    from nsfwscan.models.rewrite.walk import LayerNorm

EMBEDDING = "embedding"
CLS_ATTENTION = "cls_attention"
_FLOAT = 1  # TensorProto.DataType
_MIDDLE = 128


def build(vit: PublishedVit, form: WeightForm) -> Graph:
    """Return the graph: one picture in, as the published graph takes it; three outputs.

    Its own output (1, labels); `embedding` (1, hidden), the CLS token after the final LayerNorm;
    `cls_attention` (1, heads, tokens), the CLS token's attention in the last block.
    """
    return _Fused(vit, form).build()


class _Fused:
    def __init__(self, vit: PublishedVit, form: WeightForm) -> None:
        self._vit = vit
        self._form = form
        self._b = Builder()

    def build(self) -> Graph:
        vit, b = self._vit, self._b
        x = self._embed()
        for at, block in enumerate(vit.blocks[:-1]):
            x = self._block(x, block, f"block{at}")
        x, skip = self._last_block(x, vit.blocks[-1], f"block{len(vit.blocks) - 1}")
        gain, bias = self._norm_weights(vit.norm, "final_norm")
        normed = b.node(
            "SkipLayerNormalization",
            (x, skip, gain, bias),
            "final_norm",
            {"epsilon": vit.norm.epsilon},
            MICROSOFT,
        )
        b.reshape(normed, EMBEDDING, 1, vit.hidden)
        self._dynamic(EMBEDDING, vit.head, "head", vit.logits)
        f32 = np.dtype(np.float32)
        rows, columns = vit.grid
        pixels = Value(vit.pixels, f32, (1, 3, rows * vit.edge, columns * vit.edge))
        outputs = (
            Value(vit.logits, f32, (1, len(vit.head.bias))),
            Value(EMBEDDING, f32, (1, vit.hidden)),
            Value(CLS_ATTENTION, f32, (1, vit.heads, vit.tokens)),
        )
        return b.graph((pixels,), outputs)

    def _embed(self) -> str:
        vit, b = self._vit, self._b
        patches = (
            self._integer_patches(vit.patch)
            if isinstance(vit.patch, Product)
            else self._float_patches(vit.patch)
        )
        tokens = (b.constant("cls", vit.cls), patches)
        joined = b.node("Concat", tokens, "patch.tokens", {"axis": 1})
        return b.node("Add", (joined, b.constant("position", vit.position)), "embedded")

    def _float_patches(self, patch: FloatPatch) -> str:
        vit, b = self._vit, self._b
        weights = b.constant("patch.weight", patch.weight), b.constant("patch.bias", patch.bias)
        strides = {"strides": (vit.edge, vit.edge)}
        maps = b.node("Conv", (vit.pixels, *weights), "patch.maps", strides)
        flat = b.reshape(maps, "patch.flat", 1, vit.hidden, -1)
        return b.transpose(flat, "patch", 0, 2, 1)

    def _integer_patches(self, patch: Product) -> str:
        vit, b = self._vit, self._b
        rows, columns = vit.grid
        values, scale, zero = self._quantized(vit.pixels)
        patches = b.reshape(values, "grid", 1, 3, rows, vit.edge, columns, vit.edge)
        patches = b.transpose(patches, "patches", 0, 2, 4, 1, 3, 5)
        patches = b.reshape(patches, "patch_rows", 1, rows * columns, 3 * vit.edge**2)
        weight, weight_zero, weight_scale, bias = self._weights(patch, "patch")
        # The published graph does not fuse these for a convolution, and a fused product rounds once
        # where these round twice.
        product = b.node("MatMulInteger", (patches, weight, zero, weight_zero), "patch.integers")
        product = b.node("Cast", (product,), "patch.floats", {"to": _FLOAT})
        both = b.node("Mul", (scale, weight_scale), "patch.scales")
        product = b.node("Mul", (product, both), "patch.scaled")
        return b.node("Add", (product, bias), "patch")

    def _block(self, x: str, block: PublishedBlock, name: str) -> str:
        x, hidden = self._half_block(x, block, name)
        down = self._dynamic(hidden, block.down, f"{name}.down")
        return self._b.node("Add", (down, x), f"{name}.out")

    def _last_block(self, x: str, block: PublishedBlock, name: str) -> tuple[str, str]:
        """Return the two terms of the CLS token, which the final LayerNorm adds."""
        b = self._b
        x, hidden = self._half_block(x, block, name)
        b.reshape(self._first(f"{name}.attention", 2), CLS_ATTENTION, 1, self._vit.heads, -1)
        values, scale, zero = self._quantized(hidden)
        cls = self._first(values, 1)
        down = self._product((cls, scale, zero), block.down, f"{name}.down")
        return down, self._first(x, 1)

    def _half_block(self, x: str, block: PublishedBlock, name: str) -> tuple[str, str]:
        """Return the value between attention and MLP, and the MLP's hidden layer."""
        vit, b = self._vit, self._b
        normed = self._norm(x, block.norm1, f"{name}.norm1")
        quantized = self._quantized(normed)
        q, k, v = (
            self._heads(self._product(quantized, product, f"{name}.{word}"), order)
            for word, product, order in (
                ("q", block.query, (0, 2, 1, 3)),
                ("k", block.key, (0, 2, 3, 1)),
                ("v", block.value, (0, 2, 1, 3)),
            )
        )
        factor = {"alpha": block.scale}
        scores = b.node("FusedMatMul", (q, k), f"{name}.scores", factor, MICROSOFT)
        attention = b.node("Softmax", (scores,), f"{name}.attention", {"axis": -1})
        context = b.node("MatMul", (attention, v), f"{name}.context.heads")
        context = b.transpose(context, f"{name}.context.tokens", 0, 2, 1, 3)
        context = b.reshape(context, f"{name}.context", 1, vit.tokens, vit.hidden)
        out = self._dynamic(context, block.out, f"{name}.proj")
        x = b.node("Add", (out, x), f"{name}.middle")
        normed = self._norm(x, block.norm2, f"{name}.norm2")
        hidden = self._dynamic(normed, block.up, f"{name}.up")
        return x, b.node("Gelu", (hidden,), f"{name}.gelu", domain=MICROSOFT)

    def _norm(self, x: str, norm: LayerNorm, name: str) -> str:
        gain, bias = self._norm_weights(norm, name)
        given = {"axis": -1, "epsilon": norm.epsilon}
        return self._b.node("LayerNormalization", (x, gain, bias), name, given)

    def _norm_weights(self, norm: LayerNorm, name: str) -> tuple[str, str]:
        b = self._b
        return b.constant(f"{name}.gain", norm.gain), b.constant(f"{name}.bias", norm.bias)

    def _quantized(self, value: str) -> tuple[str, ...]:
        """Measure the range of an activation and quantize it; return uint8, scale, zero point."""
        names = (f"{value}.uint8", f"{value}.scale", f"{value}.zero")
        return self._b.several("DynamicQuantizeLinear", (value,), names)

    def _product(self, quantized: tuple[str, ...], product: Product, name: str) -> str:
        values, scale, zero = quantized
        weight, weight_zero, weight_scale, bias = self._weights(product, name)
        inputs = (values, weight, scale, weight_scale, zero, weight_zero, bias)
        return self._b.node("MatMulIntegerToFloat", inputs, name, domain=MICROSOFT)

    def _dynamic(self, value: str, product: Product, name: str, output: str = "") -> str:
        weight, weight_zero, weight_scale, bias = self._weights(product, name)
        inputs = (value, weight, weight_scale, weight_zero, bias)
        return self._b.node("DynamicQuantizeMatMul", inputs, output or name, domain=MICROSOFT)

    def _weights(self, product: Product, name: str) -> tuple[str, str, str, str]:
        """Add the constants of a product in the wanted form; what they stand for stays the same."""
        b = self._b
        return (
            b.constant(f"{name}.weight", in_form(product.weight, self._form)),
            b.constant(f"{name}.weight.zero", in_form(product.zero, self._form)),
            b.constant(f"{name}.weight.scale", product.scale),
            b.constant(f"{name}.bias", product.bias),
        )

    def _heads(self, value: str, order: tuple[int, ...]) -> str:
        """Reshape (1, tokens, hidden) to (1, tokens, heads, head width), in another order."""
        vit, b = self._vit, self._b
        width = vit.hidden // vit.heads
        value = b.reshape(value, f"{value}.wide", 1, vit.tokens, vit.heads, width)
        return b.transpose(value, f"{value}.heads", *order)

    def _first(self, value: str, axis: int) -> str:
        """Take the first token along an axis."""
        limits = (
            self._b.constant(f"int_{number}", np.array([number], np.int64))
            for number in (0, 1, axis)
        )
        return self._b.node("Slice", (value, *limits), f"{value}.cls")


def in_form(numbers: Array, form: WeightForm) -> Array:
    """Move uint8 or int8 numbers by 128, if need be, to the range of `form`."""
    wanted = np.dtype(form.value)
    if numbers.dtype == wanted:
        return numbers
    # Flipping the highest bit adds or subtracts 128.
    flipped: Array = (np.ascontiguousarray(numbers).view(np.uint8) ^ np.uint8(_MIDDLE)).view(wanted)
    return flipped

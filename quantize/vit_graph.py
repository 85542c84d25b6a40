"""The direct front end: builds a ViT's float graph for onnxruntime's CPU kernels.

The graph is exact. It differs from the textbook as follows:

- The input is uint8 NHWC pixels; scale, mean and standard deviation are folded into the patch
  weights and the positions. Pixels stay integers up to the first matrix product.
- One padded row in front of the patches becomes the CLS token, so nothing is concatenated.
- Queries are scaled by 1/sqrt(head width) in their weights.
- The last block is computed for the CLS token only. Its keys and values are never computed: a query
  is multiplied by the key weights first, (q Wk) x = q (Wk x), and the attention is applied to the
  block's input before the value weights. This saves 8 % of all multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nsfwscan.models.graphs.graph import MICROSOFT, Array, Builder, Graph, Value
from quantize.vit import Block, Linear, Norm, VitShape, VitWeights

PIXELS = "pixels"
LOGITS = "logits"
EMBEDDING = "embedding"
CLS_ATTENTION = "cls_attention"

_MIDDLE = 128
"""Zero point of the pixels, so that weights rounded to integers multiply values around zero."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """value = (pixel * scale - mean) / std, RGB."""

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def build(
    shape: VitShape, weights: VitWeights, norm: Normalisation, *, introspect: bool = False
) -> Graph:
    """Return the float graph: `pixels` (N, H, W, 3) uint8 in; three outputs.

    `logits` (N, labels); `embedding` (N, hidden), the CLS token after the final LayerNorm;
    `cls_attention` (N, heads, tokens), the CLS token's attention in the last block. With
    `introspect` every block is computed in full and also returned: `hidden_B` (N, tokens, hidden)
    after block B, and `attention_B` (N, heads, tokens, tokens).
    """
    return _Vit(shape, introspect).build(weights, norm)


class _Vit:
    def __init__(self, shape: VitShape, introspect: bool) -> None:
        self._shape = shape
        self._introspect = introspect
        self._b = Builder()

    def build(self, weights: VitWeights, norm: Normalisation) -> Graph:
        s = self._shape
        f32 = np.dtype(np.float32)
        outputs = [
            Value(LOGITS, f32, ("batch", s.labels)),
            Value(EMBEDDING, f32, ("batch", s.hidden)),
            Value(CLS_ATTENTION, f32, ("batch", s.heads, s.tokens)),
        ]
        x = self._embed(weights, norm)
        for at, block in enumerate(weights.blocks):
            if at == s.layers - 1 and not self._introspect:
                x = self._last_block(x, block, f"block{at}")
                break
            x = self._block(x, block, at)
            if self._introspect:
                square = ("batch", s.heads, s.tokens, s.tokens)
                outputs.append(Value(f"attention_{at}", f32, square))
                outputs.append(Value(f"hidden_{at}", f32, ("batch", s.tokens, s.hidden)))
        if self._introspect:
            x = self._rows(x, "cls", 0, 1, axis=1)
            whole = self._rows(f"attention_{s.layers - 1}", "cls_row", 0, 1, axis=2)
            self._b.reshape(whole, CLS_ATTENTION, 0, s.heads, s.tokens)
        embedded = self._norm(x, weights.norm, "final_norm")
        self._b.reshape(embedded, EMBEDDING, 0, s.hidden)
        logits = self._linear(embedded, weights.head, "head")
        self._b.reshape(logits, LOGITS, 0, s.labels)
        pixels = Value(PIXELS, np.dtype(np.uint8), ("batch", s.image, s.image, 3))
        return self._b.graph((pixels,), tuple(outputs))

    def _embed(self, weights: VitWeights, norm: Normalisation) -> str:
        s, b = self._shape, self._b
        patches = b.reshape(PIXELS, "grid", -1, s.grid, s.patch, s.grid, s.patch, 3)
        patches = b.transpose(patches, "patches", 0, 1, 3, 2, 4, 5)
        patches = b.reshape(patches, "patch_rows", -1, s.grid**2, 3 * s.patch**2)
        padded = b.node(
            "Pad",
            (
                patches,
                b.constant("one_row_in_front", np.array([0, 1, 0, 0, 0, 0], np.int64)),
                b.constant("middle", np.array(_MIDDLE, np.uint8)),
            ),
            "rows",
        )
        centred = b.node(
            "DequantizeLinear",
            (padded, b.constant("pixel_scale", np.array(1, np.float32)), "middle"),
            "centred",
        )
        weight, offset = fold_normalisation(weights.patch, norm)
        table = weights.position.copy()
        table[0] += weights.cls
        table[1:] += weights.patch_bias + offset
        x = b.node("MatMul", (centred, b.constant("patch.weight", weight)), "patch")
        return b.node("Add", (x, b.constant("position", table)), "embedded")

    def _block(self, x: str, block: Block, at: int) -> str:
        s, b, name = self._shape, self._b, f"block{at}"
        h = self._norm(x, block.norm1, f"{name}.norm1")
        wide = _scaled_queries(block.qkv, s)
        q, k, v = (
            self._heads(self._linear(h, Linear(weight, bias), f"{name}.{word}"))
            for word, weight, bias in zip(
                "qkv", np.split(wide.weight, 3), np.split(wide.bias, 3), strict=True
            )
        )
        scores = b.node("FusedMatMul", (q, k), f"{name}.scores", {"transB": 1}, MICROSOFT)
        attention = f"attention_{at}" if self._introspect else f"{name}.attention"
        b.node("Softmax", (scores,), attention, {"axis": -1})
        context = b.node("MatMul", (attention, v), f"{name}.context.heads")
        context = b.transpose(context, f"{name}.context.tokens", 0, 2, 1, 3)
        context = b.reshape(context, f"{name}.context", 0, s.tokens, s.hidden)
        out = self._linear(context, block.proj, f"{name}.proj")
        x = b.node("Add", (x, out), f"{name}.middle")
        out = self._mlp(x, block, name)
        return b.node("Add", (x, out), f"hidden_{at}" if self._introspect else f"{name}.out")

    def _last_block(self, x: str, block: Block, name: str) -> str:
        s, b = self._shape, self._b
        h = self._norm(x, block.norm1, f"{name}.norm1")
        scaled = _scaled_queries(block.qkv, s)
        wq, wk, wv = np.split(scaled.weight, 3)
        # The keys' bias adds the same to every score of a query, which softmax ignores.
        bq, _, bv = np.split(scaled.bias, 3)
        x = self._rows(x, f"{name}.cls", 0, 1, axis=1)
        q = self._linear(
            self._rows(h, f"{name}.norm1.cls", 0, 1, axis=1), Linear(wq, bq), f"{name}.q"
        )
        q = b.reshape(q, f"{name}.q.heads", 0, s.heads, 1, s.head)
        keys = b.constant(f"{name}.k.weight", wk.reshape(s.heads, s.head, s.hidden))
        seen = b.node("MatMul", (q, keys), f"{name}.qk.heads")
        seen = b.reshape(seen, f"{name}.qk", 0, s.heads, s.hidden)
        scores = b.node("FusedMatMul", (seen, h), f"{name}.scores", {"transB": 1}, MICROSOFT)
        b.node("Softmax", (scores,), CLS_ATTENTION, {"axis": -1})
        mixed = b.node("MatMul", (CLS_ATTENTION, h), f"{name}.mixed")
        mixed = b.reshape(mixed, f"{name}.mixed.heads", 0, s.heads, 1, s.hidden)
        values = wv.reshape(s.heads, s.head, s.hidden).transpose(0, 2, 1)
        context = b.node(
            "MatMul", (mixed, b.constant(f"{name}.v.weight", values)), f"{name}.context.heads"
        )
        context = b.reshape(context, f"{name}.context.cls", 0, 1, s.hidden)
        context = b.node("Add", (context, b.constant(f"{name}.v.bias", bv)), f"{name}.context")
        out = self._linear(context, block.proj, f"{name}.proj")
        x = b.node("Add", (x, out), f"{name}.middle")
        return b.node("Add", (x, self._mlp(x, block, name)), f"{name}.out")

    def _mlp(self, x: str, block: Block, name: str) -> str:
        h = self._norm(x, block.norm2, f"{name}.norm2")
        h = self._linear(h, block.up, f"{name}.up")
        h = self._b.node("Gelu", (h,), f"{name}.gelu", domain=MICROSOFT)
        return self._linear(h, block.down, f"{name}.down")

    def _norm(self, x: str, norm: Norm, name: str) -> str:
        gain = self._b.constant(f"{name}.gain", norm.gain)
        bias = self._b.constant(f"{name}.bias", norm.bias)
        eps = {"axis": -1, "epsilon": self._shape.norm_eps}
        return self._b.node("LayerNormalization", (x, gain, bias), name, eps)

    def _linear(self, x: str, linear: Linear, name: str) -> str:
        weight = self._b.constant(f"{name}.weight", np.ascontiguousarray(linear.weight.T))
        product = self._b.node("MatMul", (x, weight), f"{name}.product")
        return self._b.node("Add", (product, self._b.constant(f"{name}.bias", linear.bias)), name)

    def _heads(self, value: str) -> str:
        """Reshape (N, tokens, hidden) to (N, heads, tokens, head width)."""
        s, b = self._shape, self._b
        value = b.reshape(value, f"{value}.wide", 0, s.tokens, s.heads, s.head)
        return b.transpose(value, f"{value}.heads", 0, 2, 1, 3)

    def _rows(self, value: str, name: str, begin: int, end: int, axis: int) -> str:
        limits = (
            self._b.constant(f"int_{number}", np.array([number], np.int64))
            for number in (begin, end, axis)
        )
        return self._b.node("Slice", (value, *limits), name)


def fold_normalisation(weight: Array, norm: Normalisation) -> tuple[Array, Array]:
    """Return patch weights for pixels minus 128 instead of normalised pixels.

    `weight` is (hidden, 3, patch, patch). Returns (3 * patch * patch, hidden), in the order row,
    column, channel, and the (hidden,) offset that compensates for the mean.
    """
    scale = np.float64(norm.scale) / np.asarray(norm.std, np.float64)
    at_middle = _MIDDLE * scale - np.asarray(norm.mean, np.float64) / np.asarray(norm.std)
    wide = weight.astype(np.float64)
    folded = (wide * scale[None, :, None, None]).transpose(2, 3, 1, 0)
    offset = (wide * at_middle[None, :, None, None]).sum(axis=(1, 2, 3))
    flat = np.ascontiguousarray(folded.reshape(-1, weight.shape[0]), np.float32)
    return flat, offset.astype(np.float32)


def _scaled_queries(qkv: Linear, shape: VitShape) -> Linear:
    """Fold attention's 1/sqrt(head width) into the weights of the queries."""
    scale = np.ones(len(qkv.bias), np.float32)
    scale[: shape.hidden] = shape.head**-0.5
    return Linear(qkv.weight * scale[:, None], qkv.bias * scale)

"""The names of a ViT's tensors in transformers and timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.values.errors import ModelTampered
from quantize.vit import Block, Linear, Norm, VitShape, VitWeights

if TYPE_CHECKING:
    from nsfwscan.models.graphs.graph import Array
    from quantize.tensors import Tensors


class Taken:
    """Records which tensors were read, so that others can be refused."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._left = set(tensors.infos)

    def get(self, name: str, *shape: int) -> Array:
        """Return a tensor of this shape; see `Tensors.get`."""
        self._left.discard(name)
        return self._tensors.get(name, shape)

    def linear(self, name: str, wide: int, narrow: int) -> Linear:
        """Return a linear layer."""
        return Linear(self.get(f"{name}.weight", wide, narrow), self.get(f"{name}.bias", wide))

    def norm(self, name: str, hidden: int) -> Norm:
        """Return a LayerNorm."""
        return Norm(self.get(f"{name}.weight", hidden), self.get(f"{name}.bias", hidden))

    def forget(self, prefix: str) -> None:
        """Ignore tensors that are in the file but not part of the classifier."""
        self._left = {name for name in self._left if not name.startswith(prefix)}

    def refuse_the_rest(self) -> None:
        """Raise `ModelTampered` for a tensor that was not read."""
        if self._left:
            raise ModelTampered(
                f"{self._tensors.path} has a tensor that is not part of a ViT classifier: "
                f"{min(self._left)!r}"
            )


def read_transformers(taken: Taken, s: VitShape) -> VitWeights:
    """Read the tensors of a `ViTForImageClassification`."""
    h, mlp = s.hidden, s.mlp
    blocks = []
    for at in range(s.layers):
        name = f"vit.encoder.layer.{at}"
        parts = [
            taken.linear(f"{name}.attention.attention.{word}", h, h)
            for word in ("query", "key", "value")
        ]
        qkv = Linear(
            np.concatenate([one.weight for one in parts]),
            np.concatenate([one.bias for one in parts]),
        )
        blocks.append(
            Block(
                taken.norm(f"{name}.layernorm_before", h),
                qkv,
                taken.linear(f"{name}.attention.output.dense", h, h),
                taken.norm(f"{name}.layernorm_after", h),
                taken.linear(f"{name}.intermediate.dense", mlp, h),
                taken.linear(f"{name}.output.dense", h, mlp),
            )
        )
    # Files for other tasks have these; image classification does not use them.
    taken.forget("vit.pooler.")
    taken.forget("vit.embeddings.mask_token")
    return VitWeights(
        taken.get("vit.embeddings.patch_embeddings.projection.weight", h, 3, s.patch, s.patch),
        taken.get("vit.embeddings.patch_embeddings.projection.bias", h),
        taken.get("vit.embeddings.cls_token", 1, 1, h).reshape(h),
        taken.get("vit.embeddings.position_embeddings", 1, s.tokens, h).reshape(s.tokens, h),
        tuple(blocks),
        taken.norm("vit.layernorm", h),
        taken.linear("classifier", s.labels, h),
    )


def read_timm(taken: Taken, s: VitShape) -> VitWeights:
    """Read the tensors of a plain timm ViT."""
    h, mlp = s.hidden, s.mlp
    blocks = [
        Block(
            taken.norm(f"blocks.{at}.norm1", h),
            taken.linear(f"blocks.{at}.attn.qkv", 3 * h, h),
            taken.linear(f"blocks.{at}.attn.proj", h, h),
            taken.norm(f"blocks.{at}.norm2", h),
            taken.linear(f"blocks.{at}.mlp.fc1", mlp, h),
            taken.linear(f"blocks.{at}.mlp.fc2", h, mlp),
        )
        for at in range(s.layers)
    ]
    return VitWeights(
        taken.get("patch_embed.proj.weight", h, 3, s.patch, s.patch),
        taken.get("patch_embed.proj.bias", h),
        taken.get("cls_token", 1, 1, h).reshape(h),
        taken.get("pos_embed", 1, s.tokens, h).reshape(s.tokens, h),
        tuple(blocks),
        taken.norm("norm", h),
        taken.linear("head", s.labels, h),
    )

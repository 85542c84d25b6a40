"""The shape and weights of a Vision Transformer classifier, independent of tensor names.

The architecture is Dosovitskiy et al., 2020 (arXiv 2010.11929): patches through one linear layer, a
CLS token in front, learned positions, pre-norm blocks, a final LayerNorm, and a linear classifier
on the CLS token. All arrays are float32; a linear layer's weight is (out, in), as in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nsfwscan.models.graphs.graph import Array


@dataclass(frozen=True, slots=True)
class VitShape:
    """The sizes in a checkpoint's configuration."""

    image: int
    """Pixels along each edge of the square picture."""
    patch: int
    """Pixels along each edge of a patch."""
    hidden: int
    layers: int
    heads: int
    mlp: int
    labels: int
    norm_eps: float

    @property
    def grid(self) -> int:
        """Return the number of patches along each edge."""
        return self.image // self.patch

    @property
    def tokens(self) -> int:
        """Return the number of tokens: the patches and CLS."""
        return self.grid**2 + 1

    @property
    def head(self) -> int:
        """Return the width of one attention head."""
        return self.hidden // self.heads


class Linear(NamedTuple):
    """y = weight @ x + bias."""

    weight: Array
    bias: Array


class Norm(NamedTuple):
    """LayerNorm's gain and bias, both (hidden,)."""

    gain: Array
    bias: Array


class Block(NamedTuple):
    """One transformer block."""

    norm1: Norm
    qkv: Linear
    """(3 * hidden, hidden): queries, keys, values."""
    proj: Linear
    norm2: Norm
    up: Linear
    down: Linear


class VitWeights(NamedTuple):
    """All parameters."""

    patch: Array
    """(hidden, 3, patch, patch), channels in RGB order."""
    patch_bias: Array
    cls: Array
    """(hidden,)"""
    position: Array
    """(tokens, hidden)"""
    blocks: tuple[Block, ...]
    norm: Norm
    head: Linear

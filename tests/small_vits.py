"""Small ViTs for the tests, and what the mathematics says they compute."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import vit_fixture
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.graphs.graph import Graph
from quantize import vit_graph
from quantize.checkpoint import Checkpoint, open_checkpoint
from quantize.session import OrtSession
from quantize.vit import Linear, Norm, VitShape, VitWeights

Array = NDArray[Any]


def transformers(folder: Path, *, image: int = 32) -> Path:
    """Write a checkpoint of three blocks in transformers' naming."""
    vit_fixture.make(str(folder), size="mini", patch=8, image=image)
    return folder


def timm(folder: Path) -> Path:
    """Write a `vit_tiny_patch8_32` in timm's naming."""
    labels = ("NSFW", "SFW")
    vit_fixture.make(str(folder), size="tiny", patch=8, image=32, naming="timm", labels=labels)
    return folder


MAKERS = (transformers, timm)


def session(graph: Graph, folder: Path, threads: int = 1) -> OrtSession:
    """Write `graph` into `folder` and load it."""
    folder.mkdir(exist_ok=True)
    onnx_file.write(graph, str(folder))
    return OrtSession(str(folder), threads=threads)


def graph(folder: Path, *, introspect: bool = False) -> tuple[Checkpoint, Graph]:
    """Return the float graph of a checkpoint."""
    found = open_checkpoint(str(folder))
    assert found.meaning.preprocessing is not None
    norm = found.meaning.preprocessing.normalisation
    weights = found.weights()
    return found, vit_graph.build(found.shape, weights, norm, introspect=introspect)


def pixels(image: int, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return (count, image, image, 3) pictures, blotches with grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, 3))
    fine = coarse.repeat(image // 4, 1).repeat(image // 4, 2)
    return np.clip(fine + random.integers(-15, 16, fine.shape), 0, 255).astype(np.uint8)


def by_the_book(shape: VitShape, weights: VitWeights, one: NDArray[np.uint8]) -> dict[str, Array]:
    """Compute one (H, W, 3) picture in float64, step by step as the paper describes it."""
    s = shape
    image = (one.astype(np.float64) / 255 - 0.5) / 0.5
    rows = [
        (weights.patch * image[y : y + s.patch, x : x + s.patch].transpose(2, 0, 1)).sum((1, 2, 3))
        + weights.patch_bias
        for y in range(0, s.image, s.patch)
        for x in range(0, s.image, s.patch)
    ]
    x = np.stack([weights.cls.astype(np.float64), *rows]) + weights.position
    hidden, attention = [], []
    for block in weights.blocks:
        h = _norm(x, block.norm1, s.norm_eps)
        q, k, v = (
            part.reshape(s.tokens, s.heads, s.head).transpose(1, 0, 2)
            for part in np.split(_linear(h, block.qkv), 3, axis=1)
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(s.head)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        attention.append(powers / powers.sum(-1, keepdims=True))
        context = (attention[-1] @ v).transpose(1, 0, 2).reshape(s.tokens, s.hidden)
        x = x + _linear(context, block.proj)
        h = _linear(_norm(x, block.norm2, s.norm_eps), block.up)
        erf = np.vectorize(math.erf)
        x = x + _linear(h * (1 + erf(h / math.sqrt(2))) / 2, block.down)
        hidden.append(x)
    embedding = _norm(x[:1], weights.norm, s.norm_eps)
    return {
        "logits": _linear(embedding, weights.head)[0],
        "embedding": embedding[0],
        "cls_attention": attention[-1][:, 0],
        **{f"hidden_{at}": one for at, one in enumerate(hidden)},
        **{f"attention_{at}": one for at, one in enumerate(attention)},
    }


def _linear(x: Array, linear: Linear) -> Array:
    return x @ linear.weight.T.astype(np.float64) + linear.bias


def _norm(x: Array, norm: Norm, eps: float) -> Array:
    spread = np.sqrt(x.var(-1, keepdims=True) + eps)
    return (x - x.mean(-1, keepdims=True)) / spread * norm.gain + norm.bias

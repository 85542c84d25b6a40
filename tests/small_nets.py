"""Small convolutional networks with random weights, as float ONNX files and packages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nsfwscan.models.classifier import to_input
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.graphs.graph import Array, Builder, Graph, Value
from nsfwscan.models.manifest import InputSpec, ModelManifest, from_mapping
from nsfwscan.models.runtime import OrtGraph, Runnable
from nsfwscan.system.hashing import Sha256

EDGE = 32

_GEOMETRY = {
    "resize": "stretch",
    "resize_width": EDGE,
    "resize_height": EDGE,
    "resample": "bilinear",
    "crop_width": EDGE,
    "crop_height": EDGE,
}
BGR = {
    "name": "input:0",
    "dtype": "float32",
    "layout": "NHWC",
    "channel_order": "BGR",
    "geometry": _GEOMETRY,
    "scale": 1.0,
    "mean": [104.0, 117.0, 123.0],
    "std": [1.0, 1.0, 1.0],
}
"""Pixels as OpenNSFW takes them."""
RGB = {
    **BGR,
    "name": "image",
    "layout": "NCHW",
    "channel_order": "RGB",
    "scale": 1 / 255,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.5, 0.5],
}
"""Pixels for which zero is between two whole numbers."""


class _Net(Builder):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)

    def weight(self, name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:]))
        value = self._random.normal(0, (2 / fan_in) ** 0.5, shape)
        return self.constant(name, value.astype(np.float32))

    def conv(
        self, source: str, name: str, shape: tuple[int, ...], *, stride: int = 1, group: int = 1
    ) -> str:
        bias = self.constant(f"{name}.bias", self._random.normal(0, 0.1, shape[0]).astype("f4"))
        pad = shape[2] // 2
        attributes = {
            "kernel_shape": shape[2:],
            "strides": (stride, stride),
            "pads": (pad,) * 4,
            "dilations": (1, 1),
            "group": group,
        }
        return self.node("Conv", (source, self.weight(f"{name}.w", *shape), bias), name, attributes)

    def relu(self, source: str) -> str:
        return self.node("Relu", (source,), f"{source}.relu")

    def head(self, source: str, width: int, softmax: str) -> Value:
        pooled = self.node("GlobalAveragePool", (source,), "pooled")
        flat = self.reshape(pooled, "flat", -1, width)
        logits = self.node("MatMul", (flat, self.weight("fc", width, 2)), "fc.product")
        logits = self.node("Add", (logits, self.constant("fc.bias", np.zeros(2, "f4"))), "logits")
        self.node("Softmax", (logits,), softmax, {"axis": 1})
        return Value(softmax, np.dtype(np.float32), ("N", 2))


def residual(seed: int = 0) -> Graph:
    """Return a ResNet with two bottlenecks that takes `BGR`."""
    b = _Net(seed)
    x = b.transpose("input:0", "turned", 0, 3, 1, 2)
    x = b.relu(b.conv(x, "stem", (16, 3, 7, 7), stride=2))
    # The pixels are in the hundreds.
    b.weights["stem.w"] = (b.weights["stem.w"] / 60).astype(np.float32)
    x = b.node(
        "MaxPool", (x,), "pool", {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 1, 1)}
    )
    for block, (inside, width, stride) in enumerate(((8, 32, 1), (16, 48, 2), (16, 48, 1))):
        name, before = f"block{block}", (16, 32, 48)[block]
        skip = x
        if stride != 1 or before != width:
            skip = b.conv(x, f"{name}.skip", (width, before, 1, 1), stride=stride)
        y = b.relu(b.conv(x, f"{name}.a", (inside, before, 1, 1), stride=stride))
        y = b.relu(b.conv(y, f"{name}.b", (inside, inside, 3, 3)))
        y = b.conv(y, f"{name}.c", (width, inside, 1, 1))
        x = b.relu(b.node("Add", (y, skip), f"{name}.sum"))
    output = b.head(x, 48, "outputs")
    pixels = Value("input:0", np.dtype(np.float32), ("N", EDGE, EDGE, 3))
    return _spread(b.graph((pixels,), (output,)), BGR)


def mobile(seed: int = 0) -> Graph:
    """Return a network of depthwise convolutions, GELUs and scaled blocks that takes `RGB`."""
    b = _Net(seed)
    x = b.relu(b.conv("image", "stem", (16, 3, 3, 3), stride=2))
    for block in range(2):
        name = f"block{block}"
        y = b.conv(x, f"{name}.deep", (16, 1, 3, 3), group=16)
        y = b.conv(y, f"{name}.up", (32, 16, 1, 1))
        root = b.constant("root", np.array(2**0.5, np.float32))
        inner = b.node("Erf", (b.node("Div", (y, root), f"{name}.by"),), f"{name}.erf")
        one, half = (b.constant(str(v), np.array(v, np.float32)) for v in (1.0, 0.5))
        inner = b.node("Add", (inner, one), f"{name}.plus")
        y = b.node("Mul", (y, b.node("Mul", (inner, half), f"{name}.half")), f"{name}.gelu")
        y = b.conv(y, f"{name}.down", (16, 32, 1, 1))
        y = b.node("Mul", (y, b.weight(f"{name}.gamma", 16, 1, 1)), f"{name}.scaled")
        x = b.node("Add", (x, y), f"{name}.sum")
    statistics = [b.constant(f"norm.{n}", np.full(16, v, np.float32)) for n, v in
                  (("gain", 1.5), ("bias", 0.1), ("mean", 0.2), ("variance", 0.7))]  # fmt: skip
    x = b.node("BatchNormalization", (x, *statistics), "norm", {"epsilon": 1e-5})
    output = b.head(b.relu(b.conv(x, "last", (24, 16, 1, 1))), 24, "outputs")
    pixels = Value("image", np.dtype(np.float32), ("N", 3, EDGE, EDGE))
    return _spread(b.graph((pixels,), (output,)), RGB)


def _spread(graph: Graph, given: Mapping[str, Any]) -> Graph:
    """Return the network with another last layer, so that pictures score from 0 to 1."""
    logits = Value("logits", np.dtype(np.float32), None)
    watched = OrtGraph(Runnable(onnx_file.to_bytes(replace(graph, outputs=(logits,)))), threads=1)
    feeds = [to_input(one, spec(given)) for one in pictures(16, seed=8)]
    seen = np.array([watched.run(["logits"], {graph.inputs[0].name: one})[0][0] for one in feeds])
    apart = seen[:, 1] - seen[:, 0]
    factor = 2 / apart.std()
    weights = {
        **graph.weights,
        "fc": (graph.weights["fc"] * factor).astype(np.float32),
        "fc.bias": np.array([apart.mean() * factor, 0], np.float32),
    }
    return replace(graph, weights=weights)


def manifest(given: Mapping[str, Any], files: Mapping[str, Any]) -> ModelManifest:
    """Return the manifest of a published float package that takes `given`."""
    document = {
        "schema": "nsfwscan-model/1",
        "name": "small",
        "version": "1",
        "title": "A small network",
        "source": "nowhere",
        "revision": "1",
        "licence": "CC0-1.0",
        "files": files,
        "input": given,
        "output": {
            "name": "outputs",
            "kind": "probabilities",
            "labels": ["sfw", "nsfw"],
            "unsafe_labels": ["nsfw"],
            "reduction": "sum",
        },
        "thresholds": {"review_at": 0.4, "flag_at": 0.9, "source": "invented"},
        "recipe": "published",
    }
    return from_mapping(json.loads(json.dumps(document)), where="small")


def spec(given: Mapping[str, Any]) -> InputSpec:
    """Return `BGR` or `RGB` as a manifest has it."""
    return manifest(given, {"model.onnx": {"sha256": "0" * 64, "bytes": 1}}).input


def write_package(folder: Path, graph: Graph, given: Mapping[str, Any]) -> Path:
    """Write a float package and return its folder."""
    folder.mkdir(parents=True)
    files = {"model.onnx": onnx_file.to_bytes(graph), "LICENSE": b"Anybody may use this.\n"}
    described = {}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        described[name] = {"sha256": Sha256().take([data]).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(manifest(given, described).dump())
    return folder


def pictures(count: int, seed: int = 3) -> list[Array]:
    """Return smooth random pictures, (EDGE, EDGE, 3) uint8 RGB."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = random.uniform(0, 255, (4, 4, 3)).repeat(EDGE // 4, 0).repeat(EDGE // 4, 1)
        grain = random.normal(0, 12, coarse.shape)
        found.append(np.clip(coarse + grain, 0, 255).astype(np.uint8))
    return found

"""Compare the direct graph with transformers, timm and optimum's export, in float.

    python -m benchmarks.vit_parity

Needs `nsfwscan[quantize,export]` and timm. Checkpoints with random weights are made in a temporary
folder. Prints the largest difference of a logit on 64 pictures, and of an unsafe probability
against `transformers.pipeline` on picture files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import vit_fixture
from nsfwscan.media.decode.decode import decode
from nsfwscan.models.graphs import onnx_file
from quantize import checkpoint, optimum_export, vit_graph
from quantize.session import OrtSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsfwscan.models.graphs.graph import Graph

_PICTURES = 64


def _logits(graph: Graph, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    with tempfile.TemporaryDirectory() as folder:
        onnx_file.write(graph, folder)
        session = OrtSession(folder, threads=2)
        rows = [session.run(one[np.newaxis], ["logits"])[0] for one in pixels]
    return np.concatenate(rows)


def _direct(folder: str) -> tuple[checkpoint.Checkpoint, Graph]:
    found = checkpoint.open_checkpoint(folder)
    assert found.meaning.preprocessing is not None
    weights = found.weights()
    graph = vit_graph.build(found.shape, weights, found.meaning.preprocessing.normalisation)
    return found, graph


def _pixels(image: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(7)
    coarse = random.integers(0, 256, (_PICTURES, 8, 8, 3))
    fine = coarse.repeat(image // 8, 1).repeat(image // 8, 2)
    grain = random.integers(-20, 21, fine.shape)
    pixels: NDArray[np.uint8] = np.clip(fine + grain, 0, 255).astype(np.uint8)
    return pixels


def _values(pixels: NDArray[np.uint8]) -> Any:
    import torch

    return torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 127.5 - 1).float()


def _transformers(folder: str) -> None:
    import torch
    from transformers import ViTForImageClassification

    vit_fixture.make(folder)
    found, graph = _direct(folder)
    pixels = _pixels(found.shape.image)
    direct = _logits(graph, pixels)
    model = ViTForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        rows = [model(_values(one[np.newaxis])).logits.numpy() for one in pixels]
    _say("direct against transformers, ViT-B/16-224", direct, np.concatenate(rows))
    exported = optimum_export.export(folder, None)
    _say("direct against optimum's export", direct, _logits(exported, pixels))
    _pipeline(folder, graph, sys.argv[1:])


def _pipeline(folder: str, graph: Graph, paths: list[str]) -> None:
    """Go the whole way from files: the scanner's decoder at full scale against Pillow and torch."""
    from transformers import pipeline

    found = checkpoint.open_checkpoint(folder)
    assert found.meaning.preprocessing is not None
    if not paths:
        print("no picture files named: the comparison with transformers.pipeline is left out")
        return
    classify = pipeline("image-classification", model=folder, device="cpu")
    worst = 0.0
    for path in paths:
        with open(path, "rb") as stream:
            data = stream.read()
        decoded = decode(data, found.meaning.preprocessing.geometry, full=True)
        edge = found.shape.image
        pixels = np.frombuffer(decoded.pixels, np.uint8).reshape(-1, edge, edge, 3)[:1]
        row = _logits(graph, pixels)[0].astype(np.float64)
        ours = float(np.exp(row[1]) / np.exp(row).sum())
        theirs = {one["label"]: one["score"] for one in classify(path)}["nsfw"]
        worst = max(worst, abs(ours - theirs))
    print(f"from {len(paths)} files, against transformers.pipeline: {worst:.2e} in probability")


def _timm(folder: str) -> None:
    import timm
    import torch
    from safetensors.torch import load_file

    vit_fixture.make(folder, size="tiny", image=384, naming="timm", labels=("NSFW", "SFW"))
    found, graph = _direct(folder)
    pixels = _pixels(found.shape.image)
    model = timm.create_model("vit_tiny_patch16_384", num_classes=2).eval()
    model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")))
    with torch.no_grad():
        rows = [model(_values(one[np.newaxis])).numpy() for one in pixels]
    _say("direct against timm, ViT-Ti/16-384", _logits(graph, pixels), np.concatenate(rows))
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "model.onnx")
        torch.onnx.export(model, (_values(pixels[:1]),), path, dynamo=False, opset_version=17)
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        rows = [session.run(None, {name: _values(one[None]).numpy()})[0] for one in pixels]
    _say("direct against torch's export of timm", _logits(graph, pixels), np.concatenate(rows))


def _say(what: str, one: NDArray[Any], other: NDArray[Any]) -> None:
    print(f"{what}: {np.abs(one - other).max():.2e} in logits, {len(one)} pictures", flush=True)


if __name__ == "__main__":
    for compare in (_transformers, _timm):
        with tempfile.TemporaryDirectory() as scratch_folder:
            compare(scratch_folder)

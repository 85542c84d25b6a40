"""Train a small ViT on scikit-learn's handwritten digits and quantize it by every recipe.

    python -m benchmarks.vit_digits [--save FOLDER]

Needs `nsfwscan[quantize,export]` and scikit-learn. A network that has learned something shows what
rounding costs in accuracy; random weights cannot. Prints each recipe's accuracy on the test half.
With --save, writes the checkpoint and the test digits for `tests/quantize/test_digits.py`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from nsfwscan.models.graphs import onnx_file
from quantize import checkpoint, int8, recipes, vit_graph
from quantize.calibrate import calibrate
from quantize.session import OrtSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsfwscan.models.graphs.graph import Graph

_EDGE = 8
_TEST_EVERY = 3
"""Every third digit is for the test."""
_STEPS = 900
_BATCH = 64


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all digits as (N, 8, 8, 3) uint8 and what they show."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = np.clip(np.rint(data.images * 255 / 16), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3), data.target.astype(np.int64)


def train(folder: str, pixels: NDArray[np.uint8], shown: NDArray[np.int64]) -> None:
    """Train on the CPU, with a fixed seed, and save a checkpoint as transformers does."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.set_num_threads(1)  # a network this small only waits for more
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=_EDGE,
        patch_size=2,
        num_labels=10,
        hidden_dropout_prob=0.1,
        id2label={at: f"digit-{at}" for at in range(10)},
        label2id={f"digit-{at}": at for at in range(10)},
    )
    model = ViTForImageClassification(config)
    values = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 127.5 - 1).float()
    wanted = torch.from_numpy(shown)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, _STEPS)
    model.train()
    for _ in range(_STEPS):
        chosen = torch.randint(0, len(values), (_BATCH,))
        loss = model(values[chosen], labels=wanted[chosen]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder, safe_serialization=True)
    mean = [0.5, 0.5, 0.5]
    size = {"height": _EDGE, "width": _EDGE}
    ViTImageProcessor(size=size, image_mean=mean, image_std=mean).save_pretrained(folder)


def accuracy(graph: Graph, pixels: NDArray[np.uint8], shown: NDArray[np.int64]) -> float:
    """Return the share of digits that are told right, each scored on its own."""
    with tempfile.TemporaryDirectory() as folder:
        onnx_file.write(graph, folder)
        session = OrtSession(folder)
        rows: list[Any] = [session.run(one[None], ["logits"])[0][0] for one in pixels]
    return float(np.mean(np.argmax(rows, axis=1) == shown))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save")
    options = parser.parse_args()
    pixels, shown = digits()
    test = np.arange(len(shown)) % _TEST_EVERY == 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.save or scratch
        train(folder, pixels[~test], shown[~test])
        if options.save:
            path = os.path.join(options.save, "test.npz")
            np.savez_compressed(path, pixels=pixels[test][..., 0], shown=shown[test])
        found = checkpoint.open_checkpoint(folder)
        assert found.meaning.preprocessing is not None
        weights = found.weights()
        graph = vit_graph.build(found.shape, weights, found.meaning.preprocessing.normalisation)
    reference = accuracy(graph, pixels[test], shown[test])
    print(f"float: {reference:.2%} of {test.sum()} test digits")
    for recipe in recipes.load().recipes:
        if recipe.scales is recipes.Scales.NONE:
            continue
        smoothed = int8.smooth(graph, recipe.smoothing) if recipe.smoothing else graph
        ranges = calibrate(smoothed, list(pixels[~test][:100]))
        made = int8.quantize(smoothed, recipe, ranges[recipe.clip])
        found_accuracy = accuracy(made, pixels[test], shown[test])
        print(f"{recipe.name}: {found_accuracy:.2%} ({100 * (found_accuracy - reference):+.2f})")


if __name__ == "__main__":
    main()

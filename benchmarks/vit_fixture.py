"""Make a ViT checkpoint of any size with random weights, the same ones for the same seed.

    python -m benchmarks.vit_fixture FOLDER --size base --patch 16 --image 224 --naming transformers

The files are laid out as the publishers lay theirs out. The network has learned nothing: its
scores mean nothing, but its time and its rounding errors are those of a real one.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_SIZES = {
    "mini": (64, 3, 2),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


def make(
    folder: str,
    *,
    size: str = "base",
    patch: int = 16,
    image: int = 224,
    naming: str = "transformers",
    labels: tuple[str, ...] = ("normal", "nsfw"),
    seed: int = 0,
) -> None:
    """Write `config.json`, `model.safetensors` and, for transformers, the preprocessor's file."""
    os.makedirs(folder, exist_ok=True)
    hidden, layers, heads = _SIZES[size]
    random = np.random.default_rng(seed)
    tensors = _Tensors(random)
    tokens = (image // patch) ** 2 + 1
    timm = naming == "timm"
    embed = "" if timm else "vit.embeddings."
    projection = "patch_embed.proj" if timm else f"{embed}patch_embeddings.projection"
    tensors.add(f"{projection}.weight", (hidden, 3, patch, patch), (3 * patch**2) ** -0.5)
    tensors.add(f"{projection}.bias", (hidden,), 0.02)
    tensors.add(f"{embed}cls_token", (1, 1, hidden), 0.5)
    position = "pos_embed" if timm else f"{embed}position_embeddings"
    tensors.add(position, (1, tokens, hidden), 0.2)
    for at in range(layers):
        if timm:
            _timm_block(tensors, f"blocks.{at}", hidden)
        else:
            _transformers_block(tensors, f"vit.encoder.layer.{at}", hidden)
    tensors.norm("norm" if timm else "vit.layernorm", hidden)
    tensors.linear("head" if timm else "classifier", len(labels), hidden)
    # transformers writes this note and timm none: so the files have the published lengths.
    note = None if timm else {"format": "pt"}
    save_file(tensors.made, os.path.join(folder, "model.safetensors"), note)
    if timm:
        _write(folder, "config.json", _timm_config(size, patch, image, labels))
        return
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "image_size": image,
        "patch_size": patch,
        "num_channels": 3,
        "qkv_bias": True,
        "id2label": {str(at): label for at, label in enumerate(labels)},
        "label2id": {label: at for at, label in enumerate(labels)},
    }
    _write(folder, "config.json", config)
    preprocessor = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "ViTImageProcessor",
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": image, "width": image},
    }
    _write(folder, "preprocessor_config.json", preprocessor)


class _Tensors:
    def __init__(self, random: np.random.Generator) -> None:
        self.made: dict[str, NDArray[Any]] = {}
        self._random = random

    def add(self, name: str, shape: tuple[int, ...], spread: float, middle: float = 0.0) -> None:
        values = self._random.standard_normal(shape, np.float32)
        self.made[name] = values * np.float32(spread) + np.float32(middle)

    def linear(self, name: str, wide: int, narrow: int) -> None:
        self.add(f"{name}.weight", (wide, narrow), narrow**-0.5)
        self.add(f"{name}.bias", (wide,), 0.02)

    def norm(self, name: str, hidden: int) -> None:
        self.add(f"{name}.weight", (hidden,), 0.1, 1.0)
        self.add(f"{name}.bias", (hidden,), 0.1)


def _transformers_block(tensors: _Tensors, name: str, hidden: int) -> None:
    tensors.norm(f"{name}.layernorm_before", hidden)
    for word in ("query", "key", "value"):
        tensors.linear(f"{name}.attention.attention.{word}", hidden, hidden)
    tensors.linear(f"{name}.attention.output.dense", hidden, hidden)
    tensors.norm(f"{name}.layernorm_after", hidden)
    tensors.linear(f"{name}.intermediate.dense", 4 * hidden, hidden)
    tensors.linear(f"{name}.output.dense", hidden, 4 * hidden)


def _timm_block(tensors: _Tensors, name: str, hidden: int) -> None:
    tensors.norm(f"{name}.norm1", hidden)
    tensors.linear(f"{name}.attn.qkv", 3 * hidden, hidden)
    tensors.linear(f"{name}.attn.proj", hidden, hidden)
    tensors.norm(f"{name}.norm2", hidden)
    tensors.linear(f"{name}.mlp.fc1", 4 * hidden, hidden)
    tensors.linear(f"{name}.mlp.fc2", hidden, 4 * hidden)


def _timm_config(size: str, patch: int, image: int, labels: tuple[str, ...]) -> Mapping[str, Any]:
    return {
        "architecture": f"vit_{size}_patch{patch}_{image}",
        "num_classes": len(labels),
        "num_features": _SIZES[size][0],
        "global_pool": "token",
        "label_names": list(labels),
        "pretrained_cfg": {
            "input_size": [3, image, image],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": len(labels),
        },
    }


def _write(folder: str, name: str, document: Mapping[str, Any]) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=2)
        stream.write("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--size", choices=sorted(_SIZES), default="base")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--image", type=int, default=224)
    parser.add_argument("--naming", choices=("transformers", "timm"), default="transformers")
    parser.add_argument("--labels", nargs="+", default=["normal", "nsfw"])
    options = parser.parse_args()
    make(
        options.folder,
        size=options.size,
        patch=options.patch,
        image=options.image,
        naming=options.naming,
        labels=tuple(options.labels),
    )


if __name__ == "__main__":
    main()

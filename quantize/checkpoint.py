"""A checkpoint: a folder with the configuration, the preprocessing and the weights of a ViT.

Two layouts are supported: transformers (`ViTForImageClassification`) and timm
(`vit_SIZE_patchP_IMAGE`). Unknown fields of a configuration are refused, because they might change
the scores. Pickles are never read.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.models.manifest import OutputKind
from nsfwscan.values.errors import ModelTampered, ModelUnusable
from quantize import config, naming, preprocessing
from quantize.config import Config
from quantize.tensors import open_weights
from quantize.vit import VitShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantize.preprocessing import Preprocessing
    from quantize.vit import VitWeights

CONFIG_NAME = "config.json"
ADAPTER_NAME = "adapter_config.json"

_TIMM_NAME = re.compile(r"vit_(tiny|small|base|large)_patch(\d{1,2})_(\d{2,4})(\.\w+)?\Z")
_TIMM_SIZES = {  # hidden, layers, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
_EDGE = (8, 4096)
_KINDS = {
    None: OutputKind.LOGITS,
    "single_label_classification": OutputKind.LOGITS,
    "multi_label_classification": OutputKind.INDEPENDENT_LOGITS,
}
"""By transformers' `problem_type`."""
_APPLIED = {OutputKind.LOGITS: "softmax", OutputKind.INDEPENDENT_LOGITS: "sigmoid"}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a checkpoint says about its input and output, whatever its architecture."""

    labels: tuple[str, ...]
    """Empty if the files do not name them."""
    kind: OutputKind
    image: int
    """Pixels along each edge of the square picture."""
    preprocessing: Preprocessing | None
    """None if the files do not say."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the configuration files of a checkpoint say."""

    folder: str
    scheme: str
    """`transformers` or `timm`: how the tensors are named."""
    shape: VitShape
    meaning: Meaning

    def weights(self) -> VitWeights:
        """Read the weights and check them against the configuration.

        Raises `ModelTampered`, naming the tensor, if one is missing, extra or of another shape, and
        `ModelUnusable` if there are no weights in safetensors.
        """
        taken = naming.Taken(open_weights(self.folder))
        read = naming.read_timm if self.scheme == "timm" else naming.read_transformers
        weights = read(taken, self.shape)
        taken.refuse_the_rest()
        return weights


def open_checkpoint(folder: str) -> Checkpoint:
    """Read the configuration of the checkpoint in `folder`.

    Raises `ModelUnusable` for an unknown architecture, `ModelTampered` for files that are missing
    or malformed.
    """
    read = _config(folder)
    return (_open_timm if "architecture" in read else _open_transformers)(folder, read)


def is_timm(folder: str) -> bool:
    """Return True if the checkpoint has a timm configuration."""
    return "architecture" in _config(folder)


def write_timm_config(folder: str, architecture: str, labels: Sequence[str], image: int) -> None:
    """Write a `config.json` for weights in `folder` whose own is not pinned."""
    document = {
        "architecture": architecture,
        "num_classes": len(labels),
        "label_names": list(labels),
        "pretrained_cfg": {"input_size": [3, image, image], "num_classes": len(labels)},
    }
    with open(os.path.join(folder, CONFIG_NAME), "w", encoding="utf-8") as stream:
        json.dump(document, stream)


def describe(folder: str) -> Meaning:
    """Return what any image classifier's configuration says about its input and output.

    For architectures that only their own library can read. Raises `ModelTampered` or
    `ModelUnusable` if the configuration does not say.
    """
    read = _config(folder)
    if "architecture" in read:
        inner, image = _timm_input(read)
        labels = _timm_labels(read, inner)
        return Meaning(labels, OutputKind.LOGITS, image, preprocessing.timm(inner, image))
    image = read.whole("image_size", *_EDGE)
    read.off("auto_map", "quantization_config")
    labels, kind = _labels(read), _kind(read)
    return Meaning(labels, kind, image, preprocessing.transformers(folder, image))


def _config(folder: str) -> Config:
    # transformers would add an adapter to the weights, although config.json does not mention it.
    if os.path.lexists(os.path.join(folder, ADAPTER_NAME)):
        raise ModelUnusable(
            f"{folder} has an adapter ({ADAPTER_NAME}), which is not supported",
            hint="merge it into the model's weights, and save those",
        )
    return config.read(os.path.join(folder, CONFIG_NAME), "a checkpoint folder needs this file")


def _open_transformers(folder: str, read: Config) -> Checkpoint:
    if (found := read.get("model_type")) != "vit":
        raise ModelUnusable(
            f"{read.path} describes a {str(found)[:40]!r}, not a 'vit'",
            hint="try `python -m quantize --frontend optimum`",
        )
    wanted = ["ViTForImageClassification"]
    read.only("architectures", wanted, default=wanted)
    read.only("hidden_act", "gelu", default="gelu")
    read.only("num_channels", 3, default=3)
    read.only("qkv_bias", True, default=True)
    read.off("quantization_config", "pruned_heads")
    labels = _labels(read)
    shape = VitShape(
        image=read.whole("image_size", *_EDGE),
        patch=read.whole("patch_size", 1, 64),
        hidden=read.whole("hidden_size", 8, 8192),
        layers=read.whole("num_hidden_layers", 1, 64),
        heads=read.whole("num_attention_heads", 1, 64),
        mlp=read.whole("intermediate_size", 8, 32768),
        labels=len(labels),
        norm_eps=read.number("layer_norm_eps", 1e-15, 1e-2),
    )
    _check(read.path, shape)
    kind = _kind(read)
    read.done("transformers")
    prepared = preprocessing.transformers(folder, shape.image)
    return Checkpoint(folder, "transformers", shape, Meaning(labels, kind, shape.image, prepared))


def _kind(read: Config) -> OutputKind:
    """Return how transformers' pipeline turns logits into probabilities.

    Some versions read the field `function_to_apply` and others do not, so it must agree.
    """
    problem = read.get("problem_type")
    if not isinstance(problem, str | None) or problem not in _KINDS:
        raise ModelUnusable(
            f"{read.path}: problem_type is {str(problem)[:40]!r}; its outputs are not probabilities"
        )
    kind = _KINDS[problem]
    applied = read.get("function_to_apply")
    if applied not in (None, _APPLIED[kind]):
        raise ModelUnusable(
            f"{read.path}: function_to_apply is {str(applied)[:40]!r}, but problem_type is "
            f"{problem!r}, which means {_APPLIED[kind]!r}",
            hint="for a sigmoid, problem_type must be 'multi_label_classification'",
        )
    return kind


def _open_timm(folder: str, read: Config) -> Checkpoint:
    architecture = str(read.get("architecture"))
    match = _TIMM_NAME.match(architecture)
    if match is None:
        raise ModelUnusable(
            f"{read.path}: the architecture {architecture[:60]!r} is not a plain timm ViT",
            hint="try `python -m quantize --frontend optimum`",
        )
    read.only("global_pool", "token", default="token")
    hidden, layers, heads = _TIMM_SIZES[match[1]]
    inner, image = _timm_input(read, int(match[3]))
    classes = read.whole("num_classes", 2, 10_000)
    arguments = read.get("model_args") or {}
    known = {"img_size": image, "num_classes": classes}
    if not isinstance(arguments, dict) or not arguments.items() <= known.items():
        raise ModelUnusable(f"{read.path}: model_args {arguments!r:.80} are not understood")
    names = _timm_labels(read, inner)
    shape = VitShape(
        image=image,
        patch=int(match[2]),
        hidden=hidden,
        layers=layers,
        heads=heads,
        mlp=4 * hidden,
        labels=classes,
        norm_eps=1e-6,
    )
    _check(read.path, shape)
    if names and len(names) != classes:
        raise ModelTampered(f"{read.path}: {len(names)} label names for {classes} classes")
    read.done("timm")
    meaning = Meaning(names, OutputKind.LOGITS, image, preprocessing.timm(inner, image))
    return Checkpoint(folder, "timm", shape, meaning)


def _timm_input(read: Config, otherwise: int | None = None) -> tuple[Config, int]:
    """Return `pretrained_cfg`, and the picture's edge in pixels from it or from the name."""
    pretrained = read.get("pretrained_cfg") or {}
    if not isinstance(pretrained, dict):
        raise ModelTampered(f"{read.path}: pretrained_cfg is not a table")
    inner = Config(f"{read.path}: pretrained_cfg", pretrained)
    given = inner.get("input_size", [3, otherwise, otherwise])
    if not (isinstance(given, list) and len(given) == 3 and given[0] == 3 and given[1] == given[2]):
        raise ModelTampered(f"{read.path}: input_size is {given!r:.40}, not [3, N, N]")
    return inner, inner.checked("input_size", given[1], *_EDGE)


def _timm_labels(read: Config, inner: Config) -> tuple[str, ...]:
    outer, nested = read.get("label_names"), inner.get("label_names")
    if outer and nested and outer != nested:
        raise ModelTampered(f"{read.path} names other labels than its pretrained_cfg")
    names = outer or nested or []
    if not isinstance(names, list):
        raise ModelTampered(f"{read.path}: label_names is not a list of strings")
    return _sound(read.path, "label_names", names) if names else ()


def _check(path: str, shape: VitShape) -> None:
    if shape.image % shape.patch or shape.hidden % shape.heads:
        raise ModelTampered(
            f"{path}: {shape.image} pixels are not a multiple of the patch {shape.patch}, or "
            f"{shape.hidden} channels not one of {shape.heads} heads"
        )


def _labels(read: Config) -> tuple[str, ...]:
    """Return the labels of transformers' `id2label`, which must be complete and unambiguous."""
    given = read.get("id2label")
    if not isinstance(given, dict) or len(given) < 2:
        raise ModelTampered(f"{read.path} does not name at least two labels in id2label")
    wanted = [str(at) for at in range(len(given))]
    if missing := [one for one in wanted if one not in given]:
        extra = min(set(given) - set(wanted))
        raise ModelTampered(
            f"{read.path}: id2label names {extra[:20]!r} but not {missing[0]!r}; it has to count "
            f"from 0 to {len(given) - 1}"
        )
    labels = _sound(read.path, "id2label", [given[one] for one in wanted])
    back = read.get("label2id")
    numbers = {label: str(at) for at, label in enumerate(labels)}
    if back and (
        not isinstance(back, dict) or {key: str(one) for key, one in back.items()} != numbers
    ):
        raise ModelTampered(f"{read.path}: label2id and id2label do not agree")
    for name in ("num_labels", "_num_labels"):
        read.only(name, len(labels), default=len(labels))
    return labels


def _sound(path: str, name: str, labels: Sequence[object]) -> tuple[str, ...]:
    sound = [one for one in labels if isinstance(one, str) and one.strip() and one.isprintable()]
    if len(sound) != len(labels):
        odd = next(one for one in labels if one not in sound)
        raise ModelTampered(f"{path}: {name} has {odd!r:.60}, which is not printable text")
    if twice := [one for one in sound if sound.count(one) > 1]:
        raise ModelTampered(f"{path}: {name} gives the label {twice[0]!r} to two classes")
    return tuple(sound)

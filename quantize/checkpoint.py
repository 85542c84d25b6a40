"""A checkpoint: a folder with the configuration, the preprocessing and the weights of a ViT.

Two publishers' layouts are known, both from the files themselves: transformers
(`ViTForImageClassification`) and timm (`vit_SIZE_patchP_IMAGE`). What a configuration says that is
not understood is refused, because it may change the scores. A pickle is never read.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsfwscan.errors import ModelTampered, ModelUnusable
from nsfwscan.geometry import Geometry, Resample, Resize
from quantize.tensors import Tensors, open_tensors
from quantize.vit import Block, Linear, Norm, VitShape, VitWeights
from quantize.vit_graph import Normalisation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from quantize.graph import Array

CONFIG_NAME = "config.json"
PREPROCESSOR_NAME = "preprocessor_config.json"
WEIGHTS_NAME = "model.safetensors"

_MAX_CONFIG_BYTES = 1 << 20
_RESAMPLE = {2: Resample.BILINEAR, 3: Resample.BICUBIC}  # Pillow's numbers
_TIMM_NAME = re.compile(r"vit_(tiny|small|base|large)_patch(\d{1,2})_(\d{2,4})(\.\w+)?\Z")
_TIMM_SIZES = {  # hidden, layers, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
_TIMM_RESIZE = {"center": Resize.SHORTEST_EDGE, "squash": Resize.STRETCH}
"""timm's `crop_mode`: its third, `border`, pads the picture."""
_EDGE = (8, 4096)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From a picture to the values that the network was trained with."""

    geometry: Geometry
    normalisation: Normalisation


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the configuration files of a checkpoint say."""

    folder: str
    scheme: str
    """`transformers` or `timm`: how the tensors are called."""
    shape: VitShape
    labels: tuple[str, ...]
    """Empty when the files do not name them."""
    preprocessing: Preprocessing | None
    """None when the files do not say."""

    @contextmanager
    def weights(self) -> Iterator[VitWeights]:
        """Open `model.safetensors` and give the weights, checked against the configuration.

        Raises `ModelTampered`, naming the tensor, when one is missing, extra or of another shape.
        """
        with open_tensors(os.path.join(self.folder, WEIGHTS_NAME)) as tensors:
            taken = _Taken(tensors)
            read = _read_timm if self.scheme == "timm" else _read_transformers
            weights = read(taken, self.shape)
            taken.refuse_the_rest()
            yield weights


def open_checkpoint(folder: str) -> Checkpoint:
    """Read the configuration of the checkpoint in `folder`.

    Raises `ModelUnusable` for an architecture that is none of the known ones, `ModelTampered` for
    files that are missing or malformed.
    """
    config = _json(os.path.join(folder, CONFIG_NAME))
    if is_timm(folder):
        return _open_timm(folder, config)
    return _open_transformers(folder, config)


def is_timm(folder: str) -> bool:
    """Tell whether the checkpoint's configuration is one of timm's."""
    return "architecture" in _json(os.path.join(folder, CONFIG_NAME))


def write_timm_config(folder: str, architecture: str, labels: Sequence[str], image: int) -> None:
    """Write the `config.json` that the publisher of the weights in `folder` did not pin."""
    config = {
        "architecture": architecture,
        "num_classes": len(labels),
        "label_names": list(labels),
        "pretrained_cfg": {"input_size": [3, image, image], "num_classes": len(labels)},
    }
    with open(os.path.join(folder, CONFIG_NAME), "w", encoding="utf-8") as stream:
        json.dump(config, stream)


def describe(folder: str) -> tuple[tuple[str, ...], int, Preprocessing | None]:
    """Return labels, edge of the picture in pixels, and preprocessing of any image classifier.

    For architectures that only their own library can read. Raises `ModelTampered` or
    `ModelUnusable` when the configuration does not say.
    """
    path = os.path.join(folder, CONFIG_NAME)
    config = _json(path)
    read = _Config(path, config)
    if "architecture" not in config:
        image = read.whole("image_size", *_EDGE)
        return _labels(path, config.get("id2label")), image, _stretching(folder, image)
    inner, image = _timm_input(read)
    return _timm_labels(read, inner), image, _timm_preprocessing(inner, image)


def _open_transformers(folder: str, config: Mapping[str, Any]) -> Checkpoint:
    read = _Config(os.path.join(folder, CONFIG_NAME), config)
    if config.get("model_type") != "vit":
        raise ModelUnusable(
            f"{read.path} describes a {str(config.get('model_type'))[:40]!r}, not a 'vit'",
            hint="the front end `--frontend optimum` may know the architecture",
        )
    read.only("hidden_act", "gelu", default="gelu")
    read.only("num_channels", 3, default=3)
    read.only("qkv_bias", True, default=True)
    labels = _labels(read.path, config.get("id2label"))
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
    preprocessing = _stretching(folder, shape.image)
    return Checkpoint(folder, "transformers", shape, labels, preprocessing)


def _stretching(folder: str, image: int) -> Preprocessing:
    path = os.path.join(folder, PREPROCESSOR_NAME)
    config = _json(path)
    read = _Config(path, config)
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        read.only(switch, True, default=True)
    read.only("do_center_crop", False, default=False)
    size = config.get("size")
    edges = list(size.values()) if isinstance(size, dict) and _is_size(size) else [size]
    if any(type(edge) is not int or edge != image for edge in edges):
        raise ModelTampered(f"{path}: size is {str(size)[:60]}, the network takes {image}")
    resample = config.get("resample", 2)
    if type(resample) is not int or resample not in _RESAMPLE:
        raise ModelUnusable(f"{path}: resample {str(resample)[:20]} is neither 2 nor 3")
    geometry = _square(Resize.STRETCH, image, _RESAMPLE[resample])
    scale = read.number("rescale_factor", 1e-6, 10, default=1 / 255)
    norm = Normalisation(scale, read.triple("image_mean"), read.triple("image_std"))
    return Preprocessing(geometry, norm)


def _open_timm(folder: str, config: Mapping[str, Any]) -> Checkpoint:
    read = _Config(os.path.join(folder, CONFIG_NAME), config)
    architecture = str(config["architecture"])
    match = _TIMM_NAME.match(architecture)
    if match is None:
        raise ModelUnusable(
            f"{read.path}: the architecture {architecture[:60]!r} is not a plain timm ViT",
            hint="the front end `--frontend optimum` may know the architecture",
        )
    read.only("global_pool", "token", default="token")
    arguments = config.get("model_args") or {}
    known = {"img_size", "num_classes"}
    if not isinstance(arguments, dict) or set(arguments) - known:
        raise ModelUnusable(f"{read.path}: model_args {str(arguments)[:80]} are not understood")
    hidden, layers, heads = _TIMM_SIZES[match[1]]
    inner, image = _timm_input(read, int(match[3]))
    names = _timm_labels(read, inner)
    shape = VitShape(
        image=image,
        patch=int(match[2]),
        hidden=hidden,
        layers=layers,
        heads=heads,
        mlp=4 * hidden,
        labels=read.whole("num_classes", 2, 10_000),
        norm_eps=1e-6,
    )
    _check(read.path, shape)
    if names and len(names) != shape.labels:
        raise ModelTampered(f"{read.path}: {len(names)} label names for {shape.labels} classes")
    return Checkpoint(folder, "timm", shape, names, _timm_preprocessing(inner, image))


def _timm_input(read: _Config, otherwise: int | None = None) -> tuple[_Config, int]:
    """Return `pretrained_cfg` and the edge of the picture that it, or else the name, gives."""
    pretrained = read.config.get("pretrained_cfg") or {}
    if not isinstance(pretrained, dict):
        raise ModelTampered(f"{read.path}: pretrained_cfg is no table")
    inner = _Config(f"{read.path}: pretrained_cfg", pretrained)
    given = pretrained.get("input_size", [3, otherwise, otherwise])
    if not (isinstance(given, list) and len(given) == 3 and given[0] == 3 and given[1] == given[2]):
        raise ModelTampered(f"{read.path}: input_size is {str(given)[:40]}, not [3, N, N]")
    return inner, inner.checked("input_size", given[1], *_EDGE)


def _timm_labels(read: _Config, inner: _Config) -> tuple[str, ...]:
    names = read.config.get("label_names") or inner.config.get("label_names") or ()
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ModelTampered(f"{read.path}: label_names is no list of texts")
    return tuple(names)


def _timm_preprocessing(read: _Config, image: int) -> Preprocessing | None:
    config = read.config
    if not {"mean", "std", "interpolation"} <= set(config):
        return None
    mode = config.get("crop_mode", "center")
    if mode not in _TIMM_RESIZE:
        raise ModelUnusable(f"{read.path}: crop_mode {str(mode)[:20]!r} is not known")
    crop = read.number("crop_pct", 0.5, 1.0, default=1.0)
    try:
        resample = Resample(config["interpolation"])
    except ValueError:
        raise ModelUnusable(
            f"{read.path}: interpolation {str(config['interpolation'])[:20]!r} is not known"
        ) from None
    resized = int(image / crop)
    geometry = replace(
        _square(_TIMM_RESIZE[mode], image, resample), resize_width=resized, resize_height=resized
    )
    norm = Normalisation(1 / 255, read.triple("mean"), read.triple("std"))
    return Preprocessing(geometry, norm)


class _Config:
    """A JSON object from outside, asked for one field after the other."""

    def __init__(self, path: str, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config

    def only(self, name: str, wanted: object, *, default: object) -> None:
        """Refuse any other value: it would change what the network computes."""
        found = self.config.get(name, default)
        if found != wanted or type(found) is not type(wanted):
            raise ModelUnusable(f"{self.path}: {name} is {str(found)[:40]!r}, not {wanted!r}")

    def whole(self, name: str, low: int, high: int) -> int:
        return self.checked(name, self.config.get(name), low, high)

    def checked(self, name: str, value: object, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ModelTampered(
                f"{self.path}: {name} is {str(value)[:40]}, not a whole number {low} to {high}"
            )
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.config.get(name, default)
        if type(value) not in (int, float) or not low <= value <= high:
            raise ModelTampered(
                f"{self.path}: {name} is {str(value)[:40]}, not a number from {low} to {high}"
            )
        return float(value)

    def triple(self, name: str) -> tuple[float, float, float]:
        value = self.config.get(name)
        if not isinstance(value, list) or len(value) != 3:
            raise ModelTampered(f"{self.path}: {name} is {str(value)[:40]}, not three numbers")
        red, green, blue = (_Config(self.path, {name: one}).number(name, 0, 10) for one in value)
        if "std" in name and min(red, green, blue) <= 0:
            raise ModelTampered(f"{self.path}: {name} holds a zero")
        return red, green, blue


def _check(path: str, shape: VitShape) -> None:
    if shape.image % shape.patch or shape.hidden % shape.heads:
        raise ModelTampered(
            f"{path}: {shape.image} pixels are no multiple of the patch {shape.patch}, or "
            f"{shape.hidden} channels none of {shape.heads} heads"
        )


def _labels(path: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, dict) or len(given) < 2:
        raise ModelTampered(f"{path} does not name at least two labels in id2label")
    names = [given.get(str(at)) for at in range(len(given))]
    if not all(isinstance(one, str) and one for one in names) or len(set(names)) != len(names):
        raise ModelTampered(f"{path}: id2label is not a table from 0, 1, ... to different names")
    return tuple(str(one) for one in names)


def _is_size(value: Mapping[str, object]) -> bool:
    return set(value) == {"height", "width"} and all(type(one) is int for one in value.values())


def _square(resize: Resize, edge: int, resample: Resample) -> Geometry:
    return Geometry(resize, edge, edge, resample, edge, edge)


def _json(path: str) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as stream:
            text = stream.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ModelTampered(
            f"{path} cannot be read: {error.strerror}", hint="a checkpoint folder needs this file"
        ) from error
    if len(text) > _MAX_CONFIG_BYTES:
        raise ModelTampered(f"{path} is larger than a configuration can be")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelTampered(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelTampered(f"{path} is no table of fields")
    return document


class _Taken:
    """Remembers which tensors were read, so that the others can be refused."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._left = set(tensors.infos)

    def get(self, name: str, *shape: int) -> Array:
        self._left.discard(name)
        return self._tensors.get(name, shape)

    def linear(self, name: str, wide: int, narrow: int) -> Linear:
        return Linear(self.get(f"{name}.weight", wide, narrow), self.get(f"{name}.bias", wide))

    def norm(self, name: str, hidden: int) -> Norm:
        return Norm(self.get(f"{name}.weight", hidden), self.get(f"{name}.bias", hidden))

    def forget(self, prefix: str) -> None:
        """Leave out tensors that belong to the file but not to the classifier."""
        self._left = {name for name in self._left if not name.startswith(prefix)}

    def refuse_the_rest(self) -> None:
        if self._left:
            raise ModelTampered(
                f"{self._tensors.path} has a tensor that a ViT classifier has not: "
                f"{sorted(self._left)[0]!r}"
            )


def _read_transformers(taken: _Taken, s: VitShape) -> VitWeights:
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
    taken.forget("vit.pooler.")  # older files carry one; image classification does not use it
    return VitWeights(
        taken.get("vit.embeddings.patch_embeddings.projection.weight", h, 3, s.patch, s.patch),
        taken.get("vit.embeddings.patch_embeddings.projection.bias", h),
        taken.get("vit.embeddings.cls_token", 1, 1, h).reshape(h),
        taken.get("vit.embeddings.position_embeddings", 1, s.tokens, h).reshape(s.tokens, h),
        tuple(blocks),
        taken.norm("vit.layernorm", h),
        taken.linear("classifier", s.labels, h),
    )


def _read_timm(taken: _Taken, s: VitShape) -> VitWeights:
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

"""The tensors in a checkpoint's safetensors files.

The header is checked field by field, more strictly than by the format's own library (0.8 accepts
duplicate names and a file without tensors), and the bytes are then read at the offsets it gives.
Format: https://github.com/huggingface/safetensors, "Format". Pickles are never read.
"""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelTampered, ModelUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.models.graphs.graph import Array

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 10 << 20
"""ViT-large needs 40 KB."""
_MAX_TENSORS = 100_000
_BYTES_OF = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_READ_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SHARD = re.compile(r"[\w.-]+\.safetensors\Z")
_OTHER_WEIGHTS = re.compile(
    r".*\.(bin|pt|pth|ckpt|pkl|h5|msgpack|onnx|npz|gguf|safetensors|index\.json)\Z"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor's header entry, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    path: str
    offset: int
    """Offset of the first byte from the start of the file."""


class Tensors:
    """The tensors of one or more files. `path` names them in errors."""

    def __init__(self, path: str, infos: Mapping[str, TensorInfo]) -> None:
        self.path = path
        self.infos = infos

    def get(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a float32 array of exactly `shape`.

        Half precision and bfloat16 are widened exactly. Raises `ModelTampered`, naming the tensor,
        if it is missing, has another shape or type, or has a number that is not finite.
        """
        info = self.infos.get(name)
        if info is None:
            raise ModelTampered(f"{self.path} has no tensor {name!r}", hint=self._renamed(name))
        if info.shape != shape:
            raise ModelTampered(
                f"{info.path}: tensor {name!r} has the shape {info.shape}, not {shape}"
            )
        if info.dtype not in _READ_AS:
            raise ModelTampered(
                f"{info.path}: tensor {name!r} is {info.dtype}, not one of {', '.join(_READ_AS)}"
            )
        value = _read(info)
        if not np.isfinite(value).all():
            raise ModelTampered(f"{info.path}: tensor {name!r} has numbers that are not finite")
        return value

    def _renamed(self, name: str) -> str:
        """Return a hint if a tensor has this name with a prefix or suffix."""
        alike = [one for one in self.infos if one.endswith(f".{name}") or name.endswith(f".{one}")]
        return f"{min(alike)!r} may be it under another name" if alike else ""


def weight_files(folder: str) -> tuple[str, ...]:
    """Return the paths of the checkpoint's weight files: one file, or the shards in the index.

    Raises `ModelUnusable` if there are only weights in another format, `ModelTampered` if there are
    none or the index is malformed.
    """
    single, index = os.path.join(folder, WEIGHTS_NAME), os.path.join(folder, INDEX_NAME)
    if os.path.lexists(single):
        return (single,)
    if os.path.lexists(index):
        return tuple(os.path.join(folder, name) for name in sorted(set(_index(index).values())))
    try:
        others = sorted(one for one in os.listdir(folder) if _OTHER_WEIGHTS.match(one))
    except OSError as error:
        raise ModelTampered(f"{folder} cannot be read: {error.strerror}") from error
    if others:
        why = "only safetensors files are read"
        if others[0].endswith(_PICKLES):
            why = "it is a pickle, which can run any program when opened"
        raise ModelUnusable(
            f"{folder} has no {WEIGHTS_NAME}; {others[0]} is not read: {why}",
            hint=f"get {WEIGHTS_NAME} from the publisher",
        )
    raise ModelTampered(
        f"{single} cannot be read: No such file or directory",
        hint="a checkpoint folder needs this file",
    )


def open_weights(folder: str) -> Tensors:
    """Open the weights of the checkpoint in `folder`, in one file or several.

    Raises as `weight_files` and `open_tensors` do, and `ModelTampered` if the files do not match
    the index.
    """
    files = weight_files(folder)
    if files == (os.path.join(folder, WEIGHTS_NAME),):
        return open_tensors(files[0])
    index = os.path.join(folder, INDEX_NAME)
    said = _index(index)
    infos: dict[str, TensorInfo] = {}
    for path in files:
        held = open_tensors(path).infos
        shard = os.path.basename(path)
        listed = {name for name, file in said.items() if file == shard}
        if listed != set(held):
            name = min(listed ^ set(held))
            raise ModelTampered(f"{index}: {shard} and the index do not agree on tensor {name!r}")
        infos.update(held)
    return Tensors(index, infos)


def open_tensors(path: str) -> Tensors:
    """Open a safetensors file.

    Raises `ModelTampered` if its header is malformed in any way.
    """
    return Tensors(path, _read_header(path))


def unfetched(path: str, first: bytes) -> ModelTampered | None:
    """Return an error if a file with these first bytes is a placeholder or a web page."""
    if first.startswith(b"version https://git-lfs"):
        return ModelTampered(
            f"{path} is a Git LFS pointer, not the file itself",
            hint="run `git lfs pull` in the cloned repository",
        )
    if first.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return ModelTampered(
            f"{path} is a web page, not the file itself",
            hint="download it again; the page may ask for a login",
        )
    return None


def _read(info: TensorInfo) -> Array:
    try:
        with open_bytes(info.path) as stream:
            stream.seek(info.offset)
            raw = np.fromfile(stream, _READ_AS[info.dtype], prod(info.shape)).reshape(info.shape)
    except (OSError, ValueError) as error:  # ValueError: the file was truncated
        raise ModelTampered(f"{info.path} cannot be read: {error}") from error
    if info.dtype == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # from float64; the caller refuses numbers that are not finite
        return raw.astype(np.float32, copy=False)


def _index(path: str) -> dict[str, str]:
    """Return the file of each tensor."""
    try:
        with open_bytes(path) as stream:
            text = stream.read(_MAX_HEADER_BYTES + 1)
    except OSError as error:
        raise ModelTampered(f"{path} cannot be read: {error.strerror}") from error
    if other := unfetched(path, text):
        raise other
    try:
        document = json.loads(text[:_MAX_HEADER_BYTES], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelTampered(f"{path} is not valid JSON: {error}") from error
    files = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(files, dict) or not files:
        raise ModelTampered(f"{path} has no weight_map from tensors to files")
    for name, file in files.items():
        if not isinstance(file, str) or not _SHARD.match(file):
            raise ModelTampered(f"{path}: {name[:80]!r} is in {str(file)[:80]!r}, not a file here")
    return files


def _read_header(path: str) -> dict[str, TensorInfo]:
    try:
        with open_bytes(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            first = stream.read(_LENGTH.size)
            if other := _stranger(path, first + stream.read(64)):
                raise other
            stream.seek(_LENGTH.size)
            if len(first) != _LENGTH.size:
                raise _broken(path, "it is too short to have a header")
            (length,) = _LENGTH.unpack(first)
            if length > min(_MAX_HEADER_BYTES, size - _LENGTH.size):
                raise _broken(path, f"its header claims {length} bytes")
            text = stream.read(length)
    except OSError as error:
        raise ModelTampered(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "its metadata is not a table of strings")
    if not 0 < len(header) <= _MAX_TENSORS:
        raise _broken(path, f"it has {len(header)} tensors")
    infos, spans = {}, []
    for name, entry in header.items():
        info, span = _entry(path, name, entry)
        infos[name] = replace(info, offset=_LENGTH.size + length + info.offset)
        spans.append(span)
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise _broken(path, f"its tensors leave a gap or overlap at byte {begin}")
        end = stop
    if _LENGTH.size + length + end != size:
        raise _broken(path, f"its tensors end at byte {end}, but the file does not")
    return infos


def _entry(path: str, name: str, entry: object) -> tuple[TensorInfo, tuple[int, int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES_OF:
        raise _broken(path, f"tensor {name!r} has the unknown type {str(dtype)[:20]!r}")
    if not _whole_numbers(shape) or len(shape) > 8:
        raise _broken(path, f"tensor {name!r} has an invalid shape")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(path, f"tensor {name!r} has invalid offsets")
    begin, stop = offsets
    if stop - begin != prod(shape) * _BYTES_OF[dtype]:
        raise _broken(path, f"tensor {name!r} has another length than its shape")
    return TensorInfo(dtype, tuple(shape), path, begin), (begin, stop)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 40 for one in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _stranger(path: str, first: bytes) -> ModelTampered | ModelUnusable | None:
    """Return an error that names the real format of a file called safetensors."""
    pickles = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    if first.startswith(pickles) and first[8:9] != b"{":
        return ModelUnusable(
            f"{path} was written by torch.save: it is a pickle, which can run any program when "
            "opened",
            hint="get a real safetensors file from the publisher",
        )
    return unfetched(path, first)


def _broken(path: str, why: str) -> ModelTampered:
    return ModelTampered(
        f"{path} is not a valid safetensors file: {why}", hint="download the checkpoint again"
    )

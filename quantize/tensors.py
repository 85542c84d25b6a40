"""The tensors of a safetensors file. The one module that knows safetensors.

The header is checked here first, field by field: the library (0.8) accepts a name that stands
twice and a file without tensors, and what another reader would see then is anybody's guess.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from nsfwscan.errors import ModelTampered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from quantize.graph import Array

_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 10 << 20
"""ViT-large needs 40 KB."""
_MAX_TENSORS = 100_000
_BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
_FLOATS = ("F32", "F16", "F64")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


class Tensors:
    """The tensors of an open file; see `open_tensors`."""

    def __init__(self, path: str, infos: Mapping[str, TensorInfo], library: Any) -> None:
        self.path = path
        self.infos = infos
        self._library = library

    def get(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a float32 array of exactly `shape`.

        Raises `ModelTampered`, naming the tensor, when it is missing, of another shape or type, or
        holds a number that is not finite.
        """
        info = self.infos.get(name)
        if info is None:
            raise ModelTampered(f"{self.path} has no tensor {name!r}")
        if info.shape != shape:
            raise ModelTampered(
                f"{self.path}: tensor {name!r} has the shape {info.shape}, not {shape}"
            )
        if info.dtype not in _FLOATS:
            raise ModelTampered(f"{self.path}: tensor {name!r} holds {info.dtype}, not floats")
        value: Array = self._library.get_tensor(name).astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            raise ModelTampered(f"{self.path}: tensor {name!r} holds numbers that are not finite")
        return value


@contextmanager
def open_tensors(path: str) -> Iterator[Tensors]:
    """Open a safetensors file.

    Raises `ModelTampered` when its header is malformed in any way.
    """
    infos = _read_header(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as library:
            yield Tensors(path, infos, library)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelTampered(f"{path} is not a sound safetensors file: {error}") from error


def _read_header(path: str) -> dict[str, TensorInfo]:
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            first = stream.read(_LENGTH.size)
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
        raise _broken(path, f"its header is not sound JSON ({error})") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is no table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "its metadata is no table of texts")
    if not 0 < len(header) <= _MAX_TENSORS:
        raise _broken(path, f"it holds {len(header)} tensors")
    infos, spans = {}, []
    for name, entry in header.items():
        infos[name], span = _entry(path, name, entry)
        spans.append(span)
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise _broken(path, f"its tensors leave a gap or overlap at byte {begin}")
        end = stop
    if _LENGTH.size + length + end != size:
        raise _broken(path, f"its tensors end at byte {end}, the file does not")
    return infos


def _entry(path: str, name: str, entry: object) -> tuple[TensorInfo, tuple[int, int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES_OF:
        raise _broken(path, f"tensor {name!r} has the unknown type {str(dtype)[:20]!r}")
    if not _whole_numbers(shape) or len(shape) > 8:
        raise _broken(path, f"tensor {name!r} has no sound shape")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(path, f"tensor {name!r} has no sound offsets")
    begin, stop = offsets
    if stop - begin != prod(shape) * _BYTES_OF[dtype]:
        raise _broken(path, f"tensor {name!r} has another length than its shape")
    return TensorInfo(dtype, tuple(shape)), (begin, stop)


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 40 for one in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands twice")
    return table


def _broken(path: str, why: str) -> ModelTampered:
    return ModelTampered(
        f"{path} is not a sound safetensors file: {why}", hint="fetch the checkpoint again"
    )

"""Target M3: malformed safetensors headers are refused, and cost no memory."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nsfwscan.errors import ModelTampered
from quantize.tensors import open_tensors


def sound(path: Path) -> bytes:
    random = np.random.default_rng(0)
    tensors = {f"t{at}": random.standard_normal((4, at + 1)).astype(np.float32) for at in range(5)}
    save_file(tensors, str(path))
    return path.read_bytes()


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: str | dict[str, Any], body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + body


def malformed(data: bytes, seed: int) -> bytes:  # noqa: C901 - one case a kind of damage
    """Break a sound file in one of the ways that the seed chooses."""
    random = np.random.default_rng(seed)
    header, body = parts(data)
    name = str(random.choice(sorted(set(header) - {"__metadata__"})))
    entry = header[name]
    begin, end = entry["data_offsets"]
    match seed % 20:
        case 0:
            return data[: int(random.integers(0, len(data)))]
        case 1:
            return data + bytes(int(random.integers(1, 100)))
        case 2:
            return struct.pack("<Q", int(random.integers(1 << 20, 1 << 63))) + data[8:]
        case 3:
            entry["data_offsets"] = [begin, end + 4 * int(random.integers(1, 1 << 30))]
        case 4:
            entry["data_offsets"] = [end, begin]
        case 5:
            entry["data_offsets"] = [-4, end - begin - 4]
        case 6:
            entry["shape"] = [int(random.integers(1 << 20, 1 << 39)), 1 << 20]
        case 7:
            entry["shape"] = [-1, -1 * int(random.integers(1, 9))]
        case 8:
            entry["dtype"] = str(random.choice(["F33", "", "PICKLE", "f32", "F4"]))
        case 9:
            del entry[str(random.choice(["dtype", "shape", "data_offsets"]))]
        case 10:
            entry["extra"] = seed
        case 11:
            text = json.dumps(header)[:-1] + f', "{name}": {json.dumps(entry)}}}'
            return joined(text, body)  # a name that stands twice
        case 12:
            other = next(one for one in sorted(header) if one not in {name, "__metadata__"})
            entry["data_offsets"] = header[other]["data_offsets"]
            entry["shape"] = header[other]["shape"]
        case 13:
            return joined({}, body)
        case 14:
            return joined("[" * int(random.integers(1000, 200_000)), body)
        case 15:
            return joined(json.dumps([header]), body)
        case 16:
            entry["shape"] = [float(one) for one in entry["shape"]]
        case 17:
            header["__metadata__"] = {"format": seed}
        case 18:
            text = bytearray(json.dumps(header).encode())
            text[int(random.integers(0, len(text)))] = 0xFF  # never valid UTF-8
            return struct.pack("<Q", len(text)) + bytes(text) + body
        case _:
            entry["data_offsets"] = str(entry["data_offsets"])
    return joined(header, body)


def test_M3_500_malformed_headers_are_refused_without_taking_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    data = sound(path)
    for seed in range(500):
        broken = malformed(data, seed)
        path.write_bytes(broken)
        tracemalloc.start()
        with pytest.raises(ModelTampered) as caught:
            open_tensors(str(path))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert str(path) in str(caught.value)
        # A parsed JSON value is larger than its text: what must not happen is an allocation by a
        # size that only the header claims.
        assert peak < 2 * len(broken) + (256 << 10), seed


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    sound(path)
    tensors = open_tensors(str(path))
    assert sorted(tensors.infos) == ["t0", "t1", "t2", "t3", "t4"]
    for name, wanted in load_file(str(path)).items():
        found = tensors.get(name, wanted.shape)
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("name", "shape", "word"),
    [("absent", (4, 1), "no tensor 'absent'"), ("t1", (2, 4), "'t1' has the shape (4, 2)")],
)
def test_a_tensor_that_is_missing_or_misshaped_is_named(
    name: str, shape: tuple[int, ...], word: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    sound(path)
    with pytest.raises(ModelTampered, match="tensor") as caught:
        open_tensors(str(path)).get(name, shape)
    assert word in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": np.array([1, np.nan], np.float32), "b": np.array([1, 2])}, str(path))
    tensors = open_tensors(str(path))
    with pytest.raises(ModelTampered, match="'a' holds numbers that are not finite"):
        tensors.get("a", (2,))
    with pytest.raises(ModelTampered, match="'b' holds I64"):
        tensors.get("b", (2,))


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelTampered, match="cannot be read"):
            open_tensors(os.fspath(path))

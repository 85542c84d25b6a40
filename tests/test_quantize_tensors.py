"""Malformed safetensors headers are refused, and cost no memory."""

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

from nsfwscan.values.errors import ModelTampered, ModelUnusable
from quantize.tensors import open_tensors, open_weights


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
            return joined(text, body)  # a name that appears twice
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


def test_500_malformed_headers_are_refused_without_taking_memory(tmp_path: Path) -> None:
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
    with pytest.raises(ModelTampered, match="'a' has numbers that are not finite"):
        tensors.get("a", (2,))
    with pytest.raises(ModelTampered, match="'b' is I64"):
        tensors.get("b", (2,))


def one_tensor(dtype: str, body: bytes, *shape: int) -> bytes:
    return joined({"t": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(body)]}}, body)


def test_bfloat16_and_half_precision_widen_exactly(tmp_path: Path) -> None:
    """All 65,536 patterns but those that are not finite."""
    path = tmp_path / "model.safetensors"
    every = np.arange(1 << 16, dtype=np.uint16)
    # bfloat16 is the upper half of a float32: sign, the same eight bits of exponent, seven more.
    exact = np.array([struct.unpack("<f", struct.pack("<HH", 0, one))[0] for one in every])
    for dtype, wanted in (("BF16", exact), ("F16", every.view(np.float16).astype(np.float64))):
        finite = np.isfinite(wanted)
        path.write_bytes(one_tensor(dtype, every[finite].tobytes(), int(finite.sum())))
        found = open_tensors(str(path)).get("t", (int(finite.sum()),))
        assert found.dtype == np.float32
        assert np.array_equal(found.astype(np.float64), wanted[finite])
        path.write_bytes(one_tensor(dtype, every.tobytes(), 1 << 16))
        with pytest.raises(ModelTampered, match="not finite"):
            open_tensors(str(path)).get("t", (1 << 16,))


@pytest.mark.parametrize("dtype", ["I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "I16", "C64"])
def test_a_sound_type_that_is_no_plain_float_is_named(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    size = {"I16": 2, "C64": 8}.get(dtype, 1)
    path.write_bytes(one_tensor(dtype, bytes(4 * size), 4))
    with pytest.raises(ModelTampered, match=f"'t' is {dtype}, not one of") as caught:
        open_tensors(str(path)).get("t", (4,))
    assert "again" not in caught.value.hint


@pytest.mark.parametrize(
    ("data", "word", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><title>Log in</title>", "web page", "login"),
        (b"\n<html><body>404</body></html>", "web page", "login"),
        (b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl", "pickle", "safetensors"),
        (b"\x80\x02}q\x00X\x06\x00\x00\x00weightq\x01.", "pickle", "safetensors"),
        (b"", "too short", "again"),
    ],
)
def test_what_lies_there_instead_of_the_weights_is_named(
    data: bytes, word: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises((ModelTampered, ModelUnusable), match=word) as caught:
        open_tensors(str(path))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["pytorch_model.bin"], "pytorch_model.bin is not read: it is a pickle"),
        (["model.ckpt"], "pickle"),
        (["tf_model.h5"], "tf_model.h5 is not read: only safetensors"),
        (["model.fp16.safetensors"], r"model.fp16.safetensors is not read"),
        ([], "No such file"),
    ],
)
def test_weights_of_another_kind_are_named(names: list[str], word: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises((ModelTampered, ModelUnusable), match=word):
        open_weights(str(tmp_path))


def sharded(folder: Path) -> dict[str, str]:
    """Split the tensors of `sound` over two files and return the index's map."""
    sound(folder / "whole.st")
    tensors = load_file(str(folder / "whole.st"))
    where = {}
    for at, names in enumerate((("t0", "t3"), ("t1", "t2", "t4"))):
        name = f"model-{at + 1:05}-of-00002.safetensors"
        save_file({one: tensors[one] for one in names}, str(folder / name))
        where.update(dict.fromkeys(names, name))
    return where


def test_weights_in_several_files_are_the_same_weights(tmp_path: Path) -> None:
    where = sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    found = open_weights(str(tmp_path))
    whole = load_file(str(tmp_path / "whole.st"))
    assert set(found.infos) == set(whole)
    for name, wanted in whole.items():
        assert np.array_equal(found.get(name, wanted.shape), wanted)


def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path: Path) -> None:
    where = sharded(tmp_path)
    first = where["t0"]
    odd: list[tuple[object, str]] = [
        ({}, "weight_map"),
        ([], "weight_map"),
        ({"weight_map": {}}, "weight_map"),
        ({"weight_map": {**where, "t9": first}}, "agree on tensor 't9'"),
        ({"weight_map": {**where, "t1": first}}, "agree on tensor 't1'"),
        ({"weight_map": {k: v for k, v in where.items() if k != "t3"}}, "agree on tensor 't3'"),
        ({"weight_map": {**where, "t0": "../other.safetensors"}}, "not a file here"),
        ({"weight_map": {**where, "t0": "/etc/passwd"}}, "not a file here"),
        ({"weight_map": {**where, "t0": "pytorch_model.bin"}}, "not a file here"),
        ({"weight_map": {**where, "t0": 1}}, "not a file here"),
        ({"weight_map": {**where, "t0": "absent.safetensors"}}, "cannot be read"),
    ]
    for document, word in odd:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(document))
        with pytest.raises(ModelTampered, match=word):
            open_weights(str(tmp_path))


def test_a_tensor_under_another_name_is_pointed_at(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"model.head.bias": np.zeros(2, np.float32)}, str(path))
    with pytest.raises(ModelTampered, match=r"no tensor 'head\.bias'") as caught:
        open_tensors(str(path)).get("head.bias", (2,))
    assert "'model.head.bias'" in caught.value.hint


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelTampered, match="cannot be read"):
            open_tensors(os.fspath(path))

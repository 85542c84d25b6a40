"""Tampered model packages are refused before onnxruntime sees a byte of them.

`TESTS_AT_FULL_SIZE=1` makes ten times as many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import sizes
import tiny_packages

from nsfwscan.models import package
from nsfwscan.models.manifest import (
    LICENCE_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MODEL_NAME,
    ModelManifest,
)
from nsfwscan.models.package import InstalledModel, open_package
from nsfwscan.values.errors import ManifestError, ModelError, ModelTampered

PACKAGES = sizes.trials(2_000, 20_000)
WEIGHTS = "weights.bin"

Tamper: TypeAlias = Callable[[Path, random.Random], None]


class Runtime:
    """Stands where onnxruntime would: remembers every graph it was given."""

    def __init__(self) -> None:
        self.graphs: list[bytes] = []

    def load(self, model: InstalledModel) -> None:
        """Do what loading a model does with a package, in the same order."""
        if model.manifest.external_data:
            model.check_artefact(model.manifest.external_data)
        self.graphs.append(model.read_artefact(MODEL_NAME))


def flip_bit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def any_file(chance: random.Random) -> str:
    return chance.choice([MANIFEST_NAME, MODEL_NAME, WEIGHTS])


def bit_in_manifest(folder: Path, chance: random.Random) -> None:
    flip_bit(folder / MANIFEST_NAME, chance)


def bit_in_graph(folder: Path, chance: random.Random) -> None:
    flip_bit(folder / MODEL_NAME, chance)


def bit_in_weights(folder: Path, chance: random.Random) -> None:
    flip_bit(folder / WEIGHTS, chance)


def truncated(folder: Path, chance: random.Random) -> None:
    path = folder / any_file(chance)
    os.truncate(path, chance.randrange(path.stat().st_size))


def longer(folder: Path, chance: random.Random) -> None:
    with (folder / any_file(chance)).open("ab") as stream:
        stream.write(chance.randbytes(chance.randint(1, 50)) + b"\x01")


def swapped(folder: Path, chance: random.Random) -> None:
    (folder / MODEL_NAME).rename(folder / "x")
    (folder / WEIGHTS).rename(folder / MODEL_NAME)
    (folder / "x").rename(folder / WEIGHTS)


def renamed(folder: Path, chance: random.Random) -> None:
    name = any_file(chance)
    (folder / name).rename(folder / f"{name}{chance.choice(['x', '.bak', ' '])}")


def symlinked(folder: Path, chance: random.Random) -> None:
    """The right bytes, but outside the package, where anybody may change them."""
    name = any_file(chance)
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)


def hard_linked(folder: Path, chance: random.Random) -> None:
    os.link(folder / WEIGHTS, folder.parent / "outside")


def not_a_file(folder: Path, chance: random.Random) -> None:
    path = folder / any_file(chance)
    path.unlink()
    if chance.random() < 0.5 and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        path.mkdir()


def edited(change: Callable[[dict[str, Any], random.Random], None]) -> Tamper:
    """Return a tampering that changes the manifest as a person would, leaving out the checksum."""

    def tamper(folder: Path, chance: random.Random) -> None:
        document = json.loads((folder / MANIFEST_NAME).read_text())
        del document["checksum"]
        change(document, chance)
        (folder / MANIFEST_NAME).write_text(json.dumps(document))

    return tamper


def extra_field(document: dict[str, Any], chance: random.Random) -> None:
    tables = [document, *(document[name] for name in ("input", "output", "thresholds", "files"))]
    chance.choice(tables)[f"x{chance.randrange(10**6)}"] = chance.random()


def missing_field(document: dict[str, Any], chance: random.Random) -> None:
    table = chance.choice([document, document["input"], document["output"]["labels"]])
    if isinstance(table, list):
        table.pop()
    else:
        optional = {"agreement", "probes", "notes", "embedding", "cls_attention", "external_data"}
        del table[chance.choice(sorted(set(table) - optional))]


def odd_number(document: dict[str, Any], chance: random.Random) -> None:
    table, key = chance.choice(
        [
            (document["input"], "scale"),
            (document["input"]["geometry"], "crop_width"),
            (document["thresholds"], "flag_at"),
            (document["files"][MODEL_NAME], "bytes"),
            (document["input"], "mean"),
        ]
    )
    odd = [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 10**40, -1, "1", None, True]
    table[key] = chance.choice(odd)


def traversal(document: dict[str, Any], chance: random.Random) -> None:
    bad = ["../outside", "/etc/passwd", "a/../../b", "..", ".", "a/b", "a\\b", "C:x", "", "x\x00"]
    document["files"][chance.choice(bad)] = document["files"][WEIGHTS]


def traversing_weights(document: dict[str, Any], chance: random.Random) -> None:
    name = chance.choice(["../outside", "/etc/passwd", "other.bin", MODEL_NAME, MANIFEST_NAME])
    document["external_data"] = name


def as_text(make: Callable[[str, random.Random], str]) -> Tamper:
    """Return a tampering that changes the text of the manifest."""

    def tamper(folder: Path, chance: random.Random) -> None:
        path = folder / MANIFEST_NAME
        path.write_text(make(path.read_text(), chance))

    return tamper


def duplicate_key(text: str, chance: random.Random) -> str:
    lines = [line for line in text.splitlines() if line.startswith('  "') and line.endswith(",")]
    return text.replace("{", "{" + chance.choice(lines), 1)


def deep(text: str, chance: random.Random) -> str:
    nest = chance.randint(1_000, 60_000)
    open_, close = chance.choice([("[", "]"), ('{"a":', "}")])
    inner = f"{open_ * nest}1{close * nest}"
    return chance.choice([inner, text.replace('"notes": ""', f'"notes": {inner}')])


def huge(text: str, chance: random.Random) -> str:
    return text + " " * (MAX_MANIFEST_BYTES + chance.randrange(10) - len(text) + 1)


def rubbish(text: str, chance: random.Random) -> str:
    return "".join(chr(chance.randrange(32, 1000)) for _ in range(chance.randrange(300)))


TAMPERINGS: dict[str, tuple[Tamper, int]] = {
    # name: (what is done, share of the packages)
    "bit in manifest": (bit_in_manifest, 10),
    "bit in graph": (bit_in_graph, 4),
    "bit in weights": (bit_in_weights, 3),
    "truncated": (truncated, 4),
    "longer": (longer, 3),
    "swapped": (swapped, 1),
    "renamed": (renamed, 2),
    "symlinked": (symlinked, 2),
    "hard linked": (hard_linked, 1),
    "not a file": (not_a_file, 1),
    "extra field": (edited(extra_field), 2),
    "missing field": (edited(missing_field), 2),
    "odd number": (edited(odd_number), 3),
    "traversal": (edited(traversal), 2),
    "traversing weights": (edited(traversing_weights), 2),
    "duplicate key": (as_text(duplicate_key), 2),
    "deep": (as_text(deep), 1),
    "huge": (as_text(huge), 1),
    "rubbish": (as_text(rubbish), 2),
}
SHARES = sum(share for _, share in TAMPERINGS.values())


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, ModelManifest]:
    folder = tmp_path / "good"
    manifest = tiny_packages.make(str(folder), weights=tiny_packages.content(300, 1))
    return folder, manifest


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampered_packages_never_reach_the_runtime(
    good: tuple[Path, ModelManifest], tmp_path: Path, name: str
) -> None:
    folder, manifest = good
    runtime = Runtime()
    runtime.load(open_package(str(folder)))
    (graph,) = runtime.graphs
    tamper, share = TAMPERINGS[name]
    refused = 0
    rounds = -(-PACKAGES * share // SHARES)
    for seed in range(rounds):
        bad = tmp_path / "bad"
        shutil.copytree(folder, bad)
        tamper(bad, random.Random(f"{name} {seed}"))
        runtime.graphs.clear()
        try:
            model = open_package(str(bad))
            runtime.load(model)
        except ModelError:
            assert runtime.graphs == [], f"seed {seed}: refused too late"
            refused += 1
        else:
            # Only a change without any meaning may pass, such as a space turned into a tab.
            assert model.manifest == manifest, f"seed {seed}"
            assert runtime.graphs == [graph], f"seed {seed}"
        shutil.rmtree(bad)
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "outside").unlink()
    assert refused > 0.9 * rounds
    if name not in {"bit in manifest", "longer"}:
        assert refused == rounds


def test_a_package_without_tampering_passes(good: tuple[Path, ModelManifest]) -> None:
    folder, manifest = good
    runtime = Runtime()
    model = open_package(str(folder))
    runtime.load(model)
    assert model.manifest == manifest
    assert runtime.graphs == [(folder / MODEL_NAME).read_bytes()]
    model.verify()


def test_the_licence_is_part_of_what_is_verified(good: tuple[Path, ModelManifest]) -> None:
    folder, _ = good
    flip_bit(folder / LICENCE_NAME, random.Random(0))
    with pytest.raises(ModelTampered, match="LICENSE"):
        open_package(str(folder)).verify()


def test_a_file_that_changes_after_the_check_is_refused(
    good: tuple[Path, ModelManifest],
) -> None:
    folder, _ = good
    model = open_package(str(folder))
    flip_bit(folder / MODEL_NAME, random.Random(0))
    with pytest.raises(ModelTampered, match=r"model\.onnx does not have the checksum"):
        model.read_artefact(MODEL_NAME)


def test_a_graph_may_have_a_second_hard_link(good: tuple[Path, ModelManifest]) -> None:
    """Backups link files. A graph is read and hashed whole, so that a later change shows."""
    folder, _ = good
    os.link(folder / MODEL_NAME, folder.parent / "backup")
    open_package(str(folder)).read_artefact(MODEL_NAME)


def test_a_file_the_manifest_does_not_list_is_not_read(good: tuple[Path, ModelManifest]) -> None:
    folder, _ = good
    (folder / "other.onnx").write_bytes(b"x")
    model = open_package(str(folder))
    for name in ("other.onnx", "../good/model.onnx", MANIFEST_NAME):
        with pytest.raises(ModelError, match="has no file"):
            model.read_artefact(name)


def test_a_graph_larger_than_onnx_allows_is_not_read(
    good: tuple[Path, ModelManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = good
    monkeypatch.setattr(package, "MAX_READ_BYTES", 100)
    with pytest.raises(ModelError, match="too large"):
        open_package(str(folder)).read_artefact(MODEL_NAME)


def test_a_folder_that_is_no_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"it has no manifest\.json"):
        open_package(str(tmp_path))
    with pytest.raises(ManifestError, match=r"it has no manifest\.json"):
        open_package(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="file"):
        open_package(str(tmp_path / "file"))


def test_a_file_that_cannot_be_read_is_named(
    good: tuple[Path, ModelManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = good

    def refuse(path: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        open_package(str(folder))


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="Windows opens what a link points to")
@pytest.mark.parametrize("swap", ["link", "fifo"])
def test_a_file_swapped_between_look_and_open_is_refused(
    good: tuple[Path, ModelManifest], monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    folder, _ = good
    regular = os.lstat(folder / MODEL_NAME)
    outside = folder.parent / "outside"
    (folder / MODEL_NAME).rename(outside)
    if swap == "link":
        (folder / MODEL_NAME).symlink_to(outside)
    else:
        os.mkfifo(folder / MODEL_NAME)
    monkeypatch.setattr(os, "lstat", lambda _path: regular)
    with pytest.raises(ModelTampered, match="not a regular file"):
        open_package(str(folder))


def test_manifests_compare_by_content(good: tuple[Path, ModelManifest]) -> None:
    folder, manifest = good
    other = dataclasses.replace(manifest, title="Other")
    (folder / MANIFEST_NAME).write_text(other.dump())
    assert open_package(str(folder)).manifest == other != manifest

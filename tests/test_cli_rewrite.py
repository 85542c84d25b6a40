"""A published model as a person meets it: pulled, scanned with, and added from a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import loopback_hub
import published_vits
import pytest
import tiny_packages
from PIL import Image
from published_vits import SMALL
from shell import Call

from benchmarks.exported_vit import export
from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry
from nsfwscan.models.store import ModelStore
from nsfwscan.system import locations


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("published")
    export(SMALL, str(folder / "graph.onnx"))
    return (folder / "graph.onnx").read_bytes()


@pytest.fixture
def entry(data: bytes, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """Falconsai as if it were published as a small graph."""
    known = tiny_packages.entry(data)
    known = dataclasses.replace(known, input=published_vits.manifest(data).input)
    entries = {**catalogue.load(), "falconsai": known}
    monkeypatch.setattr(catalogue, "load", lambda: entries)
    return known


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for at in range(3):
        colour = (90 * at, 40, 200 - 90 * at)
        Image.new("RGB", (64, 48), colour).save(folder / f"{at}.png")
    return folder


def scores(call: Call, *words: str) -> dict[str, float]:
    done = call("scan", "--format", "jsonl", "--offline", *words)
    lines = [json.loads(line) for line in done.out.splitlines()]
    return {Path(one["path"]).name: one["nsfw_score"] for one in lines}


def test_pull_and_scan_run_the_fast_graph_with_the_published_scores(
    call: Call,
    home: Path,
    entry: CatalogueEntry,
    data: bytes,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with loopback_hub.running() as hub:
        hub.put(tiny_packages.REPO, tiny_packages.REVISION, tiny_packages.FILE, data)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        pulled = call("models", "pull", "falconsai")
    assert pulled.code == 0, pulled.err
    assert "Preparing falconsai for this processor, once." in pulled.err
    fast = scores(call, str(pictures))
    assert len(fast) == 3
    package = ModelStore(locations.models_folder()).find("falconsai")
    assert package.manifest.rewriting is not None
    assert package.manifest.rewriting.graph
    # A package that is given as a folder runs as it was published.
    published = scores(call, str(pictures), "--model", package.folder, "--no-cache")
    assert fast == published
    shown = json.loads(call("models", "show", "falconsai").out)
    assert shown["here"]["runs"].startswith("rewritten, ")


def test_a_package_of_an_earlier_version_is_rewritten_when_it_is_next_used(
    call: Call, home: Path, entry: CatalogueEntry, data: bytes, pictures: Path
) -> None:
    store = ModelStore(locations.models_folder())
    package = published_vits.package(Path(store.folder) / entry.package, data)
    manifest = (package / "manifest.json").read_text()
    before = scores(call, str(pictures))
    assert len(before) == 3
    assert "rewriting" in (package / "manifest.json").read_text()
    # What the version before left: its scores, and a package that was not rewritten.
    for name in ("fast.onnx", "fast.bin"):
        (package / name).unlink()
    (package / "manifest.json").write_text(manifest)
    done = call("scan", "--offline", str(pictures))
    assert "from the cache" in done.err
    assert "rewriting" not in (package / "manifest.json").read_text(), "nothing had to be scored"
    Image.new("RGB", (50, 50), "teal").save(pictures / "new.png")
    done = call("scan", "--offline", str(pictures))
    assert "Preparing falconsai for this processor, once." in done.err
    assert "1 scored, 3 from the cache" in done.out + done.err
    after = scores(call, str(pictures))
    assert {name: after[name] for name in before} == before


def test_a_file_of_ones_own_is_used_like_a_known_model(
    call: Call, home: Path, entry: CatalogueEntry, data: bytes, pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "My fine Model (2).onnx"
    file.write_bytes(data)
    added = call("models", "add", str(file), "--like", "falconsai")
    assert added.code == 0, added.err
    assert "Preparing my-fine-model-2 for this processor, once." in added.err
    assert len(scores(call, str(pictures), "--model", "my-fine-model-2")) == 3
    shown = json.loads(call("models", "show", "my-fine-model-2").out)
    assert shown["title"] == "My fine Model (2).onnx, used like falconsai"
    assert shown["here"]["runs"].startswith("rewritten, ")
    again = call("models", "add", str(file), "--like", "falconsai")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("like", "code", "said"),
    [
        ("adamcodd", 4, "cannot be used like adamcodd"),
        ("opennsfw", 4, "cannot be used like opennsfw"),
        ("marqo", 2, "is not published as a graph"),
        ("nonsense", 2, "unknown model 'nonsense'"),
    ],
)
def test_a_file_that_is_not_like_the_named_model_is_refused(
    like: str,
    code: int,
    said: str,
    call: Call,
    home: Path,
    entry: CatalogueEntry,
    data: bytes,
    tmp_path: Path,
) -> None:
    (tmp_path / "own.onnx").write_bytes(data)
    done = call("models", "add", str(tmp_path / "own.onnx"), "--like", like)
    assert done.code == code, done.err
    assert said in done.err
    assert ModelStore(locations.models_folder()).packages() == []


@pytest.mark.parametrize("content", [b"", b"no graph", None])
def test_what_is_no_graph_is_not_installed(
    content: bytes | None, call: Call, home: Path, entry: CatalogueEntry, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    done = call("models", "add", str(path), "--like", "falconsai")
    assert done.code == 4, done.err
    assert str(path) in done.err
    assert "Traceback" not in done.err
    assert ModelStore(locations.models_folder()).packages() == []

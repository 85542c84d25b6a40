"""The server's benchmarks run at a tiny size and print their tables; figures are not judged."""

from __future__ import annotations

import re
from pathlib import Path

import pictures
import pytest

from benchmarks import serve_load, serve_soak
from nsfwscan.models import catalogue
from nsfwscan.models.store import ModelStore


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = ModelStore(str(tmp_path_factory.mktemp("models")))
    return store.pull(catalogue.load()["opennsfw"]).folder


@pytest.mark.model
@pytest.mark.slow
def test_load(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        data = pictures.encode(pictures.photo(400, 300, seed=number), "JPEG")
        (tmp_path / f"{number}.jpg").write_bytes(data)
    small = ["--rounds", "1", "--count", "6", "--overload", "0.3", "--crowd", "6"]
    serve_load.main(["--model", package, "--photographs", str(tmp_path), *small])
    printed = capsys.readouterr().out
    for connections in (1, 8, 64, 256):
        assert re.search(rf"^\| {connections} +\|.* 0 \| +0 \| +\d+ \|$", printed, re.MULTILINE)
    assert "0 lost; refused" in printed
    assert "6 slow clients: all closed" in printed
    assert "12 clients that hung up, a second time: 0 pictures scored" in printed


def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve_soak.main(["--count", "100"])
    printed = capsys.readouterr().out
    assert "| 100 " in printed
    assert "The server ended with 0;" in printed

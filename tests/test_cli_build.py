"""`nsfwscan models build`: from a checkpoint to an installed model that scans."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import small_vits
import tiny_model

from nsfwscan.cli.main import main


def test_a_checkpoint_becomes_a_model_that_scans(
    paint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = small_vits.transformers(tmp_path / "mini")
    for number in range(8):
        paint(tmp_path / "ordinary" / f"{number}.png", (30 * number, 90, 200 - 20 * number))
    options = ["--pictures", str(tmp_path / "ordinary"), "--accept-worse"]
    assert main(["models", "build", str(checkpoint), *options, "--offline"]) == 0
    assert "is installed in" in capfd.readouterr().err
    picture = paint(tmp_path / "red.png", tiny_model.RED)
    assert main(["scan", "--offline", "-f", "jsonl", "--exit-zero", str(picture)]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["status"] == "scanned"
    assert 0 <= record["nsfw_score"] <= 1


def test_what_is_missing_and_how_to_get_it_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name)
    )
    assert main(["models", "build", str(tmp_path)]) == 2
    said = capfd.readouterr().err
    assert "onnx" in said
    assert "nsfwscan[quantize]" in said


@pytest.mark.parametrize("source", ["nonsense", "opennsfw", "EMPTY"])
def test_what_cannot_be_built_is_named(
    source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = str(tmp_path) if source == "EMPTY" else source
    assert main(["models", "build", source, "--offline"]) == 4
    said = capfd.readouterr().err
    assert source in said
    assert "Traceback" not in said


def test_offline_is_offline_when_building_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "build", "falconsai", "--offline"]) == 4
    assert "offline" in capfd.readouterr().err.lower()

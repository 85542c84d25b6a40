"""`nsfwscan models build`: from a checkpoint to an installed model that scans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_vits
import tiny_model

from benchmarks import vit_fixture
from nsfwscan.cli.main import main


def test_a_checkpoint_becomes_a_model_that_scans(
    paint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = small_vits.transformers(tmp_path / "mini")
    for number in range(8):
        paint(tmp_path / "ordinary" / f"{number}.png", (30 * number, 90, 200 - 20 * number))
    options = ["--pictures", str(tmp_path / "ordinary"), "--accept-worse"]
    assert main(["models", "build", str(checkpoint), *options, "--offline"]) == 0
    said = capfd.readouterr().err
    assert "is installed in" in said
    assert "Use it with --model mini." in said
    assert "Without --model, scans use the same model." in said
    assert "models add" not in said  # of a folder that is gone
    assert "Traceback" not in said
    picture = paint(tmp_path / "red.png", tiny_model.RED)
    assert main(["scan", "--offline", "-f", "jsonl", "--exit-zero", str(picture)]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["status"] == "scanned"
    assert 0 <= record["nsfw_score"] <= 1


def test_what_auto_uses_is_said_when_it_is_another_model(
    tmp_path: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny_model.write_package(str(home / "models"), name="falconsai")
    checkpoint = small_vits.transformers(tmp_path / "mini")
    assert main(["models", "build", str(checkpoint), "--recipe", "float", "--offline"]) == 0
    said = capfd.readouterr().err
    assert "Use it with --model mini." in said
    assert "Without --model, scans use falconsai-" in said


def test_labels_that_are_not_known_need_the_users_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "mini"
    vit_fixture.make(str(checkpoint), size="mini", patch=8, image=32, labels=("a b", "c", "-d"))
    build = ["models", "build", str(checkpoint), "--recipe", "float", "--offline"]
    assert main(build) == 4
    assert "which of the labels a b, c, -d" in capfd.readouterr().err
    assert main([*build, "--unsafe-label", "a b", "--unsafe-label=-d"]) == 0
    assert "unsafe: a b, -d; safe: c." in capfd.readouterr().err
    assert main(["models", "show", "mini"]) == 0
    assert json.loads(capfd.readouterr().out)["output"]["unsafe_labels"] == ["a b", "-d"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_build_that_is_killed_takes_its_child_and_files_along(tmp_path: Path) -> None:
    checkpoint, scratch = tmp_path / "checkpoint", tmp_path / "scratch"
    vit_fixture.make(str(checkpoint), size="tiny", image=224)
    scratch.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-m", "nsfwscan", "models", "build", str(checkpoint)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert program.stderr is not None
    with program.stderr as said:
        assert "unsafe: nsfw" in said.readline()  # the child has begun
        program.kill()
        # Ends when the last process that holds it has ended.
        assert "Traceback" not in said.read()
    program.wait(60)
    assert os.listdir(scratch) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_build_that_is_told_to_end_takes_its_child_and_files_along(
    name: str, tmp_path: Path, home: Path
) -> None:
    checkpoint, scratch = tmp_path / "checkpoint", tmp_path / "scratch"
    vit_fixture.make(str(checkpoint), size="tiny", image=224)
    scratch.mkdir()
    # Whatever started the tests may ignore these signals.
    code = (
        "import os, signal, sys\n"
        f"signal.signal(signal.{name}, signal.SIG_DFL)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'nsfwscan', *sys.argv[1:]])"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, "models", "build", str(checkpoint)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert program.stderr is not None
    with program.stderr as said:
        assert "unsafe: nsfw" in said.readline()  # the child has begun
        program.send_signal(getattr(signal, name))
        # Ends when the last process that holds it has ended.
        assert "Traceback" not in said.read()
    assert program.wait(60) == 130
    assert os.listdir(scratch) == []
    assert not list(home.glob("models/checkpoint*"))


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

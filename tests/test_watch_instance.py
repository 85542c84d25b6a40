"""One watcher a library, whatever happens to it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import trials

from nsfwscan.cli.shared.codes import FAILED, code_of
from nsfwscan.values.errors import AlreadyRunning, NsfwscanError
from nsfwscan.watch.instance import InstanceLock, is_held

_STARTS = trials(30, 1000)
_HOLD = """
import sys
from nsfwscan.values.errors import AlreadyRunning
from nsfwscan.watch.instance import InstanceLock
sys.stdin.readline()
try:
    with InstanceLock(sys.argv[1]):
        print("runs", flush=True)
        sys.stdin.read()
except AlreadyRunning:
    print("refused", flush=True)
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_the_second_is_told_where_to_look(tmp_path: Path) -> None:
    path = str(tmp_path / "state" / "lock")
    assert not is_held(path)
    with InstanceLock(path):
        assert is_held(path)
        with pytest.raises(AlreadyRunning) as refused:
            InstanceLock(path).acquire()
        assert "nsfwscan status" in refused.value.hint
        assert code_of(refused.value) == FAILED
    assert not is_held(path)
    with InstanceLock(path):
        pass


def test_asking_does_not_keep_a_starting_watcher_out(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    holder = start(tmp_path / "lock")
    go(holder)
    assert said(holder) == "runs"
    for _ in range(200):
        assert is_held(path)
    holder.kill()
    holder.wait()
    end(holder)
    with InstanceLock(path):
        pass


def test_a_killed_watcher_leaves_no_lock(tmp_path: Path) -> None:
    holder = start(tmp_path / "lock")
    go(holder)
    assert said(holder) == "runs"
    assert is_held(str(tmp_path / "lock"))
    holder.kill()
    holder.wait()
    end(holder)
    assert not is_held(str(tmp_path / "lock"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NsfwscanError, match="file/lock cannot be opened"):
        InstanceLock(str(tmp_path / "file" / "lock")).acquire()


@pytest.mark.skipif(sys.platform == "win32", reason="locks are part of every file system there")
def test_on_a_file_system_without_locks_there_is_one_watcher_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    path = str(tmp_path / "lock")
    with InstanceLock(path):
        assert is_held(path)
        with pytest.raises(AlreadyRunning):
            InstanceLock(path).acquire()
    assert not is_held(path)


def test_of_many_that_start_at_once_one_runs(tmp_path: Path) -> None:
    running = []
    refused = 0
    # In groups: a thousand interpreters at once are a test of memory.
    for at in range(0, _STARTS, 60):
        group = [start(tmp_path / "lock") for _ in range(min(60, _STARTS - at))]
        for process in group:
            go(process)
        for process in group:
            if said(process) == "runs":
                running.append(process)
            else:
                refused += 1
                end(process)
    assert len(running) == 1
    assert refused == _STARTS - 1
    end(running[0])

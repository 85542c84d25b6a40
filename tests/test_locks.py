"""Locks between processes, also on file systems that lock in other ways or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nsfwscan.cache.use_lock import UseLock
from nsfwscan.system import locks
from nsfwscan.system.journal import Journal
from nsfwscan.system.locks import Lock, is_held, is_in_use, open_lock

NO_LOCKS = """
import errno, fcntl
def flock(_file, _kind):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    def flock(_file: int, _kind: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_told", set())
    return int(request.param)


@pytest.fixture
def nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock as NFS does, which looks at how the descriptor was opened."""
    real: Callable[[int, int], None] = fcntl.flock

    def flock(file: int, kind: int) -> None:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if mode == (os.O_RDONLY if kind & fcntl.LOCK_EX else os.O_WRONLY):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(file, kind)

    monkeypatch.setattr(fcntl, "flock", flock)


def taken(path: str, *, shared: bool = False) -> Lock:
    lock = open_lock(path)
    assert lock.take(shared=shared)
    return lock


def test_one_process_has_a_lock_until_it_gives_it_up(path: str) -> None:
    held = taken(path)
    other = open_lock(path)
    assert not other.take()
    assert not other.wait(0.05, shared=True)
    assert is_held(path)
    held.release()
    assert not is_held(path)
    assert other.take()
    other.release()
    other.release()


def test_a_shared_lock_keeps_out_who_wants_it_alone(path: str) -> None:
    held = [taken(path, shared=True), taken(path, shared=True)]
    assert is_in_use(path)
    assert not is_held(path)
    for one in held:
        one.release()
    assert not is_in_use(path)


def test_asking_about_a_lock_that_is_not_there_makes_none(path: str) -> None:
    assert not is_held(path)
    assert not is_in_use(path)
    assert not os.path.lexists(path)


def test_a_link_is_no_lock_file(path: str, tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(OSError, match="symbolic links"):
        open_lock(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_file_that_was_removed_while_it_was_waited_for_is_locked_anew(path: str) -> None:
    first = taken(path)
    waiting = open_lock(path)
    os.unlink(path)  # as an uninstallation does, which holds it
    first.release()
    later = taken(path)
    assert not waiting.take(), "two would hold the lock at a time"
    later.release()
    assert waiting.take()
    assert waiting.is_current()
    assert is_held(path)
    os.unlink(path)
    assert not waiting.is_current()
    waiting.release()


def test_a_lock_whose_folder_is_gone_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    lock = open_lock(str(tmp_path / "folder" / "lock"))
    (tmp_path / "folder" / "lock").unlink()
    (tmp_path / "folder").rmdir()
    with pytest.raises(FileNotFoundError):
        lock.take()
    lock.release()
    assert not (tmp_path / "folder").exists()


def test_a_lock_is_taken_where_inode_numbers_cannot_be_relied_on(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    lock = taken(path)
    assert not open_lock(path).take()
    lock.release()


@pytest.mark.usefixtures("nfs")
def test_every_lock_works_over_nfs(path: str, tmp_path: Path) -> None:
    taken(path).release()
    taken(path, shared=True).release()
    journal = Journal(str(tmp_path / "journal"))
    journal.append({"a": 1})
    assert journal.read().records == [{"a": 1}]
    assert journal.compact(lambda records: records)
    use = UseLock(path)
    assert use.share(wait_s=0)
    assert use.exclude(wait_s=0)
    use.release()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_stands_in_and_it_is_said_once(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        held = taken(path)
        assert held.is_stand_in
        assert not open_lock(path).take()
        assert is_held(path)
        assert is_in_use(path)
        held.release()
        assert not is_held(path)
        taken(path).release()
    assert [one.message.count("has no locks") for one in caplog.records] == [1]
    assert os.listdir(os.path.dirname(path)) == ["lock"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_journal_is_written_and_read(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"))
    journal.append({"a": 1})
    journal.append({"a": 2})
    assert journal.compact(lambda records: records[1:])
    assert journal.read().records == [{"a": 2}]
    assert os.listdir(tmp_path) == ["journal"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_library_is_used_and_not_set_aside(path: str) -> None:
    use = UseLock(path)
    assert use.share(wait_s=0)
    assert not use.exclude(wait_s=0)


@pytest.mark.usefixtures("no_locks")
def test_a_stand_in_whose_owner_was_killed_is_abandoned(path: str) -> None:
    code = f"{NO_LOCKS}\nimport os, sys\nfrom nsfwscan.system.locks import open_lock\n"
    code += "assert open_lock(sys.argv[1]).take()\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False)
    assert os.path.exists(f"{path}.held")
    assert not is_held(path)
    taken(path).release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"process": 1, "host": "elsewhere"}'])
def test_a_stand_in_of_an_unknown_owner_holds_for_an_hour_and_no_longer(
    path: str, content: bytes
) -> None:
    stand_in = f"{path}.held"
    with open(stand_in, "wb") as file:
        file.write(content)
    assert not open_lock(path).take()
    long_ago = time.time() - locks.ABANDONED_S - 10
    os.utime(stand_in, (long_ago, long_ago))
    taken(path).release()


@pytest.mark.usefixtures("no_locks")
def test_a_later_process_of_the_same_number_is_not_the_owner(path: str) -> None:
    held = taken(path)
    with open(f"{path}.held", "r+", encoding="utf-8") as file:
        owner = json.load(file)
        owner["begun"] = ["1"]
        file.seek(0)
        json.dump(owner, file)
        file.truncate()
    other = taken(path)
    held.release()  # not its own any more
    assert is_held(path)
    other.release()


@pytest.mark.usefixtures("no_locks")
def test_a_stand_in_that_cannot_be_written_is_no_lock(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    lock = open_lock(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            lock.take()
    lock.release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_many_processes_without_locks_never_hold_one_at_a_time(path: str, tmp_path: Path) -> None:
    code = (
        f"{NO_LOCKS}\n"
        """
import os, sys, time
from nsfwscan.system.locks import open_lock
for _ in range(20):
    lock = open_lock(sys.argv[1])
    assert lock.wait(60)
    file = os.open(sys.argv[2], os.O_CREAT | os.O_EXCL)
    os.unlink(sys.argv[2])
    os.close(file)
    lock.release()
"""
    )
    command = [sys.executable, "-c", code, path, str(tmp_path / "alone")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert os.listdir(tmp_path) == ["lock"]

"""`quarantine` where one of several quarantines, or the working folder, cannot be reached."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quarantine_worker import move_in
from shell import Call, without_privileges

from nsfwscan.actions.quarantine import recovery
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.system import locations
from nsfwscan.system.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes, links")

BROKEN = ("ENOTCONN", "EACCES", "EIO", "ESTALE", "ENOTDIR", "ELOOP", "EHOSTDOWN", "ETIMEDOUT")
Breaker = Callable[[Path, int], None]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Return the folder of the first of two known quarantines; one picture is in each."""
    for name in ("bad", "good"):
        path = tmp_path / "pictures" / name / f"{name}.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
        assert move_in(tmp_path / name, [path])[0].outcome == "done"
        os.makedirs(os.path.dirname(locations.quarantines_file()), exist_ok=True)
        Journal(locations.quarantines_file()).append({"folder": str(tmp_path / name)})
    return tmp_path / "bad"


@pytest.fixture
def break_it(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    """Return a function that lets every look at or below a folder fail, as on a dead mount."""

    def fail(folder: Path, number: int) -> None:
        def failing(real: Any) -> Any:
            def call(path: Any, *given: Any, **more: Any) -> Any:
                below = isinstance(path, str) and path.startswith(f"{folder}/")
                if path == str(folder) or below:
                    raise OSError(number, os.strerror(number), path)
                return real(path, *given, **more)

            return call

        for name in ("lstat", "stat", "open", "listdir", "scandir", "mkdir", "access", "unlink"):
            monkeypatch.setattr(os, name, failing(getattr(os, name)))

    return fail


@pytest.mark.parametrize("kind", BROKEN)
def test_a_quarantine_that_cannot_be_reached_is_named_and_the_others_are_served(
    call: Call, bad: Path, break_it: Breaker, kind: str
) -> None:
    break_it(bad, getattr(errno, kind))
    why = f"{bad / QUARANTINE_NAME} is not available: it cannot be read: "
    why += f"{os.strerror(getattr(errno, kind))}; is its disk plugged in?"
    done = call("quarantine", "list")
    assert (done.code, "good.jpg" in done.out, why in done.err) == (6, True, True), done.err
    done = call("quarantine", "verify")
    assert (done.code, why in done.err) == (6, True)
    assert done.out == "Checked 1 picture, found 0 problems.\n"
    done = call("self-uninstall")
    assert (done.code, done.err) == (0, "")
    assert f"{bad / QUARANTINE_NAME}: it cannot be read" in done.out
    done = call("quarantine", "restore", "--all")
    assert (done.code, done.out, why in done.err) == (6, "Restored 1 picture.\n", True)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_quarantine_that_breaks_below_its_folder_is_named_and_the_others_are_served(
    call: Call, bad: Path, break_it: Breaker, kind: str
) -> None:
    break_it(bad / QUARANTINE_NAME / "files", getattr(errno, kind))
    break_it(bad / QUARANTINE_NAME / "journal.jsonl", getattr(errno, kind))
    done = call("quarantine", "list")
    assert (done.code, "good.jpg" in done.out) == (6, True)
    assert str(bad) in done.err
    done = call("quarantine", "verify")
    assert (done.code, str(bad) in done.err) == (6, True)
    done = call("quarantine", "delete", "--all", "--yes")
    assert (done.code, done.out) == (6, "Deleted 1 picture.\n")


def test_a_disk_that_is_only_unplugged_is_no_failure(call: Call, bad: Path) -> None:
    bad.rename(bad.with_name("elsewhere"))
    done = call("quarantine", "list")
    assert (done.code, "good.jpg" in done.out) == (0, True)
    assert f"{bad / QUARANTINE_NAME} is not available; is its disk plugged in?" in done.err


def test_something_else_under_a_quarantines_name_is_named(call: Call, bad: Path) -> None:
    (bad / QUARANTINE_NAME).rename(bad / "aside")
    (bad / QUARANTINE_NAME).symlink_to(bad / "aside")
    done = call("quarantine", "list")
    assert (done.code, "it is not a folder" in done.err) == (6, True)


@pytest.mark.usefixtures("bad")
def test_a_path_through_a_file_is_in_no_quarantine(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("hi")
    done = call("quarantine", "list", file / "x" / "y.jpg")
    assert (done.code, done.err) == (0, "0 pictures in quarantine.\n")
    done = call("quarantine", "restore", file / "x" / "y.jpg")
    assert (done.code, "nothing from" in done.err) == (2, True)
    done = call("quarantine", "list", "--quarantine", file)
    assert (done.code, "Not a directory" in done.err) == (6, True)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("command", ["list", "restore", "delete"])
@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_can_be_no_path_is_refused_in_a_sentence(call: Call, command: str, path: str) -> None:
    more = () if command == "list" else ("--yes",) if command == "delete" else ()
    done = call("quarantine", command, *more, path)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)
    done = call("quarantine", "list", "--quarantine", path)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)
    assert len(call("quarantine", "list", "-f", "jsonl").records) == 2


@pytest.mark.usefixtures("bad")
def test_listing_and_restoring_need_no_working_folder(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getcwd() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", getcwd)
    done = call("quarantine", "list")
    assert (done.code, done.out.count(".jpg")) == (0, 2)
    done = call("quarantine", "restore", "good.jpg")
    assert (done.code, "the current folder no longer exists" in done.err) == (2, True)
    done = call("quarantine", "restore", tmp_path / "pictures" / "good")
    assert (done.code, done.out) == (0, "Restored 1 picture.\n")


@pytest.mark.usefixtures("bad")
def test_a_working_folder_below_one_that_may_not_be_searched_serves(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    script = f'cd "{closed}/inner" && chmod 0 "{closed}" && exec "$@"'
    program = [sys.executable, "-m", "nsfwscan", "quarantine", "list"]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *without_privileges(), *program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    closed.chmod(0o700)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert done.stdout.count(".jpg") == 2


# What can go back, what cannot


def test_the_list_tells_what_is_away_and_what_is_lost(
    call: Call, tmp_path: Path, elsewhere: Path
) -> None:
    here, there = tmp_path / "a.jpg", elsewhere / "inner" / "b.jpg"
    lost = tmp_path / "c.jpg"
    there.parent.mkdir()
    for path in (here, there, lost):
        path.write_bytes(path.name.encode())
    q = tmp_path / "q"
    assert {act.outcome for act in move_in(q, [here, there, lost])} == {"done"}
    journal = Journal(str(q / QUARANTINE_NAME / "journal.jsonl"))
    records: list[dict[str, Any]] = journal.read().records
    os.unlink(journal.path)
    for one in records:
        if one.get("path") == str(there) and "volume" in one:
            one["volume"]["mount"], one["volume"]["name"] = str(elsewhere), "another"
        if one.get("path") == str(lost) and one["step"] == "intend":
            os.unlink(q / QUARANTINE_NAME / "files" / one["id"])
    journal.append(*records)
    found = {one["path"]: one for one in call("quarantine", "list", "-f", "jsonl").records}
    assert found[str(here)]["restores_to"] == str(here)
    assert found[str(here)]["problem"] is None
    assert "its volume is not mounted" in found[str(there)]["problem"]
    assert "lost" in found[str(lost)]["problem"]
    done = call("quarantine", "list")
    assert done.code == 0
    assert "3 pictures in quarantine, 1 from a volume that is not mounted, 1 lost." in done.err
    done = call("quarantine", "restore", "--all")
    assert (done.code, done.out) == (6, "Restored 1 picture.\n")
    assert f"{there}: its volume is not mounted at {elsewhere} now; it stays" in done.err
    assert f"{lost}: it is missing from the quarantine" in done.err
    done = call("quarantine", "list")
    assert "2 pictures in quarantine, 1 from a volume that is not mounted, 1 lost." in done.err
    assert call("quarantine", "verify").code == 7


def test_the_list_tells_where_a_picture_goes_when_its_volume_moved(
    call: Call, tmp_path: Path
) -> None:
    old = tmp_path / "old" / "a.jpg"
    old.parent.mkdir()
    old.write_bytes(b"a picture")
    assert move_in(old.parent, [old])[0].outcome == "done"
    old.parent.rename(tmp_path / "new")
    new = tmp_path / "new" / "a.jpg"
    done = call("quarantine", "list", "--quarantine", tmp_path / "new")
    assert (done.code, f"would be restored to {new}" in done.out) == (0, True)
    done = call("quarantine", "restore", "--all", "--quarantine", tmp_path / "new")
    assert (done.code, new.read_bytes()) == (0, b"a picture")


def test_a_quarantine_of_another_user_is_named_and_stays(
    call: Call, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.lstat

    def lstat(path: Any, **options: Any) -> Any:
        found = real(path, **options)
        if path == str(bad / QUARANTINE_NAME):
            return os.stat_result((*found[:4], os.geteuid() + 1, *found[5:10]))
        return found

    monkeypatch.setattr(os, "lstat", lstat)
    for command in (["list"], ["restore", "--all"], ["verify"], ["delete", "--all", "--yes"]):
        done = call("quarantine", *command)
        assert (done.code, "it belongs to another user" in done.err) == (6, True)
    done = call("self-uninstall", "--purge", "--yes")
    assert f"{bad / QUARANTINE_NAME}: it belongs to another user" in done.out
    assert os.path.exists(locations.quarantines_file())
    monkeypatch.chdir(bad)
    os.unlink(locations.quarantines_file())
    done = call("quarantine", "list")  # met on the way, and not known
    assert (done.code, "it belongs to another user" in done.err) == (6, True)


def test_a_quarantine_in_a_folder_of_ones_choice_is_remembered(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    picture = tmp_path / "pictures" / "a.jpg"
    picture.parent.mkdir()
    picture.write_bytes(b"a picture")
    assert move_in(tmp_path / "chosen", [picture])[0].outcome == "done"
    assert str(picture) in call("quarantine", "list").out
    done = call("quarantine", "restore", picture)
    assert (done.code, done.out) == (0, "Restored 1 picture.\n")


@pytest.mark.parametrize("command", [["delete", "--yes"], ["restore"]])
def test_all_is_not_done_while_a_move_that_was_cut_short_cannot_be_ended(
    call: Call, bad: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    journal = bad / QUARANTINE_NAME / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    intents = [one for one in lines if b'"intend"' in one]
    journal.write_bytes(b"".join(intents))  # and not what became of them
    assert len(intents) == 1

    def away(*_given: object, **_more: object) -> Any:
        raise OSError(errno.ENXIO, "its volume is not mounted")

    monkeypatch.setattr(recovery, "finish", away)
    done = call("quarantine", *command, "--all")
    assert (done.code, done.out.split()[1]) == (6, "1"), "the one in the other quarantine"
    assert "was interrupted and cannot be completed now: its volume is not mounted" in done.err

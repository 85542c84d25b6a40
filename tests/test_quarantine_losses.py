"""The quarantine: what could lose a picture, or call one back that is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from quarantine_worker import actor, move_in, restore_all, scanned, vault_in
from shell import own_mounts

from nsfwscan.actions import moves
from nsfwscan.actions.limit import Limit
from nsfwscan.actions.quarantine import giveback
from nsfwscan.actions.quarantine import restore as restore_module
from nsfwscan.actions.quarantine import vault as vault_module
from nsfwscan.actions.quarantine.deletion import delete
from nsfwscan.actions.quarantine.entries import Entry, Ledger, compacted
from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.quarantine.restore import Restorer
from nsfwscan.actions.quarantine.vault import Vault
from nsfwscan.actions.quarantine.verification import verify
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.system.journal import Journal
from nsfwscan.values.errors import ActionError, NsfwscanError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes, links")


@pytest.fixture
def q(tmp_path: Path) -> Path:
    """Return the folder that the quarantine is in."""
    return tmp_path / "q"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a picture")
    return path


@pytest.mark.parametrize("name", ["x" * 250 + ".jpg", "é" * 125 + ".jpg", "a." + "x" * 250])
def test_a_picture_with_a_long_name_that_is_taken_is_restored_under_a_shorter_one(
    q: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    for content in (b"1", b"2", b"3"):
        path.write_bytes(content)
        assert [act.outcome for act in move_in(q, [path])] == ["done"]
    path.write_bytes(b"taken")
    assert {one.moved.outcome for one in restore_all(q)} == {"done"}
    back = [one for one in tmp_path.iterdir() if one.is_file()]
    assert sorted(one.read_bytes() for one in back) == [b"1", b"2", b"3", b"taken"]
    assert path.read_bytes() == b"taken"


def test_a_write_that_keeps_size_and_time_while_a_picture_is_copied_is_not_lost(
    q: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = elsewhere / "a.jpg"
    path.write_bytes(b"a picture")
    real = moves.rename

    def rename(source: str, target: str, **options: Any) -> None:
        if source == str(path) and ".nsfwscan-" in target:  # the copy is made
            found = path.stat()
            path.write_bytes(b"A PICTURE")
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        real(source, target, **options)

    monkeypatch.setattr(moves, "rename", rename)
    (act,) = move_in(q, [path])
    assert (act.outcome, path.read_bytes()) == ("left", b"A PICTURE")
    assert os.listdir(q / ".nsfwscan-quarantine" / "files") == []


class Killed(BaseException):
    """The end of a process, as far as a test can have it."""


def problems(q: Path) -> list[str]:
    return [one.problem for one in verify(vault_in(q), lambda *_: None)]


@pytest.mark.parametrize("crash", [False, True])
def test_a_picture_that_vanished_is_not_restored_and_stays_named(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    move_in(q, [picture])
    vault = vault_in(q)
    (entry,) = vault.peek().held
    if crash:  # between the intent and the move

        def die(*_: Any, **__: Any) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(moves, "rename", die)
            with pytest.raises(Killed):
                list(Restorer(vault).restore([entry]))
    os.unlink(vault.file_of(entry.id))
    for _ in range(2):
        (one,) = restore_all(q)
        assert (one.moved.outcome, "it is missing" in one.moved.detail) == ("failed", True)
    (problem,) = problems(q)
    assert "it is missing from the quarantine" in problem
    assert not picture.exists()
    assert [one.moved.outcome for one in delete(vault_in(q), [entry])] == ["done"]
    assert problems(q) == []


@pytest.mark.parametrize("content", [b"a picture", b"damaged!!"])
def test_a_restore_that_was_cut_short_after_the_move_is_known_by_the_content(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    move_in(q, [picture])
    vault = vault_in(q)
    (entry,) = vault.peek().held
    Path(vault.file_of(entry.id)).write_bytes(content)
    real = moves.rename

    def die(*names: str, **options: Any) -> None:
        real(*names, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(moves, "rename", die)
        with pytest.raises(Killed):
            list(Restorer(vault).restore([entry]))
    assert problems(q) == []
    assert vault_in(q).peek().held == []
    assert picture.read_bytes() == content
    picture.write_bytes(b"a picture")
    assert move_in(q, [picture])[0].outcome == "left"


# The journal and the disk


def records(q: Path) -> list[dict[str, Any]]:
    return Journal(str(q / QUARANTINE_NAME / "journal.jsonl")).read().records


def test_a_picture_that_cannot_be_moved_adds_nothing_to_the_journal(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = picture.with_name("b.jpg")
    other.write_bytes(b"another")
    move_in(q, [other])
    before = len(records(q))
    monkeypatch.setattr(os, "access", lambda *_: False)
    for _ in range(3):
        (act,) = move_in(q, [picture])
        assert (act.outcome, act.detail) == ("failed", os.strerror(errno.EACCES))
    assert len(records(q)) == before


def test_the_journal_stays_within_twice_of_what_counts(
    q: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{n}.jpg" for n in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    move_in(q, paths)
    size = (q / QUARANTINE_NAME / "journal.jsonl").stat().st_size

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(restore_module, "_rename", refuse)
        for _ in range(30):
            assert {one.moved.outcome for one in restore_all(q)} == {"failed"}
            assert (q / QUARANTINE_NAME / "journal.jsonl").stat().st_size < 2 * size
    for _ in range(30):
        assert {one.moved.outcome for one in restore_all(q)} == {"done"}
        assert {act.outcome for act in move_in(q, paths, again=True)} == {"done"}
        assert (q / QUARANTINE_NAME / "journal.jsonl").stat().st_size < 2 * size
    assert {one.moved.detail for one in restore_all(q)} == {""}


def test_a_journal_that_was_written_anew_comes_to_the_same(
    q: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vault, "_compact", lambda *_: None)
    paths = [tmp_path / "pictures" / f"{n}.jpg" for n in range(6)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(path.name.encode())
    os.utime(paths[0].parent, ns=(10**18, 10**18))
    move_in(q, paths[:4])
    vault = vault_in(q)
    list(Restorer(vault).restore(vault.peek().held[:1]))
    list(delete(vault, vault.peek().held[:1]))
    stranger = {"of": "a later version"}
    long, short = Ledger(), Ledger()
    whole = [*records(q), stranger]
    long.take(whole)
    fewer = compacted(whole, long, now=10**10)
    assert len(fewer) < len(whole)
    assert stranger in fewer
    short.take(fewer)
    assert (short.held, short.words, short.folders) == (long.held, long.words, long.folders)
    assert compacted(fewer, short, now=10**10) == fewer


def test_what_a_watcher_moved_is_remembered_for_its_limit_of_a_day(q: Path, picture: Path) -> None:
    move_in(q, [picture], limit=Limit(10**9, 1.0, window_s=86_400))
    restore_all(q)
    whole, long, recent = records(q), Ledger(), Ledger()
    long.take(whole)
    (entry,) = long.entries.values()
    recent.take(compacted(whole, long, now=entry.at + 86_400))
    assert recent.entries == long.entries
    assert len(compacted(whole, long, now=entry.at + 3 * 86_400)) == 1  # that it was restored


def test_pictures_can_be_deleted_when_the_disk_is_full(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
from quarantine_worker import *
from nsfwscan.actions.quarantine.deletion import delete
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "x", disk], check=True)
paths = [disk / f"{{n}}.jpg" for n in range(3)]
for path in paths: path.write_bytes(os.urandom(9000))
move_in(disk, paths)
try:
    with open(disk / "full", "wb", 0) as file:
        while True: file.write(bytes(64))
except OSError: pass
journal = disk / ".nsfwscan-quarantine" / "journal.jsonl"
room = -journal.stat().st_size % os.sysconf("SC_PAGESIZE")  # of its last page
vault = vault_in(disk)
with vault.locked(): vault.write({{"filler": "x" * (room - 60)}})
free, deleted = os.statvfs(disk).f_bfree, delete(vault, vault.peek().held)
print(free, [one.moved.outcome.value for one in deleted])
print(vault.names(), len(vault_in(disk).peek().held), os.statvfs(disk).f_bfree > 3)
"""
    done = subprocess.run(
        [*own_mounts(), sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == ["0 ['done', 'done', 'done']", "set() 0 True"]


@pytest.mark.parametrize("at", ["write", "unlink"])
def test_a_deletion_that_was_cut_short_is_completed(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    move_in(q, [picture])
    vault = vault_in(q)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Vault if at == "write" else os, at, die)
        with pytest.raises(Killed):
            list(delete(vault, vault.peek().held))
    assert vault.names() != set()
    for again in (vault, vault_in(q)):
        assert [one.problem for one in verify(again, lambda *_: None)] == []
        assert (again.peek().held, again.names()) == ([], set())


def test_a_picture_taken_from_a_quarantine_that_knows_only_the_intent_is_named_as_lost(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moves.rename

    def rename_and_die(*given: Any, **more: Any) -> None:
        real(*given, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(moves, "rename", rename_and_die)
        with pytest.raises(Killed):
            move_in(q, [picture])
    (name,) = vault_in(q).names()
    os.unlink(vault_in(q).file_of(name))
    for again in (vault_in(q), vault_in(q)):
        found = [(one.path, one.problem) for one in verify(again, lambda *_: None)]
        assert found == [
            (str(picture), f"it is missing from the quarantine: {again.file_of(name)}")
        ]
    (back,) = restore_all(q)
    assert (back.moved.outcome, back.moved.detail[:33]) == (
        "failed",
        "it is missing from the quarantine",
    )


def test_a_picture_that_vanishes_in_the_moment_of_its_move_was_not_moved(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moves.rename

    def too_late(source: str, target: str, **more: Any) -> None:
        os.unlink(source)
        real(source, target, **more)

    monkeypatch.setattr(moves, "rename", too_late)
    assert [(act.outcome, act.target) for act in move_in(q, [picture])] == [("failed", None)]
    assert vault_in(q).peek().held == []


# The lock


def test_a_quarantine_that_vanished_is_not_made_again_elsewhere(q: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"a picture")
    move_in(q, [path])
    vault = vault_in(q)
    (q / QUARANTINE_NAME).rename(tmp_path / "unplugged")
    with pytest.raises(ActionError, match="No such file"), vault.locked():
        pass
    assert not (q / QUARANTINE_NAME).exists(), "on the volume below, where nothing looks for it"


def test_a_quarantine_that_vanishes_while_it_is_opened_is_not_there(
    q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (q / QUARANTINE_NAME).mkdir(parents=True)
    looked: list[str] = []

    def look_at(path: str) -> None:
        looked.append(path)
        shutil.rmtree(path)

    monkeypatch.setattr(vault_module, "look_at", look_at)
    assert vault_module.open_vault(str(q), print, create=False) is None
    assert looked


def test_pictures_leave_in_batches_that_are_bounded_in_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giveback, "_MOST", 3)
    monkeypatch.setattr(giveback, "_MOST_BYTES", 100)
    sizes = (10, 10, 10, 10, 95, 500, 1, 99, 1)
    entries = [Entry(str(at), size=size) for at, size in enumerate(sizes)]
    batches = [[one.size for one in some] for some in giveback.batches(entries)]
    assert batches == [[10, 10, 10], [10], [95], [500], [1, 99], [1]]


def test_no_lock_is_held_while_pictures_are_read_or_results_are_told(
    q: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{n}.jpg" for n in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    move_in(q, paths)
    vault, other = vault_in(q), vault_in(q)

    def is_free() -> bool:
        with other.locked():
            return True

    assert [one.problem for one in verify(vault, lambda *_: is_free() or None)] == []
    first, second, third = vault.peek().held
    results = [Restorer(vault).restore([first]), delete(vault, [second])]
    assert [(one.moved.outcome, is_free()) for found in results for one in found] == [
        ("done", True), ("done", True)
    ]  # fmt: skip
    # What was restored while it was to be read is no loss.
    told: list[int] = []

    def restore(done: int, _of: int) -> None:
        if not told:
            told.append(done)
            assert [one.moved.outcome for one in Restorer(other).restore([third])] == ["done"]

    assert [one.problem for one in verify(vault, restore)] == []


CALLS = (
    "unlink",
    "rename",
    "fchmod",
    "utime",
    "scandir",
    "statvfs",
    "stat",
    "lstat",
    "open",
    "makedirs",
    "access",
    "listdir",
    "close",
    "fsync",
    "fstat",
)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.ESTALE])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("task", ["restore", "quarantine", "delete"])
def test_a_call_that_the_system_refuses_ends_in_a_sentence_and_loses_nothing(
    q: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, task: str, name: str, number: int
) -> None:
    real = getattr(os, name)
    move_in(q, [picture])
    restore_all(q)
    for place in range(1000):
        picture.write_bytes(b"a picture")
        mover = actor(q, warn=str, again=True)
        mover.consider(scanned(picture))
        if task != "quarantine":
            assert [act.outcome for act in mover.carry_out(bool)] == ["done"]
        calls = iter(range(1000))

        def fail(*given: Any, calls: Any = calls, place: int = place, **options: Any) -> Any:
            if next(calls) == place:
                if name == "close":
                    real(*given)
                raise OSError(number, os.strerror(number))
            return real(*given, **options)

        told: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with contextlib.suppress(NsfwscanError):
                if task == "quarantine":
                    told += mover.carry_out(bool)
                else:
                    for vault in Quarantines(os.fspath(q), str).existing():
                        held = vault.peek().held
                        deed = (
                            Restorer(vault).restore if task == "restore" else partial(delete, vault)
                        )
                        told += deed(held)  # type: ignore[operator]
        called = next(calls)
        vault = vault_in(q, str)
        with vault.locked() as ledger:
            assert ledger.under_way == []
            held = ledger.held
        files = [Path(vault.file_of(one.id)) for one in held]
        assert vault.names() == {one.id for one in held}
        deleted = task == "delete" and not held
        here = [*files, *picture.parent.glob("*")]
        assert [one.read_bytes() for one in here] == ([] if deleted else [b"a picture"])
        if task != "delete" and told:
            outcome = getattr(told[0], "moved", told[0]).outcome
            assert (outcome == "done") == (picture.exists() == (task == "restore"))
        list(delete(vault, held))
        if called <= place:
            return
    raise AssertionError("it never got through")

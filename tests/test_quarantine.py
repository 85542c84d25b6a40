"""The quarantine: what goes in comes out as it was, and nothing is ever overwritten."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import quarantine_worker as worker
from quarantine_worker import REASON, facts, move_in, restore_all, scanned, vault_in
from shell import without_privileges
from sizes import trials

from nsfwscan.actions import moves
from nsfwscan.actions.quarantine import held as quarantine
from nsfwscan.actions.quarantine import recovery, vault
from nsfwscan.actions.quarantine.deletion import delete
from nsfwscan.actions.quarantine.held import Quarantines, candidates
from nsfwscan.actions.quarantine.intake import Arrival, take_in
from nsfwscan.actions.quarantine.verification import verify
from nsfwscan.actions.verified_file import Refused, VerifiedFile
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.system.hashing import Sha256, held_by
from nsfwscan.system.writing import write_all
from nsfwscan.values.errors import ActionError, JournalError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes, links")


@pytest.fixture
def q(tmp_path: Path) -> Path:
    """Return the folder that the quarantine is in."""
    return tmp_path / "q"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def picture(path: Path, content: bytes = b"a picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listing(tree: Path) -> list[str]:
    """Return what `find` tells of a tree, and the SHA-256 of each file."""
    found = subprocess.run(
        ["find", ".", "-printf", r"%P %y %s %T@ %m %u %g %n\0"],
        cwd=tree, capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    lines = [os.fsdecode(line) for line in found]
    files = (path for path in tree.rglob("*") if path.is_file())
    lines += (f"{path}: {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)
    return sorted(lines)


def outcomes(acts: list[Any]) -> list[str]:
    return [act.outcome.value for act in acts]


# There and back


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_tree_is_as_it_was_after_1000_pictures_went_and_came_back(
    folder: Path, q: Path, request: pytest.FixtureRequest, where: str
) -> None:
    tree = folder if where == "here" else Path(request.getfixturevalue("elsewhere")) / "tree"
    rng = random.Random(1)
    number = trials(300, 1000)
    flagged = []
    for n in range(number + 50):
        name = rng.choice(["é\n{}", "-{}", " {} ", "{}.b", "caf\udce9{}"]).format(n)
        path = picture(tree / f"{n % 7}" / f"{n % 3}" / f"{name}.jpg", rng.randbytes(n * 5))
        if n % 5 == 0:
            os.setxattr(path, "user.note", rng.randbytes(20))
        os.utime(path, ns=(rng.randrange(2 * 10**18), rng.randrange(2 * 10**18)))
        path.chmod(rng.choice([0o600, 0o644, 0o444, 0o755]))
        if n >= 50:
            flagged.append(path)
    for sub in tree.rglob("*"):
        if sub.is_dir():
            os.utime(sub, ns=(10**18, rng.randrange(2 * 10**18)))
    before, attributes = listing(tree), {path: facts(path) for path in flagged}
    assert set(outcomes(move_in(q, flagged))) == {"done"}
    assert not any(path.exists() for path in flagged)
    results = restore_all(q)
    assert len(results) == number
    assert {one.moved.outcome.value for one in results} == {"done"}
    assert {one.moved.detail for one in results} == {""}
    assert listing(tree) == before
    assert {path: facts(path) for path in flagged} == attributes
    assert vault_in(q).names() == set()


def test_the_folders_time_comes_back_only_if_nobody_else_changed_the_folder(
    folder: Path, q: Path
) -> None:
    one, two = picture(folder / "1.jpg", b"1"), picture(folder / "2.jpg", b"2")
    os.utime(folder, ns=(10**18, 10**18))
    move_in(q, [one])
    move_in(q, [two])
    restore_all(q)
    assert folder.stat().st_mtime_ns == 10**18
    move_in(q, [one], again=True)
    picture(folder / "3.jpg", b"3")
    os.utime(folder, ns=(10**18, 15 * 10**17))
    move_in(q, [two], again=True)
    restore_all(q)
    assert folder.stat().st_mtime_ns > 15 * 10**17


def test_what_a_journal_holds(folder: Path, q: Path) -> None:
    path = picture(folder / "caf\udce9.jpg")
    os.setxattr(path, "user.note", b"\xff")
    path.chmod(0o640)
    move_in(q, [path])
    (entry,) = vault_in(q).peek().held
    assert (entry.path, entry.sha256) == (str(path), hashlib.sha256(b"a picture").hexdigest())
    assert (entry.decision, entry.score, entry.model) == ("nsfw", 0.97, "tiny-1")
    assert entry.facts is not None
    assert (entry.facts.mode, entry.facts.xattrs) == (0o640, {"user.note": b"\xff"})


def test_only_the_owner_may_look_into_a_quarantine(folder: Path, q: Path) -> None:
    move_in(q, [picture(folder / "a.jpg")])
    inside = q / QUARANTINE_NAME
    assert inside.stat().st_mode & 0o777 == 0o700
    inside.chmod(0o755)
    move_in(q, [picture(folder / "b.jpg")])
    assert inside.stat().st_mode & 0o777 == 0o700


# The very file


def test_a_file_that_changed_since_it_was_scored_stays(folder: Path, q: Path) -> None:
    path = picture(folder / "a.jpg")
    for change in (
        lambda: path.write_bytes(b"b picture"),
        lambda: (path.unlink(), path.write_bytes(b"another")),
        lambda: (path.unlink(), path.symlink_to(picture(folder / "target.jpg"))),
        lambda: (path.unlink(), path.mkdir()),
        lambda: (path.rmdir(), os.mkfifo(path)),
        lambda: path.unlink(),
    ):
        mover = worker.actor(q)
        mover.consider(scanned(path, hashlib.sha256(b"a picture").digest()))
        change()
        before = listing(folder)
        (act,) = mover.carry_out(lambda _question: False)
        assert act.outcome == "left"
        assert act.detail
        assert listing(folder) == before
    assert (folder / "target.jpg").read_bytes() == b"a picture"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("how", ["replaced", "written to", "renamed away"])
def test_a_file_swapped_between_the_last_look_and_the_rename_is_put_back(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
    where: str, how: str,
) -> None:  # fmt: skip
    if where == "elsewhere":
        folder = Path(request.getfixturevalue("elsewhere"))
    path = picture(folder / "a.jpg")
    other = picture(folder / "other", b"another picture")
    real = moves.rename

    def rename(source: str, target: str, *, private: bool = False) -> None:
        if source == str(path):  # the last moment
            if how == "replaced":
                os.replace(other, path)
            elif how == "written to":
                with open(path, "ab") as file:
                    file.write(b" and more")
            else:
                os.rename(path, folder / "elsewhere.jpg")
        real(source, target, private=private)

    monkeypatch.setattr(moves, "rename", rename)
    (act,) = move_in(q, [path])
    assert act.outcome in {"left", "failed"}
    if how == "replaced":
        assert path.read_bytes() == b"another picture"
    elif how == "written to":
        assert path.read_bytes() == b"a picture and more"
    else:
        assert (folder / "elsewhere.jpg").read_bytes() == b"a picture"
    assert vault_in(q).names() == set()
    assert not vault_in(q).peek().held


def test_swapped_by_another_process_all_the_time_only_what_was_scored_is_moved(
    folder: Path, q: Path
) -> None:
    """A race that nobody arranged, hundreds of times."""
    path, good = folder / "a.jpg", b"scored " * 100
    digest = hashlib.sha256(good).digest()
    script = (
        "import os, sys, time\npath = sys.argv[1]\nn = 0\n"
        "print('ready', flush=True)\nwhile True:\n    n += 1\n"
        "    for text in (b'scored ' * 100, b'precious %d' % n):\n"
        "        open(path + '.new', 'wb').write(text)\n"
        "        os.replace(path + '.new', path)\n"
        # Without a pause now and then nothing would ever be at rest for as long as a move takes.
        "        time.sleep(n % 7 * 0.004)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE
    ) as swapper:
        try:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            done, turns = set(), 0
            deadline = time.monotonic() + 60
            while turns < trials(300, 5000) or (len(done) < 2 and time.monotonic() < deadline):
                turns += 1
                mover = worker.actor(q, again=True)
                mover.consider(scanned(path, digest))
                (act,) = mover.carry_out(lambda _question: False)
                done.add(act.outcome.value)
        finally:
            swapper.kill()
    held = vault_in(q)
    for entry in held.peek().held:
        assert Path(held.file_of(entry.id)).read_bytes() == good
    assert held.names() == {entry.id for entry in held.peek().held}
    # What was put back beside its taken name is one of the swapper's, and still there.
    for left in folder.glob("a (restored*"):
        assert left.read_bytes().startswith((b"precious", b"scored"))
    assert done == {"left", "done"}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_system_that_renames_no_open_file(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
    where: str,
) -> None:  # fmt: skip
    """Windows, as far as it can be tried elsewhere."""
    if where == "elsewhere":
        folder = Path(request.getfixturevalue("elsewhere"))
    path = picture(folder / "a.jpg")
    monkeypatch.setattr(VerifiedFile, "let_go", VerifiedFile.close)
    (act,) = move_in(q, [path])
    assert (act.outcome, path.exists()) == ("done", False)
    restore_all(q)
    assert path.read_bytes() == b"a picture"


def test_several_processes_want_the_same_pictures(folder: Path, q: Path) -> None:
    paths = [picture(folder / f"{n}.jpg", b"%d" % n) for n in range(300)]
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import hashlib, os, quarantine_worker as worker\n"
        "mover = worker.actor(sys.argv[1])\n"
        "for n in range(300):\n"
        "    digest = hashlib.sha256(b'%d' % n).digest()\n"
        "    mover.consider(worker.scanned(f'{sys.argv[2]}/{n}.jpg', digest))\n"
        "acts = [act.outcome for act in mover.carry_out(lambda _question: False)]\n"
        "print(acts.count('done'), acts.count('left'))"
    )
    command = [sys.executable, "-c", script, str(q), str(folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = []
    for process in processes:
        said, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        counts.append([int(word) for word in said.split()])
    assert sum(done for done, _ in counts) == 300
    assert sum(left for _, left in counts) == 600
    assert len(vault_in(q).peek().held) == 300
    restore_all(q)
    assert [path.read_bytes() for path in paths] == [b"%d" % n for n in range(300)]


def test_one_picture_named_twice_is_moved_once(folder: Path, q: Path) -> None:
    path = picture(folder / "a.jpg")
    (one,) = move_in(q, [path, path])
    assert one.outcome == "done"


def test_a_link_is_not_taken_for_its_picture(folder: Path, q: Path) -> None:
    target = picture(folder / "target.jpg")
    (folder / "link.jpg").symlink_to(target)
    (act,) = move_in(q, [folder / "link.jpg"])
    assert (act.outcome, target.exists()) == ("left", True)
    (folder / "inner").mkdir()
    (folder / "way").symlink_to(folder / "inner")
    picture(folder / "inner" / "b.jpg")
    (act,) = move_in(q, [folder / "way" / "b.jpg"])
    assert act.outcome == "done"
    (entry,) = vault_in(q).peek().held
    assert entry.path == str(folder / "inner" / "b.jpg")


# Names, links, rights


def test_10000_equal_names_overwrite_nothing(folder: Path, q: Path) -> None:
    number = trials(800, 10_000)
    paths = [picture(folder / f"{n}" / "same.jpg", b"%d" % n) for n in range(number)]
    assert set(outcomes(move_in(q, paths))) == {"done"}
    assert len(vault_in(q).names()) == number
    restore_all(q)
    assert [path.read_bytes() for path in paths] == [b"%d" % n for n in range(number)]


def test_hostile_names_go_in_and_come_back(folder: Path, q: Path) -> None:
    names = [
        b"-rf", b"--all", b"a\nb.jpg", b"\x1b[2J.jpg", b"\xff\xfe.jpg", b"$(touch x).jpg",
        b"'\".jpg", b"*.jpg", b" ", b"a" * 255, "\u202egpj.exe".encode(), b".part", b"~",
    ]  # fmt: skip
    paths = [picture(folder / os.fsdecode(name), name) for name in names]
    assert set(outcomes(move_in(q, paths))) == {"done"}
    for path in paths:  # and all their names are taken
        path.write_bytes(b"newer")
    results = restore_all(q)
    beside = {one.moved.target for one in results if one.moved.outcome == "done"}
    assert [path.read_bytes() for path in paths] == [b"newer"] * len(names)
    assert {Path(target).read_bytes() for target in beside if target} == set(names)


def test_a_picture_in_a_folder_that_may_not_be_written_to_stays(
    folder: Path, q: Path, tmp_path: Path
) -> None:
    path = picture(folder / "locked" / "a.jpg")
    picture(folder / "b.jpg").chmod(0o400)
    path.parent.chmod(0o500)
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import quarantine_worker as worker\n"
        "for act in worker.move_in(sys.argv[1], sys.argv[2:]): print(act.outcome, act.detail)"
    )
    done = subprocess.run(
        [*without_privileges(), sys.executable, "-c", script, q, path, folder / "b.jpg"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    path.parent.chmod(0o700)
    assert done.stdout.splitlines() == ["failed Permission denied", "done "]
    assert path.read_bytes() == b"a picture"


def test_other_names_of_a_hard_link_are_told(folder: Path, q: Path) -> None:
    path = picture(folder / "a.jpg")
    os.link(path, folder / "b.jpg")
    os.link(path, folder / "c.jpg")
    one, two = move_in(q, [path, folder / "b.jpg"])
    assert (one.outcome, two.outcome) == ("done", "done")
    assert one.detail == two.detail == "1 other hard link remains"
    assert (folder / "c.jpg").exists()
    restore_all(q)
    assert path.samefile(folder / "b.jpg")
    assert path.samefile(folder / "c.jpg")


# Undo


def test_10000_moves_are_undone_though_names_were_taken_again(folder: Path, q: Path) -> None:
    rng = random.Random(5)
    number = trials(600, 10_000)
    paths = [picture(folder / f"{n % 50}" / f"{n % 400}.jpg", b"") for n in range(number)]
    contents = {}
    for n in range(0, number, 400):  # many came from the same path, one after the other
        batch = list(dict.fromkeys(paths[n : n + 400]))
        for path in batch:
            path.write_bytes(b"%d %d" % (n, rng.randrange(10**9)))
            contents[path.read_bytes()] = path
        assert set(outcomes(move_in(q, batch))) == {"done"}
    held = len(contents)
    taken = {path: rng.randbytes(8) for path in set(paths) if rng.random() < 0.5}
    for path, content in taken.items():
        path.write_bytes(content)
    shutil.rmtree(folder / "7")
    results = restore_all(q)
    assert len(results) == held
    assert {one.moved.outcome.value for one in results} == {"done"}
    for one in results:
        assert one.moved.target is not None
        content = Path(one.moved.target).read_bytes()
        path = contents.pop(content)
        assert one.entry.path == str(path)
        if one.moved.target != str(path):
            assert "its name is taken, so it got a similar one" in one.moved.detail
            assert os.path.dirname(one.moved.target) == str(path.parent)
    assert contents == {}
    for path, content in taken.items():
        if path.parent.name != "7":
            assert path.read_bytes() == content
    assert any("its folder was created again" in one.moved.detail for one in results)


def test_a_name_taken_in_the_last_moment_is_not_overwritten(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(folder / "a.jpg")
    move_in(q, [path])
    real = moves.rename

    def rename(source: str, target: str, *, private: bool = False) -> None:
        if target == str(path):
            path.write_bytes(b"newer")
        real(source, target, private=private)

    monkeypatch.setattr(moves, "rename", rename)
    (result,) = restore_all(q)
    assert path.read_bytes() == b"newer"
    assert result.moved.target == str(folder / "a (restored).jpg")
    assert (folder / "a (restored).jpg").read_bytes() == b"a picture"


def _in_the_way(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a folder that is gone be impossible to make again; return what must be said."""
    match kind:
        case "a file":
            folder.write_text("hi")
            return f"{folder} is not a folder"
        case "a file above it":
            shutil.rmtree(folder.parent)
            folder.parent.write_text("hi")
            return f"{folder.parent} is not a folder"
        case "a dangling link":
            folder.symlink_to(folder.parent / "unplugged")
            return f"the link {folder} is broken"
        case "a link to itself":
            folder.symlink_to(folder)
            return f"the link {folder} is broken"
    number = getattr(errno, kind)

    def mkdir(path: Any, mode: int = 0o777) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    return f"its folder {folder} cannot be created: {os.strerror(number)}"


@pytest.mark.parametrize(
    "kind",
    [
        "a file", "a file above it", "a dangling link", "a link to itself", "EACCES", "ENOSPC",
        "EROFS", "ENAMETOOLONG", "ELOOP", "EDQUOT", "EEXIST", "ENOTDIR",
    ],
)  # fmt: skip
def test_a_picture_whose_folder_cannot_be_made_stays_and_the_others_are_restored(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    gone = [picture(folder / "above" / "gone" / f"{n}.jpg", b"g%d" % n) for n in range(3)]
    here = [picture(folder / "here" / f"{n}.jpg", b"h%d" % n) for n in range(3)]
    move_in(q, [*gone, *here])
    (folder / "above" / "gone").rmdir()
    journal = q / QUARANTINE_NAME / "journal.jsonl"
    with monkeypatch.context() as patch:
        said = _in_the_way(kind, folder / "above" / "gone", patch)
        results = {one.entry.path: one.moved for one in restore_all(q)}
        assert [results[str(path)].outcome.value for path in here] == ["done"] * 3
        assert [results[str(path)].outcome.value for path in gone] == ["failed"] * 3
        assert all(said in results[str(path)].detail for path in gone)
        before = journal.read_bytes()
        assert len(restore_all(q)) == 3
        assert journal.read_bytes() == before  # what cannot begin leaves no record
    for place in (folder / "above" / "gone", folder / "above"):
        if place.is_symlink() or place.is_file():
            place.unlink()
    assert {one.moved.outcome.value for one in restore_all(q)} == {"done"}
    assert all(path.exists() for path in gone)


def test_a_folder_that_cannot_be_written_to_keeps_its_pictures_in_quarantine(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_in(q, [picture(folder / "a.jpg")])
    real = os.access
    with monkeypatch.context() as patch:  # root may write anywhere
        patch.setattr(os, "access", lambda path, mode: path != str(folder) and real(path, mode))
        (one,) = restore_all(q)
    assert one.moved.outcome.value == "failed"
    assert f"its folder {folder} is not writable" in one.moved.detail
    assert {one.moved.outcome.value for one in restore_all(q)} == {"done"}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_name_that_is_taken_each_time_ends_the_restoring_of_one_picture(
    folder: Path,
    q: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    where: str,
) -> None:
    place = folder if where == "here" else Path(request.getfixturevalue("elsewhere"))
    one, two = picture(place / "1.jpg", b"1"), picture(place / "2.jpg", b"2")
    move_in(q, [one, two])
    real = moves.rename

    def taken(source: str, target: str, *, private: bool = False) -> None:
        if os.path.basename(target).startswith("1"):
            raise FileExistsError(errno.EEXIST, "File exists", target)
        real(source, target, private=private)

    journal = q / QUARANTINE_NAME / "journal.jsonl"
    before = len(journal.read_bytes().splitlines())
    with monkeypatch.context() as patch:
        patch.setattr(moves, "rename", taken)
        results = {one.entry.path: one.moved for one in restore_all(q)}
    assert results[str(two)].outcome.value == "done"
    assert results[str(one)].outcome.value == "failed"
    assert "keep taking its name" in results[str(one)].detail
    assert len(journal.read_bytes().splitlines()) - before < 20
    assert not one.exists()
    assert {one.moved.outcome.value for one in restore_all(q)} == {"done"}
    assert one.read_bytes() == b"1"


def test_a_file_system_on_which_every_name_is_taken_ends_a_search_for_a_free_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(folder / "a.jpg")

    def taken(source: str, target: str, *, private: bool = False) -> None:
        raise FileExistsError(errno.EEXIST, "File exists", target)

    monkeypatch.setattr(moves, "rename", taken)
    with pytest.raises(FileExistsError):
        recovery.put_back(str(path), str(folder / "b.jpg"))
    assert path.exists()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("damage", [b"a picturE", b"a pict", b""])
def test_a_damaged_picture_comes_back_and_is_named_as_damaged(
    folder: Path, q: Path, request: pytest.FixtureRequest, where: str, damage: bytes
) -> None:
    place = folder if where == "here" else Path(request.getfixturevalue("elsewhere"))
    bad, good = picture(place / "bad.jpg"), picture(place / "good.jpg", b"good")
    (act, _) = move_in(q, [bad, good])
    Path(act.target or "").write_bytes(damage)
    results = {one.entry.path: one for one in restore_all(q)}
    assert [results[str(path)].damaged for path in (bad, good)] == [True, False]
    assert "damaged" in results[str(bad)].moved.detail
    assert bad.read_bytes() == damage
    assert vault_in(q).names() == set()
    (again,) = move_in(q, [bad])
    assert (again.outcome, again.detail) == ("left", "it was restored from quarantine earlier")


def test_a_picture_that_is_gone_from_the_quarantine_is_not_called_restored(
    folder: Path, q: Path
) -> None:
    path = picture(folder / "a.jpg")
    (act,) = move_in(q, [path])
    Path(act.target or "").unlink()
    (one,) = restore_all(q)
    assert one.moved.outcome.value == "failed"
    assert "missing from the quarantine" in one.moved.detail
    assert [one.path for one in vault_in(q).peek().held] == [str(path)]


@pytest.mark.parametrize("path", ["", "relative.jpg", "/a\0b.jpg"])
def test_a_journal_with_a_path_that_can_be_no_picture_raises_nothing(
    folder: Path, q: Path, path: str
) -> None:
    move_in(q, [picture(folder / "a.jpg")])
    journal = vault_in(q).journal
    records = journal.read().records
    Path(journal.path).unlink()
    journal.append(*({**one, "path": path} if "path" in one else one for one in records))
    (one,) = restore_all(q)
    assert one.moved.outcome.value == "failed"
    assert "its original path is not known" in one.moved.detail


def test_reading_a_file_to_which_somebody_writes_for_ever_ends(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(folder / "a.jpg", b"0" * 100)
    real, reads = os.read, 0

    def read(file: int, most: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 100
        return real(file, most) or b"1" * 1000

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        file = os.open(path, os.O_RDONLY)
        try:
            known = hashlib.sha256(b"0" * 100).digest()
            assert Sha256().take(held_by(file)).digest() != known
            with pytest.raises(Refused):
                moves.copy(file, str(folder / "copy"), moves.Facts.of(file), known)
        finally:
            os.close(file)
    assert os.listdir(folder) == ["a.jpg"]


def test_a_file_system_that_takes_no_more_bytes_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda *_: 0)
    file = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Input/output error"):
            write_all(file, b"x")
    finally:
        os.close(file)


def test_what_somebody_restored_is_not_moved_again(folder: Path, q: Path) -> None:
    path = picture(folder / "a.jpg")
    move_in(q, [path])
    restore_all(q)
    (act,) = move_in(q, [path])
    assert (act.outcome, act.detail) == ("left", "it was restored from quarantine earlier")
    (act,) = move_in(q, [path], again=True)
    assert act.outcome == "done"


def test_delete(folder: Path, q: Path) -> None:
    move_in(q, [picture(folder / f"{n}.jpg", b"%d" % n) for n in range(3)])
    held = vault_in(q)
    entries = held.peek().held
    os.unlink(held.file_of(entries[1].id))
    results = list(delete(held, entries))
    assert [one.moved.detail for one in results] == ["", "it was already gone", ""]
    assert (held.names(), held.peek().held) == (set(), [])
    assert list(delete(held, entries)) == []


# Damage


def test_verify_names_what_is_damaged_missing_or_unknown(folder: Path, q: Path) -> None:
    paths = [picture(folder / f"{n}.jpg", b"picture %d" % n) for n in range(4)]
    move_in(q, paths)
    held = vault_in(q)
    assert list(verify(held, lambda _done, _all: None)) == []
    ids = {entry.path: entry.id for entry in held.peek().held}
    Path(held.file_of(ids[str(paths[0])])).write_bytes(b"other")
    os.unlink(held.file_of(ids[str(paths[1])]))
    Path(held.file_of("stray")).write_bytes(b"?")
    problems = dict(verify(held, lambda _done, _all: None))
    assert "are not those" in problems.pop(str(paths[0]))
    assert "missing" in problems.pop(str(paths[1]))
    assert "does not say" in problems.pop(held.file_of("stray"))
    assert problems == {}


def test_one_damaged_line_of_the_journal_loses_no_path(folder: Path, q: Path) -> None:
    paths = [picture(folder / f"{n}.jpg", b"%d" % n) for n in range(3)]
    for path in paths:
        move_in(q, [path])
    journal = q / QUARANTINE_NAME / "journal.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    for damaged in range(len(lines)):
        broken = [line if n != damaged else b"x" * len(line) for n, line in enumerate(lines)]
        broken[damaged] = broken[damaged][:-1] + b"\n"
        journal.write_bytes(b"".join(broken))
        warnings: list[str] = []
        held = vault_in(q, warnings.append)
        with held.locked() as ledger:
            assert {entry.path for entry in ledger.held} == set(map(str, paths))
        assert f"line {damaged + 1}" in warnings[0]
        journal.write_bytes(whole)
    assert {one.moved.outcome.value for one in restore_all(q)} == {"done"}
    assert [path.read_bytes() for path in paths] == [b"0", b"1", b"2"]


def test_a_journal_that_cannot_be_written_stops_before_anything_is_moved(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(folder / "a.jpg")
    move_in(q, [picture(folder / "b.jpg", b"b")])

    def full(*_records: object) -> None:
        raise JournalError("the disk is full")

    warnings: list[str] = []
    mover = worker.actor(q, warn=warnings.append)
    mover.consider(scanned(path))
    monkeypatch.setattr(vault.Journal, "append", full)
    (act,) = mover.carry_out(lambda _question: False)
    assert (act.outcome, act.detail) == ("failed", "the disk is full")
    assert path.exists()
    assert warnings == ["the disk is full"]


# Moving


@pytest.mark.parametrize("way", ["renameat2", "link", "reserve"])
def test_a_rename_never_overwrites(folder: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way != "renameat2":
        monkeypatch.setattr(moves, "_rename_no_replace", lambda _source, _target: False)
    if way == "reserve":

        def link(*_arguments: object, **_options: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    one, two = picture(folder / "1", b"1"), picture(folder / "2", b"2")
    with pytest.raises(FileExistsError):
        moves.rename(str(one), str(two))
    with pytest.raises(FileExistsError):
        moves.rename(str(one), str(two), private=True)
    assert (one.read_bytes(), two.read_bytes()) == (b"1", b"2")
    moves.rename(str(one), str(folder / "3"))
    moves.rename(str(folder / "3"), str(folder / "4"), private=True)
    assert sorted(os.listdir(folder)) == ["2", "4"]
    with pytest.raises(FileNotFoundError):
        moves.rename(str(one), str(folder / "5"))
    assert sorted(os.listdir(folder)) == ["2", "4"]


# Where quarantines are


def test_the_topmost_folder_that_is_ours_holds_the_quarantine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    real = os.access

    def access(path: str, mode: int) -> bool:
        return str(path).startswith(str(folder)) and real(path, mode)

    def above(path: str) -> list[str]:  # what is further up is not this test's
        return [one for one in really_above(path) if one.startswith(str(tmp_path))]

    really_above = quarantine.above
    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(quarantine, "above", above)
    assert candidates(str(deep)) == [str(folder), str(folder / "a"), str(deep)]
    folder.chmod(0o777)  # anybody could put another folder in the quarantine's place
    assert candidates(str(deep)) == [str(folder / "a"), str(deep), str(folder)]
    folder.chmod(0o1777)
    assert candidates(str(deep))[0] == str(folder)
    warnings: list[str] = []
    found = Quarantines(None, warnings.append).for_picture(str(deep / "x.jpg"))
    assert found.folder == str(folder / QUARANTINE_NAME)
    again = Quarantines(None, warnings.append)
    assert [one.folder for one in again.existing()] == [found.folder]
    # What is not a folder of ours does not serve.
    shutil.rmtree(found.folder)
    assert [one.path for one in again.away()] == [found.folder]
    Path(found.folder).symlink_to(tmp_path)
    assert Quarantines(None, warnings.append).for_picture(str(deep / "x.jpg")).folder == str(
        folder / "a" / QUARANTINE_NAME
    )
    assert warnings == []


def test_a_chosen_place_that_does_not_serve_is_an_error(tmp_path: Path, folder: Path) -> None:
    picture(folder / "file")
    with pytest.raises(ActionError, match="cannot be used"):
        Quarantines(str(folder / "file" / "in"), worker.fail).for_picture(str(folder / "x.jpg"))
    (folder / QUARANTINE_NAME).symlink_to(tmp_path)
    with pytest.raises(ActionError, match="not a folder that you own"):
        Quarantines(str(folder), worker.fail).for_picture(str(folder / "x.jpg"))


def test_two_processes_wait_for_each_other(
    folder: Path, q: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(folder / "a.jpg")
    mine = Quarantines(str(q), worker.fail).for_picture(str(path))
    monkeypatch.setattr(vault, "_PATIENCE_S", 0.1)
    with (
        mine.locked(),
        VerifiedFile(str(path), hashlib.sha256(b"a picture").digest()) as file,
        pytest.raises(ActionError, match="another process"),
    ):
        take_in(vault_in(q), [Arrival(file, REASON)])
    (act,) = move_in(q, [path])
    assert act.outcome == "done"

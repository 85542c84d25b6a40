"""`nsfwscan self-uninstall` removes what nsfwscan wrote, and not one byte more."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint
from conftest import Run as RunProcess
from hypothesis import given, settings
from hypothesis import strategies as st
from shell import Call, start, without_privileges
from sizes import trials
from tiny_model import RED

from nsfwscan.actions.quarantine import held as quarantines
from nsfwscan.cli.shared import crash
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.models.staging import LOCK, PARTS, REPLACED, STAGING
from nsfwscan.models.store import ModelStore
from nsfwscan.service import removal, uninstall
from nsfwscan.system import installation, locations

Tree = dict[str, bytes | str | None]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


@pytest.fixture(autouse=True)
def nobody_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep quarantines of whoever runs the tests out of it.

    They are looked for in and above two folders, and made in the topmost one that may be written,
    which for root is the root of all.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quarantines, "above", lambda folder: [folder])
    monkeypatch.setattr(quarantines, "candidates", lambda _folder: [os.path.expanduser("~")])


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of somebody whose files are where the system wants them."""
    folder = tmp_path / "person"
    folder.mkdir()
    as_person(folder, monkeypatch.setenv, monkeypatch.delenv)
    return folder


def as_person(
    folder: Path, setenv: Callable[[str, str], None], delenv: Callable[[str, bool], None]
) -> None:
    for name in [one for one in os.environ if one.startswith("XDG_")] + ["NSFWSCAN_HOME"]:
        delenv(name, False)
    setenv("HOME", str(folder))
    setenv("USERPROFILE", str(folder))


def tree(folder: Path) -> Tree:
    """Return everything below a folder: bytes of files, targets of links, None for folders."""
    found: Tree = {}
    for parent, below, names in os.walk(folder):
        for name in below + names:
            path = os.path.join(parent, name)
            content: bytes | str | None = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                content = Path(path).read_bytes()
            found[os.path.relpath(path, folder)] = content
    return found


def fill(call: Call, nsfwscan: RunProcess, paint: Paint, person: Path) -> None:
    """Let nsfwscan itself write all that it writes."""
    tiny_model.write_package(locations.models_folder())
    os.makedirs(os.path.dirname(locations.config_file()), exist_ok=True)
    Path(locations.config_file()).write_text("[scan]\nflag-at = 0.9\n")
    paint(person / "Pictures" / "red.png", RED)
    assert call("scan", "--exit-zero", person / "Pictures").code == 0
    crash.tell(RuntimeError("odd"))
    for shell in ("bash", "zsh", "fish"):
        env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        assert nsfwscan("--install-completion", shell, env=env).returncode == 0


def test_a_list_changes_nothing(
    call: Call, nsfwscan: RunProcess, paint: Paint, person: Path
) -> None:
    fill(call, nsfwscan, paint, person)
    before = tree(person)
    done = call("self-uninstall")
    assert (done.code, done.err) == (0, "")
    assert tree(person) == before
    for path in (locations.models_folder(), locations.cache_file(), locations.config_file()):
        assert path in done.out
    for path in (".bash_completions/nsfwscan.sh", ".zfunc/_nsfwscan", ".bashrc"):
        assert str(person / path) in done.out
    assert "nsfwscan self-uninstall --purge" in done.out


def test_purge_leaves_the_pictures_and_nothing_of_nsfwscan(
    call: Call, nsfwscan: RunProcess, paint: Paint, person: Path
) -> None:
    (person / ".bashrc").write_text("alias ll='ls -l'\n")
    fill(call, nsfwscan, paint, person)
    picture = (person / "Pictures" / "red.png").read_bytes()
    done = call("self-uninstall", "--purge", "--yes")
    assert (done.code, done.err) == (0, "")
    left = {path for path, content in tree(person).items() if content is not None}
    assert left == {".bashrc", ".zshrc", "Pictures/red.png"}
    assert not [one for one in tree(person) if "nsfwscan" in one]
    assert (person / "Pictures" / "red.png").read_bytes() == picture
    assert (person / ".bashrc").read_text().splitlines() == ["alias ll='ls -l'", ""]
    again = call("self-uninstall", "--purge", "--yes")
    assert again.code == 0
    assert "has written nothing" in again.out


def test_what_else_lies_in_the_folders_stays_and_is_named(
    call: Call, tiny: Path, home: Path, paint: Paint
) -> None:
    strangers = [
        paint(home / "models" / "holiday.png", RED),
        paint(home / "models" / "album" / "red.png", RED).parent,
        paint(tiny / "red.png", RED),
    ]
    kept = [paint(home / "red.png", RED), home / "notes" / "library.sqlite3"]
    kept[1].parent.mkdir()
    kept[1].write_text("not ours: of the same name, elsewhere")
    before = tree(home)
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 0
    for path in strangers:
        assert f"\n  {path}\n" in done.out
    assert f"{tiny} was not removed: it has other files in it." in done.out
    after = tree(home)
    assert {one for one in before if one not in after} == {
        f"models/{tiny.name}/{name}" for name in ("manifest.json", "model.onnx")
    }
    assert after == {path: before[path] for path in after}


def test_leftovers_of_killed_processes_and_damaged_files_go(call: Call, home: Path) -> None:
    store = home / "models"
    for name in (
        f"models/{STAGING}abc/sub/model.onnx", f"models/{REPLACED}tiny-1/manifest.json",
        f"models/{PARTS}/{'01' * 32}", f"models/{LOCK}", "models/tiny-1/manifest.json",
        "models/tiny-1/model.onnx", "library.sqlite3-wal", "library.sqlite3.lock",
        "library.sqlite3.watch", "state/watch.lock",
        "state/watch.log", "state/watch.log.3", "state/.status-x1",
        "state/watch-status.json",
        "library.sqlite3.corrupt-20260101T000000", "library.sqlite3.corrupt-20260101T000000-wal",
    ):  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"{}")
    outside = home / "outside"
    outside.mkdir()
    (outside / "p.png").write_bytes(b"picture")
    os.symlink(outside, store / f"{STAGING}abc" / "link")
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert tree(home) == {"outside": None, "outside/p.png": b"picture"}


def test_links_the_user_made_are_followed_to_what_nsfwscan_wrote(
    call: Call, home: Path, tmp_path: Path
) -> None:
    big = tmp_path / "big disk"
    (big / "models").mkdir(parents=True)
    os.symlink(big / "models", home / "models")
    os.symlink(big / "scores.db", home / "library.sqlite3")
    (big / "other.db").write_bytes(b"other")
    tiny_model.write_package(locations.models_folder())
    assert call("cache", "stats").code == 0
    assert (big / "scores.db").exists()
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert tree(big) == {"models": None, "other.db": b"other"}
    assert tree(home) == {"models": str(big / "models")}


def test_purge_follows_no_link_that_stands_where_nsfwscan_writes(
    call: Call, tiny: Path, home: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = ["a.jpg", "01" * 32, "manifest.json", "model.onnx", "LICENSE", "watch.log", "crash.txt"]
    for name in names:
        (pictures / name).write_bytes(b"{}")
    links = [f"models/{PARTS}", f"models/{STAGING}0123", f"models/{REPLACED}tiny-1", "models/album",
             f"models/{LOCK}", f"models/{tiny.name}/LICENSE", "state/watch.log", "state/crash.txt",
             "library.sqlite3.corrupt-1"]  # fmt: skip
    (home / "state").mkdir()
    for name in links:
        (home / name).unlink(missing_ok=True)
        os.symlink(pictures if "models" in name else pictures / "a.jpg", home / name)
    done = call("self-uninstall", "--purge", "-y")
    assert sorted(os.listdir(pictures)) == sorted(names)
    assert done.code in {0, 6}  # a lock that is a link cannot be taken
    os.unlink(home / "models" / LOCK)
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert sorted(os.listdir(pictures)) == sorted(names)
    links.remove(f"models/{LOCK}")
    assert [one for one in links if not os.path.islink(home / one)] == []


def test_a_link_to_the_models_of_another_program_costs_it_nothing(
    call: Call, home: Path, tmp_path: Path
) -> None:
    project = tmp_path / "projects" / "browser-extension"
    project.mkdir(parents=True)
    for name in ("manifest.json", "LICENSE", "model.onnx"):
        (project / name).write_bytes(b"{}")
    os.symlink(project.parent, home / "models")
    (tmp_path / "photos.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    os.symlink(tmp_path / "photos.db", home / "library.sqlite3")
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 0
    assert len(os.listdir(project)) == 3
    assert (tmp_path / "photos.db").exists()
    assert f"  {home / 'library.sqlite3'}\n" in done.out


def test_a_folder_that_becomes_a_link_while_the_question_waits_is_not_followed(
    home: Path, tmp_path: Path
) -> None:
    parts = home / "models" / PARTS
    parts.mkdir(parents=True)
    (parts / ("01" * 32)).write_bytes(b"x")
    shown = uninstall.find()
    os.rename(parts, tmp_path / "parts")
    os.symlink(tmp_path / "parts", parts)
    removal.remove(shown)
    assert os.listdir(tmp_path / "parts") == ["01" * 32]


def test_a_start_file_keeps_every_other_byte_its_mode_and_its_link(
    call: Call, nsfwscan: RunProcess, person: Path
) -> None:
    start_file = person / "dotfiles" / "bashrc"
    start_file.parent.mkdir()
    os.symlink(start_file, person / ".bashrc")
    script = person / ".bash_completions" / "nsfwscan.sh"
    script.parent.mkdir()
    script.write_text("_NSFWSCAN_COMPLETE")
    start_file.write_bytes(
        b"export A=\xff\r\n" + f"source '{script}'\n# source '{script}'\nlast".encode()
    )
    os.chmod(start_file, 0o640)
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert start_file.read_bytes() == b"export A=\xff\r\n" + f"# source '{script}'\nlast".encode()
    assert os.stat(start_file).st_mode & 0o777 == 0o640
    assert os.path.islink(person / ".bashrc")
    assert os.listdir(start_file.parent) == ["bashrc"]


def test_a_completion_script_of_somebody_else_stays(call: Call, person: Path) -> None:
    script = person / ".zfunc" / "_nsfwscan"
    script.parent.mkdir()
    script.write_text("#compdef nsfwscan\n# my own\n")
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert script.exists()


def test_it_asks_a_person_and_nobody_else(call: Call, tiny: Path, nsfwscan: RunProcess) -> None:
    before = tree(tiny)
    done = nsfwscan("self-uninstall", "--purge")
    assert done.returncode == 2
    assert b"add --yes" in done.stderr
    wrong = call("self-uninstall", "--yes")
    assert wrong.code == 2
    assert "--purge" in wrong.err
    assert tree(tiny) == before


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 5), (b"y\n", 0), (b"\x03", 130)])
def test_answers(tiny: Path, person: Path, answer: bytes, code: int) -> None:
    tiny_model.write_package(locations.models_folder())
    ours, theirs = pty.openpty()
    process = start("self-uninstall", "--purge", stdin=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while b"[y/N]" not in shown:
            assert select.select([ours], [], [], 30)[0], shown
            shown += os.read(ours, 4096)
        if answer != b"\x03":
            os.write(ours, answer)
        # The terminal is not the process's own, so it sends no signal. One that comes before the
        # process has begun to read is only noticed by Python with the next.
        deadline = time.monotonic() + 60
        while answer == b"\x03" and process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        out, _ = process.communicate(timeout=30)
    finally:
        os.close(ours)
        process.kill()
        process.wait()
    assert process.returncode == code
    assert os.path.exists(locations.models_folder()) == (code != 0)
    assert (b"Removed" in out) == (code == 0)


@pytest.mark.parametrize("lock", ["library.sqlite3.lock", "state/watch.lock", f"models/{LOCK}"])
def test_nothing_is_removed_while_another_one_works(
    call: Call, tiny: Path, home: Path, lock: str
) -> None:
    (home / lock).parent.mkdir(exist_ok=True)
    (home / lock).touch()
    before = tree(home)
    hold = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, home / lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = call("self-uninstall", "--purge", "-y")
        holder.communicate(timeout=30)
    assert done.code == 6
    assert "a watcher is running" in done.err or str(home / lock) in done.err
    assert tree(home) == before
    assert call("self-uninstall", "--purge", "-y").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the service is a systemd unit on Linux only")
def test_an_installed_service_goes_first(call: Call, tiny: Path, person: Path) -> None:
    tiny_model.write_package(locations.models_folder())
    unit = Path(locations.user_units_folder()) / "nsfwscan.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    before = tree(person)
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert "`nsfwscan service uninstall`" in done.err
    assert tree(person) == before
    unit.unlink()
    assert call("self-uninstall", "--purge", "-y").code == 0


def test_what_cannot_be_removed_is_named_and_the_rest_goes(
    tiny: Path, home: Path, nsfwscan: RunProcess
) -> None:
    (home / "config.toml").touch()
    os.chmod(tiny, 0o500)
    try:
        done = subprocess.run(
            [*without_privileges(), sys.executable, "-m", "nsfwscan", "self-uninstall", "--purge",
             "--yes"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.chmod(tiny, 0o700)
    assert done.returncode == 6
    assert f"{tiny / 'manifest.json'} could not be removed: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "config.toml").exists()
    assert (tiny / "model.onnx").exists()


def test_a_full_disk_costs_no_line_of_a_start_file(
    call: Call, person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = person / ".bash_completions" / "nsfwscan.sh"
    script.parent.mkdir()
    script.write_text("_NSFWSCAN_COMPLETE")
    (person / ".bashrc").write_text(f"source '{script}'\nmine\n")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert ".bashrc could not be removed: No space left on device" in done.err
    assert (person / ".bashrc").read_text() == f"source '{script}'\nmine\n"
    assert sorted(os.listdir(person)) == [".bash_completions", ".bashrc"]
    assert script.exists()  # or the line would complain at every start
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert (person / ".bashrc").read_text() == "mine\n"


def test_links_to_nowhere_are_no_traceback(call: Call, home: Path) -> None:
    os.symlink(home / "nowhere", home / "config.toml")
    os.symlink(home / "gone", home / "models")
    assert call("self-uninstall", "--purge", "-y").code == 0
    assert tree(home) == {"models": str(home / "gone")}


# Quarantines and decisions


@pytest.fixture
def quarantine(call: Call, paint: Paint, person: Path) -> Path:
    """A quarantine that holds one picture of somebody, who has also decided about another."""
    tiny_model.write_package(locations.models_folder())
    paint(person / "Pictures" / "red.png", RED)
    other = paint(person / "Pictures" / "other.png", RED)
    assert call("allow", other).code == 0
    done = call("scan", "--action", "quarantine", "--yes", person / "Pictures")
    assert done.code == 1, done.err
    assert not (person / "Pictures" / "red.png").exists()
    (found,) = person.rglob(QUARANTINE_NAME)
    return found


def test_a_quarantine_with_pictures_stays_whole_and_can_be_restored(
    call: Call, quarantine: Path, person: Path
) -> None:
    held = tree(quarantine)
    done = call("self-uninstall", "--purge", "-y")
    assert (done.code, done.err) == (0, "")
    assert f"  {quarantine}: holds 1 picture\n" in done.out
    assert "`nsfwscan quarantine restore --all`" in done.out
    assert tree(quarantine) == held
    assert not os.path.exists(locations.rulings_file())
    assert not os.path.exists(locations.models_folder())
    # The list of places stays with it, so that it is found from anywhere.
    assert os.path.exists(locations.quarantines_file())
    assert call("quarantine", "restore", "--all").code == 0
    assert (person / "Pictures" / "red.png").exists()

    again = call("self-uninstall", "--purge", "-y")
    assert (again.code, again.err) == (0, "")
    left = {path for path, content in tree(person).items() if content is not None}
    assert left == {"Pictures/red.png", "Pictures/other.png"}
    assert not [one for one in tree(person) if "nsfwscan" in one]


def test_a_quarantine_that_is_not_plugged_in_keeps_its_place(
    call: Call, quarantine: Path, person: Path
) -> None:
    os.rename(quarantine, person / "unplugged")
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 0
    assert f"  {quarantine}: not available, so it may hold pictures\n" in done.out
    assert os.path.exists(locations.quarantines_file())


def test_a_quarantine_that_cannot_be_read_stays(call: Call, quarantine: Path, person: Path) -> None:
    journal = quarantine / "journal.jsonl"
    os.rename(journal, quarantine / "aside")
    journal.mkdir()
    shutil.rmtree(quarantine / "files")
    before = tree(quarantine)
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert f"  {quarantine}: cannot be read: " in done.out
    assert f"{quarantine} was not removed: cannot be read" in done.err
    assert tree(quarantine) == before
    assert os.path.exists(locations.quarantines_file())


def test_a_quarantine_of_another_user_keeps_the_list_that_leads_to_it(
    call: Call, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(quarantine)
    for module in ("held", "vault"):
        monkeypatch.setattr(
            f"nsfwscan.actions.quarantine.{module}.look_at",
            lambda _path: "it belongs to another user",
        )
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert f"{quarantine} was not removed: it belongs to another user" in done.err
    assert tree(quarantine) == before
    assert os.path.exists(locations.quarantines_file())


def test_a_list_of_quarantines_that_cannot_be_read_stays(call: Call, quarantine: Path) -> None:
    places = Path(locations.quarantines_file())
    assert call("quarantine", "restore", "--all").code == 0
    with places.open("ab") as file:
        file.write(b"damaged\n")
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert "the list of quarantines is damaged" in done.err
    assert places.exists()
    target = places.rename(places.with_name("elsewhere"))
    os.symlink(target, places)
    done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert os.path.islink(places)
    assert target.exists()


def test_a_quarantine_that_fills_while_the_question_waits_keeps_all_that_leads_to_it(
    call: Call, quarantine: Path, person: Path
) -> None:
    assert call("quarantine", "restore", "--all").code == 0
    shown = uninstall.find()
    assert not uninstall.kept()
    done = call("scan", "--action", "quarantine", "--again", "--yes", person / "Pictures")
    assert done.code == 1
    removed = removal.remove(shown)
    assert (str(quarantine), "holds 1 picture") in removed.kept
    assert (locations.quarantines_file(), "it lists quarantines that stay") in removed.kept
    assert removed.failures == []
    assert call("quarantine", "restore", "--all").code == 0
    assert (person / "Pictures" / "red.png").exists()


def test_nothing_is_removed_when_a_scan_has_begun_while_the_question_waits(
    call: Call, quarantine: Path, person: Path
) -> None:
    shown = uninstall.find()
    before = tree(person)
    with open(f"{locations.cache_file()}.lock") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(Exception, match="another nsfwscan is running"):
            removal.remove(shown)
    assert tree(person) == before


def test_nothing_is_removed_while_pictures_are_being_moved(
    call: Call, quarantine: Path, person: Path
) -> None:
    with open(quarantine / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = call("self-uninstall", "--purge", "-y")
    assert done.code == 6
    assert f"holds {quarantine / 'lock'}" in done.err
    assert os.path.exists(locations.rulings_file())


# Whatever lies about


_OWN = [
    ".local/share/nsfwscan/models/tiny-1/manifest.json",
    ".local/share/nsfwscan/models/tiny-1/model.onnx",
    f".local/share/nsfwscan/models/{STAGING}12/x.onnx",
    f".local/share/nsfwscan/models/{LOCK}",
    ".cache/nsfwscan/library.sqlite3",
    ".cache/nsfwscan/library.sqlite3-journal",
    ".cache/nsfwscan/library.sqlite3.corrupt-20260101T000000-2",
    ".config/nsfwscan/config.toml",
    ".local/state/nsfwscan/watch.log",
    ".local/state/nsfwscan/watch.log.1",
    ".local/state/nsfwscan/watch-status.json",
    ".local/state/nsfwscan/quarantines.jsonl",
    ".local/share/nsfwscan/rulings.jsonl",
]
_NAMES = st.sampled_from(
    ["model.onnx", "manifest.json", "LICENSE", "config.toml", "library.sqlite3", "a.jpg", "é", "\n",
     "library.sqlite3x", ".lock", "library.sqlite3.bak", "nsfwscan.sh", "-rf", "tiny-1",
     "watch.log.old", "watch.log.1.gz"]
)  # fmt: skip
_FOLDERS = st.sampled_from(
    [".", ".config", ".cache", ".local/share", ".local/share/nsfwscan", ".cache/nsfwscan/models",
     ".local/share/nsfwscan/models/album", ".local/share/nsfwscan/models/tiny-1/inner",
     ".config/nsfwscan/old", ".local/state/nsfwscan", "Pictures", ".bash_completions"]
)  # fmt: skip


@given(
    own=st.sets(st.sampled_from(_OWN)),
    foreign=st.sets(st.tuples(_FOLDERS, _NAMES).map("/".join), max_size=8),
)
@settings(max_examples=trials(60, 2000), deadline=None)
def test_whatever_lies_about_only_nsfwscans_own_goes(own: set[str], foreign: set[str]) -> None:
    # An album with a manifest.json in it may be a broken package: those three names go.
    foreign = {
        one for one in foreign
        if one not in _OWN and not (one.startswith(".local/share/nsfwscan/models/album/"))
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        as_person(Path(folder), patch.setenv, patch.delenv)
        written = set()
        for name in sorted(own) + sorted(foreign):
            path = Path(folder, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
                written.add(name)
            except OSError:  # a file of that name is in the way of the folder, or the reverse
                continue
        done = removal.remove(uninstall.find())
        assert done.failures == []
        left = {path for path, content in tree(Path(folder)).items() if content is not None}
        assert {os.path.normpath(one) for one in written if one not in own} <= left
        # Without its manifest a folder of the store is nobody's.
        sure = own - {_OWN[1]} if _OWN[0] not in own else own
        assert not left & sure
        assert removal.remove(uninstall.find()).files == 0


def test_every_place_nsfwscan_names_is_looked_at(home: Path) -> None:
    """A new place in `locations` has to be thought of here."""
    places = {name for name in vars(locations) if name.endswith(("_file", "_folder"))}
    # What came with the program goes with it; the units are the service manager's to remove.
    elsewhere = {"shipped_models_folder", "user_units_folder"}
    assert places - elsewhere == {
        "config_file", "crash_file", "cache_file", "jobs_folder", "log_file", "models_folder",
        "owed_file", "quarantines_file", "rulings_file", "state_folder", "status_file",
    }  # fmt: skip


# How it was installed


def fake(
    monkeypatch: pytest.MonkeyPatch, folder: Path, installer: str | None, direct_url: object = None
) -> None:
    info = folder / "nsfwscan-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nsfwscan\nVersion: 1\n")
    if installer:
        (info / "INSTALLER").write_text(f"{installer}\n")
    if direct_url:
        (info / "direct_url.json").write_text(json.dumps(direct_url))
    found = importlib.metadata.PathDistribution(info)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: found)
    monkeypatch.setattr(sys, "prefix", str(folder))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


@pytest.mark.parametrize(
    ("installer", "mark", "how", "removal"),
    [
        ("pip", "", "by pip", "{0}/python -m pip uninstall nsfwscan"),
        (None, "", "by pip", "{0}/python -m pip uninstall nsfwscan"),
        ("pip", "pipx_metadata.json", "by pipx", "pipx uninstall nsfwscan"),
        ("uv", "uv-receipt.toml", "by uv", "uv tool uninstall nsfwscan"),
        ("uv", "", "by uv", "uv pip uninstall --python {0}/python nsfwscan"),
    ],
)
def test_how_it_was_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installer: str | None, mark: str, how: str,
    removal: str,
) -> None:  # fmt: skip
    fake(monkeypatch, tmp_path, installer)
    if mark:
        (tmp_path / mark).touch()
    found = installation.find()
    assert found == (how, str(tmp_path), removal.format(tmp_path))


def test_an_editable_installation_names_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake(monkeypatch, tmp_path, "pip", {"url": "file:///x", "dir_info": {"editable": True}})
    source = os.path.dirname(os.path.dirname(installation.__file__))
    assert installation.find().how == f"by pip, from the source code in {source}"


def test_a_bundle_says_what_whoever_installed_it_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Call
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nsfwscan"))
    assert installation.find().removal == f"delete the folder {tmp_path}"
    (tmp_path / installation.REMOVE_NOTE).write_text("sudo apt remove nsfwscan\nmore\n")
    assert "To remove it: sudo apt remove nsfwscan\n" in call("self-uninstall").out


def test_source_code_that_nobody_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    source = os.path.dirname(os.path.dirname(installation.__file__))
    assert installation.find().removal == f"delete the folder {source}"


def test_what_an_extra_brings_is_named_without_nsfwscan_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package index may not have it, or have another program of that name."""
    listed = ["numpy>=2", 'onnx>=1.18; extra == "quantize"', "torch==2.14.1; extra == 'export'"]
    listed += ["timm>=1.0; extra == 'export'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: listed)
    pip = installation.installing("")
    assert installation.installing_extra("quantize") == f'{pip}"onnx>=1.18"'
    assert installation.installing_extra("export") == f'{pip}"torch==2.14.1" "timm>=1.0"'
    assert pip.startswith(sys.executable)

    def missing(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert installation.installing_extra("quantize") == f'{pip}".[quantize]"'


def test_the_store_still_clears_away_its_own(home: Path) -> None:
    """The names above are the store's; it uses them itself."""
    leftover = home / "models" / f"{STAGING}abc"
    leftover.mkdir(parents=True)
    with pytest.raises(Exception, match="no model"):
        ModelStore(str(home / "models")).remove("nothing")
    assert not leftover.exists()


def test_a_folder_that_cannot_be_listed_is_said_and_nothing_is_removed(
    call: Call, tiny: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: str) -> object:
        if path == str(home / "models"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        done = call("self-uninstall", "--purge", "--yes")
    assert (done.code, "models cannot be listed" in done.err) == (6, True)
    assert tiny.is_dir()


@pytest.mark.parametrize("arguments", [[], ["--purge", "--yes"]])
def test_what_cannot_be_looked_at_is_not_taken_for_absent(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    real, failing = os.stat, locations.config_file()
    Path(failing).write_text("")

    def stat(path: object, **options: bool) -> os.stat_result:
        if path == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), failing)
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    done = call("self-uninstall", *arguments)
    assert done.code == 6
    assert f"{failing} cannot be examined" in done.err
    assert tiny.exists()

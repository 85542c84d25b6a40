"""`nsfwscan scan`: what is printed and returned, whatever is in the folder."""

from __future__ import annotations

import base64
import contextlib
import csv
import errno
import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint
from conftest import Run as RunProcess
from shell import PROGRAM, Call, Done, start, without_privileges
from tiny_model import GREEN, ORANGE, RED

import nsfwscan.scanning.examine
from nsfwscan.cli.scan_run import exit_code
from nsfwscan.judge.policy import Policy
from nsfwscan.report.summary import Summary
from nsfwscan.values.actions import Act, ActionName, ActTally, Outcome
from nsfwscan.values.tally import ScanTally

pytestmark = pytest.mark.usefixtures("tiny")

FORMATS = ["table", "json", "jsonl", "csv", "paths0", "html"]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def pictures(tmp_path: Path, paint: Paint) -> Path:
    """A folder with one picture for each decision."""
    folder = tmp_path / "pictures"
    for name, colour in (("red", RED), ("orange", ORANGE), ("green", GREEN)):
        paint(folder / f"{name}.png", colour)
    return folder


def break_picture(path: Path) -> Path:
    """Write what is called a picture and is none."""
    path.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    return path


# Exit codes


@pytest.mark.parametrize(
    ("contents", "options", "code"),
    [
        ("green", [], 0),
        ("green orange", [], 0),
        ("green red", [], 1),
        ("green broken", [], 3),
        ("red broken", [], 1),
        ("green red broken", ["--exit-zero"], 0),
        ("green broken", ["--exit-zero"], 0),
        ("green broken", ["--flag-at", "0"], 1),
    ],
)
def test_the_exit_code_says_what_was_found(
    call: Call, tmp_path: Path, paint: Paint, contents: str, options: list[str], code: int
) -> None:
    colours = {"red": RED, "orange": ORANGE, "green": GREEN}
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in contents.split():
        if name == "broken":
            break_picture(folder / "broken.png")
        else:
            paint(folder / f"{name}.png", colours[name])
    done = call("scan", folder, *options)
    assert done.code == code
    pictures = len(contents.replace("broken", "").split())
    assert f"{pictures} picture" in done.err
    if "broken" in contents:
        assert " safe, 1 without a verdict." in done.err
        assert "broken.png" in done.out
    else:
        assert "without a verdict" not in done.err


def test_a_path_that_is_missing_does_not_stop_the_others(
    call: Call, pictures: Path, tmp_path: Path
) -> None:
    done = call("scan", tmp_path / "nowhere", pictures, tmp_path / "gone")
    assert done.code == 2
    for name in ("nowhere", "gone"):
        assert f"nsfwscan: {tmp_path}/{name} does not exist\n  check the spelling" in done.err
    assert "red.png" in done.out
    nothing = call("scan", "--exit-zero", tmp_path / "nowhere", tmp_path / "gone")
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.count("does not exist") == 2
    assert call("scan", pictures, "--exit-zero", "--model", "nothing").code == 4


def test_a_path_that_may_not_be_looked_at_is_not_said_to_be_missing(pictures: Path) -> None:
    (pictures / "locked" / "in").mkdir(parents=True)
    (pictures / "locked").chmod(0)
    done = subprocess.run(
        [*without_privileges(), *PROGRAM, "scan", pictures / "locked" / "in", pictures],
        capture_output=True,
        text=True,
        check=False,
    )
    (pictures / "locked").chmod(0o700)
    assert done.returncode == 2
    assert "locked/in cannot be reached: Permission denied" in done.stderr
    assert "does not exist" not in done.stderr
    assert "red.png" in done.stdout


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EIO, errno.ESTALE])
def test_a_dead_mount_does_not_stop_the_others(
    call: Call, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lstat, dead = os.lstat, str(tmp_path / "dead")

    def broken(path: str, **options: object) -> os.stat_result:
        if os.fspath(path) == dead:
            raise OSError(number, os.strerror(number))
        return lstat(path, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(os, "lstat", broken)
    done = call("scan", dead, pictures)
    assert done.code == 2
    assert f"dead cannot be reached: {os.strerror(number)}" in done.err
    assert "red.png" in done.out


@pytest.mark.parametrize(
    ("outcomes", "interrupted", "missing", "flagged", "failed", "exit_zero", "code"),
    [
        ((), True, 1, 1, 1, False, 130),
        ((Outcome.FAILED, Outcome.HELD_BACK), False, 0, 1, 1, True, 6),
        ((Outcome.FAILED,), False, 1, 1, 1, True, 2),
        ((), False, 1, 1, 1, True, 2),
        ((Outcome.HELD_BACK,), False, 0, 1, 1, True, 5),
        ((Outcome.HELD_BACK,), False, 1, 1, 1, False, 2),
        ((Outcome.DONE,), False, 0, 1, 1, False, 1),
        ((), False, 0, 0, 1, False, 3),
        ((), False, 0, 1, 1, True, 0),
        ((Outcome.WOULD, Outcome.LEFT), False, 0, 0, 0, False, 0),
    ],
)
def test_of_several_exit_codes_the_first_holds(
    outcomes: tuple[Outcome, ...],
    interrupted: bool,
    missing: int,
    flagged: int,
    failed: int,
    exit_zero: bool,
    code: int,
) -> None:
    tally, acts = ScanTally(nsfw=flagged, failed=failed), ActTally()
    for outcome in outcomes:
        acts.count(Act("/p.jpg", ActionName.TAG, outcome))
    summary = Summary(tally, tiny_model.manifest(b""), Policy(0.5, 0.8), 1.0, interrupted, acts)
    assert exit_code(summary, missing=missing, exit_zero=exit_zero) == code


def test_a_question_that_nobody_answers_exits_with_a_code_of_its_own(
    call: Call, pictures: Path, tmp_path: Path
) -> None:
    options = ("--limit-percent", "0", "--limit-files", "0", "--quarantine", tmp_path / "q")
    done = call("scan", "--action", "quarantine", *options, pictures)
    assert done.code == 5
    assert (pictures / "red.png").exists()


def test_a_path_means_scan(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert call(pictures, "-f", "jsonl").verdicts == call("scan", pictures, "-f", "jsonl").verdicts
    monkeypatch.chdir(pictures)
    for given in (".", "red.png", "../pictures", "./red.png"):
        assert call(given).code == 1, given
    for given in ("./nowhere", "/nowhere", "~/nowhere-at-all"):
        done = call(given)
        assert done.code == 2
        assert "does not exist" in done.err
    (pictures / "cache").mkdir()
    assert "Usage: nsfwscan cache" in call("cache").out  # a command goes before a path


def test_help_and_version_are_understood_as_words(call: Call) -> None:
    assert call("help").out == call("--help").out
    assert call("help", "scan").out == call("scan", "--help").out
    assert call("-V").out == call("version").out == call("--version").out
    assert "no such command" in call("help", "nothing").err


# Which files


def test_an_empty_folder_is_no_error_and_says_so(call: Call, tmp_path: Path) -> None:
    done = call("scan", tmp_path)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("No pictures were found (")


@pytest.mark.parametrize("given", ["", "nowhere", "pictures/red.png/below"])
def test_a_path_that_does_not_exist(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(pictures.parent)
    done = call("scan", given)
    assert (done.code, done.out) == (2, "")
    said = f"{given} does not exist" if given else "a path is empty"
    assert f"nsfwscan: {said}\n" in done.err


def test_nothing_to_scan(call: Call) -> None:
    done = call("scan")
    assert (done.code, done.out) == (2, "")
    assert "nothing to scan" in done.err
    assert "nsfwscan scan ~/Pictures" in done.err


def test_a_file_that_is_a_picture_whatever_it_is_called(
    call: Call, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "red.png", RED).rename(tmp_path / ".hidden.txt")
    done = call("scan", "-f", "jsonl", tmp_path / ".hidden.txt")
    assert (done.code, done.verdicts) == (1, {".hidden.txt": "nsfw"})


def test_a_file_that_is_no_picture_has_no_verdict(call: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    done = call("scan", "-f", "jsonl", tmp_path / "notes.txt")
    assert (done.code, done.verdicts) == (3, {"notes.txt": "unrecognised"})
    assert "1 without a verdict." in done.err


def test_what_is_in_a_folder_but_no_file(call: Call, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "green.png", GREEN)
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        with contextlib.chdir(tmp_path):  # such an address must be short
            listener.bind("socket.png")
        if os.geteuid() == 0:
            os.mknod(tmp_path / "device.png", 0o20666, os.makedev(1, 3))
        done = call("scan", "-f", "jsonl", tmp_path)
    others = {name: what for name, what in done.verdicts.items() if name != "green.png"}
    assert done.code == 0
    assert set(others.values()) == {"not-regular"}
    assert {"pipe.png", "socket.png"} <= set(others)
    details = {one["detail"] for one in done.records if one["detail"]}
    assert {"a named pipe", "a socket"} <= details
    assert f"{len(others)} pipes or devices" in done.err


def test_links_are_skipped_or_followed_once(call: Call, pictures: Path) -> None:
    (pictures / "loop").symlink_to(pictures, target_is_directory=True)
    (pictures / "again.png").symlink_to("red.png")
    (pictures / "gone.png").symlink_to("nothing")
    skipped = call("scan", "-f", "jsonl", pictures)
    assert skipped.verdicts | {"again.png": "symlink", "gone.png": "symlink"} == skipped.verdicts
    followed = call("scan", "-f", "jsonl", "--symlinks", "follow", pictures)
    assert followed.verdicts == {
        "red.png": "nsfw",
        "orange.png": "review",
        "green.png": "safe",
        "again.png": "nsfw",
        "gone.png": "vanished",
    }
    assert len(followed.records) == 5


def test_one_file_system(call: Call, pictures: Path, elsewhere: Path, paint: Paint) -> None:
    paint(elsewhere / "far.png", RED)
    (pictures / "other").symlink_to(elsewhere, target_is_directory=True)
    options = ("--format", "jsonl", "--symlinks", "follow")
    assert "far.png" in call("scan", *options, pictures).verdicts
    stayed = call("scan", *options, "--one-file-system", pictures)
    assert "far.png" not in stayed.verdicts
    assert stayed.verdicts["other"] == "other-file-system"
    assert call("scan", *options, "-x", elsewhere).verdicts == {"far.png": "nsfw"}


def test_hidden_files(call: Call, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / ".hidden.png", RED)
    paint(tmp_path / ".folder" / "in.png", RED)
    done = call("scan", tmp_path)
    assert done.code == 0
    assert "Not scanned: 2 hidden." in done.err
    assert call("scan", "--hidden", "-f", "jsonl", tmp_path).verdicts == {
        ".hidden.png": "nsfw",
        "in.png": "nsfw",
    }


def test_any_name(call: Call, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "red.png", RED).rename(tmp_path / "red.bin")
    (tmp_path / "notes.txt").write_text("no picture")
    done = call("scan", tmp_path)
    assert done.code == 0
    assert "Not scanned: 2 other files." in done.err
    found = call("scan", "--any-name", "-f", "jsonl", tmp_path)
    assert found.code == 1
    assert found.verdicts == {"red.bin": "nsfw", "notes.txt": "not-an-image"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--include", "*.jpg"], {"a.jpg", "b.jpg"}),
        (["--include", "*.jpg", "--include", "one/"], {"a.jpg", "b.jpg", "b.png"}),
        (["--exclude", "one/"], {"a.jpg", "a.png"}),
        (["--exclude", "/a.*"], {"b.jpg", "b.png"}),
        (["-i", "*.png", "-e", "b.*"], {"a.png"}),
        (["-e", "*", "-e", "!a.jpg"], {"a.jpg"}),
        (["-e", "one/**/deep.png", "-i", "*.png"], {"a.png", "b.png"}),
    ],
)
def test_include_and_exclude(
    call: Call, tmp_path: Path, paint: Paint, options: list[str], names: set[str]
) -> None:
    for name in ("a.jpg", "a.png", "one/b.jpg", "one/b.png"):
        paint(tmp_path / name, GREEN)
    done = call("scan", "-f", "jsonl", *options, tmp_path)
    assert done.code == 0
    assert set(done.verdicts) == names


def test_a_pattern_that_cannot_be_read(call: Call, pictures: Path) -> None:
    done = call("scan", "--exclude", "!", pictures)
    assert (done.code, done.out) == (2, "")
    assert "invalid pattern" in done.err


def test_max_size(call: Call, pictures: Path) -> None:
    with open(pictures / "red.png", "ab") as file:
        file.write(bytes(2000))
    done = call("scan", "-f", "jsonl", "--max-size", "1.5K", pictures)
    assert done.code == 0
    assert done.verdicts["red.png"] == "too-big"
    assert "Not scanned: 1 file over the size limit." in done.err


def test_a_named_file_over_the_limit_has_no_verdict(call: Call, pictures: Path) -> None:
    listed = pictures.parent / "list"
    listed.write_text(str(pictures / "red.png"))
    for given in ([pictures / "red.png"], ["--files-from", listed]):
        done = call("scan", "-f", "jsonl", "--max-size", "10", *given)
        assert (done.code, done.verdicts) == (3, {"red.png": "too-big"})
    assert "red.png" in call("scan", "--max-size", "10", pictures / "red.png").out


def test_what_include_leaves_out_is_counted(call: Call, pictures: Path) -> None:
    done = call("scan", "--include", "*.PNG", pictures)
    assert (done.code, done.out) == (0, "")
    assert "Not scanned: 3 not matching --include." in done.err


def test_what_is_no_picture_is_counted_by_kind(call: Call, pictures: Path) -> None:
    for name in ("a.nef", "b.CR2", "c.mp4", "d.zip", "notes.txt"):
        (pictures / name).write_bytes(b"x")
    done = call("scan", "-f", "json", pictures)
    assert "Not scanned: 1 archive, 2 camera raw files, 1 video, 1 other file." in done.err
    summary = json.loads(done.out)["summary"]
    assert summary["other_files"] == 5
    assert summary["other_kinds"] == {"camera-raw": 2, "video": 1, "archive": 1}


def test_files_that_are_named_get_a_line_whatever_their_score(call: Call, pictures: Path) -> None:
    done = call("scan", pictures / "green.png")
    assert done.code == 0
    assert re.search(r"^safe +0\.\d{3}  .*green\.png$", done.out, re.MULTILINE)
    again = call("scan", pictures / "green.png")  # also when it is known
    assert again.out == done.out
    assert "green" not in call("scan", pictures).out
    assert "green" not in call("scan", "--only", "flagged", pictures / "green.png").out
    assert call("scan", "-f", "paths0", pictures / "green.png").out == ""


def test_a_table_in_a_pipe_has_no_blanks_at_the_ends_of_lines(call: Call, pictures: Path) -> None:
    for arguments in (["scan", pictures], ["doctor"], ["models", "list"], ["cache", "stats"]):
        out = call(*arguments).out
        assert out
        assert not [line for line in out.splitlines() if line != line.rstrip()]


def test_several_roots_in_the_order_given_and_once_each(
    call: Call, tmp_path: Path, paint: Paint
) -> None:
    for name in ("b/1.png", "a/2.png"):
        paint(tmp_path / name, GREEN)
    done = call("scan", "-f", "jsonl", tmp_path / "b", tmp_path / "a", tmp_path / "b")
    assert [os.path.basename(one["path"]) for one in done.records] == ["1.png", "2.png"]


# Names


HOSTILE = [
    b"new\nline.png",
    b"\x1b[31mred\x1b[0m.png",
    b"latin-\xe9.png",
    b"-dash.png",
    "\u202egnp.exe.png".encode(),
    b'quo"te,comma.png',
    b"[bold]markup.png",
    "\u0085next\u2028line.png".encode(),
]


@pytest.fixture
def hostile(tmp_path: Path, paint: Paint) -> Path:
    """A folder of flagged pictures with names that try to do something."""
    folder = tmp_path / "hostile"
    for name in HOSTILE:
        paint(folder / "plain.png", RED)
        os.rename(folder / "plain.png", os.fsencode(folder) + b"/" + name)
    return folder


def test_hostile_names_in_a_table_stay_names(call: Call, hostile: Path) -> None:
    done = call("scan", hostile)
    assert done.code == 1
    rows = done.out.splitlines()
    assert len(rows) == 1 + len(HOSTILE)
    assert not any(sign in done.out for sign in ("\x1b", "\u202e", "\u0085", "\r"))
    for shown in ("new\\nline.png", "\\x1b[31mred\\x1b[0m.png", "latin-\\xe9.png"):
        assert any(row.rstrip().endswith(f"/{shown}") for row in rows)
    assert "[bold]markup.png" in done.out
    assert "\\u202egnp.exe.png" in done.out


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_hostile_names_come_through_whole(call: Call, hostile: Path, form: str) -> None:
    done = call("scan", "-f", form, hostile)
    records: list[dict[str, str]]
    if form == "csv":
        records = list(csv.DictReader(io.StringIO(done.out, newline="")))
    else:
        records = done.records if form == "jsonl" else json.loads(done.out)["results"]
    names = {
        base64.b64decode(one["path_base64"]) if one["path_base64"] else one["path"].encode()
        for one in records
    }
    assert {os.path.basename(name) for name in names} == set(HOSTILE)


def test_hostile_names_as_bare_paths(hostile: Path, nsfwscan: RunProcess) -> None:
    done = nsfwscan("scan", "-q", "-f", "paths0", hostile)
    paths = done.stdout.split(b"\0")
    assert paths.pop() == b""
    assert {os.path.basename(path) for path in paths} == set(HOSTILE)
    with contextlib.chdir(hostile):
        again = nsfwscan("scan", "-q", "-f", "paths0", "--", *HOSTILE)
    assert again.stdout.split(b"\0")[:-1] == HOSTILE
    assert again.stderr == b""


def test_hostile_names_in_errors(call: Call, tmp_path: Path) -> None:
    done = call("scan", tmp_path / "\x1b[31m\u202ex\n")
    assert done.code == 2
    assert "\\x1b[31m\\u202ex\\n does not exist" in done.err
    assert "\x1b" not in done.err


# Things that change


def read_after(
    monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Path], object]
) -> None:
    """Let `change` happen after the folder is listed and before the file `name` is read."""
    read = nsfwscan.scanning.examine.read_picture

    def read_changed(path: str, *, follow: bool, max_bytes: int) -> object:
        if os.path.basename(path) == name:
            change(Path(path))
        return read(path, follow=follow, max_bytes=max_bytes)

    monkeypatch.setattr(nsfwscan.scanning.examine, "read_picture", read_changed)


def test_a_picture_deleted_during_the_scan(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_after(monkeypatch, "orange.png", Path.unlink)
    done = call("scan", "-f", "jsonl", pictures)
    assert done.code == 1
    assert done.verdicts == {"red.png": "nsfw", "orange.png": "vanished", "green.png": "safe"}


def test_a_picture_replaced_during_the_scan_is_judged_as_it_is_now(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, paint: Paint
) -> None:
    with monkeypatch.context() as patched:
        read_after(patched, "green.png", lambda path: paint(path, RED))
        assert call("scan", "-f", "jsonl", pictures).verdicts["green.png"] == "nsfw"
    assert call("scan", "-f", "jsonl", pictures).verdicts["green.png"] == "nsfw"


def test_a_picture_that_keeps_growing_has_no_verdict(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstat = os.fstat

    def grow(file: int) -> os.stat_result:
        found = fstat(file)
        if found.st_ino == (pictures / "green.png").stat().st_ino:
            with open(pictures / "green.png", "ab") as growing:
                growing.write(b"more")
        return found

    monkeypatch.setattr(os, "fstat", grow)
    done = call("scan", "-f", "jsonl", pictures / "green.png")
    assert (done.code, done.verdicts) == (3, {"green.png": "changed-while-reading"})


def test_unreadable_folders_and_files(pictures: Path) -> None:
    (pictures / "locked").mkdir(mode=0)
    (pictures / "red.png").chmod(0)
    done = subprocess.run(
        [*without_privileges(), *PROGRAM, "scan", "-f", "jsonl", pictures],
        capture_output=True,
        check=False,
    )
    (pictures / "locked").chmod(0o700)
    text = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert text.code == 3
    assert text.verdicts == {
        "red.png": "unreadable",
        "locked": "unreadable",
        "orange.png": "review",
        "green.png": "safe",
    }
    assert {one["detail"] for one in text.records if one["detail"]} == {"Permission denied"}
    assert ", 1 without a verdict.\n1 folder could not be opened.\n" in text.err


# Lists of files


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("given", ["file", "-"])
def test_files_from(
    tmp_path: Path, pictures: Path, nsfwscan: RunProcess, given: str, null: bool
) -> None:
    end = b"\0" if null else b"\n"
    names = [b"red.png", b"missing.png", b"", b"green.png"]
    listed = end.join(os.fsencode(pictures) + b"/" + name if name else b"" for name in names)
    (tmp_path / "list").write_bytes(listed)
    options = ["-f", "jsonl", "--files-from", tmp_path / "list" if given == "file" else "-"]
    done = nsfwscan("scan", *options, *(["-0"] if null else []), stdin=listed)
    text = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert (text.code, list(text.verdicts.items())) == (
        1,
        [("red.png", "nsfw"), ("missing.png", "vanished"), ("green.png", "safe")],
    )


def test_files_from_beside_paths(call: Call, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "list").write_text(f"{pictures}/red.png\n")
    done = call("scan", "-f", "jsonl", pictures / "green.png", "--files-from", tmp_path / "list")
    assert list(done.verdicts) == ["green.png", "red.png"]


@pytest.mark.parametrize(("name", "why"), [("nowhere", "No such file"), (".", "Is a directory")])
def test_files_from_what_cannot_be_read(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("scan", "--files-from", name)
    assert done.code == 2
    assert f"cannot read {name}: {why}" in done.err


# Output


def test_only(call: Call, pictures: Path) -> None:
    break_picture(pictures / "broken.png")

    def names(*only: str) -> set[str]:
        options = [option for which in only for option in ("--only", which)]
        done = call("scan", "-f", "jsonl", *options, pictures)
        assert done.code == 1
        return set(done.verdicts)

    assert names("flagged") == {"red.png"}
    assert names("review") == {"orange.png"}
    assert names("failed") == {"broken.png"}
    assert names("flagged", "failed") == {"red.png", "broken.png"}
    assert names("all") == names() == {"red.png", "orange.png", "green.png", "broken.png"}
    assert names("all", "failed") == names()


def test_each_format_shows_what_one_expects_of_it(call: Call, pictures: Path) -> None:
    table = call("scan", pictures)
    assert [row.split()[0] for row in table.out.splitlines()] == ["decision", "nsfw", "review"]
    document = json.loads(call("scan", "-f", "json", pictures).out)
    assert document["schema_version"] == 1
    assert [one["decision"] for one in document["results"]] == ["safe", "review", "nsfw"]
    assert document["summary"]["flagged"] == 1
    assert document["summary"]["interrupted"] is False
    assert len(call("scan", "-f", "jsonl", pictures).records) == 3
    rows = list(csv.DictReader(io.StringIO(call("scan", "-f", "csv", pictures).out)))
    assert [row["decision"] for row in rows] == ["safe", "review", "nsfw"]
    assert call("scan", "-f", "paths0", pictures).out == f"{pictures}/red.png\0"


@pytest.mark.parametrize("form", FORMATS)
def test_output_of_nothing_is_still_well_formed(call: Call, tmp_path: Path, form: str) -> None:
    done = call("scan", "-f", form, tmp_path)
    assert done.code == 0
    if form == "json":
        assert json.loads(done.out)["results"] == []
    elif form == "html":
        assert done.out.startswith("<!doctype html>")
        assert done.out.endswith("</html>\n")
    else:
        assert done.out.splitlines()[1:] == []
        assert done.out.startswith("path,") == (form == "csv")


def test_output_to_a_file(call: Call, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    done = call("scan", "-q", "-f", "json", "-o", tmp_path / "link.json", pictures)
    assert done == Done(1, "", "")
    assert len(json.loads((tmp_path / "real.json").read_bytes())["results"]) == 3
    assert (tmp_path / "link.json").is_symlink()
    assert {one.name for one in tmp_path.iterdir()} == {"link.json", "real.json", "pictures"}


def test_output_keeps_what_was_there_when_the_scan_cannot_run(
    call: Call, tmp_path: Path, pictures: Path
) -> None:
    (tmp_path / "result").write_text("old")
    done = call("scan", "-o", tmp_path / "result", "--model", "nothing", pictures)
    assert done.code == 4
    assert (tmp_path / "result").read_text() == "old"
    assert {one.name for one in tmp_path.iterdir()} == {"result", "pictures"}


@pytest.mark.parametrize(
    ("output", "why", "hint", "code"),
    [
        ("nowhere/result", "No such file or directory", "check the path: its folder", 2),
        ("pictures", "Is a directory", "check the path", 2),
        ("/dev/full", "No space left on device", "check the free disk space", 6),
    ],
)
def test_output_that_cannot_be_written(
    call: Call,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    why: str,
    hint: str,
    code: int,
) -> None:
    monkeypatch.chdir(pictures.parent)
    done = call("scan", "-o", output, pictures)
    assert (done.code, done.out) == (code, "")
    assert f"nsfwscan: cannot write {output}: {why}\n  {hint}" in done.err


def test_output_to_a_device_leaves_the_device(nsfwscan: RunProcess, pictures: Path) -> None:
    done = nsfwscan("scan", "-q", "-f", "paths0", "-o", "/dev/stdout", pictures)
    assert done.stdout == os.fsencode(pictures / "red.png") + b"\0"
    assert nsfwscan("scan", "-q", "-o", os.devnull, pictures).returncode == 1
    assert not os.path.isfile(os.devnull)


def test_output_when_the_disk_fills_up(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "result").write_text("old")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    options = ("-f", "json", "--no-cache", "-o", tmp_path / "result")
    with start("scan", *options, pictures, before=limit) as scan:
        _, err = scan.communicate(timeout=30)
    assert scan.returncode == 6
    assert b"cannot write " in err
    assert b"File too large" in err
    assert b"Traceback" not in err
    assert (tmp_path / "result").read_text() == "old"
    assert {one.name for one in tmp_path.iterdir()} == {"result", "pictures"}


def test_quiet(call: Call, pictures: Path, home: Path) -> None:
    done = call("scan", "--quiet", pictures)
    assert (done.code, done.err) == (1, "")
    assert "red.png" in done.out


# Earlier results


def test_a_new_threshold_costs_no_inference(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call("scan", "-f", "jsonl", pictures)
    assert set(first.origins.values()) == {"model"}
    monkeypatch.setattr("nsfwscan.scanning.engine.Engine.examine", _must_not_be_called)
    second = call("scan", "-f", "jsonl", "--flag-at", "0.6", pictures)
    assert set(second.origins.values()) == {"cache"}
    assert second.verdicts == {"red.png": "nsfw", "orange.png": "nsfw", "green.png": "safe"}
    assert "2 flagged, 0 to review, 1 safe." in second.err
    lenient = call("scan", "-f", "jsonl", "--flag-at", "1", "--review-at", "0.9", pictures)
    assert lenient.code == 0
    assert lenient.verdicts == {"red.png": "review", "orange.png": "safe", "green.png": "safe"}


def _must_not_be_called(*_arguments: object) -> None:
    raise AssertionError("a picture was scored again")


def test_no_cache_neither_reads_nor_writes(call: Call, pictures: Path, home: Path) -> None:
    for _ in range(2):
        done = call("scan", "-f", "jsonl", "--no-cache", pictures)
        assert set(done.origins.values()) == {"model"}
    assert not (home / "library.sqlite3").exists()
    call("scan", pictures)
    assert set(call("scan", "-f", "jsonl", "--no-cache", pictures).origins.values()) == {"model"}


def test_rescan_scores_again_and_remembers(call: Call, pictures: Path) -> None:
    call("scan", pictures)
    again = call("scan", "-f", "jsonl", "--rescan", pictures)
    assert set(again.origins.values()) == {"model"}
    assert set(call("scan", "-f", "jsonl", pictures).origins.values()) == {"cache"}


def test_failures_are_remembered_until_retried(call: Call, tmp_path: Path) -> None:
    break_picture(tmp_path / "broken.png")
    origins = []
    for options in ([], [], ["--retry-failed"]):
        done = call("scan", "-f", "jsonl", *options, tmp_path)
        assert done.code == 3
        origins.append(done.origins["broken.png"])
    assert origins == ["model", "cache", "model"]


def test_two_scans_at_once_in_one_home_both_give_all_results(pictures: Path, paint: Paint) -> None:
    for number in range(40):
        paint(pictures / f"{number}.png", GREEN)
    scans = [start("scan", "-f", "jsonl", pictures) for _ in range(2)]
    for scan in scans:
        out, err = scan.communicate(timeout=60)
        assert (scan.returncode, len(out.splitlines())) == (1, 43)
        assert b"locked" not in err
        assert b"43 pictures" in err


def test_a_home_that_cannot_be_written_costs_one_warning(pictures: Path, home: Path) -> None:
    home.chmod(0o500)
    done = subprocess.run(
        [*without_privileges(), *PROGRAM, "scan", pictures], capture_output=True, check=False
    )
    home.chmod(0o700)
    assert done.returncode == 1
    warnings = [line for line in done.stderr.decode().splitlines() if line.startswith("nsfwscan:")]
    assert len(warnings) == 1
    assert "Permission denied" in warnings[0]
    assert "its results will not be cached" in warnings[0]
    assert b"3 pictures in " in done.stderr


# Models


def test_offline_with_nothing_installed(call: Call, pictures: Path, tiny: Path) -> None:
    tiny.rename(tiny.with_name(".gone"))
    done = call("scan", "--offline", pictures)
    assert (done.code, done.out) == (4, "")
    assert "no model is installed, and the network must not be used" in done.err
    assert "--offline" in done.err.splitlines()[1]


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        ("nothing", "no model 'nothing' is installed", "installed: tiny-1"),
        ("./nothing", "nothing is not a model package", ""),
        (
            "falconsai",
            "falconsai is not installed, and the network must not be used",
            "models add",
        ),
    ],
)
def test_a_model_that_is_not_there(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str, hint: str
) -> None:
    monkeypatch.chdir(pictures)
    done = call("scan", "--offline", "--model", model, pictures)
    assert (done.code, done.out) == (4, "")
    assert message in done.err.splitlines()[0]
    assert hint in done.err.splitlines()[1]


def test_a_model_by_its_path(call: Call, pictures: Path, tiny: Path, tmp_path: Path) -> None:
    tiny.rename(tmp_path / "elsewhere")
    done = call("scan", "--offline", "-m", tmp_path / "elsewhere", pictures)
    assert done.code == 1
    assert "Model: tiny-1 (review from " in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "many"], "invalid value for '--jobs'"),
        (["--jobs", "-1"], "invalid value for '--jobs'"),
        (["--threads", "1.5"], "invalid value for '--threads'"),
        (
            ["--format", "xml"],
            "'xml' is not one of 'table', 'json', 'jsonl', 'csv', 'paths0', 'html'",
        ),
        (
            ["--only", "safe"],
            "'safe' is not one of 'flagged', 'review', 'partial', 'failed', 'all'",
        ),
        (["--flag-at", "high"], "invalid value for '--flag-at'"),
        (["--flag-at", "2"], "2 is not between 0 and 1"),
        (["--flag-at", "nan"], "'nan' is not a number"),
        (["--review-at", "-0.1"], "-0.1 is not between 0 and 1"),
        (["--flag-at", "0.3", "--review-at", "0.4"], "review threshold 0.4 is above the flag"),
        (["--max-size", "1x"], "'1x' is not a size"),
        (["--provider", "gpu"], "invalid value for '--provider'"),
        (["--symlinks", "maybe"], "invalid value for '--symlinks'"),
        (["--no-such"], "no such option: --no-such"),
        (["--model"], "option '--model' requires an argument"),
    ],
)
def test_a_wrong_option(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    done = call("scan", pictures, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    first, *hints = done.err.splitlines()
    assert first.startswith("nsfwscan: ")
    assert all(hint.startswith("  ") for hint in hints)


def test_a_command_that_is_misspelt(call: Call) -> None:
    done = call("sacn", "folder")
    assert (done.code, done.out) == (2, "")
    assert "Did you mean 'scan'?" in done.err


# The streams a shell hands over


@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_that_has_seen_enough(pictures: Path, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start("scan", "-q", "-f", form, pictures, stdout=writer) as scan:
        os.close(writer)
        _, err = scan.communicate(timeout=30)
    assert (scan.returncode, err) == (141, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["models", "list"], ["cache", "export"]])
def test_other_commands_and_a_reader_that_has_seen_enough(
    call: Call, pictures: Path, arguments: list[str]
) -> None:
    call("scan", pictures)
    reader, writer = os.pipe()
    os.close(reader)
    with start(*arguments, stdout=writer) as command:
        os.close(writer)
        _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (141, b"")


def shell(line: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which `"$@"` is the command line with `arguments`."""
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", *PROGRAM, *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirect", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_standard_output_that_takes_nothing(
    pictures: Path, form: str, redirect: str, why: str
) -> None:
    done = shell(f'"$@" {redirect}', "scan", "-q", "-f", form, pictures)
    assert done.returncode == 6
    message = f"nsfwscan: cannot write standard output: {why}\n"
    assert done.stderr.decode().startswith(message)
    assert done.stderr.count(b"\n") == 2


def test_version_on_a_full_disk() -> None:
    done = shell('"$@" >/dev/full', "--version")
    assert done.returncode == 6
    assert done.stderr.startswith(b"nsfwscan: cannot write standard output")


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_the_other_streams_do_not_matter(pictures: Path, redirect: str) -> None:
    done = shell(f'"$@" {redirect}', "scan", "-f", "paths0", pictures)
    assert (done.returncode, done.stdout) == (1, os.fsencode(pictures / "red.png") + b"\0")


def test_closed_streams_leave_the_library_alone(pictures: Path, nsfwscan: RunProcess) -> None:
    """A warning must not go into whatever file took the number of the closed stream."""
    done = shell('"$@" <&- >&- 2>&-', "scan", "-f", "jsonl", pictures)
    assert done.returncode == 6
    done = shell('"$@" <&- >/dev/null 2>&-', "scan", "-f", "jsonl", pictures)
    assert done.returncode == 1
    verified = nsfwscan("cache", "verify")
    assert verified.returncode == 0, verified.stdout


def test_a_dumb_and_narrow_terminal_cuts_nothing_in_a_pipe(
    pictures: Path, nsfwscan: RunProcess
) -> None:
    done = nsfwscan("scan", "-q", pictures, env={"TERM": "dumb", "COLUMNS": "20"})
    assert os.fsencode(pictures / "red.png") in done.stdout
    assert b"\x1b" not in done.stdout


def test_an_environment_without_a_home_or_a_language(pictures: Path, tiny: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "scan", "-q", "-m", tiny, "--no-cache", pictures],
        env={"LC_ALL": "C", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert os.fsencode(pictures / "red.png") in done.stdout

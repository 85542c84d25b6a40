"""`allow`, `deny` and `rulings` as a person uses them, and what becomes of decisions afterwards."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pictures
import pytest
import tiny_model
from conftest import Paint, settle
from shell import Call, own_mounts, start, without_privileges

import nsfwscan
from nsfwscan.judge import RulingBook
from nsfwscan.media.discover import DEFAULT_MAX_BYTES
from nsfwscan.system import locations
from nsfwscan.system.journal import Journal
from nsfwscan.values.results import Ruling

NO_ONE = "-"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def folder(tmp_path: Path, paint: Paint, tiny: Path) -> Path:
    """Return a folder with pictures that are safe, to review, not safe, and broken."""
    assert tiny.is_dir()
    place = tmp_path / "pictures"
    paint(place / "green.png", tiny_model.GREEN)
    paint(place / "orange.png", tiny_model.ORANGE)
    paint(place / "red.png", tiny_model.RED)
    (place / "broken.jpg").write_bytes(pictures.encode(pictures.photo(), "JPEG")[:900])
    return place


def photo(path: Path, *, seed: int = 0, size: tuple[int, int] = (400, 300), **how: object) -> Path:
    """Write one of the generated photographs, which have a likeness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    path.write_bytes(pictures.encode(pictures.photo(*size, seed=seed), kind, **how))
    settle(path)
    return path


def deciders(call: Call, *arguments: str | Path) -> dict[str, tuple[str | None, str | None]]:
    """Scan, and return (decision, who decided) by the names of the files."""
    records = call("scan", "--offline", "--format", "jsonl", *arguments).records
    return {os.path.basename(one["path"]): (one["decision"], one["decided_by"]) for one in records}


def test_allow_and_deny_go_before_the_model_which_still_says_its_score(
    call: Call, folder: Path
) -> None:
    before = call("scan", "--offline", "--format", "jsonl", folder).records
    assert {one["decided_by"] for one in before} == {"model", None}
    done = call("deny", folder / "green.png")
    assert (done.code, done.out) == (0, "1 picture denied.\n")
    assert call("allow", folder / "red.png").out == "1 picture allowed.\n"
    after = call("scan", "--offline", "--format", "jsonl", folder)
    assert after.verdicts == {
        "green.png": "nsfw",
        "orange.png": "review",
        "red.png": "safe",
        "broken.jpg": "truncated",
    }
    assert deciders(call, folder)["green.png"] == ("nsfw", "person")
    assert [one["nsfw_score"] for one in after.records] == [one["nsfw_score"] for one in before]
    assert [one["thresholds"] for one in after.records] == [one["thresholds"] for one in before]
    assert "2 of these have rulings: 1 allowed, 1 denied." in after.err


def test_a_decision_outlives_everything_but_a_change_of_mind(
    call: Call, folder: Path, home: Path, paint: Paint
) -> None:
    call("deny", folder / "green.png")
    call("allow", folder / "red.png")
    os.rename(folder / "green.png", folder / "renamed.png")
    shutil.move(folder / "red.png", folder.parent / "elsewhere.png")
    other = tiny_model.write_package(str(home / "other-model"))
    for arguments in (
        (),
        ("--rescan",),
        ("--no-cache",),
        ("--flag-at", "1", "--review-at", "1"),
        ("--flag-at", "0", "--review-at", "0"),
        ("--model", other),
    ):
        found = deciders(call, *arguments, folder, folder.parent / "elsewhere.png")
        assert found["renamed.png"] == ("nsfw", "person"), arguments
        assert found["elsewhere.png"] == ("safe", "person"), arguments
        call("cache", "clear", "--yes")
    assert call("rulings", "forget", folder / "renamed.png").out == "1 ruling withdrawn.\n"
    assert deciders(call, folder)["renamed.png"] == ("safe", "model")


def test_the_later_decision_holds_and_the_output_says_what_changed(
    call: Call, folder: Path
) -> None:
    red = folder / "red.png"
    assert call("allow", red).out == "1 picture allowed.\n"
    assert call("allow", red).out == "0 pictures allowed; 1 already allowed.\n"
    done = call("deny", red)
    assert done.out == "1 picture denied; 1 previously allowed.\n"
    assert done.err.startswith(f"{red} was allowed on ")
    assert done.err.endswith(" and is now denied.\n")
    assert deciders(call, folder)["red.png"] == ("nsfw", "person")
    call("allow", red)
    assert deciders(call, folder)["red.png"] == ("safe", "person")
    assert len(call("rulings", "list").out.splitlines()) == 2


def test_a_decision_about_a_folder_names_the_single_ones_that_it_turns(
    call: Call, folder: Path
) -> None:
    call("deny", folder / "red.png")
    done = call("allow", folder)
    assert done.out == "4 pictures allowed; 1 previously denied.\n"
    assert str(folder / "red.png") in done.err
    assert deciders(call, folder)["red.png"] == ("safe", "person")


def test_what_is_no_picture_is_refused_and_what_is_one_is_decided_about(
    call: Call, folder: Path
) -> None:
    (folder / "readme.txt").write_text("read me")
    (folder / "list.jpg").write_text("eggs, milk")
    done = call("deny", folder / "readme.txt")
    assert (done.code, done.out) == (2, "0 pictures denied.\n")
    assert f"no ruling about {folder / 'readme.txt'}: it is not a picture" in done.err
    done = call("deny", folder / "readme.txt", folder / "red.png")
    assert (done.code, done.out) == (2, "1 picture denied.\n")
    done = call("deny", folder)
    assert (done.code, done.out) == (
        0,
        "3 pictures denied; 1 already denied.\n",
    )
    assert "Left out: 1 file with a picture's name but no picture inside." in done.err
    listed = call("rulings", "list").out
    assert "readme.txt" not in listed
    assert "list.jpg" not in listed


def test_taking_back_by_folder_finds_all_that_was_decided_below_it(
    call: Call, folder: Path, home: Path
) -> None:
    call("deny", folder)
    (folder / "red.png").unlink()  # gone
    (folder / "green.png").write_bytes((folder / "green.png").read_bytes() + b"edited")
    assert call("rulings", "forget", folder).out == "4 rulings withdrawn.\n"
    assert str(folder) not in (home / "rulings.jsonl").read_text()
    call("deny", folder)
    shutil.rmtree(folder)
    assert call("rulings", "forget", folder).out == "3 rulings withdrawn.\n"


@pytest.mark.parametrize("command", [("allow",), ("deny",), ("rulings", "forget")])
@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_can_be_no_path_is_refused_in_a_sentence(
    call: Call, command: tuple[str, ...], path: str
) -> None:
    done = call(*command, path)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)


def test_a_deleted_working_folder_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def getcwd() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", getcwd)
    for command in (("allow",), ("deny",), ("rulings", "forget"), ("watch", "--once")):
        done = call(*command, "x.jpg")
        assert (done.code, "the current folder no longer exists" in done.err) == (2, True)


def test_each_help_says_when_it_asks(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert "more than 20 pictures" in call("allow", "--help").out
    assert "more than 20 pictures" not in call("rulings", "repair", "--help").out


def test_the_table_names_a_person_only_where_there_was_one(call: Call, folder: Path) -> None:
    assert "decided by" not in call("scan", "--offline", folder).out
    call("deny", folder / "green.png", folder / "broken.jpg")
    done = call("scan", "--offline", folder)
    assert done.code == 1
    header, *rows = done.out.splitlines()
    assert header.split() == ["decision", "score", "decided", "by", "picture"]
    assert rows[0].split()[:2] == ["nsfw", NO_ONE]
    assert "a person (no score: truncated)" in rows[0]
    assert [row.split()[0] for row in rows] == ["nsfw", "nsfw", "review", "nsfw"]
    listed = call("scan", "--offline", "--format", "paths0", folder).out.split("\0")
    assert {os.path.basename(one) for one in listed} == {"green.png", "red.png", "broken.jpg", ""}


@pytest.mark.parametrize(("word", "code"), [("allow", 0), ("deny", 1)])
def test_content_that_cannot_be_decoded_can_be_decided_about(
    call: Call, folder: Path, word: str, code: int
) -> None:
    assert call("scan", "--offline", folder / "broken.jpg").code == 3
    done = call(word, "--near", folder / "broken.jpg")
    assert done.code == 0
    assert "broken.jpg covers its exact content only: it cannot be decoded (truncated)" in done.err
    assert call("scan", "--offline", folder / "broken.jpg").code == code


def test_a_folder_is_every_picture_below_and_many_are_asked_about(
    call: Call, folder: Path, paint: Paint
) -> None:
    (folder / "notes.txt").write_text("no picture")
    assert call("deny", folder).out == "4 pictures denied.\n"
    for at in range(20):
        paint(folder / "more" / f"{at}.png", tiny_model.GREEN)
    done = call("allow", folder)
    assert done.code == 2
    assert "this would allow 24 pictures" in done.err
    assert "--yes" in done.err
    assert call("allow", "--yes", folder).out.startswith("24 pictures allowed")
    found = deciders(call, folder)
    assert set(found.values()) == {("safe", "person")}
    assert call("rulings", "forget", folder / "more").out == "20 rulings withdrawn.\n"


def test_a_wrong_path_decides_nothing_at_all(call: Call, folder: Path, home: Path) -> None:
    done = call("deny", folder / "green.png", folder / "missing.png")
    assert done.code == 2
    assert "missing.png does not exist" in done.err
    assert not (home / "rulings.jsonl").exists()
    assert call("deny").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
def test_what_cannot_be_read_is_named_and_the_rest_decided(folder: Path) -> None:
    os.chmod(folder / "red.png", 0)
    os.truncate(folder / "orange.png", 0)
    program = [*without_privileges(), sys.executable, "-m", "nsfwscan"]
    done = subprocess.run(
        [*program, "deny", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (3, "2 pictures denied.\n")
    assert f"no ruling about {folder / 'red.png'}: unreadable" in done.stderr
    assert f"no ruling about {folder / 'orange.png'}: empty" in done.stderr


# Likenesses


def test_near_finds_the_same_picture_in_another_size_quality_and_format(
    call: Call, tmp_path: Path, tiny: Path
) -> None:
    place = tmp_path / "photos"
    original = photo(place / "original.jpg", quality=90)
    photo(place / "small.jpg", size=(200, 150), quality=60)
    photo(place / "large.png", size=(800, 600))
    photo(place / "other.jpg", seed=3)
    assert set(deciders(call, place).values()) == {("safe", "model")}
    done = call("deny", "--near", original)
    assert done.out == "1 picture denied, and any that look the same (within 6 bits).\n"
    records = {
        os.path.basename(one["path"]): one
        for one in call("scan", "--offline", "-f", "jsonl", place).records
    }
    assert {name: one["decision"] for name, one in records.items()} == {
        "original.jpg": "nsfw",
        "small.jpg": "nsfw",
        "large.png": "nsfw",
        "other.jpg": "safe",
    }
    assert records["original.jpg"]["near"] is None
    near = records["small.jpg"]["near"]
    assert near["sha256"] == records["original.jpg"]["sha256"]
    assert 0 <= near["distance"] <= 6
    table = call("scan", "--offline", place).out
    assert f"a person, for a similar picture ({original})" in table
    call("allow", place / "small.jpg")
    found = deciders(call, place)
    assert found["small.jpg"] == ("safe", "person"), "the content itself goes first"
    assert found["large.png"] == ("nsfw", "person")
    assert "6 bits" in call("rulings", "list").out
    call("rulings", "forget", original)
    assert deciders(call, place)["large.png"] == ("safe", "model")


def test_what_has_no_likeness_is_said(call: Call, folder: Path, tmp_path: Path) -> None:
    moving = tmp_path / "moving.gif"
    moving.write_bytes(pictures.animation("GIF", 3))
    done = call("deny", "--near", folder / "green.png", moving)
    assert done.out == "2 pictures denied.\n"
    assert "green.png covers its exact content only: it is so plain" in done.err
    assert "moving.gif covers its exact content only: it has several frames" in done.err
    assert call("deny", "--near", "--within", "17", moving).code == 2


# Looking after them


def test_decisions_are_listed_exported_and_taken_over_elsewhere(
    call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(folder / "photo.jpg")
    call("deny", folder / "green.png")
    call("allow", "--near", folder / "photo.jpg")
    listed = call("rulings", "list").out
    assert [line.split()[0] for line in listed.splitlines()] == ["ruling", "denied", "allowed"]
    assert str(folder / "green.png") in listed
    exported = call("rulings", "export").out
    assert [json.loads(line)["entry"] for line in exported.splitlines()] == ["denied", "allowed"]
    file = tmp_path / "decisions.jsonl"
    file.write_text(exported)
    assert call("rulings", "import", file).out == (
        "0 rulings imported, 2 skipped (already known or older than yours).\n"
    )
    monkeypatch.setenv("NSFWSCAN_HOME", str(tmp_path / "elsewhere"))
    assert call("rulings", "import", file).out.startswith("2 rulings imported, 0 ")
    assert call("rulings", "export").out == exported
    assert call("rulings", "path").out.strip() == str(tmp_path / "elsewhere" / "rulings.jsonl")


def test_an_older_decision_from_elsewhere_does_not_turn_yours(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    call("deny", folder / "green.png")
    record = json.loads(call("rulings", "export").out)
    for at, expected in ((record["at"] - 9, "nsfw"), (record["at"] + 9, "safe")):
        file = tmp_path / "decisions.jsonl"
        file.write_text(json.dumps({**record, "entry": "allowed", "at": at}))
        call("rulings", "import", file)
        assert deciders(call, folder)["green.png"] == (expected, "person")


@pytest.mark.parametrize("size", [700, 64])
def test_a_large_picture_is_decided_about_by_its_content(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("nsfwscan.scanning.ruling_files.DEFAULT_MAX_BYTES", 600)
    big, other = tmp_path / "pictures" / "big.png", tmp_path / "pictures" / "big.tif"
    photo(big, size=(size, size))
    other.write_bytes(bytes(2000))
    done = call("deny", big, other)
    assert done.code == 2
    assert f"no ruling about {other}: it is not a picture" in done.err
    assert "1 picture denied." in done.out
    (record,) = map(json.loads, call("rulings", "export").out.splitlines())
    assert record["sha256"] == hashlib.sha256(big.read_bytes()).hexdigest()
    assert call("allow", tmp_path / "pictures").out.startswith("1 picture allowed")
    done = call("deny", "--near", big)
    assert "covers its exact content only: it is too large to be decoded" in done.err
    assert call("rulings", "forget", big).code == 0
    assert call("rulings", "export").out == ""


def test_a_folder_with_a_picture_above_the_limit_of_scans_leaves_none_out(
    call: Call, tmp_path: Path
) -> None:
    big = tmp_path / "pictures" / "big.png"
    photo(big)
    os.truncate(big, DEFAULT_MAX_BYTES + 1)
    done = call("deny", big.parent)
    assert (done.code, done.out) == (0, "1 picture denied.\n")


def test_many_decisions_are_only_taken_back_after_a_question(call: Call, tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    for number in range(21):
        pictures_path = place / f"{number}.jpg"
        pictures_path.parent.mkdir(exist_ok=True)
        pictures_path.write_bytes(pictures.encode(pictures.photo(32, 24, seed=number), "JPEG"))
    assert call("allow", "--yes", place).code == 0
    before = call("rulings", "export").out
    assert len(before.splitlines()) == 21
    done = call("rulings", "forget", place)
    assert done.code == 2
    assert "this would withdraw 21 rulings" in done.err
    assert call("rulings", "export").out == before
    assert call("rulings", "forget", "--yes", place).out == "21 rulings withdrawn.\n"


def test_a_picture_that_is_allowed_loses_the_marks_of_an_earlier_scan(
    call: Call, folder: Path
) -> None:
    red = folder / "red.png"
    sidecar = folder / "red.png.xmp"
    assert call("scan", "--action", "tag", "--offline", red).code == 1
    assert b'decision="nsfw"' in sidecar.read_bytes()
    assert call("allow", red).code == 0
    assert not sidecar.exists()
    sidecar.write_bytes(b"notes of another program")
    assert call("allow", red).code == 0
    assert sidecar.read_bytes() == b"notes of another program"


def test_taking_over_never_revives_what_was_taken_back(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    call("deny", folder / "green.png")
    file = tmp_path / "decisions.jsonl"
    file.write_text(call("rulings", "export").out)
    call("rulings", "forget", folder / "green.png")
    done = call("rulings", "import", file)
    assert done.out == "0 rulings imported, 1 skipped (already known or older than yours).\n"
    assert call("rulings", "export").out == ""


@pytest.mark.parametrize("at", [2**62, 10**12, 2**63 - 1])
def test_a_decision_without_a_date_is_not_taken_over_and_never_breaks_the_list(
    call: Call, tmp_path: Path, home: Path, at: int
) -> None:
    record: dict[str, Any] = {
        "entry": "denied",
        "sha256": "ab" * 32,
        "at": at,
        "path": "/a\ud800.jpg",
    }
    file = tmp_path / "decisions.jsonl"
    file.write_text(json.dumps(record))
    done = call("rulings", "import", file)
    assert done.code == 2
    assert "line 1 of" in done.err
    assert call("rulings", "export").out == ""
    Journal(str(home / "rulings.jsonl")).append(record)
    listed = call("rulings", "list")
    assert (listed.code, listed.err) == (0, "")
    assert "denied  ?" in listed.out
    assert call("rulings", "export").code == 0
    assert call("rulings", "forget", "ab" * 8).code == 0


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"entry": "allowed"}', '{"entry": "forgotten", "at": 1}', "\ufeff",
     "[" * 60_000, '{"a":' * 60_000, '{"entry": "allowed", "at": ' + "9" * 5000 + "}"],
    ids=lambda line: line[:12],
)  # fmt: skip
def test_a_line_that_cannot_be_understood_takes_nothing_over(
    call: Call, folder: Path, tmp_path: Path, line: str
) -> None:
    call("deny", folder / "green.png")
    file = tmp_path / "decisions.jsonl"
    file.write_text(call("rulings", "export").out + line + "\n")
    call("rulings", "forget", folder / "green.png")
    done = call("rulings", "import", file)
    assert done.code == 2
    assert "line 2 of" in done.err
    assert call("rulings", "export").out == ""
    assert call("rulings", "import", tmp_path / "missing").code == 2


def test_decisions_are_taken_back_by_place_and_by_content_too(call: Call, folder: Path) -> None:
    call("deny", folder / "green.png", folder / "red.png")
    content = json.loads(call("rulings", "export").out.splitlines()[0])["sha256"]
    os.unlink(folder / "red.png")
    done = call("rulings", "forget", folder / "red.png", folder / "orange.png")
    assert done.code == 2
    assert "no ruling about" in done.err
    assert "orange.png" in done.err
    assert call("rulings", "forget", folder / "red.png", content[:12].upper()).out.startswith("2 ")
    assert call("rulings", "forget", content).code == 2


def test_a_damaged_file_ends_a_scan_until_somebody_looked_at_it(
    call: Call, folder: Path, home: Path
) -> None:
    call("deny", folder / "green.png")
    call("allow", folder / "red.png")
    file = home / "rulings.jsonl"
    file.write_bytes(file.read_bytes().replace(b"green", b"gr\x9ben"))
    for command in (
        ("scan", "--offline", folder),
        ("allow", folder / "orange.png"),
        ("rulings", "list"),
        ("rulings", "forget", folder / "red.png"),
    ):
        done = call(*command)
        assert done.code == 6, command
        assert "damaged in line 1" in done.err
        assert "nsfwscan rulings repair" in done.err
    assert call("doctor").code == 7
    done = call("rulings", "repair")
    assert done.code == 2
    assert "line 1: " in done.out
    assert "gr\\x9ben.png" in done.out, "it tells which picture it may have been"
    assert call("rulings", "repair", "--yes").out.endswith("1 line given up.\n")
    assert deciders(call, folder)["red.png"] == ("safe", "person")
    assert call("rulings", "repair").code == 0
    assert call("doctor").code == 0


def test_doctor_counts_them(call: Call, folder: Path) -> None:
    call("deny", folder)
    assert "4 in " in call("doctor").out


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
def test_a_home_that_is_read_only_is_said_and_what_is_there_holds(
    call: Call, folder: Path, home: Path
) -> None:
    call("deny", folder / "green.png")
    call("scan", "--offline", "-q", folder)
    program = [*without_privileges(), sys.executable, "-m", "nsfwscan"]
    os.chmod(home / "rulings.jsonl", 0o400)
    os.chmod(home, 0o500)
    try:
        runs = [
            subprocess.run(
                [*program, *words], capture_output=True, text=True, timeout=60, check=False
            )
            for words in (
                ("allow", folder / "red.png"),
                ("scan", "--offline", "-f", "jsonl", folder / "green.png"),
            )
        ]
    finally:
        os.chmod(home, 0o700)
    refused, scanned = runs
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "the rulings were not changed" in refused.stderr
    assert json.loads(scanned.stdout)["decided_by"] == "person"


def test_a_full_disk_decides_nothing(folder: Path, tmp_path: Path, paint: Paint) -> None:
    wrap = own_mounts()
    small = tmp_path / "small"
    small.mkdir()
    for at in range(20):  # more than the page that the file already has
        paint(folder / "many" / f"{at}.png", tiny_model.RED)
    nsfw = f"{sys.executable} -m nsfwscan"
    script = f"""
        mount -t tmpfs -o size=64k tmpfs {small} || exit
        export NSFWSCAN_HOME={small}
        {nsfw} deny {folder}/green.png
        head -c 1000000 /dev/zero > {small}/filler 2>/dev/null
        {nsfw} allow {folder}/many; echo "code $?"
        rm {small}/filler
        {nsfw} rulings export
    """
    done = subprocess.run(
        [*wrap, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, code, *exported = done.stdout.splitlines()
    assert first == "1 picture denied."
    assert code == "code 6"
    assert "the rulings were not changed" in done.stderr
    assert "No space left" in done.stderr
    assert len(exported) == 1
    assert "green.png" in exported[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_while_looking_decides_nothing(tmp_path: Path, home: Path, tiny: Path) -> None:
    for at in range(4):
        photo(tmp_path / "photos" / f"{at}.jpg", seed=at)
    slow = (
        "import sys, time\nfrom nsfwscan.scanning import examine\n"
        "real = examine.read_picture\n"
        "def read(path, **how):\n"
        "    print('reading', file=sys.stderr, flush=True); time.sleep(5)\n"
        "    return real(path, **how)\n"
        "examine.read_picture = read\n"
    )
    running = start("deny", tmp_path / "photos", before=slow)
    assert running.stderr is not None
    assert b"reading" in running.stderr.readline()
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert not (home / "rulings.jsonl").exists()


def test_two_processes_decide_at_once(folder: Path, paint: Paint) -> None:
    paths = [paint(folder / f"p{at}.png", tiny_model.GREEN) for at in range(8)]
    runs = [start("deny" if at % 2 else "allow", path) for at, path in enumerate(paths)]
    for running in runs:
        out, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        assert out.startswith(b"1 picture ")
    book = RulingBook(os.path.join(os.environ["NSFWSCAN_HOME"], "rulings.jsonl"))
    assert [one.ruling for one in book.load()].count(Ruling.DENIED) == 4
    assert len(book.load()) == 8


# From Python


def test_the_same_from_python(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    green, red = folder / "green.png", str(folder / "red.png")
    assert nsfwscan.classify(green, offline=True).verdict.ruling is None
    assert nsfwscan.deny(green) == []
    assert nsfwscan.allow([red, folder / "orange.png"]) == []
    assert nsfwscan.classify(green, offline=True).verdict.ruling is nsfwscan.Ruling.DENIED
    verdict = nsfwscan.classify(red, offline=True).verdict
    assert (verdict.decision, verdict.ruling) == (nsfwscan.Decision.SAFE, nsfwscan.Ruling.ALLOWED)
    assert verdict.score > 0.8
    found = {os.path.basename(one.path): one for one in nsfwscan.scan(folder, offline=True)}
    decided = found["green.png"]
    assert isinstance(decided, nsfwscan.Scanned)
    assert decided.verdict.ruling is nsfwscan.Ruling.DENIED
    assert nsfwscan.forget(folder) == 3
    assert nsfwscan.classify(green, offline=True).verdict.ruling is None
    with caplog.at_level(logging.WARNING):
        assert nsfwscan.deny(green, near=True) == []
    assert "known by its content only" in caplog.text
    os.truncate(red, 0)
    (failed,) = nsfwscan.deny(red)
    assert failed.reason is nsfwscan.FailReason.EMPTY
    with pytest.raises(nsfwscan.UsageError, match="does not exist"):
        nsfwscan.allow(tmp_path / "missing")
    with pytest.raises(nsfwscan.UsageError, match="within is 17"):
        nsfwscan.allow(green, near=True, within=17)


def test_what_goes_on_for_weeks_keeps_what_it_knew_when_the_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "rulings.jsonl"
    book = RulingBook(str(path))
    assert len(book.current(pytest.fail)) == 0
    other = RulingBook(str(path))
    picture = photo(tmp_path / "photo.jpg")
    from nsfwscan.scanning.ruling_files import decide

    decide(other, [str(picture)], Ruling.DENIED, within=None)
    assert len(book.current(pytest.fail)) == 1, "read again, because it changed"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"denied", b"denies"))
    said: list[str] = []
    for _ in range(3):
        assert len(book.current(said.append)) == 1
    (sentence,) = said
    assert "damaged in line 1" in sentence
    assert "in force" in sentence
    with pytest.raises(nsfwscan.RulingsError):
        RulingBook(str(path)).current(said.append)
    time.sleep(0.01)
    path.write_bytes(good)
    assert len(book.current(pytest.fail)) == 1


@pytest.mark.parametrize("command", [["rulings", "list"], ["rulings", "export"], ["scan", "."]])
def test_decisions_that_cannot_be_looked_at_are_not_taken_for_none(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    real, failing = os.lstat, locations.rulings_file()

    def lstat(path: object, **options: int) -> os.stat_result:
        if path == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), failing)
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "lstat", lstat)
    done = call(*command)
    assert done.code == 6
    assert "the rulings cannot be read" in done.err

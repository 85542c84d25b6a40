"""`nsfwscan cache`: what is printed and returned."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from conftest import Paint
from shell import Call, start
from tiny_model import GREEN, RED

import nsfwscan.scanning.examine
import nsfwscan.scanning.path_scan


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


@pytest.fixture
def cache(call: Call, tiny: Path, home: Path, tmp_path: Path, paint: Paint) -> Path:
    """A library that knows a picture, a copy of it under a hostile name, and one that failed."""
    folder = tmp_path / "pictures"
    paint(folder / "green.png", GREEN)
    paint(folder / "red.png", RED)
    (folder / "red\u2028\x1b copy.png").write_bytes((folder / "red.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    # Files that changed a moment ago are not remembered by their paths.
    time.sleep(3.1)
    assert call("scan", folder).code == 1
    return home / "library.sqlite3"


def test_everything_about_a_library(call: Call, cache: Path) -> None:
    """One walk through the commands: waiting for files to settle is slow."""
    stats = call("cache", "stats")
    assert (stats.code, stats.err) == (0, "")
    values = dict(line.split(maxsplit=1) for line in stats.out.splitlines())
    assert values["file"].strip() == str(cache)
    assert values["files"].startswith("4 in 1 folder")
    assert values["contents"].strip() == "3"

    export = call("cache", "export")
    assert (export.code, export.err) == (0, "")
    records = [json.loads(line) for line in export.out.split("\n") if line]
    assert len(records) == 4
    assert not any(sign in export.out for sign in ("\x1b", "\u2028"))
    by_name = {os.path.basename(one["path"]): one for one in records}
    assert by_name["green.png"]["model"] == "tiny-1"
    assert by_name["green.png"]["nsfw_score"] < 0.1
    assert by_name["broken.png"]["failed"]
    assert by_name["red.png"]["sha256"] == by_name["red\u2028\x1b copy.png"]["sha256"]

    assert call("cache", "verify").code == 0
    assert call("cache", "verify").out.endswith("deleted 0.\n")

    os.unlink(by_name["green.png"]["path"])
    pruned = call("cache", "prune")  # keeps the score: the file may only be away
    assert (pruned.code, pruned.out) == (0, "Removed 1 file and 0 scores from the cache.\n")

    with contextlib.closing(sqlite3.connect(cache)) as connection:
        connection.execute("UPDATE outcome SET body = body || x'00'")
        connection.commit()
    damaged = call("cache", "verify")
    assert damaged.code == 7
    assert "deleted 0." not in damaged.out

    assert call("cache", "clear").code == 2  # nobody at a terminal to be asked
    cleared = call("cache", "clear", "--yes")
    assert (cleared.code, cleared.out) == (0, "The cache is empty.\n")
    assert call("cache", "export").out == ""


def test_path(call: Call, home: Path) -> None:
    assert call("cache", "path") == (0, f"{home}/library.sqlite3\n", "")
    assert not (home / "library.sqlite3").exists()


@pytest.mark.parametrize("command", ["stats", "prune", "verify", "export"])
def test_without_a_library(call: Call, command: str) -> None:
    done = call("cache", command)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("command", ["stats", "prune", "verify", "export", "clear"])
def test_a_library_that_cannot_be_opened(call: Call, home: Path, command: str) -> None:
    (home / "library.sqlite3").mkdir()
    done = call("cache", command, *(["--yes"] if command == "clear" else []))
    assert (done.code, done.out) == (6, "")
    assert str(home / "library.sqlite3") in done.err


def test_clear_does_not_ask_a_pipe(call: Call) -> None:
    done = call("cache", "clear")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "nsfwscan: this would delete all cached results, and there is no terminal to ask\n"
        "  add --yes to skip the question\n"
    )


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"y\n", 0, b"The cache is empty."),
        (b"n\n", 5, b"Nothing was deleted."),
        (b"\n", 5, b"Nothing was deleted."),
        (b"\x03", 130, b""),
    ],
)
def test_clear_asks_a_person(answer: bytes, code: int, said: bytes) -> None:
    ours, theirs = pty.openpty()
    # Ctrl-C only reaches those whose terminal this is.
    own = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    with start("cache", "clear", before=own, stdin=theirs, stdout=theirs, stderr=theirs) as command:
        os.close(theirs)
        seen = b""
        try:
            while b"? [y/N]" not in seen:
                seen += os.read(ours, 1000)
            assert b"Delete all cached results in /" in b" ".join(seen.split())
            os.write(ours, answer)
            with contextlib.suppress(OSError):  # EIO is how a terminal ends
                while True:
                    if not select.select([ours], [], [], 2)[0]:
                        # A signal between the prompt and the reading of the answer is only seen
                        # when the reading ends: a person presses Ctrl-C once more.
                        os.write(ours, answer)
                        continue
                    if not (chunk := os.read(ours, 1000)):
                        break
                    seen += chunk
            assert command.wait(timeout=20) == code
        finally:
            os.close(ours)
            with contextlib.suppress(ProcessLookupError):
                command.send_signal(signal.SIGKILL)
    assert said in seen
    assert b"Traceback" not in seen


@pytest.mark.usefixtures("tiny")
def test_what_is_remembered_does_not_depend_on_the_current_folder(
    call: Call, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `.`, as a name, as an absolute path, through a link's `..`: one folder is known once."""
    monkeypatch.setattr(nsfwscan.scanning.path_scan, "is_racy", lambda *_: False)
    for name in ("a", "b"):
        paint(tmp_path / name / "1.png", GREEN)
    read: list[str] = []
    read_picture = nsfwscan.scanning.examine.read_picture
    monkeypatch.setattr(
        nsfwscan.scanning.examine,
        "read_picture",
        lambda path, **options: read.append(path) or read_picture(path, **options),
    )
    (tmp_path / "c").symlink_to(tmp_path / "a", target_is_directory=True)
    for folder, given in (
        *(("a", "."), ("b", "."), ("a", "."), ("b", "1.png"), (".", "a"), ("b", "../a/1.png")),
        *((".", tmp_path / "b"), (".", f"{tmp_path}//b/"), ("a", "../c/../b"), ("a", "./")),
    ):
        monkeypatch.chdir(tmp_path / folder)
        done = call("scan", given)
        assert done.code == 0, done.err
    assert sorted(read) == ["./1.png", "./1.png"]
    exported = call("cache", "export").records
    assert [one["path"] for one in exported] == [f"{tmp_path}/{one}/1.png" for one in "ab"]
    monkeypatch.chdir("/")
    assert call("cache", "prune").out == "Removed 0 files and 0 scores from the cache.\n"
    assert len(call("cache", "export").records) == 2

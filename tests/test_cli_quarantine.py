"""Actions and the quarantine as a person at a shell meets them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Paint
from shell import Call, own_mounts, start
from tiny_model import GREEN, ORANGE, RED

import nsfwscan
from nsfwscan.cli import scan_run
from nsfwscan.media.discover import QUARANTINE_NAME

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(sys.platform == "win32", reason="paths and modes"),
]


@pytest.fixture
def call(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NSFWSCAN_QUARANTINE", str(tmp_path / "q"))
    return Call(capfd)


@pytest.fixture
def pictures(tmp_path: Path, paint: Paint) -> Path:
    """Return a folder in which one of thirty is flagged, and one to review."""
    folder = tmp_path / "pictures"
    paint(folder / "red.png", RED)
    paint(folder / "orange.png", ORANGE)
    for n in range(28):
        paint(folder / "more" / f"green {n}.png", GREEN)
    return folder


def test_there_and_back(call: Call, pictures: Path, tmp_path: Path) -> None:
    content = (pictures / "red.png").read_bytes()
    done = call("scan", "--action", "quarantine", "--dry-run", pictures)
    assert done.code == 1
    assert "quarantine  would" in done.out
    assert "Quarantine: 1 would be moved (dry run)." in done.err
    assert (pictures / "red.png").exists()
    done = call("scan", "--action", "quarantine", "-f", "json", pictures)
    assert done.code == 1
    document = json.loads(done.out)
    (act,) = document["acts"]
    assert act["path"] == str(pictures / "red.png")
    assert (act["status"], act["action"], act["outcome"]) == ("acted", "quarantine", "done")
    assert Path(act["target"]).read_bytes() == content
    assert document["summary"]["acts"] == {"quarantine": {"done": 1}}
    assert not (pictures / "red.png").exists()
    place = tmp_path / "q" / QUARANTINE_NAME
    assert f"Quarantine: 1 moved to {place}.\n" in done.err
    done = call("quarantine", "list")
    assert done.code == 0
    assert str(pictures / "red.png") in done.out
    assert done.err == "1 picture in quarantine.\n"
    (record,) = call("quarantine", "list", "-f", "jsonl").records
    assert (record["path"], record["file"]) == (str(pictures / "red.png"), act["target"])
    assert json.loads(call("quarantine", "list", "-f", "json").out) == [record]
    assert call("scan", pictures).code == 0
    assert call("quarantine", "verify").out == "Checked 1 picture, found 0 problems.\n"
    done = call("quarantine", "restore", pictures / "red.png")
    assert (done.code, done.out, done.err) == (0, "Restored 1 picture.\n", "")
    assert (pictures / "red.png").read_bytes() == content
    foreseen = call("scan", "--action", "quarantine", "--dry-run", pictures)
    done = call("scan", "--action", "quarantine", pictures)
    assert foreseen.out == done.out
    assert "it was restored from quarantine earlier" in done.out
    assert "Quarantine: 1 left alone." in done.err
    assert call("scan", "-a", "quarantine", "--again", "-q", pictures).code == 1
    assert not (pictures / "red.png").exists()


def test_jsonl_and_csv_tell_acts_in_records_of_their_own(call: Call, pictures: Path) -> None:
    done = call("scan", "-a", "tag", "-f", "jsonl", "--only", "flagged", pictures)
    found, act = done.records
    assert found.keys() == act.keys()
    assert (found["status"], found["action"]) == ("scanned", None)
    assert (act["status"], act["target"]) == ("acted", f"{found['path']}.xmp")
    done = call("scan", "-a", "tag", "-f", "csv", "--only", "flagged", pictures)
    head, _, row = done.out.splitlines()
    assert head.endswith(",action,outcome,target,partial,frame,member,page,at_ms")
    assert row.endswith(f",tag,done,{found['path']}.xmp,,,,,")
    done = call("scan", "-a", "tag", "-f", "paths0", pictures)
    assert done.out == f"{found['path']}\0"


def test_rules_of_the_configuration_hold_for_every_scan(
    call: Call, pictures: Path, home: Path, tmp_path: Path
) -> None:
    (home / "config.toml").write_text(
        f'[scan]\nlimit-percent = 100\n[[rule]]\nfolder = "{pictures}/more"\naction = "trash"\n'
        f'[[rule]]\nfolder = "{pictures}"\ndecision = ["nsfw", "review"]\naction = "copy"\n'
        f'to = "{tmp_path}/copies"\n[[rule]]\ndecision = "review"\naction = "quarantine"\n'
    )
    done = call("scan", "--no-rules", "-a", "tag", pictures)
    assert "Quarantine" not in done.err
    assert not (tmp_path / "q").exists()
    done = call("scan", pictures)
    assert done.code == 1
    assert re.search(r"Quarantine: 1 moved to \S+\.\nCopies: 2 done\.\n", done.err)
    assert sorted(os.listdir(tmp_path / "copies")) == ["orange.png", "red.png"]
    assert sorted(os.listdir(pictures)) == ["more", "red.png", "red.png.xmp"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[rule]]\naction = "burn"\n', '[[rule]] 1 action = "burn": unknown action'),
        ('[rule]\naction = "trash"\n', "rule is not a list of tables"),
        ("rule = 3\n", "rule is not a list of tables"),
    ],
)
def test_a_mistake_in_a_rule_names_the_file(
    call: Call, home: Path, pictures: Path, text: str, problem: str
) -> None:
    (home / "config.toml").write_text(text)
    done = call("scan", pictures)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err
    assert str(home / "config.toml") in done.err
    (home / "config.toml").write_text("[rules]\n")
    assert "[[rule]]" in call("scan", pictures).err


def test_over_the_limit_nobody_can_be_asked_so_nothing_moves(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = call("scan", "-a", "quarantine", "--limit-files", "0", pictures)
    assert done.code == 5
    assert "would move 1 of 30 pictures (3.3%)" in done.err
    assert "--yes lifts the limit" in done.err
    assert "Quarantine: 1 held back." in done.err
    assert (pictures / "red.png").exists()
    monkeypatch.setenv("NSFWSCAN_LIMIT_FILES", "0")
    assert call("scan", "-q", "-a", "quarantine", pictures).code == 5
    assert call("scan", "-q", "-a", "quarantine", "--dry-run", pictures).code == 1
    assert call("scan", "-q", "-a", "quarantine", "--yes", pictures).code == 1
    assert not (pictures / "red.png").exists()


@pytest.mark.parametrize("answer", ["y", " YES ", "n", "", "Ctrl-D", "Ctrl-C"])
def test_a_person_is_asked(
    call: Call,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    answer: str,
) -> None:
    asked: list[str] = []
    shown: list[str] = []
    clock: list[float] = []

    def readline() -> str:
        said = capfd.readouterr()
        asked.append(said.err.splitlines()[-1])
        shown.append(said.out)
        clock.append(time.monotonic() + 10_000)
        if answer == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        return "" if answer == "Ctrl-D" else f"{answer}\n"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=readline))
    now = SimpleNamespace(monotonic=lambda: clock[-1] if clock else time.monotonic())
    monkeypatch.setattr(scan_run, "time", now)
    monkeypatch.setattr(scan_run, "STARTED", time.monotonic())
    done = call("scan", "-a", "quarantine", "--limit-files", "0", pictures)
    assert "red.png" in shown[0]  # which ones, before the question
    assert "red.png" not in done.out  # and once
    yes = "y" in answer.lower()
    assert ("Nothing was moved." in done.err) != yes
    assert "30 pictures" in done.err  # what was found is told in any case
    assert re.search(r"\d s\b", done.err)
    assert not re.search(r"\d (min|h)\b", done.err)  # the time at the question is not the scan's
    assert done.code == (1 if yes else 130 if answer == "Ctrl-C" else 5)
    assert (pictures / "red.png").exists() != yes
    (question,) = asked
    assert question.endswith("Continue? [y/N]: ")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_action_that_fails_is_told_by_the_exit_code(
    call: Call, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "q").write_text("in the way")
    done = call("scan", "-a", "quarantine", pictures)
    assert done.code == 6
    assert "Quarantine: 1 failed." in done.err
    assert "cannot be used" in done.out
    assert (pictures / "red.png").exists()
    done = call("scan", "-a", "command=false", pictures)
    assert done.code == 6
    assert "false ended with exit code 1" in done.out


@pytest.mark.parametrize("action", ["burn", "copy", "command", "trash=x"])
def test_a_wrong_action_is_explained_before_anything_is_scanned(
    call: Call, pictures: Path, action: str
) -> None:
    done = call("scan", "-a", action, pictures)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize("place", ["", "a\0b"])
@pytest.mark.parametrize("command", [("scan",), ("watch", "--once")])
def test_a_quarantine_that_can_be_no_folder_is_refused_in_a_sentence(
    call: Call, pictures: Path, command: tuple[str, ...], place: str
) -> None:
    done = call(*command, "-a", "quarantine", "--quarantine", place, pictures)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)
    assert (pictures / "red.png").exists()


def test_a_quarantine_is_never_scanned(call: Call, pictures: Path, tmp_path: Path) -> None:
    done = call("scan", "-q", "-a", "quarantine", "--quarantine", pictures, pictures)
    assert done.code == 1
    inside = pictures / QUARANTINE_NAME
    shutil.copy(next((inside / "files").iterdir()), inside / "files" / "x.png")
    done = call("scan", "-f", "jsonl", "--hidden", "--any-name", pictures)
    assert (done.code, len(done.records)) == (0, 29)
    for root in (inside, inside / "files" / "x.png"):
        done = call("scan", root)
        assert (done.code, done.out) == (2, "")
        assert "is in a quarantine, which is never scanned" in done.err
    (tmp_path / "list").write_text(f"{inside}\n{inside}/files/x.png\n")
    done = call("scan", "-f", "jsonl", "--files-from", tmp_path / "list")
    assert [one["reason"] for one in done.records] == ["quarantined", "quarantined"]


def test_restore_and_delete_know_what_is_meant(
    call: Call, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "a/b/2.png", "ab/3.png"):
        paint(tmp_path / name, RED)
    (tmp_path / "way").symlink_to(tmp_path / "a")
    roots = [tmp_path / "a", tmp_path / "ab"]
    assert call("scan", "-q", "-a", "quarantine", "-y", *roots).code == 1
    done = call("quarantine", "restore")
    assert (done.code, "no pictures are named" in done.err) == (2, True)
    assert call("quarantine", "restore", "--all", tmp_path).code == 2
    done = call("quarantine", "restore", tmp_path / "b")
    assert (done.code, "nothing from" in done.err) == (2, True)
    done = call("quarantine", "restore", tmp_path / "way")
    assert (done.code, done.out) == (0, "Restored 2 pictures.\n")
    assert (tmp_path / "a" / "b" / "2.png").exists()
    monkeypatch.chdir(tmp_path / "ab")
    done = call("quarantine", "delete", "3.png")
    assert (done.code, "add --yes" in done.err) == (2, True)
    done = call("quarantine", "delete", "--yes", "3.png")
    assert (done.code, done.out) == (0, "Deleted 1 picture.\n")
    assert call("quarantine", "list").out == ""


def test_restoring_says_what_is_not_as_it_was(call: Call, pictures: Path) -> None:
    call("scan", "-q", "-a", "quarantine", pictures)
    (pictures / "red.png").write_bytes(b"newer")
    done = call("quarantine", "restore", "--all")
    assert done.code == 0
    beside = pictures / "red (restored).png"
    assert done.err == f"{beside}: its name is taken, so it got a similar one\n"
    assert (pictures / "red.png").read_bytes() == b"newer"


def test_verify_tells_by_its_exit_code_that_something_is_wrong(call: Call, pictures: Path) -> None:
    call("scan", "-q", "-a", "quarantine", pictures)
    (record,) = call("quarantine", "list", "-f", "jsonl").records
    Path(record["file"]).write_bytes(b"rotten")
    done = call("quarantine", "verify")
    assert done.code == 7
    assert "are not those that were moved in" in done.out


@pytest.mark.parametrize("command", [["list"], ["restore", "--all"], ["delete", "--all", "--yes"]])
def test_pictures_that_the_journal_does_not_know_are_told(
    call: Call, pictures: Path, command: list[str]
) -> None:
    call("scan", "-q", "-a", "quarantine", pictures)
    (record,) = call("quarantine", "list", "-f", "jsonl").records
    held = Path(record["file"])
    (held.parent.parent / "journal.jsonl").write_bytes(b"")
    done = call("quarantine", *command)
    assert done.code == 6
    assert "contains 1 file not in its journal" in done.err
    assert held.exists()


def test_a_broken_picture_and_a_broken_decoder_move_nothing(
    call: Call, pictures: Path, tmp_path: Path
) -> None:
    red = pictures / "red.png"
    whole = red.read_bytes()
    red.write_bytes(whole[: len(whole) // 2])
    done = call("scan", "-a", "quarantine", "--yes", pictures)
    assert done.code == 3
    assert red.exists()
    assert not (tmp_path / "q").exists()


def test_decoders_that_crash_move_nothing(pictures: Path, tmp_path: Path) -> None:
    """Every decode process ends as soon as it gets a picture, so nothing has a score."""
    before = (
        "import sys\nfrom nsfwscan.media.decode import pool as decode_pool\n"
        "dying = 'import os; from nsfwscan.media.decode import worker as w; '\n"
        "dying += 'w.serve(lambda *_, **__: os._exit(1), 8.0, 100)'\n"
        "decode_pool.worker_command = lambda *_limits: [sys.executable, '-c', dying]\n"
    )
    arguments = ["scan", "-f", "jsonl", "-a", "quarantine", "--yes", "--quarantine", tmp_path / "q"]
    for green in (pictures / "more").iterdir():
        green.unlink()  # each costs two processes
    with start(*arguments, pictures, before=before) as process:
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 3, errors
    records = [json.loads(line) for line in output.splitlines()]
    assert {one["reason"] for one in records} == {"decoder-crashed"}
    assert (pictures / "red.png").exists()
    assert not (tmp_path / "q").exists()


def test_ctrl_c_takes_no_action(pictures: Path, tmp_path: Path) -> None:
    """An interrupted scan does not know whether it goes too far."""
    slow = (
        "import time\nfrom nsfwscan.media.decode import pool as decode_pool\n"
        "real = decode_pool.DecodePool.decode\n"
        "def decode(*given, **more):\n    time.sleep(0.2)\n    return real(*given, **more)\n"
        "decode_pool.DecodePool.decode = decode"
    )
    arguments = ["scan", "-a", "quarantine", "-f", "jsonl", "--jobs", "1"]
    with start(*arguments, "--quarantine", tmp_path / "q", pictures, before=slow) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"no action is taken" in errors
    assert not (tmp_path / "q").exists()
    assert (pictures / "red.png").exists()


def test_a_disk_that_is_full_moves_nothing_and_says_so(pictures: Path, tmp_path: Path) -> None:
    """The quarantine is on a file system of 16 KB that is full."""
    wrap = own_mounts()
    folder = tmp_path / "small"
    folder.mkdir()
    script = (
        f'mount -t tmpfs -o size=16k none "{folder}" && head -c 20000 /dev/zero > "{folder}/x"; '
        f'"{sys.executable}" -m nsfwscan scan -a quarantine --quarantine "{folder}" "{pictures}"'
    )
    done = subprocess.run(
        [*wrap, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert "No space left on device" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert (pictures / "red.png").exists()


def test_watch_acts_on_what_comes(call: Call, pictures: Path, tmp_path: Path) -> None:
    done = call("watch", "--once", "-f", "jsonl", "-a", "quarantine", pictures)
    assert done.code == 0, done.err
    events = [(one["event"], os.path.basename(one["path"])) for one in done.records]
    assert events.count(("acted", "red.png")) == 1
    (act,) = (one for one in done.records if one["event"] == "acted")
    assert (act["action"], act["outcome"]) == ("quarantine", "done")
    assert not (pictures / "red.png").exists()
    assert call("quarantine", "restore", "--all").out == "Restored 1 picture.\n"
    done = call("watch", "--once", "-a", "quarantine", pictures)
    assert "restored from quarantine earlier" in done.out, done.err
    assert (pictures / "red.png").exists()


@pytest.mark.parametrize("from_python", [False, True])
def test_what_is_denied_once_more_after_it_was_restored_is_moved_again(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, from_python: bool
) -> None:
    path = next((pictures / "more").iterdir())

    def scanned() -> bool:
        call("scan", "--action", "quarantine", path)
        return not path.exists()

    assert call("deny", path).code == 0
    assert scanned()
    assert call("quarantine", "restore", "--all").code == 0
    assert not scanned()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 5)
    if from_python:
        assert nsfwscan.deny(path) == []
    else:
        assert call("deny", path).out == "1 picture denied.\n"
    assert scanned()
    assert call("quarantine", "restore", "--all").code == 0
    assert not scanned()
    assert call("allow", path).out == "1 picture allowed; 1 previously denied.\n"
    assert not scanned()


@pytest.mark.parametrize("command", [("list",), ("verify",), ("restore", "--all")])
def test_a_chosen_folder_that_does_not_exist_is_an_error(
    command: tuple[str, ...], call: Call, tmp_path: Path
) -> None:
    done = call("quarantine", *command, "--quarantine", tmp_path / "nix")
    assert (done.code, done.out) == (2, "")
    assert f"there is no folder {tmp_path / 'nix'}" in done.err

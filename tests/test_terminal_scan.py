"""What a scan leaves on a terminal, at several widths, and what the commands that it names do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Paint
from shell import Call
from terminals import Seen, on_terminal
from tiny_model import GREEN, ORANGE, RED

from nsfwscan.cli.shared import lazy

pytestmark = pytest.mark.usefixtures("tiny")

WIDTHS = [120, 80, 40]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def folder(tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose name needs quoting, with a picture for each verdict, and other files."""
    monkeypatch.setenv("NSFWSCAN_QUARANTINE", str(tmp_path / "q"))
    found = tmp_path / "it's my folder"
    for name, colour in (("red", RED), ("redder", RED), ("orange", ORANGE), ("green", GREEN)):
        paint(found / f"{name}.png", colour)
    (found / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (found / "empty.jpg").touch()
    for name in ("a.nef", "b.mp4", "c.zip", "d.txt"):
        (found / name).write_bytes(b"x")
    return found


def hints(screen: str) -> dict[str, str]:
    """Return the commands that are named at the end, by what they are good for."""
    found = {}
    for line in screen.replace(":\n    ", ": ").splitlines():
        match = re.match(r"  ([a-z ]+): +(nsfwscan .*)", line)
        if match:
            found[match[1]] = match[2]
    return found


def typed(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as bash runs it when it is copied from the screen."""
    program = shlex.join([sys.executable, "-m", "nsfwscan"])
    return subprocess.run(
        ["bash", "-c", f'nsfwscan() {{ {program} "$@"; }}\n{command}'],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


# The end of a scan


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_end_of_a_scan_says_in_whole_words_what_was_found_and_what_not(
    folder: Path, columns: int
) -> None:
    seen = on_terminal("scan", folder, columns=columns)
    assert seen.code == 1
    flat = " ".join(seen.text.split())
    assert "2 flagged, 1 to review, 1 safe, 2 without a verdict." in flat
    assert "Not scanned: 1 archive, 1 camera raw file, 1 video, 1 other file." in flat
    assert re.search(r"4 pictures in \d\.\d s, \d+ a second\. Model: tiny-1 \(review from ", flat)
    for word in ("…", "below", "cached"):
        assert word not in flat
    for line in seen.lines:
        # Only commands are longer: the terminal folds them, so that a copy is one line.
        assert len(line) <= columns or line.startswith("    nsfwscan ")
    assert flat.index("decision score picture") < flat.index("no verdict") < flat.index("2 flagged")
    assert re.search(r"^nsfw +0\.9\d\d  /", seen.text, re.MULTILINE)
    assert re.search(r"^empty +/", seen.text, re.MULTILINE)
    assert "the file is empty" in flat


@pytest.mark.parametrize("columns", WIDTHS)
def test_what_a_scan_says_to_type_next_can_be_typed(folder: Path, columns: int) -> None:
    flagged = {folder / "red.png", folder / "redder.png"}
    first = hints(on_terminal("scan", folder, columns=columns).text)
    assert list(first) == ["move them away", "correct one"]
    assert first["correct one"] == "nsfwscan allow PICTURE"
    moved = typed(first["move them away"])
    assert moved.returncode == 1, moved.stderr
    assert not any(one.exists() for one in flagged)
    assert "Quarantine: 2 moved to " in moved.stderr
    back = typed(hints(moved.stderr)["undo"])
    assert (back.returncode, back.stdout) == (0, "Restored 2 pictures.\n")
    assert all(one.exists() for one in flagged)


def test_one_flagged_picture_is_named_in_the_command_that_corrects_it(
    folder: Path, call: Call
) -> None:
    (folder / "redder.png").unlink()
    said = hints(call("scan", folder).err)
    assert list(said) == ["move it away", "correct it"]
    assert typed(said["correct it"]).stdout == "1 picture allowed.\n"
    again = call("scan", folder).err
    assert "0 flagged, 1 to review, 2 safe, 2 without a verdict.\n" in again
    assert "1 of these has a ruling: 1 allowed, 0 denied.\n" in again
    assert hints(again) == {}


def test_options_that_change_what_is_found_are_repeated_and_no_others(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("NSFWSCAN_EXCLUDE", "never")
    monkeypatch.chdir(folder)
    given = ["--flag-at", "0.4", "--review-at", "0", "--include", "*.png", "--include", "*.gif"]
    said = call("scan", *given, "--hidden", "--rescan", "--only", "flagged", "-j", "1", ".").err
    assert hints(said)["move them away"] == (
        "nsfwscan scan --action quarantine --include '*.png' --include '*.gif' --hidden "
        "--flag-at 0.4 --review-at 0 --jobs 1 ."
    )
    (home / "my config.toml").write_text("")
    said = call("--config", home / "my config.toml", "scan", ".").err
    config = shlex.quote(str(home / "my config.toml"))
    assert hints(said)["move them away"] == (
        f"nsfwscan --config {config} scan --action quarantine ."
    )


def test_many_long_paths_are_not_repeated(folder: Path, call: Call, paint: Paint) -> None:
    long = folder / ("long " * 20)
    paint(long / "red.png", RED)
    said = hints(call("scan", long, folder).err)
    assert said["move them away"] == "nsfwscan scan --action quarantine PATH"
    moved = call("scan", "--action", "quarantine", long, folder).err
    assert hints(moved)["undo"] == "nsfwscan quarantine restore --all"


def test_a_list_from_standard_input_cannot_be_repeated(folder: Path, call: Call) -> None:
    listing = folder / "list"
    listing.write_text(f"{folder}/red.png\n")
    said = hints(call("scan", "--files-from", listing).err)
    word = shlex.quote(str(listing))
    assert said["move it away"] == f"nsfwscan scan --action quarantine --files-from {word}"
    with open(listing, "rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "nsfwscan", "scan", "--files-from", "-"],
            stdin=stream, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert list(hints(done.stderr)) == ["correct it"]


def test_programs_and_the_quiet_get_no_advice(folder: Path, call: Call) -> None:
    assert hints(call("scan", "-f", "json", folder).err) == {}
    assert call("scan", "-q", folder).err == ""


def test_the_review_page_is_named_first_where_it_exists(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lazy._PLACES, "review", "show:show")
    said = hints(call("scan", folder).err)
    assert list(said) == ["look at them", "move them away", "correct one"]
    assert said["look at them"].startswith("nsfwscan review ")
    only_review = hints(call("scan", "--flag-at", "1", "--hidden", folder).err)
    assert list(only_review) == ["look at them"]
    # With other thresholds, it would show other pictures.
    assert only_review["look at them"].startswith("nsfwscan review --flag-at 1 ")
    assert "--hidden" not in only_review["look at them"]
    # It shows what is in the cache.
    assert "look at them" not in hints(call("scan", "--no-cache", folder).err)


# One file


@pytest.mark.parametrize(
    ("name", "verdict", "code", "columns"),
    [("red", "nsfw", 1, 120), ("orange", "review", 0, 80), ("green", "safe", 0, 40)],
)
def test_a_file_that_is_named_shows_its_verdict_and_score(
    folder: Path, name: str, verdict: str, code: int, columns: int
) -> None:
    seen = on_terminal("scan", folder / f"{name}.png", columns=columns)
    assert seen.code == code
    assert re.search(rf"^{verdict} +0\.\d{{3}}  /", seen.text, re.MULTILINE)
    more = typed(hints(seen.text)["see more"])
    assert more.returncode == code
    assert f"verdict  {verdict}, decided by the model\n" in more.stdout


# Before an act


def test_a_dry_run_names_the_command_that_does_the_same_for_real(folder: Path, call: Call) -> None:
    trial = call("scan", "--action", "quarantine", "--dry-run", folder)
    assert "Quarantine: 2 would be moved (dry run).\n" in trial.err
    said = hints(trial.err)
    assert list(said) == ["do it"]
    would = re.findall(r"^quarantine +would +(\S.*\.png)", trial.out, re.MULTILINE)
    done = typed(said["do it"])
    assert "Quarantine: 2 moved to " in done.stderr
    assert sorted(would) == [str(folder / "red.png"), str(folder / "redder.png")]
    assert not any(os.path.exists(path) for path in would)
    # What was restored stays, and both the trial and the run say so.
    typed(hints(done.stderr)["undo"])
    trial = call("scan", "--action", "quarantine", "--dry-run", "--limit-files", "0", folder)
    real = call("scan", "--action", "quarantine", "--limit-files", "0", folder)
    assert trial.out == real.out
    assert real.code == 1
    assert "would move" not in real.err
    assert "Quarantine: 2 left alone.\n" in real.err


def ask(folder: Path, answer: bytes) -> Seen:
    """Answer the question of a scan that is over its limit."""
    return on_terminal(
        "scan", "--action", "quarantine", "--limit-files", "1", folder,
        answers={"[y/N]: ": answer},
    )  # fmt: skip


def test_results_come_before_the_question(folder: Path) -> None:
    seen = ask(folder, b"n\n")
    assert seen.code == 5
    before, _, after = " ".join(seen.text.split()).partition("[y/N]: ")
    assert "decision score picture" in before
    assert "This would move 2 of 4 pictures (50.0%). The limit is 1 or 5 % of them." in before
    assert "decision score picture" not in after
    assert "Nothing was moved." in after
    assert "2 flagged, 1 to review, 1 safe, 2 without a verdict." in after
    assert "Quarantine: 2 held back." in after
    assert (folder / "red.png").exists()
    assert hints(seen.text) == {}


def test_yes_moves_and_says_where_and_how_to_undo_it(folder: Path, tmp_path: Path) -> None:
    seen = ask(folder, b"y\n")
    assert seen.code == 1
    assert f"Quarantine: 2 moved to {tmp_path}/q/" in " ".join(seen.text.split())
    assert not (folder / "red.png").exists()
    assert typed(hints(seen.text)["undo"]).returncode == 0
    assert (folder / "red.png").exists()


def test_ctrl_c_at_the_question_keeps_the_results_and_moves_nothing(folder: Path) -> None:
    seen = ask(folder, b"\x03")
    assert seen.code == 130
    before, _, after = seen.text.partition("[y/N]: ")
    assert "red.png" in " ".join(before.split())
    assert "Nothing was moved." in after
    assert "2 flagged, 1 to review" in after
    assert (folder / "red.png").exists()


def test_a_few_pictures_are_moved_without_a_question(folder: Path, call: Call) -> None:
    done = call("scan", "--action", "quarantine", folder / "red.png")
    assert done.code == 1
    assert "would move" not in done.err
    assert "Quarantine: 1 moved to " in done.err


# Interrupted


def test_an_interrupted_scan_names_the_command_that_goes_on(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsfwscan.cli.scan_run import Run

    go = Run.go

    def interrupted(self: Run, roots: list[str]) -> object:
        self._stopping.told = True
        return go(self, roots)

    monkeypatch.setattr(Run, "go", interrupted)
    said = call("scan", "--flag-at", "0.5", folder)
    assert said.code == 130
    assert hints(said.err) == {
        "continue": f"nsfwscan scan --flag-at 0.5 {shlex.quote(str(folder))}"
    }

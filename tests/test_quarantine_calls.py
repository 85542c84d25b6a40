"""Whatever fails or is interrupted: see quarantine_calls.py and interrupted_commands.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import quarantine_worker as worker
from calls_world import FORKED, PROGRAMS
from shell import PROGRAM, Call, needs
from sizes import AT_FULL_SIZE, trials

from nsfwscan.actions.quarantine import vault
from nsfwscan.system import locations

HERE = Path(__file__).parent
SLOW = ["build", "selftest"]

pytestmark = pytest.mark.timeout(24 * 3600 if AT_FULL_SIZE else 120)


def run(program: str, elsewhere: Path, tmp_path: Path, *options: str) -> str:
    """Run it in a process of its own, for it forks and replaces parts of the program for good."""
    done = subprocess.run(
        [sys.executable, HERE / program, "--elsewhere", elsewhere, *options],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]
    print(done.stdout)
    return done.stdout


@needs("strace", "strace")
@pytest.mark.parametrize(
    ("least", "commands"),
    [(50, [name for name in FORKED if name not in SLOW]), (2, SLOW)],
    ids=["quick", "slow"],
)
def test_whatever_system_call_fails_nothing_is_lost_and_the_exit_code_is_true(
    elsewhere: Path, tmp_path: Path, least: int, commands: list[str]
) -> None:
    sample = [] if AT_FULL_SIZE else ["--sample", str(least + least // 5)]
    said = run("quarantine_calls.py", elsewhere, tmp_path, *sample, *commands)
    injected = re.search(r"([\d,]+) failures injected", said)
    assert injected is not None
    assert int(injected[1].replace(",", "")) >= least


@needs("strace", "strace")
def test_interrupted_at_any_system_call_nothing_is_lost(elsewhere: Path, tmp_path: Path) -> None:
    times = ["--interrupt", str(trials(12, 200 * len(FORKED)))]
    quick = FORKED if AT_FULL_SIZE else [name for name in FORKED if name not in SLOW][:12]
    said = run("quarantine_calls.py", elsewhere, tmp_path, *times, *quick)
    assert "0 tracebacks" in said


def test_interrupted_at_any_moment_nothing_is_lost(elsewhere: Path, tmp_path: Path) -> None:
    times = ["--times", str(trials(2, 200))]
    some = PROGRAMS if AT_FULL_SIZE else ["quarantine", "restore", "import"]
    said = run("interrupted_commands.py", elsewhere, tmp_path, *times, *some)
    assert "0 tracebacks" in said


def test_a_program_is_interrupted_in_silence_from_its_first_line_on(
    elsewhere: Path, tmp_path: Path
) -> None:
    times = ["--times", str(trials(6, 200))]
    said = run("interrupted_commands.py", elsewhere, tmp_path, "--start", *times)
    assert said.count("0 tracebacks") == 3


def test_an_import_that_would_have_to_wait_takes_no_part_for_the_whole() -> None:
    hear, tell = os.pipe()
    os.set_blocking(hear, False)
    with os.fdopen(hear) as stdin, os.fdopen(tell, "w"):  # nothing comes, and no end
        done = subprocess.run([*PROGRAM, "rulings", "import", "-"], stdin=stdin, stderr=-1)
    assert done.returncode == 2
    assert b"cannot read -" in done.stderr


@pytest.mark.parametrize("command", [["list"], ["restore", "--all"], ["delete", "--all", "-y"]])
def test_a_list_of_quarantines_that_cannot_be_read_is_told_by_the_exit_code(
    command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Path(locations.quarantines_file()).mkdir(parents=True)
    done = Call(capfd)("quarantine", *command)
    assert done.code == 6
    assert "quarantines.jsonl" in done.err


def test_a_quarantine_that_could_not_be_looked_at_once_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a picture")
    worker.move_in(tmp_path, [tmp_path / "a.jpg"])
    answers = iter(["it cannot be read: Value too large"])
    real = vault.look_at
    monkeypatch.setattr(vault, "look_at", lambda path: next(answers, None) or real(path))
    done = Call(capfd)("quarantine", "restore", "--all")
    assert done.code == 6
    assert "a moment ago" in done.err

"""Help as a newcomer reads it, completion, and what a start costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Paint
from conftest import Run as RunProcess
from shell import PROGRAM, Call
from tiny_model import GREEN, RED

from nsfwscan.cli.app import app
from nsfwscan.cli.shared.commands import Argument, Option
from nsfwscan.report.formats import PURPOSES, Format

HEAVY = {"numpy", "onnxruntime", "PIL", "httpx", "rich", "pydantic", "pathspec", "pillow_heif"}
HEAVY |= {"psutil", "watchdog", "jinja2"}


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command and group with the words that name it."""
    ahead: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while ahead:
        words, command = ahead.pop()
        yield words, command
        for name, inner in getattr(command, "commands", {}).items():
            ahead.append(((*words, name), inner))


ALL = dict(commands())


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "80")
    return Call(capfd)


def test_there_are_the_commands_one_knows_of() -> None:
    assert {" ".join(words) for words in ALL} >= {
        "scan",
        "doctor",
        "selftest",
        "models list",
        "models pull",
        "cache stats",
    }


@pytest.mark.parametrize("words", ALL, ids=" ".join)
@pytest.mark.parametrize("columns", [80, 120])
def test_help_is_complete_and_fits(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = call(*words, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out == call(*words, "-h").out
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[1].startswith(f" Usage: {' '.join(['nsfwscan', *words])} ")
    text = " ".join(done.out.replace("│", " ").split())
    # No types where a flag takes no value and an argument has a name; no list of them either.
    assert not any(noise in text for noise in ("<bool>", "<list", "<str>", "<float", "<int"))
    for parameter in ALL[words].params:
        if not getattr(parameter, "hidden", False):
            assert (
                parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            ) in text
            assert parameter.help, f"{parameter.name} has no help"
    assert "…" not in text


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_begins_with_one_sentence(words: tuple[str, ...]) -> None:
    first, *_ = ALL[words].help.strip().split("\n\n")
    assert first.endswith((".", "it would be."))
    assert 20 < len(first) < 120


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_value_is_checked_by_nsfwscan_and_not_by_typer(words: tuple[str, ...]) -> None:
    """Also those of the options that typer adds: --help, and completion's."""
    context = typer.Context(ALL[words])
    assert {type(one) for one in ALL[words].get_params(context)} <= {Option, Argument}


def test_every_option_of_scan_that_may_be_meant_for_good_has_a_variable() -> None:
    for parameter in ALL[("scan",)].params:
        name = parameter.opts[0]
        if not name.startswith("--"):
            continue
        about_one_scan = {"--files-from", "--null", "--output", "--rescan", "--retry-failed"}
        # What moves pictures for good stands in a file that a person wrote, as a rule.
        about_one_scan |= {"--action", "--dry-run", "--yes", "--again", "--no-rules"}
        wanted = (
            None if name in about_one_scan else f"NSFWSCAN_{name[2:].replace('-', '_').upper()}"
        )
        assert parameter.envvar == wanted


def test_the_examples_of_scan_are_commands_that_exist(call: Call) -> None:
    lines = [line.strip() for line in call("scan", "--help").out.splitlines()]
    examples = [line for line in lines if "nsfwscan scan" in line and not line.startswith("Usage")]
    assert len(examples) == 5
    options = {option for one in ALL[("scan",)].params for option in one.opts}
    for example in examples:
        words = example.split("nsfwscan scan")[1].split("|")[0].split()
        used = {word for word in words if word.startswith("-") and word != "-"}
        assert used <= options


def test_exit_codes_are_told(call: Call) -> None:
    text = " ".join(call("--help").out.split())
    for code in (
        "0 done, nothing flagged",
        "1 something flagged",
        "2 wrong option, setting or path",
        "3 some files have no verdict",
        "4 no model",
        "5 nothing was done",
        "6 something failed",
        "7 a check found a problem",
        "8 no watcher is running",
        "70 a bug in nsfwscan",
        "130 interrupted",
        "141 the program that read the output ended first",
        "130, 70, 2, 4, 6, 7, 5, 1, 3, 0",
    ):
        assert code in text


def test_no_arguments_is_a_question(call: Call) -> None:
    for words in ((), ("models",), ("cache",)):
        done = call(*words)
        assert done.code == 2
        assert "Commands" in done.out + done.err


def test_version(call: Call, nsfwscan: RunProcess) -> None:
    done = call("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("nsfwscan 0.")
    assert nsfwscan("--version").stdout.decode() == done.out


# Completion


@pytest.mark.parametrize(
    ("shell", "signs"),
    [
        ("bash", ["complete -o default -F _nsfwscan_completion nsfwscan", "_NSFWSCAN_COMPLETE"]),
        ("zsh", ["#compdef nsfwscan", "_NSFWSCAN_COMPLETE"]),
        ("fish", ["complete --command nsfwscan", "_NSFWSCAN_COMPLETE"]),
    ],
)
def test_completion_scripts(nsfwscan: RunProcess, shell: str, signs: list[str]) -> None:
    # Which shell it is, is usually found out from the parent process.
    env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = nsfwscan("--show-completion", shell, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert all(sign in done.stdout.decode() for sign in signs)


@pytest.mark.parametrize(
    ("shell", "typed", "wanted"),
    [
        ("bash", "nsfwscan sc", {"scan"}),
        ("bash", "nsfwscan models re", {"remove"}),
        ("bash", "nsfwscan scan --flag", {"--flag-at"}),
        ("bash", "nsfwscan scan --format js", {"json", "jsonl"}),
        ("bash", "nsfwscan scan --model open", {"opennsfw"}),
        ("bash", "nsfwscan models show open", {"opennsfw"}),
        ("bash", "nsfwscan models verify open", {"opennsfw"}),
        ("zsh", "nsfwscan sc", {"scan"}),
        ("fish", "nsfwscan sc", {"scan"}),
    ],
)
def test_completion(nsfwscan: RunProcess, shell: str, typed: str, wanted: set[str]) -> None:
    env = {"_NSFWSCAN_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": typed}
    env |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    env |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = nsfwscan(env=env)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    if shell == "bash":
        assert set(text.split()) == wanted
    else:
        assert all(re.search(rf"\b{word}\b", text) for word in wanted)
        assert "models" not in text


# What a start costs


def imported(*arguments: str | Path) -> set[str]:
    """Run a command and return the top-level names of all modules it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], *arguments],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stderr.decode().splitlines()
    names = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "nsfwscan.cli.main" in names
    return {name.partition(".")[0] for name in names}


def test_version_imports_nothing_heavy() -> None:
    assert imported("--version") & HEAVY == set()


@pytest.mark.parametrize("words", [["rulings", "path"], ["cache", "path"], ["status"]])
def test_a_command_does_not_import_the_others(words: list[str]) -> None:
    script = (
        "import sys; from nsfwscan.cli.main import main; main(sys.argv[1:]);"
        "print('imported', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    commands = {f"nsfwscan.cli.{name}" for name in ("rulings", "cache", "status", "watch", "scan")}
    assert loaded & commands == {f"nsfwscan.cli.{words[0]}"}
    assert "nsfwscan.scanning.scanner" not in loaded


def test_an_error_in_the_arguments_does_not_import_what_typer_checks_with() -> None:
    for words in (["models", "add"], ["scan", "--jobs", "none", "/"], ["scan", "--nothing"]):
        script = (
            "import sys; from nsfwscan.cli.main import main; main(sys.argv[1:]);"
            "print('pydantic' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n"
        assert done.stderr.endswith(" --help`\n")


def test_a_scan_from_the_cache_imports_nothing_heavy(
    call: Call, tiny: Path, tmp_path: Path, paint: Paint
) -> None:
    folder = tmp_path / "pictures"
    paint(folder / "green.png", GREEN)
    paint(folder / "red.png", RED)
    # Known by their content even if not yet by their paths, which takes some seconds of age.
    assert call("scan", folder).code == 1
    assert imported("scan", "--exit-zero", "-f", "jsonl", folder) & HEAVY == set()
    os.unlink(folder / "red.png")
    assert imported("scan", folder) & HEAVY == set()


def test_the_help_of_formats_names_each() -> None:
    assert set(PURPOSES) == set(Format)

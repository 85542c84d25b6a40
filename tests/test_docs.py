"""README, help and code say the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_model
import typer.main

from nsfwscan.cli.app import app
from nsfwscan.cli.main import main
from nsfwscan.cli.shared import codes
from nsfwscan.models import catalogue
from nsfwscan.report.formats import Format
from nsfwscan.values.results import FailReason

_ROOT = Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield (*before, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _quoted() -> list[str]:
    """Return every command line of nsfwscan in the README, in blocks and in running text."""
    spans = re.findall(r"`(nsfwscan [^`]+)`", _README.replace("\\|", "|"))
    lines = re.findall(r"^(?:\$ |.*bin/)?(nsfwscan [^\n]*)$", _README, flags=re.MULTILINE)
    piped = [part.strip() for one in spans + lines for part in one.split("|")]
    return [one for one in piped if one.startswith("nsfwscan ")]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_in_the_readme_and_has_a_manual(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"nsfwscan {' '.join(words)}" in _README
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.split()) > 20
    for parameter in COMMANDS[words].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


@pytest.mark.parametrize("line", sorted(set(_quoted())))
def test_every_command_line_in_the_readme_is_one_that_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0] in {"COMMAND", "--help"}:
        return
    if words[0].startswith("~/"):  # a path means `scan`
        words = ["scan", *words]
    depth = 2 if tuple(words[:2]) in COMMANDS else 1
    command = COMMANDS[tuple(words[:depth])]
    known = {flag for parameter in command.params for flag in parameter.opts} | {"--help", "-h"}
    for word in words[depth:]:
        if re.match(r"--?[a-z0]", word):
            assert word.split("=")[0] in known


def test_the_python_example_runs(
    tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (example,) = _blocks("python")
    paint(tmp_path / "Pictures" / "red.png", tiny_model.RED)
    paint(tmp_path / "holiday.jpg", tiny_model.GREEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(str(tmp_path / "Pictures" / "red.png"))
    assert "safe" in shown[1]


@pytest.mark.parametrize("example", _blocks("toml"))
def test_the_configuration_examples_are_accepted(
    tiny: Path, home: Path, tmp_path: Path, example: str
) -> None:
    (home / "config.toml").write_text(example)
    assert main(["scan", "--quiet", str(tmp_path)]) == 0


def test_the_readme_lists_the_models_that_are_known() -> None:
    table = _README.split("## Models")[1].split("\n\n")[1]
    assert set(re.findall(r"^\| (\w+) \|", table, flags=re.MULTILINE)) - {"name"} == set(
        catalogue.load()
    )


@pytest.mark.parametrize("word", [*Format, *FailReason])
def test_formats_and_reasons_are_explained(word: str) -> None:
    assert f"`{word}`" in _README or f"--format {word}" in _README


@pytest.mark.parametrize(
    "code", sorted({code for name, code in vars(codes).items() if name.isupper()})
)
def test_exit_codes_are_in_the_readme_and_in_the_help(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(rf"^\| {code} \|", _README, flags=re.MULTILINE)
    assert main(["--help"]) == 0
    assert re.search(rf"\b{code}\b", capsys.readouterr().out)


@pytest.mark.parametrize("mark", ["scan command", "test command"])
def test_the_two_commands_are_marked(mark: str) -> None:
    """`.ci/run` runs what stands behind the second mark."""
    assert _README.count(f"<!-- {mark} -->\n```sh\n") == 1

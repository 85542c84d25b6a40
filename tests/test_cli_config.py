"""Where a setting comes from: the command line, a variable, the configuration file, a default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from conftest import Paint
from shell import PROGRAM, Call
from tiny_model import GREEN, ORANGE, RED
from typer.main import get_command

from nsfwscan.cli.app import app
from nsfwscan.cli.shared import config
from nsfwscan.values.errors import ConfigError

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


@pytest.fixture
def pictures(tmp_path: Path, paint: Paint) -> Path:
    folder = tmp_path / "pictures"
    for name, colour in (("red", RED), ("orange", ORANGE), ("green", GREEN)):
        paint(folder / f"{name}.png", colour)
    return folder


def flag_at(call: Call, pictures: Path, *options: str | Path) -> float:
    """Return the threshold that holds."""
    done = call(*options, "scan", "-f", "json", pictures)
    assert done.code in {0, 1}, done.err
    threshold: float = json.loads(done.out)["summary"]["thresholds"]["flag_at"]
    return threshold


def test_precedence_flag_variable_file_default(
    call: Call, pictures: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flag_at(call, pictures) == 0.8
    (home / "config.toml").write_text("[scan]\nflag-at = 0.91\n")
    assert flag_at(call, pictures) == 0.91
    monkeypatch.setenv("NSFWSCAN_FLAG_AT", "0.92")
    assert flag_at(call, pictures) == 0.92
    done = call("scan", "--flag-at", "0.93", pictures)
    assert ", nsfw from 0.93)." in done.err
    monkeypatch.setenv("NSFWSCAN_FLAG_AT", "")
    assert flag_at(call, pictures) == 0.91


def test_another_configuration_file(
    call: Call, pictures: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text("this is not read")
    (tmp_path / "mine.toml").write_text("[scan]\nflag-at = 0.94\n")
    assert flag_at(call, pictures, "--config", tmp_path / "mine.toml") == 0.94
    monkeypatch.setenv("NSFWSCAN_CONFIG", str(tmp_path / "mine.toml"))
    assert flag_at(call, pictures) == 0.94


def test_every_kind_of_value_in_a_file(call: Call, pictures: Path, home: Path) -> None:
    (home / "config.toml").write_text(
        "[scan]\n"
        'exclude = ["red.*"]\nonly = ["flagged", "review"]\nformat = "jsonl"\n'
        'quiet = true\njobs = 1\nflag-at = 1\nmax-size = 100000\nsymlinks = "follow"\n'
        "[models.pull]\nquiet = true\n"
    )
    done = call("scan", pictures)
    assert (done.code, done.verdicts, done.err) == (0, {"orange.png": "review"}, "")


def test_a_list_in_a_variable_is_separated_by_spaces(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSFWSCAN_EXCLUDE", "red.* green.*")
    monkeypatch.setenv("NSFWSCAN_FORMAT", "jsonl")
    monkeypatch.setenv("NSFWSCAN_QUIET", "1")
    done = call("scan", pictures)
    assert (done.code, done.verdicts, done.err) == (0, {"orange.png": "review"}, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[scan]\nflag_at = 0.9", "[scan] has no option 'flag_at'"),
        ("[scan]\npaths = ['x']", "[scan] has no option 'paths'"),
        ("[scan]\nhelp = true", "[scan] has no option 'help'"),
        ("[scan]\nflag-at = 'x'", "[scan] flag-at = \"x\": 'x' is not a number"),
        ("[scan]\nflag-at = 7", "[scan] flag-at = 7: 7 is not between 0 and 1"),
        ("[scan]\nflag-at = nan", "[scan] flag-at = NaN: nan is not a number"),
        ("[scan]\njobs = true", "[scan] jobs = true: it needs a value"),
        ("[scan]\njobs = -1", "[scan] jobs = -1: "),
        ("[scan]\njobs = 1979-05-27", '[scan] jobs = "1979-05-27": '),
        ("[scan]\nhidden = 'yes'", '[scan] hidden = "yes": it must be true or false'),
        ("[scan]\nexclude = '*.tmp'", '[scan] exclude = "*.tmp": it must be a list, ["*.tmp"]'),
        ("[scan]\nonly = ['safe']", "[scan] only = [\"safe\"]: 'safe' is not one of"),
        ("[scan]\nformat = 'xml'", "[scan] format = \"xml\": 'xml' is not one of"),
        ("[scan]\nmax-size = '1x'", "[scan] max-size = \"1x\": '1x' is not a size"),
        ("[scan]\nquarantine = ['x']", "[scan] quarantine = [\"x\"]: ['x'] is not a string"),
        ("[scan]\nquarantine = 1", "[scan] quarantine = 1: 1 is not a string"),
        ("[scan]\nquarantine = nan", "[scan] quarantine = NaN: nan is not a string"),
        ("[scan]\nquarantine = ''", '[scan] quarantine = "": it is empty'),
        ("[scan]\noutput = 12:00:00", '[scan] output = "12:00:00": '),
        ('[scan]\nmodel = "a\\u0000"', "contains a NUL character"),
        ("[scan]\naction = [1]", "[scan] action = [1]: 1 is not a string"),
        ("[scan]\naction = [['tag']]", "[scan] action = [[\"tag\"]]: ['tag'] is not a string"),
        ("[cache.prune]\nolder-than-days = inf", "older-than-days = Infinity: inf is not a number"),
        ("[[rule]]\naction = 'tag'\nfolder = \"a\\u0000\"", "must be the path of a folder"),
        ("[scam]\nx = 1", "[scam] is not a command"),
        ("scan = 3", "scan is a command, not an option"),
        ("[models]\nquiet = true", "[models]: [quiet] is not a command"),
        ("x =", "is not valid TOML: Invalid value (at end of document)"),
        ("[scan]\nflag-at = 1\nflag-at = 2", "is not valid TOML: Cannot overwrite a value"),
        ("\xff", "is not valid TOML: 'utf-8' codec can't decode"),
        ("x = " + "[" * 20000, "is nested too deeply"),
        ("x = " + "{a = " * 20000, "is nested too deeply"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(
    call: Call, pictures: Path, home: Path, text: str, problem: str
) -> None:
    (home / "config.toml").write_bytes(text.encode("latin-1"))
    done = call("scan", pictures)
    assert (done.code, done.out) == (2, "")
    first, *hints = done.err.splitlines()
    assert first.startswith("nsfwscan: ")
    assert str(home / "config.toml") in first
    assert problem in first
    assert len(hints) <= 1


_VALUES = [
    "true", "1", "1.5", "nan", "inf", "-1", "1e400", "''", "'x'", '"a\\u0000b"', "2020-01-01",
    "12:00:00", "[]", "[1]", "['x']", "['']", "[[1]]", "[{}]", "{}", "{a = 1}", f"{2**63 - 1}",
]  # fmt: skip


def _options(group: Any, *names: str) -> Iterator[tuple[str, str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _options(command, *names, name)
        for one in command.params:
            for flag in getattr(one, "opts", ()):
                if flag.startswith("--"):
                    yield ".".join((*names, name)), flag.removeprefix("--"), one


def test_every_option_takes_the_values_of_its_type_and_no_others(home: Path) -> None:
    program = get_command(app)
    context = typer.Context(program)
    taken = 0
    for command, name, option in _options(program):
        for value in _VALUES:
            (home / "config.toml").write_text(f"[{command}]\n{name} = {value}\n")
            try:
                read = config.read(context, None)
            except ConfigError:
                continue
            found = read.defaults
            for part in command.split("."):
                found = found[part]
            ready = option.process_value(context, found[option.name])
            for one in ready if option.multiple else (ready,):
                wanted = option.type_descriptor.annotation
                assert isinstance(one, get_args(wanted) or wanted), (command, name, value)
                assert one not in {"", "nan", "inf", "-1"}, (command, name, value)
            taken += 1
    assert taken > 100


def test_a_file_that_is_asked_for_must_be_there(call: Call, pictures: Path, tmp_path: Path) -> None:
    done = call("--config", tmp_path / "none.toml", "scan", pictures)
    assert (done.code, done.out) == (2, "")
    assert f"the configuration file {tmp_path}/none.toml does not exist" in done.err
    done = call("--config", tmp_path, "scan", pictures)
    assert (done.code, done.out) == (2, "")
    assert f"the configuration file {tmp_path} cannot be read: Is a directory" in done.err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NSFWSCAN_FLAG_AT", "high"),
        ("NSFWSCAN_FLAG_AT", "2"),
        ("NSFWSCAN_JOBS", "1.5"),
        ("NSFWSCAN_HIDDEN", "maybe"),
        ("NSFWSCAN_ONLY", "flagged safe"),
        ("NSFWSCAN_FORMAT", "xml"),
        ("NSFWSCAN_MAX_SIZE", "big"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = call("scan", pictures)
    assert (done.code, done.out) == (2, "")
    assert f"(env var: '{variable}')" in done.err


def test_a_configuration_file_does_not_keep_help_and_doctor_from_their_work(
    call: Call, home: Path
) -> None:
    (home / "config.toml").write_text("[scan]\nflag-at = 7\n")
    assert call("--help").code == 0
    assert call("--version").code == 0
    done = call("doctor")
    assert done.code == 7
    assert f"{home}/config.toml is wrong" in done.out
    assert "flag-at = 7: 7 is not between 0 and 1" in done.out


def test_home_holds_everything(call: Call, pictures: Path, home: Path) -> None:
    call("scan", pictures)
    assert call("cache", "path").out == f"{home}/library.sqlite3\n"
    assert (home / "library.sqlite3").exists()
    text = call("doctor").out
    for name in ("config.toml", "models", "library.sqlite3"):
        assert f"{home}/{name}" in text


def test_home_need_not_be_text(tmp_path: Path) -> None:
    home = os.fsencode(tmp_path) + b"/\xff"
    environment = {**os.environb, b"NSFWSCAN_HOME": home}
    for arguments in (["cache", "path"], ["cache", "stats"], ["doctor"], ["models", "list"]):
        done = subprocess.run(
            [*PROGRAM, *arguments], env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        if arguments == ["cache", "path"]:
            assert done.stdout == home + b"/library.sqlite3\n"


def test_without_any_home_the_account_tells_it() -> None:
    bare = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*PROGRAM, "cache", "path"], env=bare, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.path.isabs(done.stdout)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_that_notepad_saved_is_read(
    call: Call, pictures: Path, home: Path, end: str
) -> None:
    text = f"[scan]{end}flag-at = 0.95{end}"
    (home / "config.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert flag_at(call, pictures) == 0.95

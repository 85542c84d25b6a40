"""A shell without a home, or in a folder that is gone: a sentence, and not a bug."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Paint
from shell import Call
from tiny_model import RED

from nsfwscan.system import locations
from nsfwscan.values.errors import ConfigError

_ROOT = Path(__file__).parents[1]
FUNCTIONS = [
    getattr(locations, name)
    for name in vars(locations)
    if name.endswith(("_file", "_folder")) and not name.startswith(("_", "shipped"))
]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_a_user_without_a_home_is_told_what_to_set(
    home: str | None, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    def nobody(_user: object) -> object:
        raise KeyError("nobody")

    pwd = pytest.importorskip("pwd")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in [*os.environ]:
        if name.startswith("XDG_") or name in {"NSFWSCAN_HOME", "HOME"}:
            monkeypatch.delenv(name)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    for function in FUNCTIONS:
        with pytest.raises(ConfigError, match="no home folder") as caught:
            function()
        assert "NSFWSCAN_HOME" in caught.value.hint
    for command in (["scan", "/"], ["models", "list"], ["cache", "stats"], ["status"]):
        done = call(*command)
        assert done.code == 2
        assert done.err.startswith("nsfwscan: there is no home folder")
        assert done.err.count("\n") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", "."],
        ["scan", "x"],
        ["scan", "-o", "x", "/"],
        ["allow", "."],
        ["watch", "."],
        ["models", "add", "x"],
    ],
)
def test_a_working_folder_that_was_deleted_is_said_to_be(
    tmp_path: Path, tiny: Path, arguments: list[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", folder]
        + [sys.executable, "-P", "-c", "from nsfwscan.cli.main import run; run()", *arguments],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "the current folder no longer exists" in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


def test_absolute_paths_need_no_working_folder(tmp_path: Path, tiny: Path, paint: Paint) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    picture = paint(tmp_path / "pictures" / "red.png", RED)
    done = subprocess.run(
        ["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", folder]
        + [sys.executable, "-P", "-c", "from nsfwscan.cli.main import run; run()"]
        + ["scan", picture.parent],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr


def test_messages_call_the_cache_what_the_command_calls_it() -> None:
    """One thing has one name: `nsfwscan cache`."""
    for place in ("cache", "cli", "scanning", "watch"):
        for file in sorted((_ROOT / "nsfwscan" / place).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    for part in node.values:
                        if isinstance(part, ast.Constant):
                            assert not re.search(r"\blibrary\b", str(part.value)), (
                                file,
                                part.value,
                            )

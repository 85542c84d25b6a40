"""The checks that are not tests of behaviour: lint, format, types and the direction of imports."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "."], id="lint"),
        pytest.param(["ruff", "format", "--check", "."], id="format"),
        pytest.param(["mypy"], id="types"),
        pytest.param(["importlinter"], id="layers"),
    ],
)
def test_check_passes(command: list[str]) -> None:
    if command[0] == "importlinter":
        command = ["-c", "from importlinter.cli import lint_imports_command as run; run()"]
    else:
        command = ["-m", *command]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_extra_export_pins_the_torchvision_that_was_compiled_for_its_torch() -> None:
    """Any other pair installs without a word and fails when it is imported."""
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    export = extras["optional-dependencies"]["export"]
    pins = dict(one.split("==") for one in export if "==" in one)
    torch, vision = (
        [int(part) for part in pins[name].split(".")] for name in ("torch", "torchvision")
    )
    assert torch[0] == 2
    assert vision == [0, torch[1] + 15, torch[2]]  # 0.15 was for 2.0

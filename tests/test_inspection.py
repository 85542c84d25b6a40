"""Every command that shows the state of nsfwscan says the same to people and to programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Paint
from shell import Call
from tiny_model import RED

COMMANDS = (
    ("cache", "stats"),
    ("doctor",),
    ("models", "list"),
    ("quarantine", "list"),
    ("quarantine", "verify"),
    ("rulings", "list"),
    ("status",),
)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_prints_a_table_or_json_and_exits_alike(
    command: tuple[str, ...], call: Call, paint: Paint, tmp_path: Path
) -> None:
    paint(tmp_path / "pictures" / "red.png", RED)
    assert call("scan", tmp_path / "pictures").code == 1
    assert call("allow", tmp_path / "pictures" / "red.png").code == 0
    table, document = call(*command), call(*command, "--format", "json")
    assert table.code == document.code
    assert isinstance(json.loads(document.out), dict | list)
    with pytest.raises(json.JSONDecodeError):
        json.loads(table.out)


@pytest.mark.usefixtures("tiny")
def test_numbers_are_numbers_in_json(call: Call, paint: Paint, tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "red.png", RED)
    call("scan", tmp_path / "pictures")
    call("allow", tmp_path / "pictures" / "red.png")
    stats = json.loads(call("cache", "stats", "--format", "json").out)
    assert (stats["contents"], stats["read_only"]) == (1, False)
    assert [model["contents"] for model in stats["models"]] == [1]
    (ruling,) = json.loads(call("rulings", "list", "--format", "json").out)
    assert ruling["ruling"] == "allowed"
    assert len(ruling["sha256"]) == 64
    assert ruling["at"] > 1.7e9


def test_the_earlier_option_for_json_still_works(call: Call, tiny: Path) -> None:
    assert call("models", "list", "--json").out == call("models", "list", "--format", "json").out

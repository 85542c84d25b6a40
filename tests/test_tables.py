"""Small tables and messages: what they look like on a terminal of any width, and in a pipe."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import fitted

COLUMNS = ("name", "state", "title")
ROWS = [
    ("opennsfw", "installed, 23.6 MB", "a title of several words that has to be folded"),
    ("marqo", "has to be built", "[bold]short[/bold]"),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(
    monkeypatch: pytest.MonkeyPatch, width: int, rows: list[tuple[str, str, str]]
) -> list[str]:
    """Return the lines of a table on a terminal of that width."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal):
        print_table(COLUMNS, rows)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    return [line.rstrip() for line in plain.splitlines()]


@pytest.mark.parametrize("width", [36, 40, 60, 80, 120])
def test_a_table_fits_the_terminal_and_breaks_between_words(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = shown(monkeypatch, width, ROWS)
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    assert words == {word for row in (COLUMNS, *ROWS) for cell in row for word in cell.split()}


def test_a_terminal_too_narrow_for_a_table_gets_a_block_for_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(monkeypatch, 40, ROWS) == [
        "name   opennsfw",
        "state  installed, 23.6 MB",
        "title  a title of several words that has",
        "       to be folded",
        "",
        "name   marqo",
        "state  has to be built",
        "title  [bold]short[/bold]",
    ]


def test_a_table_without_rows_is_its_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(monkeypatch, 40, []) == ["name  state  title"]


def test_in_a_pipe_each_row_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "name      state               title",
        "opennsfw  installed, 23.6 MB  a title of several words that has to be folded",
        "marqo     has to be built     [bold]short[/bold]",
    ]


def test_a_message_breaks_between_words_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    sentence = "  name a folder: nsfwscan scan ~/Pictures"
    assert fitted(sentence, io.StringIO()) == sentence
    assert fitted(sentence, Terminal()).splitlines() == [
        "  name a folder:",
        "  nsfwscan scan",
        "  ~/Pictures",
    ]

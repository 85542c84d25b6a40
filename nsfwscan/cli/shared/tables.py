"""Small tables on stdout, fitted to the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import assert_never

import typer

from nsfwscan.cli.shared.options import TableFormat
from nsfwscan.values.text import plain_json, readable

_MOST_FOLDED = 1000
"""Larger tables are not folded, which takes 0.2 ms per row."""

_KEPT = 20
"""Columns of text up to this wide are not folded."""
_LEAST = 16
"""The least width of a column that is folded."""


def print_rows(
    form: TableFormat, columns: Sequence[str], rows: Iterable[Sequence[str]], document: object
) -> None:
    """Print `rows` as a table, or `document`, which says the same for programs, as JSON."""
    match form:
        case TableFormat.TABLE:
            print_table(columns, rows)
        case TableFormat.JSON:
            print_json(document)
        case _:
            assert_never(form)


def print_json(document: object) -> None:
    """Print a document as JSON for programs that people can read."""
    typer.echo(plain_json(json.dumps(document, indent=2, ensure_ascii=False)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `columns`; long cells are folded on a terminal, but not in a pipe."""
    cells = [[readable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and len(cells) <= _MOST_FOLDED:
        _print_folded(columns, cells)
    else:
        _print_plain([list(columns), *cells] if any(columns) else cells)


def _print_folded(columns: Sequence[str], rows: list[list[str]]) -> None:
    """Print a table that fits the terminal. If it is too narrow, print a block for each row."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    kept = sum(width for width in widths if width <= _KEPT) + 2 * (len(columns) - 1)
    folded = sum(1 for width in widths if width > _KEPT)
    if len(columns) > 2 and kept + folded * _LEAST > console.width:
        for number, row in enumerate(rows):
            if number:
                print()
            _print_folded(("", ""), [list(pair) for pair in zip(columns, row, strict=True)])
        return
    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, overflow="fold", no_wrap=width <= _KEPT)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _print_plain(rows: list[list[str]]) -> None:
    from rich.cells import cell_len

    widths = [[cell_len(cell) for cell in row] for row in rows]
    most = [max(column) for column in zip(*widths, strict=True)]
    for row, own in zip(rows, widths, strict=True):
        padded = (
            cell + " " * (width - mine) for cell, mine, width in zip(row, own, most, strict=True)
        )
        print("  ".join(padded).rstrip())

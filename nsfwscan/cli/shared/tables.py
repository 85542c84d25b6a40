"""Small tables on stdout, fitted to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from nsfwscan.values.text import readable

_MOST_FOLDED = 1000
"""Larger tables are not folded, which takes 0.2 ms per row."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `columns`; long cells are folded on a terminal, but not in a pipe."""
    cells = [[readable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and len(cells) <= _MOST_FOLDED:
        _print_folded(columns, cells)
    else:
        _print_plain([list(columns), *cells])


def _print_folded(columns: Sequence[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def _print_plain(rows: list[list[str]]) -> None:
    from rich.cells import cell_len

    widths = [[cell_len(cell) for cell in row] for row in rows]
    most = [max(column) for column in zip(*widths, strict=True)]
    for row, own in zip(rows, widths, strict=True):
        padded = (
            cell + " " * (width - mine) for cell, mine, width in zip(row, own, most, strict=True)
        )
        print("  ".join(padded).rstrip())

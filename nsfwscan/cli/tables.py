"""Small tables on stdout, plain in a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence

from nsfwscan.report.text import readable

_PIPE_WIDTH = 100_000
"""Columns to assume where the output is no terminal: nothing must be cut or folded there."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `columns`; on a terminal long cells are folded, in a pipe never."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(readable(cell)) for cell in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    plain = io.StringIO()
    Console(file=plain, width=_PIPE_WIDTH, highlight=False).print(table)
    for line in plain.getvalue().splitlines():
        print(line.rstrip())  # rich fills all lines up with blanks

"""Small tables on stdout, plain in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from nsfwscan.report.text import readable


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
    width = None if sys.stdout.isatty() else 100_000
    Console(width=width, highlight=False).print(table)

"""Tables of paths and remarks that fit a terminal. One of the modules that may import rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

_GAP = 2
"""Columns between two cells."""


class TableLine(NamedTuple):
    """A row of a table; all texts are printable."""

    fixed: Sequence[str]
    """Short cells, which are never broken."""
    texts: Sequence[str]
    """Cells of any length."""
    stacked: Sequence[str]
    """The same as `texts`, one below the other, for terminals on which they do not fit."""
    style: str = ""
    """The style of the first cell."""


def print_lines(
    console: Console,
    fixed: Sequence[str],
    texts: Sequence[str],
    stacked: str,
    lines: Sequence[TableLine],
) -> None:
    """Print lines under these headings; `stacked` is that of the stacked texts.

    Side by side, texts would have to be broken in the middle of words, so they are stacked if a
    line does not fit.
    """
    from rich.table import Table
    from rich.text import Text

    is_wide = len(texts) > 1 and _width(fixed, texts, lines) > console.width
    table = Table(box=None, pad_edge=False)
    for heading in fixed:
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=True)
    for heading in [stacked] if is_wide else texts:
        table.add_column(heading, overflow="fold")
    for line in lines:
        cells = ["\n".join(filter(None, line.stacked))] if is_wide else line.texts
        first, *others = line.fixed
        table.add_row(Text(first, line.style), *map(Text, others), *map(Text, cells))
    console.print(table)


def _width(fixed: Sequence[str], texts: Sequence[str], lines: Sequence[TableLine]) -> int:
    """Return the columns that the widest cells take side by side."""
    from rich.cells import cell_len

    rows = [(*fixed, *texts), *((*line.fixed, *line.texts) for line in lines)]
    return sum(max(map(cell_len, column)) + _GAP for column in zip(*rows, strict=True)) - _GAP

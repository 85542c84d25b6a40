"""The files that hold rulings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.system import locations
from nsfwscan.system.traces import is_file, is_link, own_parent
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator


def traces() -> Iterator[Traces]:
    """Yield the journal of rulings. Raises `NsfwscanError`."""
    path = locations.rulings_file()
    files = tuple(file for file in (path, f"{path}.held") if is_link(file) or is_file(file))
    yield Traces(TraceKind.RULINGS, path, files, tuple(own_parent(path)) if files else ())

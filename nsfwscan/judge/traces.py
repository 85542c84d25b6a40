"""What people's decisions leave on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.system import locations
from nsfwscan.system.traces import is_file, is_link, own_parent
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator


def traces() -> Iterator[Traces]:
    """Yield the journal of decisions. Raises `NsfwscanError`."""
    path = locations.rulings_file()
    files = tuple(one for one in (path, f"{path}.held") if is_link(one) or is_file(one))
    yield Traces(TraceKind.DECISIONS, path, files, tuple(own_parent(path)) if files else ())

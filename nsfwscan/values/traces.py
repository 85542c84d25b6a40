"""What nsfwscan has written on this computer. Each room lists its own traces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class TraceKind(StrEnum):
    """What the files of a trace are for."""

    MODELS = "models"
    CACHE = "cache"
    CONFIGURATION = "configuration"
    STATE = "status and logs"
    JOBS = "jobs of the server"
    RULINGS = "rulings"
    QUARANTINE = "empty quarantine"
    COMPLETION = "shell completion"


class Traces(NamedTuple):
    """What nsfwscan wrote of one kind, in one place. Every path is absolute."""

    kind: TraceKind
    place: str
    """The folder or file to show to the user."""
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    """Deepest first. Each is only removed if it is empty by then."""
    strangers: tuple[str, ...] = ()
    """Files in those folders that are not nsfwscan's, as far as this room knows."""
    lines: tuple[tuple[str, str], ...] = ()
    """(file, line): lines added to the user's files."""


FindTraces: TypeAlias = Callable[[], Iterable[Traces]]
"""Each room has such a function: it reads the disk, changes nothing, raises `NsfwscanError`."""


def added(traces: Iterable[Traces]) -> list[Traces]:
    """Add up the traces of several rooms, once for each kind and place, without empty ones.

    Rooms may share a folder: a file that one of them lists as its own is not a stranger.
    """
    sums: dict[tuple[TraceKind, str], Traces] = {}
    for trace in traces:
        key = trace.kind, trace.place
        before = sums.get(key)
        sums[key] = trace if before is None else _sum(before, trace)
    return [
        total
        for total in sums.values()
        if total.files or total.folders or total.strangers or total.lines
    ]


def _sum(first: Traces, second: Traces) -> Traces:
    return Traces(
        first.kind,
        first.place,
        tuple(dict.fromkeys(first.files + second.files)),
        tuple(dict.fromkeys(first.folders + second.folders)),
        tuple(path for path in first.strangers if path in set(second.strangers)),
        tuple(dict.fromkeys(first.lines + second.lines)),
    )

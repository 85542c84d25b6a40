"""What nsfwscan has written on this computer: each room says its part in these words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class TraceKind(StrEnum):
    """What traces are for."""

    MODELS = "models"
    CACHE = "cache"
    CONFIGURATION = "configuration"
    STATE = "status and logs"
    DECISIONS = "decisions"
    QUARANTINE = "empty quarantine"
    COMPLETION = "shell completion"


class Traces(NamedTuple):
    """What nsfwscan wrote of one kind, in one place. Every path is absolute."""

    kind: TraceKind
    place: str
    """The folder or file to name to a person."""
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    """Deepest first. Each is only removed if it is empty by then."""
    strangers: tuple[str, ...] = ()
    """What lies in those folders and is not nsfwscan's, as far as one room knows."""
    lines: tuple[tuple[str, str], ...] = ()
    """(file, line): lines that were added to files of the user."""


FindTraces: TypeAlias = Callable[[], Iterable[Traces]]
"""What a room offers: it looks at the disk, changes nothing, and raises `NsfwscanError`."""


def added(traces: Iterable[Traces]) -> list[Traces]:
    """Add up what several rooms say, each kind and place once, without those that are empty.

    Rooms may share a folder: what one of them calls its own is no stranger.
    """
    sums: dict[tuple[TraceKind, str], Traces] = {}
    for one in traces:
        key = one.kind, one.place
        before = sums.get(key)
        sums[key] = one if before is None else _sum(before, one)
    return [one for one in sums.values() if one.files or one.folders or one.strangers or one.lines]


def _sum(first: Traces, second: Traces) -> Traces:
    return Traces(
        first.kind,
        first.place,
        tuple(dict.fromkeys(first.files + second.files)),
        tuple(dict.fromkeys(first.folders + second.folders)),
        tuple(one for one in first.strangers if one in set(second.strangers)),
        tuple(dict.fromkeys(first.lines + second.lines)),
    )

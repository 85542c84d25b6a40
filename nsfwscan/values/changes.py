"""What a watcher tells: one `Change` for each picture that came, changed, moved or went.

Between them it tells what its consumers need to act and to report: `Again`, `BatchDone` and
`WatchState`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from nsfwscan.values.results import Decision, ScanResult


class Event(StrEnum):
    """What happened to a picture."""

    NEW = "new"
    """It was not known by this model at this path."""
    CHANGED = "changed"
    """Its content is another one, or it can be read at last, or no more."""
    MOVED = "moved"
    """Its content was at another path, where there is nothing any more."""
    GONE = "gone"
    """Nothing is there any more, in a folder that can be listed."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, with what the scan made of the picture as it is now."""

    event: Event
    path: str
    result: ScanResult | None
    """None when the picture is gone."""
    came_from: str = ""
    """The earlier path of a picture that moved."""
    sha256: bytes | None = None
    """The content that is gone, when it was known."""
    decision: Decision | None = None
    """What the thresholds made of a picture that is gone."""


@dataclass(frozen=True, slots=True)
class Again:
    """A picture that was told before, scanned once more because an action may be owed for it."""

    result: ScanResult


@dataclass(frozen=True, slots=True)
class BatchDone:
    """All changes of a batch have been told, and the cache has them.

    This is the time for what is better done for many at once.
    """


class WatchState(NamedTuple):
    """How the watcher is doing."""

    since: float
    """Seconds since the epoch."""
    roots: tuple[str, ...]
    watched: int
    """Folders below the roots that the system watches for us."""
    folders: int
    pictures: int
    """Files that are known or wait to be scanned, each counted once."""
    queue: int
    scanned: int
    flagged: int
    failed: int
    reconciled_at: float | None
    complete: bool
    """Whether everything has been listed, and scanned, at least once."""
    unread: int
    """Folders that the last reconcile could not list, roots that were not there, and pictures that
    have no verdict yet."""
    degraded: tuple[str, ...]
    paused: str
    loaded: bool


Told: TypeAlias = Change | Again | BatchDone | WatchState

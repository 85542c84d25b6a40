"""What a watcher yields: one `Change` for each picture that appeared, changed, moved or went.

Between the changes come `Again`, `BatchDone` and `WatchState`, which its consumers need to act and
to report.
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
    """This model has not scored it at this path before."""
    CHANGED = "changed"
    """Its content differs, or it has become readable or unreadable."""
    MOVED = "moved"
    """Its content was at another path, where there is now nothing."""
    GONE = "gone"
    """The path no longer exists, in a folder that can be listed."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, with the scan's result for the picture as it is now."""

    event: Event
    path: str
    result: ScanResult | None
    """None when the picture is gone."""
    came_from: str = ""
    """The earlier path of a picture that moved."""
    sha256: bytes | None = None
    """The content that is gone, if it was known."""
    decision: Decision | None = None
    """The decision on a picture that is gone."""


@dataclass(frozen=True, slots=True)
class Again:
    """A picture reported before, scanned again because an action may still be due for it."""

    result: ScanResult


@dataclass(frozen=True, slots=True)
class BatchDone:
    """All changes of a batch have been yielded, and are in the cache.

    Consumers do here what is better done for many pictures at once.
    """


class WatchState(NamedTuple):
    """The watcher's state."""

    since: float
    """Seconds since the epoch."""
    roots: tuple[str, ...]
    watched: int
    """Folders below the roots for which the operating system reports events."""
    folders: int
    pictures: int
    """Files that are known or waiting to be scanned, each counted once."""
    queue: int
    scanned: int
    flagged: int
    failed: int
    reconciled_at: float | None
    complete: bool
    """Whether everything has been listed and scanned at least once."""
    unread: int
    """Folders that the last reconcile could not list, roots that were not there, and pictures that
    still have no verdict."""
    degraded: tuple[str, ...]
    paused: str
    loaded: bool


Told: TypeAlias = Change | Again | BatchDone | WatchState

"""What a watcher tells: one `Change` for each picture that came, changed, moved or went."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

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

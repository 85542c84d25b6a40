"""What the watcher tells: one `Change` for each picture that came, changed, moved or went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nsfwscan.values.changes import Change
    from nsfwscan.values.results import ScanResult


class Sink(Protocol):
    """Takes changes as they are found."""

    def change(self, change: Change, /) -> None:
        """Take one change. The library may learn of it up to a second later."""

    def again(self, result: ScanResult, /) -> None:
        """Take what a picture is that was told of before and about which an act may be owed."""

    def batch_done(self) -> None:
        """Do what is better done for many changes at once; the library knows them by now."""

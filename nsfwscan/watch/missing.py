"""Pictures that have been missing for so long that they did not move: they are gone.

In: the paths that the tracker misses. Out: a `Change` for each that is gone.
What can fail: where another disk is mounted than before, nothing is said to be gone. Nor where a
folder cannot be listed: it is noted as such, and a reconcile looks again soon.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from nsfwscan.values.changes import Change, Event
from nsfwscan.watch.inventory import NO_DIGEST, NO_PICTURE
from nsfwscan.watch.places import Presence, is_below, is_there

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nsfwscan.scanning.session import Session
    from nsfwscan.watch.places import WatchedPlaces
    from nsfwscan.watch.tracker import Tracker


class Missing:
    """Tells which missing pictures are gone."""

    def __init__(self, session: Session, tracker: Tracker, places: WatchedPlaces) -> None:
        self._session, self._tracker, self._places = session, tracker, places

    def gone(self, strange: Collection[str]) -> Iterator[Change]:
        """Yield what is gone; `strange` are the places about which a reconcile decides."""
        tracker = self._tracker
        presence: dict[str, bool] = {}
        listable: dict[str, bool] = {}
        for path in tracker.absent.overdue(time.monotonic()):
            entry = tracker.inventory.get(path)
            if entry is None or is_there(path):
                tracker.absent.drop(path)
                continue
            if entry.sha256 == NO_PICTURE:
                tracker.absent.drop(path)
                tracker.inventory.drop(path)
                continue
            place = self._places.holding(path)
            if place in strange:
                continue
            if place not in presence:
                presence[place] = self._places.presence(place) is Presence.SAME
            folder = os.path.dirname(path)
            if folder not in listable:
                listable[folder] = _can_be_listed(folder, place)
            tracker.absent.drop(path)
            if not listable[folder]:
                tracker.not_examined(folder, is_file=False)
            elif presence[place]:  # else the reconcile that finds it again looks again
                sha256 = None if entry.sha256 == NO_DIGEST else entry.sha256
                decision = self._session.judge().decision(entry.sha256, entry.unsafe)
                yield Change(Event.GONE, path, None, sha256=sha256, decision=decision)
                tracker.drop(path)


def _can_be_listed(folder: str, place: str) -> bool:
    """Return True if `folder`, or the nearest one above it that is left, can be listed."""
    while is_below(folder, place):
        try:
            with os.scandir(folder):
                return True
        except (FileNotFoundError, NotADirectoryError):
            upper = os.path.dirname(folder)
            if upper == folder:
                return False
            folder = upper
        except OSError:
            return False
    return False

"""What a watcher says of itself, in a small file that `nsfwscan status` reads.

The file says how things were; whether the watcher still runs is for its lock to say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from dataclasses import dataclass

from nsfwscan.system.atomic_file import replace_file
from nsfwscan.system.locations import make_private
from nsfwscan.system.reading import open_text

_VERSION = 1
_EVERY_S = 2.0
"""The least time between two writes: a burst of pictures is not worth a write each."""
PART = ".status-"
"""How files begin that are being written; a killed watcher may leave one."""


@dataclass(frozen=True, slots=True)
class Status:
    """A watcher at one moment. All times are seconds since the epoch."""

    pid: int
    running_since: float
    roots: tuple[str, ...]
    watched: int
    """Folders that the system reports changes of."""
    directories: int
    """Folders that there are."""
    queue: int
    """Paths that wait to settle or to be looked at."""
    scanned: int
    """Pictures that got a verdict since the start."""
    flagged: int
    failed: int
    last_reconcile: float | None
    degraded: tuple[str, ...]
    """Sentences about what does not work as it should; empty when all is well."""
    paused: str
    """Why nothing is done now; empty when work goes on."""
    model: str
    version: str
    """Of nsfwscan."""


class StatusFile:
    """Writes the status of one watcher."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: Status | None = None
        self._written_at = -_EVERY_S

    def write(self, status: Status, *, now: bool = False) -> None:
        """Write `status`, unless it was written already or another was a moment ago.

        To be called each second: what came too early is written by a later call. With `now` it does
        not wait. Never raises: a full disk is no reason to stop watching.
        """
        at = time.monotonic()
        if status == self._written or not (now or at - self._written_at >= _EVERY_S):
            return
        self._written_at = at
        with contextlib.suppress(OSError):
            text = json.dumps({"v": _VERSION, **dataclasses.asdict(status)})
            make_private(os.path.dirname(self._path))
            replace_file(self._path, text.encode(), prefix=PART)
            self._written = status


def read(path: str) -> Status | None:
    """Return what a watcher wrote last; None when there is nothing that can be understood."""
    try:
        with open_text(path) as file:
            document = json.load(file)
        if document.pop("v") != _VERSION:
            return None
        document |= {name: tuple(map(str, document[name])) for name in ("roots", "degraded")}
        status = Status(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    numbers = [status.pid, status.watched, status.directories, status.queue]
    numbers += [status.scanned, status.flagged, status.failed]
    times = (status.running_since, status.last_reconcile or 0.0)
    texts = (status.paused, status.model, status.version)
    sound = (
        all(type(one) is int for one in numbers)
        and all(type(one) in {int, float} for one in times)
        and all(type(one) is str for one in texts)
    )
    return status if sound else None

"""What a watcher leaves on the disk."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from nsfwscan.system import locations
from nsfwscan.system.traces import state_traces
from nsfwscan.watch import owed, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.values.traces import Traces


def traces() -> Iterator[Traces]:
    """Yield status, logs, the list of owed actions and the lock. Raises `NsfwscanError`."""
    log, lock = os.path.basename(locations.log_file()), os.path.basename(locations.watch_lock())
    own = {log, lock, f"{lock}.held"}
    own |= {os.path.basename(one) for one in (locations.status_file(), locations.owed_file())}
    parts = (status.PART, owed.PART)
    rotated = re.compile(re.escape(log) + r"\.\d+")
    yield state_traces(
        lambda name: name in own or name.startswith(parts) or rotated.fullmatch(name) is not None
    )

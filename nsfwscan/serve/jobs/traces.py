"""What the jobs of a server leave on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.serve.jobs.runner import LOCK
from nsfwscan.serve.jobs.spool import ENDING, FOLDER
from nsfwscan.serve.jobs.store import FILE
from nsfwscan.system import locations
from nsfwscan.system.traces import entries, is_folder, is_link, state_traces
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIDES = ("", "-journal", "-wal", "-shm")


def traces() -> Iterator[Traces]:
    """Yield the job file, its lock and uploads that wait. Raises `NsfwscanError`."""
    home = locations.jobs_folder()
    if not is_folder(home) or is_link(home):
        return
    uploads = os.path.join(home, FOLDER)
    own = {f"{FILE}{side}" for side in _SIDES} | {LOCK, f"{LOCK}.held"}
    files: list[str] = []
    strangers: list[str] = []
    for entry in entries(home):
        if entry.path != uploads:
            ours = entry.name in own and entry.is_file(follow_symlinks=False)
            (files if ours else strangers).append(entry.path)
    if not is_link(uploads):
        for entry in entries(uploads):
            ours = entry.name.endswith(ENDING) and entry.is_file(follow_symlinks=False)
            (files if ours else strangers).append(entry.path)
    folders = (uploads, home) if is_folder(uploads) else (home,)
    yield Traces(TraceKind.JOBS, home, tuple(files), folders, tuple(strangers))
    around = state_traces(lambda _name: False)  # where this folder is not a stranger
    others = tuple(path for path in around.strangers if path != home)
    yield around._replace(strangers=others)

"""The files that the cache leaves on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.cache.database import SIDE_FILES, is_cache
from nsfwscan.system import locations
from nsfwscan.system.traces import entries, is_file, is_link, own_parent
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator


def traces() -> Iterator[Traces]:
    """Yield the cache, its locks, and damaged files set aside. Raises `NsfwscanError`."""
    named = locations.cache_file()
    path = os.path.realpath(named)  # the cache's other files are next to a link's target
    folder, name = os.path.split(path)
    own = {name + end for end in ("", ".lock", ".lock.held", ".watch", ".watch.held", *SIDE_FILES)}
    linked = is_link(named)
    files = [
        entry.path
        for entry in entries(folder)
        if (entry.name in own or entry.name.startswith(f"{name}.corrupt-"))
        and entry.is_file(follow_symlinks=False)
        and (not linked or is_cache(path))  # or a link to another program's database
    ]
    if linked and (files or not is_file(named)):
        files.append(named)
    strangers = (named,) if linked and named not in files else ()
    yield Traces(TraceKind.CACHE, named, tuple(files), tuple(own_parent(named)), strangers)

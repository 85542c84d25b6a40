"""Looking for files that nsfwscan has written, with an error for those that cannot be examined.

`os.path` functions return False in that case, so something would be left behind silently.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from nsfwscan.system import locations
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def state_traces(own: Callable[[str], bool]) -> Traces:
    """Return the traces of one package in the state folder, which several packages share.

    `own(name)` returns True for the package's own files.
    """
    folder = locations.state_folder()
    files: list[str] = []
    strangers: list[str] = []
    for entry in entries(folder):
        ours = own(entry.name) and entry.is_file(follow_symlinks=False)
        (files if ours else strangers).append(entry.path)
    # On some systems, state, data and configuration share one folder.
    neighbours = (locations.config_file(), locations.models_folder(), locations.quarantines_file())
    shared = folder in map(os.path.dirname, neighbours)
    folders = (folder,) if is_folder(folder) and not is_link(folder) else ()
    named = () if shared else tuple(strangers)
    return Traces(TraceKind.STATE, folder, tuple(files), folders, named)


def own_parent(path: str) -> Iterator[str]:
    """Yield the folder that holds `path` if nsfwscan, and not the user, gave it its name."""
    if os.environ.get("NSFWSCAN_HOME"):
        return
    parent = os.path.dirname(path)
    if os.path.basename(parent) in {"Cache", "Logs"} and os.name == "nt":
        yield parent
        parent = os.path.dirname(parent)
    if os.path.basename(parent) == "nsfwscan" and is_folder(parent):
        yield parent


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Return a folder's entries by name; empty if there is no folder. Raises `NsfwscanError`."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NsfwscanError(
            f"{folder} cannot be listed: {error.strerror or error}",
            hint="make it readable, or run this as its owner",
        ) from error


def _stat(path: str, *, follow: bool = False) -> os.stat_result | None:
    """Return a path's status; None if nothing is there. Raises `NsfwscanError` if unknown."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if follow and error.errno == errno.ELOOP and is_link(path):
            return None
        raise NsfwscanError(
            f"{path} cannot be examined: {error.strerror or error}",
            hint="make it readable, or run this as its owner",
        ) from error


def is_there(path: str) -> bool:
    """Return True if anything has that name, even a broken link. Raises `NsfwscanError`."""
    return _stat(path) is not None


def is_link(path: str) -> bool:
    """Return True for a symbolic link. Raises `NsfwscanError`."""
    found = _stat(path)
    return found is not None and stat.S_ISLNK(found.st_mode)


def is_file(path: str) -> bool:
    """Return True for a file, or a link to one. Raises `NsfwscanError`."""
    found = _stat(path, follow=True)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: str) -> bool:
    """Return True for a folder, or a link to one. Raises `NsfwscanError`."""
    found = _stat(path, follow=True)
    return found is not None and stat.S_ISDIR(found.st_mode)


def lines(path: str) -> list[str]:
    """Return the lines of a user's text file; none if there is no such file."""
    try:
        with open_text(path, errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def bytes_of(traces: Traces) -> int:
    """Return the bytes that removing the files frees. Raises `NsfwscanError`."""
    return sum(found.st_size for path in traces.files if (found := _stat(path)) is not None)


def size_of(path: str) -> int:
    """Return the size of a file, or of a link itself, in bytes; 0 if it does not exist."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0

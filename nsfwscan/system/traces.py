"""Looking for what nsfwscan has written, with an error for what cannot be seen.

The functions of `os.path` answer False in that case, and something would be left behind without a
word.
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
    """Return the traces in the state folder, where several rooms keep small files.

    `own` says of a file's name there whether it is the room's.
    """
    folder = locations.state_folder()
    files: list[str] = []
    strangers: list[str] = []
    for entry in entries(folder):
        ours = own(entry.name) and entry.is_file(follow_symlinks=False)
        (files if ours else strangers).append(entry.path)
    # Some systems keep state, data and configuration in one folder; each knows its own there.
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
    """Return what is in a folder, by name; nothing without one. Raises `NsfwscanError`."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NsfwscanError(
            f"{folder} cannot be listed, so what is in it is not known: {error.strerror or error}",
            hint="make it readable, or run this as its owner",
        ) from error


def _stat(path: str, *, follow: bool = False) -> os.stat_result | None:
    """Return what is at a path; None if nothing is. Raises `NsfwscanError` if nobody can tell."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if follow and error.errno == errno.ELOOP and is_link(path):
            return None
        raise NsfwscanError(
            f"{path} cannot be looked at, so what it is is not known: {error.strerror or error}",
            hint="make it readable, or run this as its owner",
        ) from error


def is_there(path: str) -> bool:
    """Return True if anything has that name, also a link. Raises `NsfwscanError`."""
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
    """Return the lines of a text file of the user; none when there is no such thing."""
    try:
        with open_text(path, errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def bytes_of(traces: Traces) -> int:
    """Return what removing the files gives back. Raises `NsfwscanError`."""
    return sum(found.st_size for path in traces.files if (found := _stat(path)) is not None)


def size_of(path: str) -> int:
    """Return the bytes of a file or link itself; 0 if it is not there."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0

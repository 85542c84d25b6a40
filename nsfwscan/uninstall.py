"""What nsfwscan has written on this computer, and taking exactly that away again.

In: the places that `locations` names, and the home folder, where shells keep completions. Out: one
`Traces` for each kind of thing. `remove` deletes what those list and nothing else: every name is
one that nsfwscan gives. Whatever else lies in the same folders is listed as a stranger and stays.
Pictures are never among the traces, wherever they are: a quarantine is only one when it is empty.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan import locations
from nsfwscan.actions.quarantine import Quarantines
from nsfwscan.actions.vault import FILES_NAME, LOCK_NAME
from nsfwscan.errors import ModelError, NsfwscanError
from nsfwscan.library.database import SIDE_FILES
from nsfwscan.library.use_lock import UseLock
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME
from nsfwscan.models.package import open_package
from nsfwscan.models.store import LOCK, PARTS, REPLACED, STAGING
from nsfwscan.report.text import count
from nsfwscan.service.managers import manager
from nsfwscan.watch import instance
from nsfwscan.watch.status import PART as STATUS_PART
from nsfwscan.whole_file import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsfwscan.actions.vault import Vault


class Kind(StrEnum):
    """What traces are for."""

    MODELS = "models"
    CACHE = "cache"
    CONFIGURATION = "configuration"
    STATE = "status and logs"
    DECISIONS = "decisions"
    QUARANTINE = "empty quarantine"
    COMPLETION = "shell completion"


class Traces(NamedTuple):
    """What nsfwscan wrote of one kind, in one place."""

    kind: Kind
    place: str
    """The folder or file to name to a person."""
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    """Deepest first. Each is only removed if it is empty by then."""
    strangers: tuple[str, ...] = ()
    """What lies in those folders and is not nsfwscan's."""
    lines: tuple[tuple[str, str], ...] = ()
    """(file, line): lines that were added to files of the user."""

    @property
    def bytes(self) -> int:
        """What removing the files gives back."""
        return sum(map(_size, self.files))


class Kept(NamedTuple):
    """A quarantine that stays, whatever is asked for."""

    place: str
    why: str


class Removal(NamedTuple):
    """What became of it."""

    files: int
    bytes: int
    kept: tuple[str, ...]
    """Folders that are still there, because something else lies in them."""
    failures: tuple[tuple[str, str], ...]
    """(path, reason) for each thing that could not be removed."""


def find() -> list[Traces]:
    """Return what is there. Opens manifests, journals and completion scripts, changes nothing."""
    found = [*_models(), *_cache(), *_decisions(), *_quarantines(), *_state(), *_configuration()]
    found += _completion()
    return [one for one in found if one.files or one.folders or one.strangers or one.lines]


def kept() -> list[Kept]:
    """Return the quarantines that hold pictures, or may, or that cannot be looked into."""
    quarantines = Quarantines(None, _nobody)
    found = [
        Kept(one.path, f"{one.why or 'not there now'}, so it may hold pictures")
        for one in quarantines.away()
    ]
    looked_at = [Kept(one.folder, _why_kept(one)) for one in quarantines.existing()]
    return found + [one for one in looked_at if one.why]


def hindrance() -> NsfwscanError | None:
    """Return why nothing should be removed now: something of nsfwscan is at work, or would be."""
    if manager().state().installed:
        return NsfwscanError(
            "the service is installed, and would write all of it anew",
            hint="run `nsfwscan service uninstall` first",
        )
    if instance.is_held(locations.watch_lock()):
        return NsfwscanError(
            "a watcher is running",
            hint="end it first; `nsfwscan status` tells what it does",
        )
    # Windows tells in another way: it refuses to remove what is open.
    library = os.path.realpath(locations.library_file())
    locks = [f"{library}.lock", os.path.join(locations.models_folder(), LOCK)]
    vaults = Quarantines(None, _nobody).existing()
    for path in (*locks, *(os.path.join(one.folder, LOCK_NAME) for one in vaults)):
        if _held(path):
            return NsfwscanError(
                f"another nsfwscan is at work and holds {path}",
                hint="wait for it or end it, then try again",
            )
    return None


def remove(found: Iterable[Traces]) -> Removal:
    """Delete the files, take the lines out, and then remove the folders that are empty.

    Goes on after a failure. What is gone already is no failure.
    """
    found = list(found)
    removed, freed = 0, 0
    failures: list[tuple[str, str]] = []
    for traces in found:
        before = len(failures)
        for path, line in traces.lines:
            with _noting(failures, path):
                _take_out(path, line)
        if len(failures) > before:
            continue  # a line that is still there would complain of a file that is not
        for path in traces.files:
            size = _size(path)
            with _noting(failures, path):
                os.unlink(path)
                removed, freed = removed + 1, freed + size
    kept = []
    # Kinds share folders on some systems, so folders come after all files, the deepest first.
    for folder in sorted({one for traces in found for one in traces.folders}, key=len)[::-1]:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            if os.path.islink(folder) or error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                kept.append(folder)
            else:
                failures.append((folder, error.strerror or str(error)))
    return Removal(removed, freed, tuple(sorted(kept)), tuple(failures))


def _models() -> Iterator[Traces]:
    folder = locations.models_folder()
    files: list[str] = []
    folders: list[str] = []
    strangers: list[str] = []
    for entry in _entries(folder):
        inside = entry.is_dir(follow_symlinks=False)
        if entry.name == LOCK and not inside:
            files.append(entry.path)
        elif (inside and entry.name.startswith((STAGING, REPLACED))) or entry.name == PARTS:
            # Only the store ever puts anything into these.
            for parent, below, names in os.walk(entry.path, topdown=False):
                files += [os.path.join(parent, name) for name in names]
                files += [
                    path for one in below if os.path.islink(path := os.path.join(parent, one))
                ]
                folders.append(parent)
        elif inside and os.path.lexists(os.path.join(entry.path, MANIFEST_NAME)):
            own = _names_in_package(entry.path)
            for inner in _entries(entry.path):
                (files if inner.name in own else strangers).append(inner.path)
            folders.append(entry.path)
        else:
            strangers.append(entry.path)
    if os.path.isdir(folder):
        folders += [folder, *_own_parent(folder)]
    yield Traces(Kind.MODELS, folder, tuple(files), tuple(folders), tuple(strangers))


def _names_in_package(folder: str) -> set[str]:
    """Return the names of the files that belong to a package, broken or not."""
    always = {MANIFEST_NAME, LICENCE_NAME, "model.onnx"}
    try:
        return always | set(open_package(folder).manifest.files)
    except ModelError:  # what else may have belonged to it, nobody can tell any more
        return always


def _cache() -> Iterator[Traces]:
    named = locations.library_file()
    path = os.path.realpath(named)  # the library's files stand beside what a link leads to
    folder, name = os.path.split(path)
    own = {name, f"{name}.lock", f"{name}.watch", *(name + one for one in SIDE_FILES)}
    files = [
        entry.path
        for entry in _entries(folder)
        if (entry.name in own or entry.name.startswith(f"{name}.corrupt-"))
        and not entry.is_dir(follow_symlinks=False)
    ]
    if os.path.islink(named):
        files.append(named)
    yield Traces(Kind.CACHE, named, tuple(files), tuple(_own_parent(named)))


def _decisions() -> Iterator[Traces]:
    path = locations.rulings_file()
    files = (path,) if os.path.lexists(path) else ()
    yield Traces(Kind.DECISIONS, path, files, tuple(_own_parent(path)) if files else ())


def _quarantines() -> Iterator[Traces]:
    quarantines = Quarantines(None, _nobody)
    places = locations.quarantines_file()
    # The list of places leads to the pictures, and goes when there are none.
    if os.path.lexists(places) and not kept():
        yield Traces(Kind.QUARANTINE, places, (places,), tuple(_own_parent(places)))
    for vault in quarantines.existing():
        if _why_kept(vault):
            continue
        own = {os.path.basename(vault.journal.path), LOCK_NAME}
        entries = _entries(vault.folder)
        files = [one.path for one in entries if one.name in own]
        inner = [one.path for one in entries if one.name == FILES_NAME]
        strangers = [one.path for one in entries if one.name not in {*own, FILES_NAME}]
        yield Traces(
            Kind.QUARANTINE, vault.folder, tuple(files), (*inner, vault.folder), tuple(strangers)
        )


def _why_kept(vault: Vault) -> str:
    """Return why a quarantine stays; empty when it is empty and nothing in it is unfinished."""
    try:
        pictures = len(vault.names())
        unfinished = any(one.under_way for one in vault.peek().entries.values())
    except (OSError, NsfwscanError) as error:
        return f"cannot be looked into: {error}"
    if pictures:
        return f"holds {count(pictures, 'picture')}"
    return "a move in it was cut short; `nsfwscan quarantine verify` ends it" if unfinished else ""


def _nobody(_sentence: str) -> None:
    """Warn nobody: what is odd about a quarantine shows in what becomes of it."""


def _state() -> Iterator[Traces]:
    folder = locations.state_folder()
    status, log = locations.status_file(), locations.log_file()
    own = {status, log, locations.owed_file(), locations.crash_file(), locations.watch_lock()}
    files: list[str] = []
    strangers: list[str] = []
    for entry in _entries(folder):
        rotated = re.fullmatch(re.escape(os.path.basename(log)) + r"\.\d+", entry.name)
        ours = entry.path in own or rotated or entry.name.startswith(STATUS_PART)
        (files if ours and not entry.is_dir(follow_symlinks=False) else strangers).append(
            entry.path
        )
    # Some systems keep state, data and configuration in one folder; each knows its own there.
    neighbours = (locations.config_file(), locations.models_folder(), locations.quarantines_file())
    shared = folder in map(os.path.dirname, neighbours)
    folders = (folder,) if os.path.isdir(folder) and not os.path.islink(folder) else ()
    yield Traces(Kind.STATE, folder, tuple(files), folders, () if shared else tuple(strangers))


def _configuration() -> Iterator[Traces]:
    path = locations.config_file()
    files = (path,) if os.path.isfile(path) or os.path.islink(path) else ()
    yield Traces(Kind.CONFIGURATION, path, files, tuple(_own_parent(path)))


def _completion() -> Iterator[Traces]:
    """Yield what `--install-completion` wrote.

    zsh's start file keeps its lines: they serve the completions of other programs just as well. So
    does PowerShell's profile, whose place only PowerShell can tell.
    """
    home = os.path.expanduser("~")
    bash = os.path.join(home, ".bash_completions", "nsfwscan.sh")
    zsh = os.path.join(home, ".zfunc", "_nsfwscan")
    fish = os.path.join(home, ".config", "fish", "completions", "nsfwscan.fish")
    start, line = os.path.join(home, ".bashrc"), f"source '{bash}'"
    lines = ((start, line),) if line in _lines(start) else ()
    for path, begun in ((bash, lines), (zsh, ()), (fish, ())):
        files = (path,) if any("_NSFWSCAN_COMPLETE" in one for one in _lines(path)) else ()
        yield Traces(Kind.COMPLETION, path, files, lines=begun)


def _own_parent(path: str) -> Iterator[str]:
    """Yield the folder that holds `path` if nsfwscan, and not the user, gave it its name."""
    if os.environ.get("NSFWSCAN_HOME"):
        return
    parent = os.path.dirname(path)
    if os.path.basename(parent) in {"Cache", "Logs"} and os.name == "nt":
        yield parent
        parent = os.path.dirname(parent)
    if os.path.basename(parent) == "nsfwscan" and os.path.isdir(parent):
        yield parent


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NsfwscanError(
            f"{folder} cannot be listed, so what is in it is not known: {error.strerror or error}",
            hint="make it readable, or run this as its owner",
        ) from error


@contextlib.contextmanager
def _noting(failures: list[tuple[str, str]], path: str) -> Iterator[None]:
    """Write down that something about `path` failed, and go on."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        failures.append((path, error.strerror or str(error)))


def _held(path: str) -> bool:
    if not os.path.exists(path):
        return False
    lock = UseLock(path)
    free = lock.exclude(wait_s=0)
    lock.release()
    return not free


def _lines(path: str) -> list[str]:
    """Return the lines of a text file of the user; none when there is no such thing."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _take_out(path: str, line: str) -> None:
    """Write a file anew without a line; whole or not at all, since it is one the user wrote."""
    path = os.path.realpath(path)  # start files are often links into a folder under git
    with open(path, "rb") as file:
        before = file.read()
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    wanted = os.fsencode(line)
    after = b"".join(one for one in before.splitlines(True) if one.rstrip(b"\r\n") != wanted)
    replace_file(path, after, mode=mode, sync=True)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0

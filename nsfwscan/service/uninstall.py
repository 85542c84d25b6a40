"""What nsfwscan has written on this computer; `removal` takes exactly that away again.

In: the places that `locations` names, and the home folder, where shells keep completions. Out: one
`Traces` for each kind of thing, with nothing else in it: every name is one that nsfwscan gives.
Whatever else lies in the same folders is listed as a stranger and stays; so does a link, which
leads to what somebody else put there. Only the models folder, the cache, the decisions and the
configuration may be links, and even then only what bears nsfwscan's marks goes. Pictures are never
among the traces, wherever they are: a quarantine is only one when it is empty.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.quarantine.vault import FILES_NAME, LOCK_NAME, Vault
from nsfwscan.cache.database import SIDE_FILES, is_cache
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME
from nsfwscan.models.package import open_package
from nsfwscan.models.staging import LOCK, PARTS, REPLACED, is_part, is_staging
from nsfwscan.system import locations
from nsfwscan.system.journal import Journal
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import JournalError, ModelError, NsfwscanError
from nsfwscan.values.text import count
from nsfwscan.watch.status import PART as STATUS_PART

if TYPE_CHECKING:
    from collections.abc import Iterator


class TraceKind(StrEnum):
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

    kind: TraceKind
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
        return sum(found.st_size for path in self.files if (found := _stat(path)) is not None)


class Kept(NamedTuple):
    """A quarantine that stays, whatever is asked for."""

    place: str
    why: str
    unknown: bool = False
    """Whether it could not even be looked into."""


def find() -> list[Traces]:
    """Return what is there. Opens manifests, journals and completion scripts, changes nothing."""
    found = [*_models(), *_cache(), *_decisions(), *_quarantines(), *_state(), *_configuration()]
    found += _completion()
    return [one for one in found if one.files or one.folders or one.strangers or one.lines]


def kept() -> list[Kept]:
    """Return the quarantines that hold pictures, or may, or that cannot be looked into."""
    all_of_them = Quarantines(None, nobody)
    there = vaults(all_of_them)
    found = [  # after those that are there: what was passed over as absent is told, too
        Kept(one.path, f"{one.why or 'not there now'}, so it may hold pictures", bool(one.why))
        for one in all_of_them.away()
    ]
    found += [one for vault in there if (one := looked_at(vault)).why]
    unread = _unreadable_list()
    if all_of_them.incomplete and not unread:  # it could be read now, and not a moment ago
        why = "the list of quarantines cannot be read reliably"
        unread = [Kept(locations.quarantines_file(), why, unknown=True)]
    return unread + found


def _models() -> Iterator[Traces]:
    folder = locations.models_folder()
    linked = _is_link(folder)
    files: list[str] = []
    folders: list[str] = []
    strangers: list[str] = []
    for entry in _entries(folder):
        inside = entry.is_dir(follow_symlinks=False)
        if entry.name in {LOCK, f"{LOCK}.held"} and entry.is_file(follow_symlinks=False):
            files.append(entry.path)
        elif inside and (is_staging(entry.name) or entry.name.startswith(REPLACED)):
            # Only the store ever puts anything into these.
            for parent, below, names in os.walk(entry.path, topdown=False):
                files += [os.path.join(parent, name) for name in names]
                files += [path for one in below if _is_link(path := os.path.join(parent, one))]
                folders.append(parent)
        elif inside and entry.name == PARTS:
            for inner in _entries(entry.path):
                own_file = is_part(inner.name) and inner.is_file(follow_symlinks=False)
                (files if own_file else strangers).append(inner.path)
            folders.append(entry.path)
        elif inside and (own := _names_in_package(entry.path, sure=linked)):
            for inner in _entries(entry.path):
                own_file = inner.name in own and inner.is_file(follow_symlinks=False)
                (files if own_file else strangers).append(inner.path)
            folders.append(entry.path)
        else:
            strangers.append(entry.path)
    if _is_folder(folder):
        folders += [folder, *_own_parent(folder)]
    yield Traces(TraceKind.MODELS, folder, tuple(files), tuple(folders), tuple(strangers))


def _names_in_package(folder: str, *, sure: bool) -> set[str]:
    """Return the names of the files that belong to a package, broken or not; none if it is none.

    With `sure` a broken one is none: other programs, too, call a file `manifest.json`.
    """
    if not _is_there(os.path.join(folder, MANIFEST_NAME)):
        return set()
    always = {MANIFEST_NAME, LICENCE_NAME, "model.onnx"}
    try:
        return always | set(open_package(folder).manifest.files)
    except ModelError:  # what else may have belonged to it cannot be told any more
        return set() if sure else always


def _cache() -> Iterator[Traces]:
    named = locations.cache_file()
    path = os.path.realpath(named)  # the cache's files stand beside what a link leads to
    folder, name = os.path.split(path)
    own = {name + end for end in ("", ".lock", ".lock.held", ".watch", ".watch.held", *SIDE_FILES)}
    linked = _is_link(named)
    files = [
        entry.path
        for entry in _entries(folder)
        if (entry.name in own or entry.name.startswith(f"{name}.corrupt-"))
        and entry.is_file(follow_symlinks=False)
        and (not linked or is_cache(path))  # or a link to another program's database
    ]
    if linked and (files or not _is_file(named)):
        files.append(named)
    strangers = (named,) if linked and named not in files else ()
    yield Traces(TraceKind.CACHE, named, tuple(files), tuple(_own_parent(named)), strangers)


def _decisions() -> Iterator[Traces]:
    path = locations.rulings_file()
    files = tuple(one for one in (path, f"{path}.held") if _is_link(one) or _is_file(one))
    yield Traces(TraceKind.DECISIONS, path, files, tuple(_own_parent(path)) if files else ())


def _quarantines() -> Iterator[Traces]:
    places = locations.quarantines_file()
    # The list of places leads to the pictures, and goes when there are none.
    if _is_there(places) and not kept():
        yield Traces(TraceKind.QUARANTINE, places, (places,), tuple(_own_parent(places)))
    for vault in vaults():
        if looked_at(vault).why:
            continue
        journal = os.path.basename(vault.journal.path)
        own = {journal, f"{journal}.held", LOCK_NAME}
        entries = _entries(vault.folder)
        files = [
            one.path for one in entries if one.name in own and one.is_file(follow_symlinks=False)
        ]
        inner = [
            one.path
            for one in entries
            if one.name == FILES_NAME and one.is_dir(follow_symlinks=False)
        ]
        strangers = [one.path for one in entries if one.path not in {*files, *inner}]
        yield Traces(
            TraceKind.QUARANTINE,
            vault.folder,
            tuple(files),
            (*inner, vault.folder),
            tuple(strangers),
        )


def vaults(known: Quarantines | None = None) -> list[Vault]:
    """Return the quarantines that are there. Raises `NsfwscanError` if that cannot be told."""
    try:
        return (known or Quarantines(None, nobody)).existing()
    except OSError as error:
        raise NsfwscanError(
            f"a quarantine cannot be looked at, so what is in it is not known: {error}",
            hint="see to the disk that it is on, and try again",
        ) from error


def looked_at(vault: Vault) -> Kept:
    """Return why a quarantine stays; without a reason if nothing is in it or unfinished."""
    try:
        pictures = len(vault.names())
        unfinished = any(one.under_way for one in vault.peek().entries.values())
    except (OSError, NsfwscanError) as error:
        return Kept(vault.folder, f"cannot be looked into: {error}", unknown=True)
    why = f"holds {count(pictures, 'picture')}" if pictures else ""
    if unfinished and not pictures:
        why = "a move in it was cut short; `nsfwscan quarantine verify` ends it"
    return Kept(vault.folder, why)


def _unreadable_list() -> list[Kept]:
    """Return the list of quarantines itself if it leads to any that cannot be told."""
    path = locations.quarantines_file()
    try:
        damaged = Journal(path).read().damaged
    except JournalError as error:
        return [Kept(path, f"the list of quarantines: {error}", unknown=True)]
    if damaged:
        return [Kept(path, "the list of quarantines is damaged", unknown=True)]
    return []


def nobody(_sentence: str) -> None:
    """Warn nobody: what is odd about a quarantine shows in what becomes of it."""


def _state() -> Iterator[Traces]:
    folder = locations.state_folder()
    status, log = locations.status_file(), locations.log_file()
    watch = locations.watch_lock()
    own = {status, log, locations.owed_file(), locations.crash_file(), watch, f"{watch}.held"}
    files: list[str] = []
    strangers: list[str] = []
    for entry in _entries(folder):
        rotated = re.fullmatch(re.escape(os.path.basename(log)) + r"\.\d+", entry.name)
        ours = entry.path in own or rotated or entry.name.startswith(STATUS_PART)
        (files if ours and entry.is_file(follow_symlinks=False) else strangers).append(entry.path)
    # Some systems keep state, data and configuration in one folder; each knows its own there.
    neighbours = (locations.config_file(), locations.models_folder(), locations.quarantines_file())
    shared = folder in map(os.path.dirname, neighbours)
    folders = (folder,) if _is_folder(folder) and not _is_link(folder) else ()
    yield Traces(TraceKind.STATE, folder, tuple(files), folders, () if shared else tuple(strangers))


def _configuration() -> Iterator[Traces]:
    path = locations.config_file()
    files = (path,) if _is_file(path) or _is_link(path) else ()
    yield Traces(TraceKind.CONFIGURATION, path, files, tuple(_own_parent(path)))


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
        if path == bash and files and not os.access(start, os.R_OK) and _is_there(start):
            # A line in it that cannot be seen would complain of a script that is gone.
            yield Traces(TraceKind.COMPLETION, path, (), strangers=files)
        else:
            yield Traces(TraceKind.COMPLETION, path, files, lines=begun)


def _own_parent(path: str) -> Iterator[str]:
    """Yield the folder that holds `path` if nsfwscan, and not the user, gave it its name."""
    if os.environ.get("NSFWSCAN_HOME"):
        return
    parent = os.path.dirname(path)
    if os.path.basename(parent) in {"Cache", "Logs"} and os.name == "nt":
        yield parent
        parent = os.path.dirname(parent)
    if os.path.basename(parent) == "nsfwscan" and _is_folder(parent):
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


def _stat(path: str, *, follow: bool = False) -> os.stat_result | None:
    """Return what is at a path; None if nothing is. Raises `NsfwscanError` if nobody can tell.

    The functions of `os.path` answer False in that case, and something would be left behind
    without a word.
    """
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if follow and error.errno == errno.ELOOP and _is_link(path):
            return None
        raise NsfwscanError(
            f"{path} cannot be looked at, so what it is is not known: {error.strerror or error}",
            hint="make it readable, or run this as its owner",
        ) from error


def _is_there(path: str) -> bool:
    return _stat(path) is not None


def _is_link(path: str) -> bool:
    found = _stat(path)
    return found is not None and stat.S_ISLNK(found.st_mode)


def _is_file(path: str) -> bool:
    found = _stat(path, follow=True)
    return found is not None and stat.S_ISREG(found.st_mode)


def _is_folder(path: str) -> bool:
    found = _stat(path, follow=True)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _lines(path: str) -> list[str]:
    """Return the lines of a text file of the user; none when there is no such thing."""
    try:
        with open_text(path, errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def size_of(path: str) -> int:
    """Return the bytes of a file or link itself; 0 if it is not there."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0

"""Removing what `uninstall` found: exactly that, and only if it has not changed.

A person takes time to answer, so everything is checked again right before it is removed, with the
locks held: a quarantine may have filled, or a folder may have been replaced by a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.actions.quarantine.traces import looked_at, nobody, vaults
from nsfwscan.actions.quarantine.vault import LOCK_NAME, Vault, look_at
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.models.staging import LOCK
from nsfwscan.service.managers import manager
from nsfwscan.service.uninstall import find
from nsfwscan.system import locations, locks
from nsfwscan.system.atomic_file import replace_file
from nsfwscan.system.journal import Journal
from nsfwscan.system.reading import open_bytes
from nsfwscan.system.traces import size_of
from nsfwscan.values.errors import JournalError, NsfwscanError
from nsfwscan.values.traces import TraceKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsfwscan.system.journal import JournalContents
    from nsfwscan.values.traces import Traces


@dataclass(slots=True)
class Removal:
    """What was removed and what was not."""

    files: int = 0
    bytes: int = 0
    kept: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) for each thing that was kept on purpose."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) for each thing that could not be removed."""

    def unlink(self, path: str) -> None:
        """Remove a file. Raises OSError."""
        size = size_of(path)
        os.unlink(path)
        self.files, self.bytes = self.files + 1, self.bytes + size

    @contextlib.contextmanager
    def noting(self, path: str) -> Iterator[None]:
        """Record failures inside the block as failures about `path`."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                self.kept.append((path, "it has other files in it"))
            else:
                self.failures.append((path, error.strerror or str(error)))


def hindrance() -> NsfwscanError | None:
    """Return why nothing may be removed now: nsfwscan is running, or would be started again."""
    if manager().state().installed:
        return NsfwscanError(
            "the service is installed and would write these files again",
            hint="run `nsfwscan service uninstall` first",
        )
    watch = locations.watch_lock()
    for path in (watch, *_locks(), *(os.path.join(one.folder, LOCK_NAME) for one in vaults())):
        try:
            if locks.is_in_use(path):
                return _busy(path)
        except OSError as error:
            return NsfwscanError(
                f"{path} cannot be opened, so another nsfwscan may be running: "
                f"{error.strerror or error}",
                hint="take ownership of it, or run this as its owner",
            )
    return None


def _busy(path: str) -> NsfwscanError:
    if path == locations.watch_lock():
        return NsfwscanError(
            "a watcher is running",
            hint="stop it first; `nsfwscan status` shows what it is doing",
        )
    return NsfwscanError(
        f"another nsfwscan is running and holds {path}",
        hint="wait for it or stop it, then try again",
    )


def _locks() -> tuple[str, str]:
    """Return the locks held by a scan, and by a process that changes the installed models."""
    cache = os.path.realpath(locations.cache_file())
    return f"{cache}.lock", os.path.join(locations.models_folder(), LOCK)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep out watchers, scans and installations. Raises `NsfwscanError` if one is running."""
    with contextlib.ExitStack() as stack:
        for path in (locations.watch_lock(), *_locks()):
            # Windows does not remove open files.
            if sys.platform == "win32" or not os.path.lexists(path):
                continue
            try:
                lock = locks.open_lock(path, create=False)
                stack.callback(lock.release)
                taken = lock.take()
            except OSError:
                continue  # `hindrance` reported it, and removing it will fail
            if not taken:
                raise _busy(path)
        yield


def remove(found: Iterable[Traces]) -> Removal:
    """Delete the files, remove the lines from start files, then remove the empty folders.

    Anything that has changed since `found` stays. A failure does not stop the rest, and a file that
    is already gone is no failure. Raises `NsfwscanError`, with nothing removed, if another nsfwscan
    is running.
    """
    done = Removal()
    with _alone():
        found = list(found)
        now = find()
        gone = set()
        lists = []
        for traces in found:
            if traces.kind is TraceKind.QUARANTINE:
                if traces.place == locations.quarantines_file():
                    lists.append(traces)
                elif _remove_quarantine(traces, done):
                    gone.add(traces.place)
        for traces in lists:
            _remove_list(traces.place, gone, done)
        others = [_still(one, now) for one in found if one.kind is not TraceKind.QUARANTINE]
        for traces in others:
            _remove_files(traces, done)
        # Kinds share folders on some systems, so folders come after all files, deepest first.
        folders = {one for traces in (*others, *lists) for one in traces.folders}
        for folder in sorted(folders, key=len)[::-1]:
            if os.path.islink(folder):
                done.kept.append((folder, "it is a link"))
                continue
            with done.noting(folder):
                os.rmdir(folder)
    done.kept.sort()
    return done


def _still(traces: Traces, now: list[Traces]) -> Traces:
    """Return the traces without those that have changed since they were found."""
    files = {path for one in now for path in one.files}
    folders = {path for one in now for path in one.folders}
    return traces._replace(
        files=tuple(path for path in traces.files if path in files),
        folders=tuple(path for path in traces.folders if path in folders),
    )


def _remove_files(traces: Traces, done: Removal) -> None:
    before = len(done.failures)
    for path, line in traces.lines:
        with done.noting(path):
            _take_out(path, line)
    if len(done.failures) > before:
        return  # a remaining line would fail without its file
    for path in traces.files:
        with done.noting(path):
            done.unlink(path)


def _remove_quarantine(traces: Traces, done: Removal) -> bool:
    """Remove a quarantine if it is empty now; return True if it is gone.

    A process that moves a picture holds the same lock, and fails without the folder, so nothing is
    lost.
    """
    place = traces.place
    if look_at(place) is not None:
        return False
    with done.noting(place), contextlib.ExitStack() as stack:
        lock = locks.open_lock(os.path.join(place, LOCK_NAME))
        stack.callback(lock.release)
        if not lock.take():
            done.kept.append((place, "another nsfwscan is moving pictures in it"))
            return False
        if why := looked_at(Vault(place, nobody)).why:
            done.kept.append((place, why))
            return False
        for folder in traces.folders[:-1]:
            os.rmdir(folder)  # fails if it has a picture after all
        lock_path = os.path.join(place, LOCK_NAME)
        for path in (*(one for one in traces.files if one != lock_path), lock_path):
            with contextlib.suppress(FileNotFoundError):
                done.unlink(path)
        if lock.is_stand_in or sys.platform == "win32":
            lock.release()  # its file is in the folder
        os.rmdir(place)
    return not os.path.lexists(place)


def _remove_list(path: str, gone: set[str], done: Removal) -> None:
    """Remove the list of quarantines if all quarantines in it are gone."""

    def leads_on(contents: JournalContents) -> bool:
        folders = [one.get("folder") for one in contents.records]
        places = {os.path.join(one, QUARANTINE_NAME) for one in folders if isinstance(one, str)}
        return bool(contents.damaged) or not places <= gone

    size = size_of(path)
    try:
        if Journal(path).delete(leads_on):
            done.files, done.bytes = done.files + 1, done.bytes + size
        else:
            done.kept.append((path, "it lists quarantines that stay"))
    except JournalError as error:
        done.failures.append((path, str(error)))


def _take_out(path: str, line: str) -> None:
    """Remove a line from a file that the user wrote; replaces the file whole or not at all."""
    path = os.path.realpath(path)  # start files are often links into a git checkout
    with open_bytes(path) as file:
        before = file.read()
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    wanted = os.fsencode(line)
    after = b"".join(one for one in before.splitlines(True) if one.rstrip(b"\r\n") != wanted)
    replace_file(path, after, mode=mode, sync=True)

"""Changing the folder of the installed models: its lock, and unfinished packages in it.

A process that changes it holds its lock, which the system releases if the process is killed. A
package is assembled in a folder `.staging-*`, synced to the disk, and renamed, so that readers, who
take no lock, see a whole package or none. For the holder of the lock, any `.staging-*` is left
over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeAlias

from nsfwscan.models.manifest import Artefact
from nsfwscan.system import locations
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.locks import open_lock
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelError, NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Iterator

Say: TypeAlias = Callable[[str], None]
"""Called with one sentence for the user."""

STAGING = ".staging-"
REPLACED = ".replaced-"
PARTS = ".parts"
LOCK = ".lock"
_LOCK_POLL_S = 0.1
_LOCK_WAIT_S = 3600.0
"""How long to wait for another process, which may be downloading a model, or hang."""
_PART_KEPT_S = 7 * 86_400
"""How long a partial file is kept so that a download can resume."""


@contextlib.contextmanager
def changing(folder: str, say: Say, *, wait_s: float | None = None) -> Iterator[None]:
    """Hold the lock of the store `folder`, and delete leftovers of killed processes.

    Waits for another process, for `wait_s` or as long as a download may take, and says so. Raises
    `ModelError`, also for every OSError inside the block.
    """
    try:
        locations.make_private(folder)
        with _locked(os.path.join(folder, LOCK), say, _LOCK_WAIT_S if wait_s is None else wait_s):
            _clear_away(folder)
            yield
    except NsfwscanError:
        raise
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise ModelError(
            f"the model folder {folder} cannot be changed: "
            f"{'the disk is full' if full else error.strerror or error}",
            hint="make room, or set NSFWSCAN_HOME to a folder on another disk"
            if full
            else "set NSFWSCAN_HOME to a folder that you can write to",
        ) from error


def _clear_away(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not _is_folder(path):  # a link leads to files of others
            continue
        if is_staging(name):
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith(REPLACED):
            target = os.path.join(folder, name.removeprefix(REPLACED))
            if os.path.lexists(target):
                shutil.rmtree(path, ignore_errors=True)
            else:  # it was killed between the two renames of a replacement
                os.rename(path, target)
    parts = os.path.join(folder, PARTS)
    for name in filter(is_part, os.listdir(parts) if _is_folder(parts) else ()):
        path = os.path.join(parts, name)
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _PART_KEPT_S:
                os.unlink(path)


@contextlib.contextmanager
def staged(store: str) -> Iterator[str]:
    """Yield a new folder in the store, which is deleted at the end if it still exists."""
    folder = name_for_staging(store)
    os.mkdir(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # after a commit it no longer exists


def name_for_staging(store: str) -> str:
    """Return a path in the store that the next process to change it may delete."""
    return os.path.join(store, STAGING + os.urandom(6).hex())


def part_of(store: str, sha256: str) -> str:
    """Return the path for a file with this checksum while it is being downloaded."""
    folder = os.path.join(store, PARTS)
    locations.make_private(folder)
    return os.path.join(folder, sha256)


def is_staging(name: str) -> bool:
    """Return True if a name in the store is that of a staging folder."""
    return re.fullmatch(re.escape(STAGING) + "[0-9a-f]+", name) is not None


def is_part(name: str) -> bool:
    """Return True if a name in `PARTS` is that of a partial download."""
    return re.fullmatch(r"[0-9a-f]{64}(\.etag)?", name) is not None


def _is_folder(path: str) -> bool:
    """Return True for an existing folder, False for a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def digest_of(source: str) -> str:
    """Return the SHA-256 of a file's content."""
    with open_bytes(source) as given:
        return Sha256().take(_held(given)).hexdigest()


def copy_into(source: str, target: str) -> Artefact:
    """Copy a file to a new file, sync it to the disk, and return its size and checksum."""
    with open_bytes(source) as given, open(target, "xb") as out:
        copied = Sha256().take(_held(given), out.write)
        out.flush()
        os.fsync(out.fileno())
    return Artefact(copied.hexdigest(), copied.bytes)


def seal(path: str) -> Artefact:
    """Sync a file to the disk, and return its size and checksum."""
    with open(path, "ab") as file:  # Windows syncs only what could be written
        os.fsync(file.fileno())
    with open_bytes(path) as given:
        found = Sha256().take(_held(given))
    return Artefact(found.hexdigest(), found.bytes)


def _held(given: IO[bytes]) -> Iterator[bytes]:
    """Yield a file's current content; reading ends even if the file keeps growing."""
    return pieces(given, os.fstat(given.fileno()).st_size)


@contextlib.contextmanager
def _locked(path: str, say: Say, wait_s: float) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; call `say` if that means waiting.

    Raises `ModelError` if another process holds it for longer than any download takes.
    """
    lock = open_lock(path)
    try:
        if not lock.take():
            if wait_s:
                say(
                    f"Another nsfwscan{_holder(path)} is changing the installed models; "
                    "waiting for it."
                )
            if not lock.wait(wait_s, poll_s=_LOCK_POLL_S):
                raise ModelError(
                    f"another nsfwscan{_holder(path)} has been changing the installed "
                    f"models for {wait_s / 60:.0f} minutes",
                    hint="if it hangs, stop it, and run this again",
                )
        # So that a waiting process can name the holder; on a full disk it cannot.
        with contextlib.suppress(OSError), open(path, "wb") as file:
            file.write(b"%d\n" % os.getpid())
        yield
    finally:
        lock.release()


def _holder(path: str) -> str:
    with contextlib.suppress(OSError, ValueError), open_bytes(path) as file:
        return f" (process {int(file.read(20))})"
    return ""

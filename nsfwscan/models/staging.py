"""The folder of the installed models while it is changed: its lock, and what is unfinished in it.

Whoever changes it holds its lock, an OS lock that a killed process loses. A package is put together
in a folder `.staging-*`, written to the disk, and renamed to its name, so that a reader, who takes
no lock, sees a whole package or none. The holder of the lock may take any `.staging-*` for a
leftover.
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
"""Takes one sentence for the user."""

STAGING = ".staging-"
REPLACED = ".replaced-"
PARTS = ".parts"
LOCK = ".lock"
_LOCK_POLL_S = 0.1
_LOCK_WAIT_S = 3600.0
"""How long to wait for another process, which may be downloading a model, or be stopped."""
_PART_KEPT_S = 7 * 86_400
"""How long the beginning of a file is kept for a download to go on from."""


@contextlib.contextmanager
def changing(folder: str, say: Say) -> Iterator[None]:
    """Hold the lock of the store `folder`, clear away what a killed process left.

    Raises `ModelError`, also for every OSError within.
    """
    try:
        locations.make_private(folder)
        with _locked(os.path.join(folder, LOCK), say):
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
            else "set NSFWSCAN_HOME to a folder that can be written",
        ) from error


def _clear_away(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not _is_folder(path):  # a link leads to what is not ours
            continue
        if is_staging(name):
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith(REPLACED):
            target = os.path.join(folder, name.removeprefix(REPLACED))
            if os.path.lexists(target):
                shutil.rmtree(path, ignore_errors=True)
            else:  # killed between the two renames of a replacement
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
    """Give a new folder in the store, which is deleted in the end if it is still there."""
    folder = name_for_staging(store)
    os.mkdir(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # after a commit it is not there any more


def name_for_staging(store: str) -> str:
    """Return a path in the store that its next user may delete."""
    return os.path.join(store, STAGING + os.urandom(6).hex())


def part_of(store: str, sha256: str) -> str:
    """Return the path for a file with that checksum while it is downloaded."""
    folder = os.path.join(store, PARTS)
    locations.make_private(folder)
    return os.path.join(folder, sha256)


def is_staging(name: str) -> bool:
    """Return True if a name in the store is one that the store gives to a folder it fills."""
    return re.fullmatch(re.escape(STAGING) + "[0-9a-f]+", name) is not None


def is_part(name: str) -> bool:
    """Return True if a name in `PARTS` is one that a download gives."""
    return re.fullmatch(r"[0-9a-f]{64}(\.etag)?", name) is not None


def _is_folder(path: str) -> bool:
    """Return True for a folder that is there, False for a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def digest_of(source: str) -> str:
    """Return the SHA-256 of a file's content."""
    with open_bytes(source) as given:
        return Sha256().take(_held(given)).hexdigest()


def copy_into(source: str, target: str) -> Artefact:
    """Copy a file's content to a new file, put it on the disk, and describe it."""
    with open_bytes(source) as given, open(target, "xb") as out:
        copied = Sha256().take(_held(given), out.write)
        out.flush()
        os.fsync(out.fileno())
    return Artefact(copied.hexdigest(), copied.bytes)


def _held(given: IO[bytes]) -> Iterator[bytes]:
    """Yield what a file holds now: one that grows meanwhile does not hold us up for ever."""
    return pieces(given, os.fstat(given.fileno()).st_size)


@contextlib.contextmanager
def _locked(path: str, say: Say) -> Iterator[None]:
    """Hold an exclusive OS lock on the file `path`; tell the user when that means waiting.

    Raises `ModelError` when another process keeps it for longer than any download takes.
    """
    lock = open_lock(path)
    try:
        if not lock.take():
            say(
                f"Another nsfwscan{_holder(path)} is changing the installed models; waiting for it."
            )
            if not lock.wait(_LOCK_WAIT_S, poll_s=_LOCK_POLL_S):
                raise ModelError(
                    f"another nsfwscan{_holder(path)} has been changing the installed "
                    f"models for {_LOCK_WAIT_S / 60:.0f} minutes",
                    hint="look whether it is stopped, end it, and run this again",
                )
        # Those who wait can say for whom; on a full disk they cannot.
        with contextlib.suppress(OSError), open(path, "wb") as file:
            file.write(b"%d\n" % os.getpid())
        yield
    finally:
        lock.release()


def _holder(path: str) -> str:
    with contextlib.suppress(OSError, ValueError), open_bytes(path) as file:
        return f" (process {int(file.read(20))})"
    return ""

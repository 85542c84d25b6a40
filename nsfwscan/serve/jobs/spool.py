"""Uploaded pictures, kept on disk until they are scored: the only pictures a server ever stores.

One file a job, readable by its owner only, into which the pictures are written one behind another;
each can be read by its offset. In: chunks of an upload. Out: `Spooled` values, later the bytes. An
upload that does not complete leaves nothing. The file is removed when its job ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, Self

from nsfwscan.serve.jobs.job_file import os_error
from nsfwscan.serve.jobs.states import Spooled
from nsfwscan.system.locations import make_private
from nsfwscan.system.reading import open_bytes
from nsfwscan.system.writing import sync_folder, write_all

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

FOLDER, ENDING = "uploads", ".pictures"
_ABANDONED_S = 3600.0
"""A file that no job owns may belong to an upload to another process, for as long as this."""


class Spool:
    """The folder of these files."""

    def __init__(self, home: str) -> None:
        """Create nothing yet."""
        self.folder = os.path.join(home, FOLDER)
        self.receiving = 0
        """Bytes of uploads that are under way in this process."""
        self.under_way: set[str] = set()
        """Their paths."""

    def receive(self, job: str) -> Upload:
        """Begin an upload. Raises `JobFileError`."""
        try:
            make_private(self.folder)
            return Upload(self, self._file(job))
        except OSError as error:
            raise os_error(error, self.folder) from error

    def read(self, job: str, where: Spooled) -> bytes:
        """Return the bytes of a picture. Raises OSError, also if they are not what was stored."""
        with open_bytes(self._file(job)) as file:
            file.seek(where.start)
            data = file.read(where.length)
        if hashlib.sha256(data).digest() != where.sha256:
            raise OSError("the stored upload was changed or is damaged")
        return data

    def remove(self, job: str) -> None:
        """Delete what was uploaded for a job; nothing if there is no such file, or it stays."""
        with contextlib.suppress(OSError):
            os.unlink(self._file(job))

    def sweep(self, running: Container[str], ended: Container[str]) -> None:
        """Delete what jobs left that have ended, or that never came to be, such as by a kill."""
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                job = entry.name.removesuffix(ENDING)
                idle = time.time() - entry.stat(follow_symlinks=False).st_mtime
                unknown = job not in running and entry.path not in self.under_way
                if job in ended or (unknown and idle > _ABANDONED_S):
                    self.remove(job)

    def _file(self, job: str) -> str:
        return os.path.join(self.folder, f"{job}{ENDING}")


class Upload:
    """One upload under way. Without `keep`, leaving the block removes it."""

    def __init__(self, spool: Spool, path: str) -> None:
        """Create the file, for its owner only. Raises OSError."""
        self._spool, self._path = spool, path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
        self._lock = threading.Lock()
        self._kept = False
        self._end = self._start = self._counted = 0
        self._digest = hashlib.sha256()

    def count(self, length: int) -> None:
        """Note that `length` bytes have come, in the event loop; they are written in a thread."""
        self._spool.receiving += length
        self._counted += length

    def write(self, chunk: bytes | bytearray) -> None:
        """Add bytes to the current picture. Raises `JobFileError`."""
        with self._open():
            write_all(self._file, bytes(chunk))
        self._digest.update(chunk)
        self._end += len(chunk)

    def finish_picture(self) -> Spooled:
        """End the current picture, so that the next one begins."""
        done = Spooled(self._start, self._end - self._start, self._digest.digest())
        self._start, self._digest = self._end, hashlib.sha256()
        return done

    def keep(self) -> None:
        """Wait until all is on the disk, and keep it. Raises `JobFileError`."""
        with self._open():
            os.fsync(self._file)
            sync_folder(os.path.dirname(self._path))
        self._kept = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Keep the file open inside the block; translate errors.

        A client that leaves ends the upload while a thread may be about to write, and the number of
        a closed file may be another's by then.
        """
        with self._lock:
            if self._file < 0:
                raise ValueError("the upload has ended")
            try:
                yield
            except OSError as error:
                raise os_error(error, os.path.dirname(self._path)) from error

    def discard(self) -> None:
        """Remove it after all, when the block ends."""
        self._kept = False

    def __enter__(self) -> Self:
        self._spool.under_way.add(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.under_way.discard(self._path)
        self._spool.receiving -= self._counted
        with self._lock:
            os.close(self._file)
            self._file = -1
        if not self._kept:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

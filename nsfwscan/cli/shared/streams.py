"""Standard streams that may be closed, full, or without a reader.

Without this, Python prints a traceback if the disk is full, exits with 1 ("something was flagged")
if the reader closed the pipe, and sets `sys.stdout` to None if the stream is closed.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from nsfwscan.values.errors import NsfwscanError, UsageError
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from typing_extensions import Buffer

PATIENCE_S = 2.0
"""How long a watcher waits for a stalled reader of standard error."""
_AT_ONCE_BYTES = 512
"""POSIX guarantees that a pipe with any room has room for this much."""


class ReaderGone(Exception):
    """The reader closed standard output, as in `nsfwscan ... | head -1`.

    Not `BrokenPipeError`, for which typer and rich would exit with 1.
    """


class DataFile(io.FileIO):
    """A file for results, whose errors say which file failed and why."""

    def __init__(self, file: int | str, mode: str, called: str) -> None:
        """Open a path, or use an open descriptor, which stays open.

        `called` is its name in messages. Raises OSError if it cannot be opened.
        """
        super().__init__(file, mode, closefd=isinstance(file, str))
        self._called = called

    def write(self, data: Buffer, /) -> int:
        """Write bytes. Raises `ReaderGone`, and `NsfwscanError` for anything else."""
        try:
            return super().write(data)
        except OSError as error:
            # The buffers above will still write what they contain; send that to the null device.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise ReaderGone from None
            raise unwritable(self._called, error) from error


class _TalkFile(io.FileIO):
    """Standard error; errors in writing to it are ignored."""

    patience_s: float | None = None
    """How long to wait for a stalled reader; None to wait forever."""

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        try:
            if self.patience_s is not None and not _has_room(self.fileno(), self.patience_s):
                self.patience_s = 0.0  # do not wait again until it reads
                return view.nbytes
            if self.patience_s is None:
                return super().write(view)
            self.patience_s = PATIENCE_S
            # A pipe that has room has room for this much; the rest follows.
            return super().write(view[:_AT_ONCE_BYTES])
        except OSError:
            return view.nbytes


def unwritable(called: str, error: OSError) -> NsfwscanError:
    """Return the error for results that cannot be written to the file named `called`."""
    problem = f"cannot write {readable(called)}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UsageError(problem, hint="check the path: its folder has to exist")
    if isinstance(error, IsADirectoryError):
        return UsageError(problem, hint="check the path, and name a file")
    return NsfwscanError(problem, hint="check the free disk space, and that you may write there")


def never_wait_for_stderr() -> None:
    """Drop messages to standard error instead of waiting long for its reader.

    For watchers and servers, which run for weeks: a stalled reader must not stop them.
    """
    if sys.platform == "win32" or sys.stderr is None:  # which has no `poll`
        return
    talk = _TalkFile(2, "w", closefd=False)
    talk.patience_s = PATIENCE_S
    with contextlib.suppress(OSError):  # then it may block
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(talk), sys.stderr.encoding, "backslashreplace", line_buffering=True
        )


def whisper(data: bytes) -> None:
    """Write a short message to standard error if it does not block. For signal handlers."""
    if sys.platform == "win32" or _has_room(2, 0.0):
        with contextlib.suppress(OSError):
            os.write(2, data)


def _has_room(descriptor: int, seconds: float) -> bool:
    """Return True if something can be written without blocking, within this many seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(1000 * seconds))


def prepare() -> None:
    """Make the standard streams of this process usable. Must be called first."""
    # The descriptor of a closed stream would go to the next file opened, such as the cache, and
    # warnings would be written into it. Now a write to a closed stdout fails, as it should.
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free descriptor, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open for good
    if sys.stdout is None or not sys.stdout.isatty():
        data = io.BufferedWriter(DataFile(1, "w", "standard output"))
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        sys.stdout = io.TextIOWrapper(data, encoding, "backslashreplace")
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # Show names that the terminal's encoding cannot represent instead of failing.
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or not sys.stderr.isatty():
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        talk = io.BufferedWriter(_TalkFile(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(talk, encoding, "backslashreplace", line_buffering=True)

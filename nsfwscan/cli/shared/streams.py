"""The standard streams as a shell may hand them over: closed, full, or with no reader.

Without this, Python's own answers are a traceback for a full disk, exit code 1 ("something was
flagged") for a reader that went away, and `sys.stdout = None` for a stream that is closed.
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
"""How long what goes on for weeks waits for a reader of standard error that takes nothing."""
_AT_ONCE_BYTES = 512
"""What fits a pipe that has room at all; POSIX guarantees that much."""


class ReaderGone(Exception):
    """Whoever read standard output has seen enough, as in `nsfwscan ... | head -1`.

    No `BrokenPipeError`, because typer and rich make exit code 1 of that one.
    """


class DataFile(io.FileIO):
    """A file that results go to. When it fails, it says which one and why."""

    def __init__(self, file: int | str, mode: str, called: str) -> None:
        """Open a path, or take an open descriptor, which is then not closed here.

        `called` is how messages name it. Raises OSError when it cannot be opened.
        """
        super().__init__(file, mode, closefd=isinstance(file, str))
        self._called = called

    def write(self, data: Buffer, /) -> int:
        """Write bytes. Raises `ReaderGone`, and `NsfwscanError` for anything else."""
        try:
            return super().write(data)
        except OSError as error:
            # The buffers above will try to write what they still hold. Let them.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise ReaderGone from None
            raise unwritable(self._called, error) from error


class _TalkFile(io.FileIO):
    """Standard error: what cannot be said there is no reason to stop."""

    patience_s: float | None = None
    """How long to wait for a reader that takes nothing; None for as long as that takes."""

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        try:
            if self.patience_s is not None and not _has_room(self.fileno(), self.patience_s):
                self.patience_s = 0.0  # until it reads again, nothing is worth waiting for
                return view.nbytes
            if self.patience_s is None:
                return super().write(view)
            self.patience_s = PATIENCE_S
            # With room for anything, a pipe has room for this much; the rest comes next.
            return super().write(view[:_AT_ONCE_BYTES])
        except OSError:
            return view.nbytes


def unwritable(called: str, error: OSError) -> NsfwscanError:
    """Return the error that says that results cannot be written to the file `called` so."""
    wrong_path = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return (UsageError if wrong_path else NsfwscanError)(
        f"cannot write {readable(called)}: {error.strerror or error}",
        hint="give --output a place that can be written, with enough space",
    )


def never_wait_for_stderr() -> None:
    """Let what is said on standard error be lost rather than wait for long for its reader.

    For what goes on for weeks: a reader that is stopped must not stop it.
    """
    if sys.platform == "win32" or sys.stderr is None:  # where there is no `poll`
        return
    talk = _TalkFile(2, "w", closefd=False)
    talk.patience_s = PATIENCE_S
    with contextlib.suppress(OSError):  # it may wait, then
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(talk), sys.stderr.encoding, "backslashreplace", line_buffering=True
        )


def whisper(data: bytes) -> None:
    """Write a little to standard error if that is possible at once. For signal handlers."""
    if sys.platform == "win32" or _has_room(2, 0.0):
        with contextlib.suppress(OSError):
            os.write(2, data)


def _has_room(descriptor: int, seconds: float) -> bool:
    """Return True if something can be written within that time without waiting for a reader."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(1000 * seconds))


def prepare() -> None:
    """Make the standard streams of this process fit for use. To be called first of all."""
    # A closed stream's number would go to the next file that is opened, say the cache, and
    # warnings would be written into that. This way a write to a closed stdout fails, as it should.
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open for good
    if sys.stdout is None or not sys.stdout.isatty():
        data = io.BufferedWriter(DataFile(1, "w", "standard output"))
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        sys.stdout = io.TextIOWrapper(data, encoding, "backslashreplace")
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # A name that is no text in the terminal's encoding is still better seen than refused.
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or not sys.stderr.isatty():
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        talk = io.BufferedWriter(_TalkFile(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(talk, encoding, "backslashreplace", line_buffering=True)

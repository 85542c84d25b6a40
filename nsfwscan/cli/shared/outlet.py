"""Standard output that never makes its program deaf, however long its reader reads nothing.

A write to a full pipe waits for the reader, and signals do not end that. So a little is written at
a time, and only when there is room for it; meanwhile the program is asked whether to go on.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from nsfwscan.cli.shared.streams import ReaderGone

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_ASK_S = 0.5
_STALLED_S = 5.0
"""A reader that takes nothing for so long is said to be stalled."""
_LAST_S = 2.0
"""How long a program that ends waits for a reader that takes nothing."""


class ReaderStalled(Exception):
    """The program is to end, and the reader of its output takes nothing."""


class OutletFailed(Exception):
    """Standard output cannot be written. No `NsfwscanError`: a watcher would try again later."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Outlet:
    """Writes to a stream of bytes without a buffer of its own."""

    def __init__(
        self, stream: BinaryIO, waits: Callable[[str], bool] = lambda _reason: False
    ) -> None:
        """Prepare. `waits` is told what is wrong while the reader takes nothing, and "" afterwards.

        It returns True to give up.
        """
        self._stream = stream
        self._waits = waits
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError):  # no file at all, as in tests
            if sys.platform != "win32":  # where there is no `poll`
                stream.flush()
                self._descriptor = stream.fileno()

    def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises `ReaderStalled`, `ReaderGone`, and `OutletFailed`.
        """
        try:
            if self._descriptor is None:
                self._stream.write(data)
                self._stream.flush()
            else:
                self._write_to(self._descriptor, memoryview(data))
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise OutletFailed(error) from error

    def _write_to(self, descriptor: int, rest: memoryview) -> None:
        while rest:
            self._wait(descriptor)
            with contextlib.suppress(BlockingIOError):
                # With room for anything, a pipe has room for this much.
                rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]

    def _wait(self, descriptor: int) -> None:
        """Return when something can be written without waiting."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        began, give_up_at, reason = time.monotonic(), 0.0, ""
        while not poll.poll(1000 * _ASK_S):
            now = time.monotonic()
            if now - began >= _STALLED_S:
                reason = "nobody reads what is written to standard output"
            if self._waits(reason):
                give_up_at = give_up_at or now + _LAST_S
                if now >= give_up_at:
                    raise ReaderStalled
        if reason:
            self._waits("")

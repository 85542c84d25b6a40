"""Standard output that never blocks the program, even if its reader stalls.

A write to a full pipe blocks, and signals do not end that. So a little is written at a time, only
when there is room for it; while waiting, a callback decides whether to continue.
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
"""A reader that reads nothing for this long is reported as stalled."""
_LAST_S = 2.0
"""How long a program that is ending waits for a stalled reader."""


class ReaderStalled(Exception):
    """The program has to end, and the reader of its output is stalled."""


class OutletFailed(Exception):
    """Standard output cannot be written. Not an `NsfwscanError`, which a watcher would retry."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Outlet:
    """Writes to a byte stream without buffering."""

    def __init__(
        self, stream: BinaryIO, waits: Callable[[str], bool] = lambda _reason: False
    ) -> None:
        """Call `waits` with a reason while the reader is stalled, and with "" afterwards.

        It returns True to give up.
        """
        self._stream = stream
        self._waits = waits
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError):  # not a real file, as in tests
            if sys.platform != "win32":  # which has no `poll`
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
                # A pipe that has room has room for this much.
                rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]

    def _wait(self, descriptor: int) -> None:
        """Return once something can be written without blocking."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        began, give_up_at, reason = time.monotonic(), 0.0, ""
        while not poll.poll(1000 * _ASK_S):
            now = time.monotonic()
            if now - began >= _STALLED_S:
                reason = "standard output is not being read"
            if self._waits(reason):
                give_up_at = give_up_at or now + _LAST_S
                if now >= give_up_at:
                    raise ReaderStalled
        if reason:
            self._waits("")

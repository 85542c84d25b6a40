"""Ctrl-C and SIGTERM during long work: the first signal ends it gently, a second Ctrl-C at once.

`scan` and `watch` share this. Everywhere else an interrupt is a `KeyboardInterrupt`, which
`cli.main` answers.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from nsfwscan.cli.shared.codes import INTERRUPTED
from nsfwscan.cli.shared.streams import whisper

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM")
"""The signals that `Stopping.handle` answers."""


class Stopping:
    """Whether work was told to stop."""

    def __init__(
        self,
        stop: Callable[[], None],
        abandon: Callable[[], None],
        *,
        quiet: bool,
        is_busy: Callable[[], bool] = lambda: True,
    ) -> None:
        """`stop` lets the work finish what is in hand, `abandon` ends the processes it started."""
        self._stop, self._abandon, self._is_busy = stop, abandon, is_busy
        self._quiet = quiet
        self.told = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Answer a signal. What `stop` raises goes to whatever the main thread is doing."""
        again, self.told = self.told, True  # first of all: the next signal may come at any moment
        if again and number == signal.SIGINT:
            self._abandon()
            os._exit(INTERRUPTED)  # threads are at work; nothing else ends them at once
        if not (again or self._quiet):
            # No print: the signal may have come in the middle of one. ^C stands on the line.
            busy = b"Finishing the pictures in hand; Ctrl-C again stops at once.\n"
            whisper(b"\n" + busy if self._is_busy() else b"\n")
        self._stop()

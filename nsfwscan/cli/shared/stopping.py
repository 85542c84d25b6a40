"""Ctrl-C and SIGTERM during long work: the first ends it gently, a second Ctrl-C at once.

Used by `scan` and `watch`. Everywhere else, an interrupt is a `KeyboardInterrupt`, which `cli.main`
handles.
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
"""The signals that `Stopping.handle` handles."""


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
        """`stop` ends the work after the current pictures; `abandon` ends its processes."""
        self._stop, self._abandon, self._is_busy = stop, abandon, is_busy
        self._quiet = quiet
        self.told = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal. Exceptions from `stop` are raised in the main thread."""
        again, self.told = self.told, True  # first, because the next signal may come at any moment
        if again and number == signal.SIGINT:
            self._abandon()
            os._exit(INTERRUPTED)  # nothing else ends running threads at once
        if not (again or self._quiet):
            # Not `print`, which the signal may have interrupted. The line shows ^C.
            busy = b"Finishing the current pictures. Press Ctrl-C again to stop immediately.\n"
            whisper(b"\n" + busy if self._is_busy() else b"\n")
        self._stop()

"""Signals to `watch`: end it gently, at once, or to begin again with the configuration of now.

In: signals. Out: a watcher that is told to stop, and why. What can fail: with a configuration that
cannot be read the watcher stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, cast

from nsfwscan.cli.shared import config
from nsfwscan.cli.shared.codes import INTERRUPTED
from nsfwscan.cli.shared.streams import whisper
from nsfwscan.values.errors import ConfigError
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    import typer

    from nsfwscan.cli.shared.talk import Talk
    from nsfwscan.watch.watcher import Watcher

_HANG_UP = getattr(signal, "SIGHUP", None)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt the block, until a `WatchSignals` takes over."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    if _HANG_UP is not None:
        before[_HANG_UP] = signal.signal(_HANG_UP, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class WatchSignals:
    """What signals asked of a watcher."""

    def __init__(self, watcher: Watcher, context: typer.Context, talk: Talk) -> None:
        """Take over from `interruptible`, which ends it."""
        self._watcher, self._context, self._talk = watcher, context, talk
        self.reload = False
        self.interrupted = False
        signal.signal(signal.SIGINT, self._end)
        signal.signal(signal.SIGTERM, self._end)
        if _HANG_UP is not None:
            signal.signal(_HANG_UP, self._reload)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.interrupted and number == signal.SIGINT:
            self._watcher.abandon()
            os._exit(INTERRUPTED)  # threads are at work; nothing else ends them at once
        self.interrupted = True
        self.reload = False
        said = b"\n"
        if self._watcher.is_busy:
            said = b"\nFinishing the pictures in hand; Ctrl-C again stops at once.\n"
        self._watcher.stop()
        if not self._talk.quiet:
            # No print: the signal may have come in the middle of one.
            whisper(said)

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        if self.interrupted:
            return
        group = self._context.parent
        if group is not None:
            try:
                config.read(cast("typer.Context", group), group.params.get("config_file"))
            except ConfigError as error:
                text = f"\nnsfwscan: {readable(str(error))}; the old settings stay\n"
                whisper(text.encode(errors="backslashreplace"))
                return
        self.reload = True
        self._watcher.stop()

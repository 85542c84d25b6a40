"""Signals to `watch`: end it gently, at once, or to begin again with the configuration of now.

In: signals. Out: a watcher that is told to stop, and why. What can fail: with a configuration that
cannot be read the watcher stays as it is.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from nsfwscan.cli.shared import config
from nsfwscan.cli.shared.stopping import SIGNALS, Stopping
from nsfwscan.cli.shared.streams import whisper
from nsfwscan.system import interrupts
from nsfwscan.values.errors import ConfigError
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    import typer

    from nsfwscan.cli.shared.talk import Talk
    from nsfwscan.watch.watcher import Watcher


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt the block, until a `WatchSignals` takes over."""
    with (
        interrupts.answered(interrupts.interrupt, *SIGNALS),
        interrupts.answered(lambda *_: None, "SIGHUP"),  # there is nothing to read again yet
    ):
        yield


class WatchSignals:
    """What signals asked of a watcher."""

    def __init__(self, watcher: Watcher, context: typer.Context, talk: Talk) -> None:
        """Take over from `interruptible`, which ends it."""
        self._watcher, self._context = watcher, context
        self._reload = False
        self._stopping = Stopping(
            watcher.stop, watcher.abandon, quiet=talk.quiet, is_busy=lambda: watcher.is_busy
        )
        interrupts.answer(self._stopping.handle, *SIGNALS)
        interrupts.answer(self._hang_up, "SIGHUP")

    @property
    def interrupted(self) -> bool:
        """Whether the watcher was told to end."""
        return self._stopping.told

    @property
    def reload(self) -> bool:
        """Whether it is to begin again, with the configuration of now."""
        return self._reload and not self.interrupted

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
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
        self._reload = True
        self._watcher.stop()

"""Signals to `watch`: stop gently, stop at once, or read the configuration again.

In: signals. Out: calls that stop the watcher, and why. If the new configuration cannot be read, the
watcher continues with the old one.
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
        interrupts.answered(lambda *_: None, "SIGHUP"),  # nothing to reload yet
    ):
        yield


class WatchSignals:
    """Handles the signals that a watcher receives."""

    def __init__(self, watcher: Watcher, context: typer.Context, talk: Talk) -> None:
        """Take over from `interruptible`, which restores the handlers afterwards."""
        self._watcher, self._context = watcher, context
        self._reload = False
        self._stopping = Stopping(
            watcher.stop, watcher.abandon, quiet=talk.quiet, is_busy=lambda: watcher.is_busy
        )
        interrupts.answer(self._stopping.handle, *SIGNALS)
        interrupts.answer(self._hang_up, "SIGHUP")

    @property
    def interrupted(self) -> bool:
        """Whether the watcher was told to stop."""
        return self._stopping.told

    @property
    def reload(self) -> bool:
        """Whether to run again with the current configuration."""
        return self._reload and not self.interrupted

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        if self.interrupted:
            return
        group = self._context.parent
        if group is not None:
            try:
                config.read(cast("typer.Context", group), group.params.get("config_file"))
            except ConfigError as error:
                text = f"\nnsfwscan: {readable(str(error)).rstrip('.')}; keeping the old settings\n"
                whisper(text.encode(errors="backslashreplace"))
                return
        self._reload = True
        self._watcher.stop()

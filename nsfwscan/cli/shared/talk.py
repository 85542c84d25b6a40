"""Remarks, warnings and progress, all on stderr."""

from __future__ import annotations

import shutil
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

from nsfwscan.values.text import count, readable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TextIO

    from rich.progress import Progress, TaskID

    from nsfwscan.values.errors import NsfwscanError

STARTED = time.monotonic()
"""When this process started, except for the 10 ms that Python takes before."""
_QUICK_S = 0.7
"""A bar for less would only flicker, and importing rich takes 60 ms."""

_PURPOSE = 16
"""Columns for what a command is good for."""

_NARROW = 64
"""In fewer columns, a bar would leave no room for the numbers."""


class Talk:
    """Prints messages for the user; with `quiet`, only warnings and errors."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_bar()

    def say(self, sentence: str) -> None:
        """Print a remark, unless quiet."""
        if not self.quiet:
            self._print(sentence)

    def command(self, purpose: str, command: str) -> None:
        """Print a command worth typing now, unless quiet.

        It is never broken: the terminal does that so that a copy of it is one line.
        """
        line = f"  {purpose + ':':<{_PURPOSE}} {command}"
        if sys.stderr.isatty() and len(line) > shutil.get_terminal_size().columns:
            line = f"  {purpose}:\n    {command}"
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def warn(self, sentence: str) -> None:
        """Print a warning, even if quiet."""
        self._print(f"nsfwscan: {sentence}")

    def error(self, error: NsfwscanError) -> None:
        """Print an error that does not end the command, and its next step."""
        self.warn(str(error))
        if error.hint:
            self._print(f"  {error.hint}")

    def bar(self, unit: str) -> _Bar:
        """Return a progress bar, shown only on a terminal and if the work takes a while."""
        self._bar = _Bar(unit, shown=not self.quiet and sys.stderr.isatty())
        return self._bar

    def download(self, done_bytes: int, total_bytes: int | None) -> None:
        """Show the progress of a download; a callback for the model store."""
        if self._bar is None or not self._bar.is_for("bytes"):
            self.end_bar()
            self.bar("bytes")
        if self._bar is not None:
            self._bar.show(done_bytes, total_bytes)
            if done_bytes == total_bytes:
                self.end_bar()

    def end_bar(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, sentence: str) -> None:
        text = readable(sentence)
        if self._bar is None or not self._bar.print(text):
            print(fitted(text, sys.stderr), file=sys.stderr, flush=True)


def fitted(text: str, stream: TextIO) -> str:
    """Break a line between words if `stream` is a terminal, which would break it anywhere."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    inset = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(
        text, width, subsequent_indent=inset, break_long_words=False, break_on_hyphens=False
    )


class _Bar:
    """A progress bar that is only built once the work takes a while."""

    def __init__(self, unit: str, *, shown: bool) -> None:
        self._unit = unit
        self._shown = shown
        self._since = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def due(self) -> bool:
        """Whether the work has taken long enough for a bar."""
        return self._shown and time.monotonic() - self._since >= _QUICK_S

    def is_for(self, unit: str) -> bool:
        """Return True if the bar counts `unit`."""
        return self._unit == unit

    def show(self, done: int, total: int | None, remark: str = "") -> None:
        """Show that `done` of `total` is done; None if the total is unknown."""
        if self._progress is None:
            if not self.due:
                return
            self._progress = _build(self._unit)
            self._task = self._progress.add_task("", total=total, remark=remark, of="?")
            self._progress.start()
        if self._task is not None:
            of = "?" if total is None else total
            self._progress.update(self._task, completed=done, total=total, remark=remark, of=of)

    def print(self, sentence: str) -> bool:
        """Print above the bar; return False if no bar is shown."""
        if self._progress is None:
            return False
        self._progress.console.print(sentence, markup=False, highlight=False)
        return True

    def close(self) -> None:
        """Remove the bar from the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Counter:
    """Counts the work in the background, once it is clear that it takes a while."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.total: int | None = None
        self._count = count
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start counting, once."""
        if self._thread is None:
            # A daemon, so that the process can end before the count does.
            self._thread = threading.Thread(target=self._run, name="nsfwscan-count", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> int | None:
        """Return the total, waiting up to `seconds` for it; None if it took longer."""
        self.start()
        if self._thread is not None:
            self._thread.join(seconds)
        return self.total

    def _run(self) -> None:
        self.total = self._count()


def _build(unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    if unit == "bytes":
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        return Progress(*columns, console=console, transient=True)
    remark = TextColumn("{task.fields[remark]}", markup=False)
    if console.width < _NARROW:  # a bar would cut off the numbers
        numbers = TextColumn("{task.completed}/{task.fields[of]}", markup=False)
        return Progress(numbers, remark, console=console, transient=True, refresh_per_second=4)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        remark,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        refresh_per_second=4,
    )


def flagged(number: int, rate: float) -> str:
    """Return the remark beside a scan's bar: its speed, and how many pictures are flagged."""
    return f"{rate:,.0f} a second, {count(number, 'flagged', 'flagged')}"

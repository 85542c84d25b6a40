"""Workers: where pictures are examined, several at a time.

In: what to do with one picture. Out: a future. Threads of this machine are one kind; a scanner
takes any, so that a test can do without threads.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Workers(Protocol):
    """What a scanner needs: something that calls functions, several at a time."""

    def submit(self, task: Callable[[], _T]) -> Future[_T | None]:
        """Call `task`; the future gives what it returns, and None when `stop` came first."""

    def stop(self) -> None:
        """Start no further task. May be called from a signal handler: it takes no lock."""

    def close(self) -> None:
        """Finish what was started, and end."""


class ThreadWorkers:
    """Threads, each of which takes one picture the whole way.

    On few cores this beats a decode stage before a scoring stage: no core waits for the other, and
    a decoder that crashes has exactly one culprit.
    """

    def __init__(self, count: int) -> None:
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(count, "nsfwscan-worker")

    def submit(self, task: Callable[[], _T]) -> Future[_T | None]:
        """Call `task` in a thread; see `Workers.submit`."""
        return self._threads.submit(self._run, task)

    def stop(self) -> None:
        """Start no further task; see `Workers.stop`."""
        self._stopping.set()

    def close(self) -> None:
        """Finish what was started, and end all threads."""
        self.stop()
        self._threads.shutdown()

    def _run(self, task: Callable[[], _T]) -> _T | None:
        return None if self._stopping.is_set() else task()

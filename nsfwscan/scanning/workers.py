"""Workers: examine several pictures at a time.

In: a task for one picture. Out: a future. Threads on this machine are one kind of worker; a scanner
takes any kind, so a test can do without threads.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from nsfwscan.system import interrupts
from nsfwscan.system.threads import require_room

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Workers(Protocol):
    """What a scanner needs: something that runs tasks, several at a time."""

    def submit(self, task: Callable[[], _T]) -> Future[_T | None]:
        """Run `task`. The future gives its result, or None if `stop` came before it started."""

    def stop(self) -> None:
        """Start no more tasks. Safe to call from a signal handler: it takes no lock."""

    def close(self) -> None:
        """Finish the tasks already started, and end."""


class ThreadWorkers:
    """Threads, each of which takes one picture from start to finish.

    On few cores this beats a decode stage followed by a scoring stage: no core waits for another,
    and if a decoder crashes it is clear which picture did it.
    """

    def __init__(self, count: int) -> None:
        self._stopping = threading.Event()
        self._began = False
        self._threads = ThreadPoolExecutor(count, "nsfwscan-worker")

    def submit(self, task: Callable[[], _T]) -> Future[_T | None]:
        """Run `task` in a thread; see `Workers.submit`.

        Raises `MemoryError` if there is no room for the threads to start.
        """
        if not self._began:
            require_room()
            self._began = True
        with interrupts.bounded_start():
            return self._threads.submit(self._run, task)

    def stop(self) -> None:
        """Start no more tasks; see `Workers.stop`."""
        self._stopping.set()

    def close(self) -> None:
        """Finish the tasks already started, and end all threads."""
        self.stop()
        self._threads.shutdown()

    def _run(self, task: Callable[[], _T]) -> _T | None:
        return None if self._stopping.is_set() else task()

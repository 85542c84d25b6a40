"""`Lanes`: threads that pull what is waiting. No timer, and no picture waits while one is idle.

In: jobs. Out: their futures, resolved in the event loop that asked. As many lanes as cores: each
takes one picture the whole way. What a client no longer wants leaves the queue and is never
scored.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from nsfwscan.serve.problems import Overloaded, Unavailable
from nsfwscan.system import interrupts
from nsfwscan.system.threads import require_room

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
_GUESS_S = 0.1
"""Seconds for one picture, until some were scored."""
_MOST_RETRY_S = 60.0


@dataclass(slots=True, eq=False)
class Job(Generic[_T]):
    """One piece of work, and who waits for it."""

    work: Callable[[], _T]
    future: asyncio.Future[_T]
    entered_at: float = field(default_factory=time.monotonic)
    began_at: float = 0.0
    """0 while it is waiting."""
    ended_at: float = 0.0

    def resolve(self, result: _T | None, error: BaseException | None) -> None:
        """Give the answer to who waits, from any thread."""
        self.ended_at = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self.future.get_loop().call_soon_threadsafe(self._set, result, error)

    def _set(self, result: _T | None, error: BaseException | None) -> None:
        if not self.future.done():
            if error is None:
                self.future.set_result(result)  # type: ignore[arg-type]  # there is one, without an error
            else:
                self.future.set_exception(error)


class Lanes(Generic[_T]):
    """Threads that run jobs in the order in which they came, a bounded number of which may wait."""

    def __init__(self, count: int, most_waiting: int) -> None:
        self.count, self.most_waiting = count, most_waiting
        self._queue: deque[Job[_T]] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._closed = False
        self._mean_s = _GUESS_S
        self._threads = ThreadPoolExecutor(count, "nsfwscan-lane")

    def start(self) -> None:
        """Start the threads. Raises `MemoryError` if there is no room for them."""
        require_room()
        with interrupts.bounded_start():
            for _ in range(self.count):
                self._threads.submit(self._run)

    @property
    def idle(self) -> int:
        """How many lanes have nothing to do."""
        return self._idle

    @property
    def waiting(self) -> int:
        """How many jobs wait for a lane."""
        return max(0, len(self._queue) - self._idle)

    @property
    def retry_after(self) -> float:
        """Seconds until what waits now should be done."""
        return min(_MOST_RETRY_S, max(1.0, self.waiting * self._mean_s / self.count))

    def room_for(self, count: int) -> bool:
        """Return True if `count` more jobs would be taken now."""
        return len(self._queue) + count - self._idle <= self.most_waiting

    def submit(self, jobs: Sequence[Job[_T]]) -> None:
        """Have all of the jobs run, or none.

        Raises `Overloaded` if too many would be waiting, and `Unavailable` at the end.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the server is stopping")
            if not self.room_for(len(jobs)):
                raise Overloaded(self.retry_after)
            self._queue.extend(jobs)
            self._changed.notify(len(jobs))

    def withdraw(self, job: Job[_T]) -> bool:
        """Take a job out of the queue. Return False if it has begun, or ended."""
        with self._changed:
            if job.began_at:
                return False
            with contextlib.suppress(ValueError):
                self._queue.remove(job)
                return True
        return False

    def refuse_waiting(self, error: Callable[[], BaseException]) -> None:
        """Answer all that wait with an error."""
        with self._changed:
            refused, self._queue = list(self._queue), deque()
        for job in refused:
            job.resolve(None, error())

    def close(self) -> None:
        """Finish what has begun, refuse the rest, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.refuse_waiting(lambda: Unavailable("the server is stopping"))
        self._threads.shutdown()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                result = job.work()
            except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
                job.resolve(None, error)
            else:
                job.resolve(result, None)
                # A mean over the last dozen or two.
                self._mean_s += (job.ended_at - job.began_at - self._mean_s) / 16
            del job  # a picture must not stay in memory until the next one comes

    def _next(self) -> Job[_T] | None:
        with self._changed:
            self._idle += 1
            try:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    return None
                job = self._queue.popleft()
                job.began_at = time.monotonic()
                return job
            finally:
                self._idle -= 1

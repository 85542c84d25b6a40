"""Work that Ctrl-C must not cut in half.

Python raises `KeyboardInterrupt`, and whatever else a signal handler raises, in the main thread
between any two steps: after a process was started and before anybody knows it, or with a lock of
`threading` taken for good. Both functions are for the main thread; in any other they do nothing.
"""

from __future__ import annotations

import _thread
import contextlib
import queue
import signal
import threading
from typing import TYPE_CHECKING, TypeVar

from nsfwscan.system import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_T = TypeVar("_T")


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def apart(work: Callable[[], _T]) -> _T:
    """Call `work` in a thread of its own and return or raise what it does.

    An interrupt ends the waiting at once; the work goes on to its end, which nobody waits for.
    Where the system refuses a thread, or has no memory for one, `work` is called in this one.
    """
    if not _is_main():
        return work()
    # No `Thread`, `Future` or `Queue`: their locks are taken by Python code, which an interrupt
    # can leave before it gives them back. These two are of one piece.
    box: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            box.put((None, error))

    try:
        threads.require_room()
        _thread.start_new_thread(run, ())
    except (MemoryError, RuntimeError):  # what must be ended can be ended all the same
        return work()
    result, error = box.get()
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback holds this frame
    return result  # type: ignore[return-value]  # there is one, without an error


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let signals with a handler in Python wait until the block is left. Keep the block short."""
    if not _is_main():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {}
    try:
        for number in numbers:
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)

"""Signals: who answers them, and work that they must not cut in half.

Python raises `KeyboardInterrupt`, and whatever else a signal handler raises, in the main thread
between any two steps: after a process was started and before anything refers to it, or with a lock
of `threading` taken for good. `apart` and `held` prevent that; in other threads they do nothing.
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

    Handler = Callable[[int, FrameType | None], object]

_T = TypeVar("_T")


def answer(handler: Handler, *names: str) -> None:
    """Let `handler` answer the named signals; names that this system lacks are left out."""
    for number in _numbers(*names):
        signal.signal(number, handler)


def is_ignored(name: str) -> bool:
    """Return True if the signal was ignored when the program started, as under nohup."""
    return any(signal.getsignal(number) is signal.SIG_IGN for number in _numbers(name))


@contextlib.contextmanager
def answered(handler: Handler, *names: str) -> Iterator[None]:
    """Let `handler` answer the named signals until the block is left.

    Inside the block another handler may take over with `answer`.
    """
    before = {number: signal.getsignal(number) for number in _numbers(*names)}
    try:
        answer(handler, *names)
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`: the answer of a command that any signal may end at once."""
    raise KeyboardInterrupt


def _numbers(*names: str) -> list[signal.Signals]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


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

    numbers = _numbers("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")
    handled = [number.name for number in numbers if callable(signal.getsignal(number))]
    try:
        with answered(note, *handled):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)

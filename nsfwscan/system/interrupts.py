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
import time
from typing import TYPE_CHECKING, TypeVar

from nsfwscan.system import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

_T = TypeVar("_T")
_WAIT_DEPTH = 5
"""Frames from `Thread.start` down to where it waits, and some more."""
_START_S = 10.0
"""Seconds that a thread may take to begin, or twice that. One that finds no memory may never
begin, and say nothing."""


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


@contextlib.contextmanager
def bounded_start() -> Iterator[None]:
    """Raise `MemoryError` if a thread that the block starts does not begin for `_START_S`.

    `Thread.start` waits without a limit for a thread to begin, and one that finds no memory as it
    begins never does. Only a signal ends that waiting, so there is no bound in other threads than
    the main one, nor on Windows. Whatever else the block does may take as long as it likes.
    """
    if not _is_main() or not hasattr(signal, "setitimer"):
        yield
        return
    if signal.getsignal(signal.SIGALRM) is None:  # C code set it, so it could not be put back
        yield
        return

    waited: FrameType | None = None

    def late(_number: int, frame: FrameType | None) -> None:
        nonlocal waited
        before, waited = waited, _start_under_way(frame)
        if waited is not None and waited is before:
            raise MemoryError("a thread that was started does not begin")

    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        with answered(late, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, _START_S, _START_S)
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        if left:  # a timer of the program goes on, with its own handler back in place
            left = max(left - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _start_under_way(frame: FrameType | None) -> FrameType | None:
    """Return the call of `Thread.start` in which `frame` waits, if it does."""
    for _ in range(_WAIT_DEPTH):
        if frame is None or frame.f_code is threading.Thread.start.__code__:
            return frame
        frame = frame.f_back
    return None


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def apart(work: Callable[[], _T]) -> _T:
    """Call `work` in a thread of its own and return or raise what it does.

    An interrupt ends the waiting at once; the work goes on to its end, which nobody waits for.
    Where the system refuses a thread, or the thread does not begin for lack of memory, `work` is
    called in this one.
    """
    if not _is_main():
        return work()
    # No `Thread`, `Future` or `Queue`: their locks are taken by Python code, which an interrupt
    # can leave before it gives them back. These two are of one piece.
    box: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()
    turn, begun = _thread.allocate_lock(), _thread.allocate_lock()
    begun.acquire()

    def run() -> None:
        if not turn.acquire(blocking=False):
            return  # too late: it is done in the other thread
        begun.release()
        try:
            box.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            box.put((None, error))

    try:
        threads.require_room()
        _thread.start_new_thread(run, ())
    except (MemoryError, RuntimeError):  # what must be ended can be ended all the same
        return work()
    if not begun.acquire(timeout=_START_S) and turn.acquire(blocking=False):
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

"""Decode pictures in separate processes, so that a bad file harms nothing but itself.

This is the parent's side. It loads neither Pillow nor numpy. Each worker process has a slot in the
pool; a thread that wants a picture decoded takes a slot, talks to its process over two pipes, and
puts the slot back. What can go wrong with a process, and what happens to the picture:

    it dies, or its answer is malformed    a new one tries once more, then `DECODER_CRASHED`
    it is killed from outside              new ones try three times more, then `DECODER_CRASHED`
    it uses up its CPU time                `DECODER_TIMEOUT`
    it does not answer in time             killed by the watching thread; a new one tries once
                                           more, then `DECODER_TIMEOUT`
    it runs out of memory                  a new one tries once more, then `DECODER_MEMORY`

Only the third, and the first and the last if there was enough memory, are certain to be the
picture's fault. All other errors are `transient`: they are not cached.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Self, TypeVar

from nsfwscan.media.decode import wire
from nsfwscan.media.decode.command import worker_command
from nsfwscan.media.decode.process import WATCH_SECONDS, Crashed, OutOfTime, Slot
from nsfwscan.media.decode.shortage import memory_may_be_short
from nsfwscan.media.decode.thumbnail import MAX_LONGEST, ThumbnailForm
from nsfwscan.system import interrupts
from nsfwscan.values.errors import DecodeError, NsfwscanError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from nsfwscan.media.decode.decoded import Decoded
    from nsfwscan.media.decode.thumbnail import Thumbnail
    from nsfwscan.values.geometry import Geometry

_T = TypeVar("_T")

_START_SECONDS = 60.0
"""How long a process may take to say hello: cold disks and virus scanners are slow."""

_START_TRIES = 3
"""If a whole service is being killed, its processes may be killed as they start."""

_MAX_FILE_BYTES = 512 << 20
"""A worker may take a gigabyte, in which it holds the file beside its pixels."""

_STRIKES = 4
"""A picture is given up after two processes that it may have ended, or four ended from outside: a
process killed because other programs need memory may succeed the second or third time."""


class DecodePool:
    """A fixed number of worker processes that decode pictures.

    `cpu_seconds` of CPU time and `wall_seconds` of elapsed time are the limits for one picture. A
    process is replaced after `pictures`, which bounds the effect of leaks. `command` replaces
    `worker_command`, for tests.
    """

    def __init__(
        self,
        workers: int,
        *,
        cpu_seconds: float = 8.0,
        wall_seconds: float = 30.0,
        pictures: int = 5000,
        command: Sequence[str] | None = None,
    ) -> None:
        if command is None:
            command = worker_command(cpu_seconds, pictures)
        self._wall_seconds = wall_seconds
        self._slots = [Slot(command) for _ in range(workers)]
        # Last in, first out: if one process is enough, the same one stays warm.
        self._idle: queue.LifoQueue[Slot] = queue.LifoQueue()
        self._large = threading.Lock()
        self._counting = threading.Lock()
        self._closed = threading.Event()
        self._busy = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="decode-watch", daemon=True)
        self._restarts = 0
        self.disowned = False
        """Whether this is a forked child, in which the threads and processes do not exist."""

    @property
    def restarts(self) -> int:
        """How many processes were replaced because they crashed or ran out of time or memory."""
        return self._restarts

    def start(self) -> None:
        """Start all worker processes and return without waiting for them.

        Raises `NsfwscanError` if the system refuses to start one, which closes the pool, or if the
        pool was closed before.
        """
        interrupts.apart(self._start)

    def _start(self) -> None:
        self._check_open()
        _pools.add(self)
        self._watcher.start()
        for slot in self._slots:
            self._idle.put(slot)
        try:
            for slot in self._slots:
                slot.start()
        except BaseException:
            self.close()
            raise

    def abandon(self) -> None:
        """Kill all processes, because this one is about to exit without tidying up.

        Otherwise a process that is decoding would continue until it finds its pipes closed. Takes
        no lock, so a signal handler may call it.
        """
        for slot in self._slots:
            slot.abandon()

    def close(self) -> None:
        """End all processes at once. Calls of `decode` still waiting raise `NsfwscanError`."""
        interrupts.apart(self._close)

    def disown(self) -> None:
        """Leave everything to the process that this one was forked from, where the threads are.

        This pool is then closed.
        """
        self.disowned = True
        for slot in self._slots:
            slot.disown()

    def _close(self) -> None:
        if self.disowned or self._closed.is_set():
            return
        self._closed.set()
        self._busy.set()  # wakes the watching thread
        for slot in self._slots:
            slot.end()
        if not self._watcher.ident:
            return  # never started
        # A thread waiting for one of these processes finds it dead and puts the slot back.
        slots = [self._idle.get() for _ in self._slots]
        self._watcher.join()
        for slot in slots:
            slot.stop()
            self._idle.put(slot)  # wakes a thread that waits for a free slot

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def decode(
        self, data: bytes | memoryview, geometry: Geometry, *, full: bool = False
    ) -> Decoded:
        """Decode one picture file in a worker process; see `nsfwscan.media.decode.decode.decode`.

        Blocks until a process is free and has answered. Thread-safe. Raises `DecodeError` for
        anything wrong with the picture, and `NsfwscanError` if no process can be started or the
        pool was closed.
        """
        return self._result(data, wire.DecodeRequest(full, geometry))

    def thumbnail(
        self,
        data: bytes | memoryview,
        longest: int,
        *,
        pixelated: bool = False,
        frame: int = 0,
        form: ThumbnailForm | None = None,
    ) -> Thumbnail:
        """Make a small copy of a picture file in a worker process, to show it to a person.

        It shows what viewers show: upright, in sRGB, transparency over white. Its longest side has
        `longest` pixels (1 to `MAX_LONGEST`), or the picture's own number if that is less. With
        `pixelated` it has at most 12 x 12 pixels whatever `longest` is, for the viewer to scale up.
        `frame` is the index of the file's frame; the last one if it has fewer. `form` is JPEG by
        default, or WebP if pixelated. Blocks and raises as `decode` does.
        """
        if not 1 <= longest <= MAX_LONGEST or frame < 0:
            raise ValueError(f"no thumbnail of frame {frame} can have {longest} pixels")
        form = form or (ThumbnailForm.WEBP if pixelated else ThumbnailForm.JPEG)
        return self._result(data, wire.ThumbnailRequest(longest, form, pixelated, frame))

    def _result(self, data: bytes | memoryview, wanted: wire.Purpose[_T]) -> _T:
        if self.disowned:
            raise NsfwscanError(
                "this process was forked from one that is scanning, and cannot continue its scan",
                hint="start a separate scan in each process",
            )
        if not self._watcher.ident:
            raise RuntimeError("the pool was not started")
        if len(data) > _MAX_FILE_BYTES:
            raise DecodeError(FailReason.DECODER_MEMORY, f"a file of {len(data) / 1e6:.0f} MB")
        return interrupts.apart(lambda: self._result_from_any(data, wanted))

    def _result_from_any(self, data: bytes | memoryview, wanted: wire.Purpose[_T]) -> _T:
        slot = self._idle.get()
        try:
            return self._result_from(slot, data, wanted)
        finally:
            self._idle.put(slot)

    def _result_from(self, slot: Slot, data: bytes | memoryview, wanted: wire.Purpose[_T]) -> _T:
        strikes = 0
        while True:
            self._make_ready(slot)
            try:
                return self._ask(slot, data, wanted)
            except DecodeError as refused:
                met_a_limit = refused.reason is FailReason.DECODER_MEMORY and refused.transient
                if not met_a_limit or memory_may_be_short():
                    raise
                # The machine has plenty, so it was the process's own limit that was reached.
                error = DecodeError(refused.reason, refused.detail)
                strikes += _STRIKES // 2
            except Crashed as crash:
                transient = crash.outside or memory_may_be_short()
                error = DecodeError(FailReason.DECODER_CRASHED, str(crash), transient=transient)
                strikes += 1 if crash.outside else _STRIKES // 2
            except OutOfTime as late:
                error = DecodeError(FailReason.DECODER_TIMEOUT, str(late), transient=late.outside)
                strikes += _STRIKES // 2 if late.outside else _STRIKES
            self._count_restart()
            self._check_open()
            if strikes >= _STRIKES:
                raise error

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise NsfwscanError("decoding was stopped")

    def _make_ready(self, slot: Slot) -> None:
        """Make sure that a process is running in the slot and has said hello."""
        for left in reversed(range(_START_TRIES)):
            self._check_open()
            if not slot.is_running():  # it may also have been killed while idle
                slot.start()
            if slot.ready:
                return
            try:
                self._busy.set()
                with slot.deadline(_START_SECONDS):
                    slot.receive(number=0, most=0)
            except (Crashed, OutOfTime) as error:
                self._check_open()
                if not left:
                    raise NsfwscanError(
                        f"the decode process does not start: {error}",
                        hint="run `python -m PIL` to check that Pillow is installed correctly",
                    ) from None
            else:
                slot.ready = True
                return

    def _ask(self, slot: Slot, data: bytes | memoryview, wanted: wire.Purpose[_T]) -> _T:
        slot.number = number = (slot.number + 1) & 0xFFFFFFFF
        most = wanted.longest_answer
        if not self._busy.is_set():
            self._busy.set()  # wakes the watching thread
        with contextlib.ExitStack() as held:
            with slot.deadline(self._wall_seconds):
                slot.send(wire.pack_request(number, len(data), wanted), data)
                answer, body = slot.receive(number=number, most=most)
            if answer.kind is wire.MessageKind.NEED:
                held.enter_context(self._large)  # may wait long, outside this picture's deadline
                with slot.deadline(self._wall_seconds):
                    slot.send(wire.GO)
                    answer, body = slot.receive(number=number, most=most)
            return self._conclude(slot, answer, body, wanted)

    def _conclude(
        self, slot: Slot, answer: wire.Answer, body: bytes, wanted: wire.Purpose[_T]
    ) -> _T:
        try:
            if answer.kind is wanted.answer:
                return wanted.result(body)
            if answer.kind is not wire.MessageKind.REFUSED:
                raise slot.garbled()
            error = wire.unpack_refused(body)
        except wire.Garbled:
            raise slot.garbled() from None
        finally:
            if answer.leaving:
                # Now, while others are busy. If it fails, the slot's next picture raises the error.
                with contextlib.suppress(NsfwscanError):
                    slot.start()
        raise error

    def _count_restart(self) -> None:
        with self._counting:
            self._restarts += 1

    def _watch(self) -> None:
        """Kill overdue processes. Windows has no blocking read with a timeout."""
        while not self._closed.is_set():
            self._busy.wait()  # an idle pool costs nothing
            self._busy.clear()
            looked = time.monotonic()
            while not self._closed.wait(WATCH_SECONDS):
                now = time.monotonic()
                # A longer gap means that this process, and perhaps the others, did not run: because
                # of Ctrl-Z, a frozen container or a sleeping computer.
                passed, looked = min(now - looked, 2 * WATCH_SECONDS), now
                if not sum(slot.charge(passed) for slot in self._slots):
                    break


_pools: weakref.WeakSet[DecodePool] = weakref.WeakSet()
"""Pools that were started."""


def _disown_all() -> None:
    for pool in list(_pools):
        pool.disown()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_disown_all)

"""Decode pictures in processes of their own, so that a bad file costs itself and nothing else.

The parent's side. It loads neither Pillow nor numpy. Each worker process has one slot in the pool;
a thread that wants a picture decoded checks a slot out, talks to its process over two pipes, and
puts it back. What can go wrong with a process, and what becomes of the picture:

    it dies, or says what makes no sense   a new one tries once more, then `DECODER_CRASHED`
    it uses up its processor time          `DECODER_TIMEOUT`
    it does not answer in time             killed by the watching thread, `DECODER_TIMEOUT`
    it runs out of memory                  `DECODER_MEMORY`; the process asks to be replaced
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Self, assert_never

import nsfwscan
from nsfwscan import bundled
from nsfwscan.errors import DecodeError, NsfwscanError
from nsfwscan.images import wire
from nsfwscan.results import FailReason

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from nsfwscan.geometry import Geometry
    from nsfwscan.images.decoded import Decoded

_PIPE_BYTES = 1 << 20
"""A pipe of this size takes a picture in a third of the time that the usual 64 KB take."""

_START_SECONDS = 60.0
"""How long a process may take to say hello: a cold disk and a virus scanner are slow."""

_MAX_FILE_BYTES = 512 << 20
"""A worker may take a gigabyte, and holds the file beside its pixels."""

_DYING_SECONDS = 1.0
"""How long a process may live on after its pipes broke."""

_WATCH_SECONDS = 0.25
"""How far a deadline may be overrun."""


def worker_command(cpu_seconds: float, pictures: int) -> list[str]:
    """Build the command that starts a worker process.

    In a bundle there is no interpreter: the program itself takes the part.
    """
    limits = [f"{cpu_seconds:g}", str(pictures)]
    if bundled.folder():
        return [sys.executable, bundled.WORKER_FLAG, *limits]
    # The child sees the modules that this process sees, whoever put them on the path, and no
    # others. `-c` needs no `__main__` guard in a user's script, as `multiprocessing` would.
    start = (
        "import sys; path, *limits = sys.argv[1:]; sys.path[:] = path.split('\\n');"
        "from nsfwscan.images.decode_worker import main; main(limits)"
    )
    ours = os.path.dirname(os.path.dirname(os.path.abspath(nsfwscan.__file__)))
    path = [os.path.abspath(entry) for entry in (*sys.path, ours)]
    return [sys.executable, "-I", "-c", start, "\n".join(path), *limits]


class _Crashed(Exception):
    """A worker process ended, or said what makes no sense. `str` says how."""


class _OutOfTime(Exception):
    """A worker process used up its time. `str` says which."""


class DecodePool:
    """A fixed number of worker processes that decode pictures.

    `cpu_seconds` of processor time and `wall_seconds` by the clock are the limits of one picture;
    after `pictures` a process is replaced, which bounds what a leak can grow to. `command` starts
    something else than `worker_command` does, for tests.
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
        self._slots = [_Slot(command) for _ in range(workers)]
        # Last in, first out: where one process is enough, one stays warm.
        self._idle: queue.LifoQueue[_Slot] = queue.LifoQueue()
        self._large = threading.Lock()
        self._counting = threading.Lock()
        self._closed = threading.Event()
        self._busy = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="decode-watch", daemon=True)
        self._restarts = 0

    @property
    def restarts(self) -> int:
        """How many processes were replaced because they crashed or ran out of time or memory."""
        return self._restarts

    def start(self) -> None:
        """Start all worker processes and return without waiting for them.

        Raises `NsfwscanError`, with the pool closed, when the system refuses to start one.
        """
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
        """Kill all processes, when this one is about to exit without tidying up.

        A process that is decoding would go on until it finds its pipes closed. Takes no lock, so
        that a signal handler may call it.
        """
        for slot in self._slots:
            slot.abandon()

    def close(self) -> None:
        """End all processes at once. A call of `decode` that still waits raises `NsfwscanError`."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._busy.set()  # wakes the watching thread
        for slot in self._slots:
            slot.end()
        if not self._watcher.ident:
            return  # never started
        # A thread that was waiting for one of these processes sees it dead and puts the slot back.
        slots = [self._idle.get() for _ in self._slots]
        self._watcher.join()
        for slot in slots:
            slot.stop()
            self._idle.put(slot)  # wakes a thread that waits for a free one

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
        """Decode one picture file in a worker process; see `nsfwscan.images.decode.decode`.

        Blocks until a process is free and has answered. May be called from any thread. Raises
        `DecodeError` for what is wrong with the picture, and `NsfwscanError` when no process can
        be started or the pool was closed.
        """
        if not self._watcher.ident:
            raise RuntimeError("the pool was not started")
        if len(data) > _MAX_FILE_BYTES:
            raise DecodeError(FailReason.DECODER_MEMORY, f"a file of {len(data) / 1e6:.0f} MB")
        slot = self._idle.get()
        try:
            return self._decode_in(slot, data, geometry, full)
        finally:
            self._idle.put(slot)

    def _decode_in(
        self, slot: _Slot, data: bytes | memoryview, geometry: Geometry, full: bool
    ) -> Decoded:
        for attempt in ("first", "last"):
            self._make_ready(slot)
            try:
                return self._ask(slot, data, geometry, full)
            except _Crashed as crash:
                self._count_restart()
                if attempt == "last" and not self._closed.is_set():
                    raise DecodeError(FailReason.DECODER_CRASHED, str(crash)) from None
            except _OutOfTime as late:
                self._count_restart()
                raise DecodeError(FailReason.DECODER_TIMEOUT, str(late)) from None
        raise NsfwscanError("decoding was stopped")

    def _make_ready(self, slot: _Slot) -> None:
        """See that a process runs in the slot and has said hello."""
        for attempt in ("first", "last"):
            if self._closed.is_set():
                raise NsfwscanError("decoding was stopped")
            if not slot.is_running():  # also when it was killed while it had nothing to do
                slot.start()
            if slot.ready:
                return
            try:
                self._busy.set()
                with slot.deadline(_START_SECONDS):
                    slot.receive(number=0, most=0)
            except (_Crashed, _OutOfTime) as error:
                if attempt == "last" and not self._closed.is_set():
                    raise NsfwscanError(
                        f"the process that decodes pictures does not start: {error}",
                        hint="`python -m PIL` tells whether Pillow is installed well",
                    ) from None
            else:
                slot.ready = True
                return
        raise NsfwscanError("decoding was stopped")

    def _ask(
        self, slot: _Slot, data: bytes | memoryview, geometry: Geometry, full: bool
    ) -> Decoded:
        slot.number = number = (slot.number + 1) & 0xFFFFFFFF
        most = wire.longest_answer(geometry)
        if not self._busy.is_set():
            self._busy.set()  # wakes the watching thread
        with contextlib.ExitStack() as held:
            with slot.deadline(self._wall_seconds):
                slot.send(wire.Request(number, len(data), full, geometry).pack(), data)
                answer, body = slot.receive(number=number, most=most)
            if answer.kind is wire.Kind.NEED:
                held.enter_context(self._large)  # may wait long, and not at this picture's cost
                with slot.deadline(self._wall_seconds):
                    slot.send(wire.GO)
                    answer, body = slot.receive(number=number, most=most)
            return self._conclude(slot, answer, body, geometry)

    def _conclude(
        self, slot: _Slot, answer: wire.Answer, body: bytes, geometry: Geometry
    ) -> Decoded:
        try:
            match answer.kind:
                case wire.Kind.DECODED:
                    return wire.unpack_decoded(body, geometry)
                case wire.Kind.REFUSED:
                    error = wire.unpack_refused(body)
                case wire.Kind.HELLO | wire.Kind.NEED:
                    raise slot.garbled()
                case _:
                    assert_never(answer.kind)
        except wire.Garbled:
            raise slot.garbled() from None
        finally:
            if answer.leaving:
                # Now, while others are busy. If it fails, the slot's next picture says why.
                with contextlib.suppress(NsfwscanError):
                    slot.start()
        if error.reason is FailReason.DECODER_MEMORY:
            self._count_restart()
        raise error

    def _count_restart(self) -> None:
        with self._counting:
            self._restarts += 1

    def _watch(self) -> None:
        """Kill what is overdue. A blocking read with a timeout is not to be had on Windows."""
        while not self._closed.is_set():
            self._busy.wait()  # an idle pool costs nothing
            self._busy.clear()
            while sum(slot.kill_if_overdue() for slot in self._slots):
                if self._closed.wait(_WATCH_SECONDS):
                    return


class _Slot:
    """A place for one worker process, and the pipes to it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.ready = False
        self.number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._deadline: float | None = None
        """By `time.monotonic`; None while nothing is expected of the process."""
        self._was_overdue = False
        self._is_over = False

    def start(self) -> None:
        """Put a new process in the place of the one that may be there."""
        self.stop()
        with self._changing:
            if self._is_over:
                return
            try:
                self._process = subprocess.Popen(
                    self.command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # codecs print their complaints there
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except OSError as error:
                raise NsfwscanError(
                    f"the process that decodes pictures cannot be started: {error}",
                    hint="close some programs, or take fewer jobs",
                ) from error
            _widen(self._process)

    def is_running(self) -> bool:
        """Tell whether there is a process and it lives."""
        return self._process is not None and self._process.poll() is None

    def send(self, *parts: bytes | memoryview) -> None:
        """Write all of it. Raises `_Crashed` or `_OutOfTime`."""
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[self._pipes()[0].write(view) :]
        except OSError:
            raise self._died() from None

    def receive(self, *, number: int, most: int) -> tuple[wire.Answer, bytes]:
        """Read one answer to request `number`, its body of at most `most` bytes.

        Raises `_Crashed` or `_OutOfTime`.
        """
        try:
            header = wire.Answer.unpack(self._read(wire.ANSWER_BYTES), number=number, most=most)
        except wire.Garbled:
            raise self.garbled() from None
        return header, self._read(header.length)

    def garbled(self) -> _Crashed:
        """Kill a process that speaks nonsense, and say so."""
        self.kill()
        self._died()
        return _Crashed("the decoder sent garbage")

    @contextlib.contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Let the watching thread kill the process if the block takes longer."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._changing:
                self._deadline = None
            if self._was_overdue:
                # Killed with its last answer already on the way: the next picture is not to find
                # a dying process and be blamed for it.
                self.stop()

    def kill_if_overdue(self) -> bool:
        """Kill the process if its deadline has passed; tell whether it has one that has not."""
        with self._changing:
            if self._deadline is None:
                return False
            if time.monotonic() < self._deadline:
                return True
            self._was_overdue = True
            if self._process is not None:
                self._process.kill()
            return False

    def kill(self) -> None:
        """End the process at once, from any thread. The thread that uses it finds out."""
        with self._changing:
            if self._process is not None:
                self._process.kill()

    def abandon(self) -> None:
        """Do what `end` does, without a lock."""
        self._is_over = True
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """Kill the process and let none take its place."""
        self._is_over = True
        self.kill()

    def stop(self) -> None:
        """End the process and close its pipes."""
        with self._changing:
            process, self._process = self._process, None
            self.ready = self._was_overdue = False
            self.number = 0
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise BrokenPipeError
        return process.stdin, process.stdout

    def _read(self, length: int) -> bytes:
        got = bytearray()
        try:
            while len(got) < length:
                part = self._pipes()[1].read(length - len(got))
                if not part:
                    raise self._died()
                got += part
        except OSError:
            raise self._died() from None
        return bytes(got)

    def _died(self) -> _Crashed | _OutOfTime:
        """Bury the process whose pipes broke, and say what it died of.

        Raises `BundleDamaged` when it would have had to load a damaged library.
        """
        process, overdue = self._process, self._was_overdue
        code: int | None = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_DYING_SECONDS)
        self.stop()
        if overdue:
            return _OutOfTime("no answer in time, by the clock")
        if code is None:
            return _Crashed("the decoder closed its pipes")
        if code == bundled.DAMAGED and (bundle := bundled.folder()):
            raise bundled.refuse(bundle)
        if code >= 0:
            return _Crashed(f"the decoder ended with exit code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if name == "SIGXCPU":
            return _OutOfTime("too much processor time")
        return _Crashed(f"the decoder was killed by {name}")


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Enlarge the pipes where the system can."""
    if sys.platform == "linux":
        for pipe in (process.stdin, process.stdout):
            # Refused where the user's pipes already take as much memory as they may.
            if pipe is not None:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

"""One worker process of the decode pool, and the two pipes to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

from nsfwscan.media.decode import wire
from nsfwscan.media.decode.command import worker_environment
from nsfwscan.system import bundled
from nsfwscan.values.errors import NsfwscanError

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WATCH_SECONDS = 0.25
"""How often the watching thread checks. A deadline may be exceeded by twice this."""

_PIPE_BYTES = 1 << 20
"""A pipe of this size transfers a picture in a third of the time of the usual 64 KB."""

_DYING_SECONDS = 1.0
"""How long a process may live after its pipes broke."""

_OWN_DOING = frozenset({"SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"})
"""Signals that a process causes itself. Any other may come from outside: out of memory, or when a
container ends, the system sends SIGKILL; a failing disk under a shared library causes SIGBUS."""


class Crashed(Exception):
    """A worker process ended, or its answer was malformed. `str` says how."""

    def __init__(self, how: str, *, outside: bool = False) -> None:
        """With `outside`, something other than the picture may be the cause."""
        super().__init__(how)
        self.outside = outside


class OutOfTime(Exception):
    """A worker process used up its time. `str` says which limit."""

    def __init__(self, which: str, *, outside: bool = False) -> None:
        """With `outside`, it may have been suspended, or starved of CPU time."""
        super().__init__(which)
        self.outside = outside


class Slot:
    """A place for one worker process, and the pipes to it.

    Only one thread at a time may use it; any thread may call `charge`, `kill` and `end`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.ready = False
        self.number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._seconds_left: float | None = None
        """Seconds until it is overdue; None while no answer is expected."""
        self._was_overdue = False
        self._is_over = False

    def start(self) -> None:
        """Start a new process, in place of the old one if there is one."""
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
                    stderr=subprocess.DEVNULL,  # codecs print error messages there
                    env=worker_environment(os.environ),
                    cwd=None if sys.platform == "win32" else "/",  # a disk may be unmounted
                    # We handle the signals that a terminal or service manager sends to our group.
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except OSError as error:
                raise NsfwscanError(
                    f"the decode process cannot be started: {error}",
                    hint="close some programs, or use fewer jobs",
                ) from error
            _widen(self._process)

    def is_running(self) -> bool:
        """Return True if there is a process and it is running."""
        return self._process is not None and self._process.poll() is None

    def send(self, *parts: bytes | memoryview) -> None:
        """Write all parts. Raises `Crashed` or `OutOfTime`."""
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[self._pipes()[0].write(view) :]
        except OSError:
            raise self._died() from None

    def receive(self, *, number: int, most: int) -> tuple[wire.Answer, bytes]:
        """Read one answer to request `number`, its body of at most `most` bytes.

        Raises `Crashed` or `OutOfTime`.
        """
        try:
            header = wire.Answer.unpack(self._read(wire.ANSWER_BYTES), number=number, most=most)
        except wire.Garbled:
            raise self.garbled() from None
        return header, self._read(header.length)

    def garbled(self) -> Crashed:
        """Kill a process that sent a malformed answer; return the error to raise."""
        self.kill()
        self._died()
        return Crashed("the decoder sent garbage")

    @contextlib.contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Have the watching thread kill the process if the block takes longer."""
        self._seconds_left = seconds + WATCH_SECONDS  # the first charge includes time before this
        try:
            yield
        finally:
            with self._changing:
                self._seconds_left = None
            if self._was_overdue:
                # Killed although its last answer was on the way. Otherwise the next picture would
                # find a dying process and be blamed for it.
                self.stop()

    def charge(self, seconds: float) -> bool:
        """Deduct time and kill a process that has none left. Return True if some is left.

        The caller measures the time, without any in which this program was suspended.
        """
        with self._changing:
            if self._seconds_left is None:
                return False
            self._seconds_left -= seconds
            if self._seconds_left > 0:
                return True
            self._was_overdue = True
            if self._process is not None:
                self._process.kill()
            return False

    def kill(self) -> None:
        """Kill the process from any thread. The thread that uses it will notice."""
        with self._changing:
            if self._process is not None:
                self._process.kill()

    def abandon(self) -> None:
        """Do the same as `end`, without a lock."""
        self._is_over = True
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """Kill the process and prevent a new one from starting."""
        self._is_over = True
        self.kill()

    def disown(self) -> None:
        """Leave the process to the parent of this fork, and close our ends of its pipes.

        Otherwise it would wait for requests for as long as this process lives.
        """
        self._is_over = True
        self._changing = threading.Lock()  # the old one may be held by a thread of the parent
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # it is not our child, so we cannot wait for it
            _close(process)

    def stop(self) -> None:
        """End the process and close its pipes."""
        with self._changing:
            process, self._process = self._process, None
            self.ready = self._was_overdue = False
            self.number = 0
            if process is not None:
                process.kill()
                process.wait()
                _close(process)

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

    def _died(self) -> Crashed | OutOfTime:
        """Clean up after a process whose pipes broke, and return what it died of.

        Raises `BundleDamaged` if it would have had to load a damaged library.
        """
        process, overdue = self._process, self._was_overdue
        code: int | None = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_DYING_SECONDS)
        self.stop()
        if overdue:
            # A picture that keeps a decoder busy uses up its CPU time. This process was waiting.
            return OutOfTime("no answer in time, by the clock", outside=True)
        if code is None:
            return Crashed("the decoder closed its pipes", outside=True)
        if code == bundled.DAMAGED and (bundle := bundled.folder()):
            raise bundled.refuse(bundle)
        if code == wire.SHORT:
            return Crashed("the decoder was refused memory or a file", outside=True)
        if code >= 0:
            return Crashed(f"the decoder ended with exit code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if name == "SIGXCPU":
            return OutOfTime("too much processor time")
        return Crashed(f"the decoder was killed by {name}", outside=name not in _OWN_DOING)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Enlarge the pipes where the system supports it."""
    if sys.platform == "linux":
        for pipe in (process.stdin, process.stdout):
            # Refused if the user's pipes already use as much memory as allowed.
            if pipe is not None:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

"""One command of nsfwscan in a child of this process, which may be killed or denied a system call.

A child starts in milliseconds, for everything is loaded. Pictures are scored by `scan_fakes`. The
child's clock may be wrong. Its system calls are seen by Python's profiler: it can end the process
before or after any of them, or let one fail.
"""

from __future__ import annotations

import fcntl
import functools
import importlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import scan_fakes

from nsfwscan import api
from nsfwscan.actions.quarantine import vault
from nsfwscan.cli.main import main
from nsfwscan.cli.shared import streams
from nsfwscan.scanning import engine, session

SEEN = (
    "nsfwscan.actions",
    "nsfwscan.system.journal",
    "nsfwscan.system.atomic_file",
    "nsfwscan.judge",
)
"""The modules whose system calls count."""
ALWAYS_FINE = {"close", "fspath", "getcwd", "geteuid", "fsencode", "get_errno"}
"""Functions that no test lets fail: Linux closes a file whatever close says, others never fail."""
_PATIENCE_S = 0.3
_BOUND_S = 60.0


class Trouble(NamedTuple):
    """What is to happen at a system call."""

    at: int
    """Which call, counted from 1."""
    error: int = 0
    """The number it fails with; 0 to be killed there."""


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    """Its exit code; -9 if it was killed."""
    out: str
    err: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


def prepare() -> None:
    """Put the fakes in their places; for good, so only in a process of its own."""
    make = functools.partial(engine.Engine, make_pool=lambda _jobs: scan_fakes.FakePool())
    session.Engine = api.Engine = make  # type: ignore[misc,assignment]
    session.loader = api.loader = lambda *_: scan_fakes.FakeClassifier  # type: ignore[assignment]
    vault._PATIENCE_S = _PATIENCE_S


def warm_up(*commands: Sequence[str | Path], run: Callable[[list[str]], int] = main) -> None:
    """Run commands here, so that no child has to import what they need."""
    for name in ("console", "markup", "progress", "table"):  # depends on what is to be printed
        importlib.import_module(f"rich.{name}")
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        for arguments in commands:
            run([os.fspath(one) for one in arguments])


def _watch(trouble: Trouble) -> Callable[[FrameType, str, Any], None]:
    seen = 0

    def profile(frame: FrameType, event: str, what: Any) -> None:
        nonlocal seen
        if not event.startswith("c_") or getattr(what, "__module__", "") not in {"posix", "fcntl"}:
            return
        if not frame.f_globals.get("__name__", "").startswith(SEEN):
            return
        if trouble.error:
            if event != "c_call" or what.__name__ in ALWAYS_FINE:
                return
            seen += 1
            if seen == trouble.at:
                raise OSError(trouble.error, os.strerror(trouble.error))
        else:
            seen += 1
            if seen == trouble.at:
                os.kill(os.getpid(), signal.SIGKILL)

    return profile


class Caller:
    """Runs commands, and counts."""

    def __init__(self, scratch: Path, run: Callable[[list[str]], int] = main) -> None:
        """Commands write what they say into files in `scratch`; `run` is the command line."""
        self._run = run
        self._out, self._err = scratch / "out", scratch / "err"
        self.log: list[str] = []
        """What was done in this sequence."""
        self.calls = self.kills = self.failures = self.tracebacks = self.longest = 0

    def start(
        self, arguments: Sequence[str | Path], cwd: Path, ahead_s: float, trouble: Trouble | None
    ) -> int:
        """Start a command and return its process; `ahead_s` is by how much its clock is wrong."""
        self.calls += 1
        child = os.fork()
        if not child:
            self.become(arguments, cwd, ahead_s, trouble)
        return child

    def become(
        self,
        arguments: Sequence[str | Path],
        cwd: Path,
        ahead_s: float = 0.0,
        trouble: Trouble | None = None,
        wait: Callable[[], object] = bool,
    ) -> NoReturn:
        """Run a command in this process and end with its exit code; `wait` before it."""
        code = 99
        try:
            os.chdir(cwd)
            for number, path in ((1, self._out), (2, self._err)):
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(file, number)
            sys.stdout = sys.stderr = None  # type: ignore[assignment]
            streams.prepare()
            real, real_ns = time.time, time.time_ns
            time.time = lambda: real() + ahead_s
            time.time_ns = lambda: real_ns() + int(ahead_s * 10**9)
            words = [os.fspath(one) for one in arguments]
            wait()
            if trouble is not None:
                sys.setprofile(_watch(trouble))
            code = self._run(words)
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def wait(self, child: int) -> int:
        """Wait for a command and return its exit code; it must end within a minute."""
        began = time.monotonic()
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() - began < _BOUND_S, "a command does not end"
            time.sleep(0.001)

    def __call__(
        self,
        *arguments: str | Path,
        cwd: Path,
        ahead_s: float = 0.0,
        trouble: Trouble | None = None,
        beside: Sequence[str | Path] = (),
    ) -> Done:
        """Run a command, and `beside` it at the same time another one."""
        self._out.write_bytes(b"")
        self._err.write_bytes(b"")
        other = self.start(beside, cwd, ahead_s, None) if beside else 0
        code = self.wait(self.start(arguments, cwd, ahead_s, trouble))
        if other:
            self.wait(other)
        err = self._err.read_text("utf-8", "surrogateescape")
        done = Done(code, self._out.read_text("utf-8", "surrogateescape"), err)
        words = " ".join(os.fspath(one)[-60:] for one in (*arguments, *beside))
        self.log.append(f"    in {cwd}: {words} -> {done.code}, {trouble}\n{done.out}{done.err}")
        self.kills += done.killed
        self.failures += bool(trouble and trouble.error)
        self.tracebacks += "Traceback" in err or "internal error" in err
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        return done


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Hold a lock as another process would."""
    file = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)

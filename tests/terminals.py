"""A terminal of any width, for tests of what people see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import NamedTuple

from shell import PROGRAM

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|_[^\x1b]*\x1b\\|[()][A-Z0-9]|[=>])"
)


class Seen(NamedTuple):
    """What a command left on the screen."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        """The text without colours and without what was overwritten or erased."""
        plain = _ESCAPES.sub("", self.raw.replace("\r\n", "\n"))
        return "\n".join(line.rpartition("\r")[2].rstrip() for line in plain.split("\n"))

    @property
    def lines(self) -> list[str]:
        """The lines of the text, without empty ones."""
        return [line for line in self.text.split("\n") if line]


def on_terminal(
    *arguments: str | Path,
    columns: int = 80,
    rows: int = 40,
    answers: dict[str, bytes] | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Seen:
    """Run the command line on a terminal.

    `answers` maps what the screen must show to what is typed then, in order.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
    process = subprocess.Popen(
        [*PROGRAM, *map(os.fspath, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )
    os.close(theirs)
    pending = list((answers or {}).items())
    seen, from_here, end = b"", 0, time.monotonic() + timeout_s
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    part = os.read(ours, 1 << 16)
                except OSError:  # the terminal has no more processes
                    break
                if not part:
                    break
                seen += part
            if pending and pending[0][0].encode() in seen[from_here:]:
                from_here = len(seen)
                os.write(ours, pending.pop(0)[1])
        else:
            raise AssertionError(f"it did not end; the screen shows {seen.decode()!r}")
        code = process.wait(10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(ours)
    assert not pending, f"never asked: {pending}; the screen shows {seen.decode()!r}"
    return Seen(code, seen.decode("utf-8", "replace"))

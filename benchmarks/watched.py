"""A watcher in a process of its own, and what to hold it against; shared by the watch benchmarks.

`Watched` starts `nsfwscan watch --format jsonl` and notes when each line comes. `View` replays the
lines into the tree as the watcher told it. `fresh_scan` is the oracle: the same tree, scanned by a
process that knows nothing. `held` looks at what a process holds: memory, descriptors, threads, and
watches of the system.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from PIL import Image

from benchmarks import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

_ANY_VERDICT = (0, 1, 3)
_POLL_S = 0.02


class Line(NamedTuple):
    """One line of a watcher."""

    at: float
    """By `time.perf_counter`."""
    record: dict[str, Any]

    @property
    def path(self) -> str:
        """The path of the record."""
        return str(self.record["path"])


class Fact(NamedTuple):
    """What is known of one picture."""

    sha256: str | None
    """None when it could not be read."""
    decision: str | None
    """None when it has no score."""


@dataclass(slots=True)
class View:
    """The tree as it was told, and what was told wrongly."""

    known: dict[str, Fact] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    repeated: list[Line] = field(default_factory=list)
    """Lines that told what had been told before."""
    lines: int = 0

    def take(self, line: Line) -> None:
        """Replay one line; one about an act says nothing of the tree."""
        if line.record["event"] == "acted":
            return
        self.lines += 1
        record, path = line.record, line.path
        event, now = record["event"], Fact(record["sha256"], record["decision"])
        before = self.known.get(path)
        if event == "gone":
            if self.known.pop(path, None) is None:
                self.wrong.append(f"gone, and was not known: {path}")
            return
        if event == "moved" and self.known.pop(record["from"], None) is None:
            self.wrong.append(f"moved from where nothing was known: {record['from']} to {path}")
        if event == "changed" and before is None and record["status"] != "skipped":
            self.wrong.append(f"changed, and was not known: {path}")
        if event == "new" and before is not None and before != now:
            self.wrong.append(f"new, and was known with other content: {path}")
        if before is not None and before == now and now.sha256 is not None:
            self.repeated.append(line)
        if record["status"] == "skipped":
            self.known.pop(path, None)
        else:
            self.known[path] = now


class Watched:
    """A watcher that runs; ended, whatever happens, when the block ends."""

    def __init__(
        self,
        roots: Sequence[str],
        *,
        home: str,
        package: str,
        options: Sequence[str] = (),
        view: View | None = None,
    ) -> None:
        """`home` is where its library lies; a `view` of an earlier run goes on."""
        self.view = View() if view is None else view
        self.lines: list[Line] = []
        self.said: list[str] = []
        self.home = home
        # What else the machine does must not hold it back: it is to be measured.
        manners = {"NSFWSCAN_UNDER_LOAD": "run", "NSFWSCAN_ON_BATTERY": "run"}
        self.process = subprocess.Popen(
            measure.nsfwscan(
                "watch", "--format", "jsonl", "--offline", "--model", package, *options, *roots
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**measure.environment(home), **manners},
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=one) for one in (self._read, self._hear)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid

    def until(self, true: Callable[[], bool], *, within_s: float) -> bool:
        """Wait until something is so; tell whether it came to be. Ends when the watcher does."""
        until = time.monotonic() + within_s
        while not true():
            if time.monotonic() > until or self.process.poll() is not None:
                return true()
            time.sleep(_POLL_S)
        return True

    def until_watching(self) -> None:
        """Wait until it has begun. Raises SystemExit with what it said when it does not."""
        if not self.until(lambda: any("Watching" in one for one in self.said), within_s=60):
            sys.exit(f"the watcher did not start:\n{''.join(self.said)}")

    def until_quiet(self, quiet_s: float, *, within_s: float) -> bool:
        """Wait until no line came for a while."""
        began = time.perf_counter()
        return self.until(
            lambda: time.perf_counter() - (self.lines[-1].at if self.lines else began) > quiet_s,
            within_s=within_s,
        )

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it, read its last lines, and return its exit code."""
        if self.process.poll() is None:
            self.send(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self.process.wait()
        for thread in self._threads:
            thread.join(30)
        return code

    def kill(self) -> None:
        """Kill it and its children, which would end by themselves a moment later."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            try:
                line = Line(time.perf_counter(), json.loads(text))
            except ValueError:  # killed in the middle of one
                continue
            self.view.take(line)
            self.lines.append(line)

    def _hear(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.said.append(text.decode(errors="replace"))


def fresh_scan(roots: Iterable[str], *, home: str, package: str) -> tuple[dict[str, Fact], str]:
    """Scan in a process of its own; return what it found, and its closing words.

    With a `home` that holds nothing it is the oracle; with that of a watcher it tells what the
    watcher's cache knows.
    """
    command = measure.nsfwscan("scan", "--offline", "--format", "jsonl", "--model", package)
    run = measure.run([*command, *roots], measure.environment(home), expect=_ANY_VERDICT)
    records = map(json.loads, run.output.splitlines())
    found = {
        record["path"]: Fact(record["sha256"], record["decision"])
        for record in records
        if record["status"] != "skipped"
    }
    return found, run.complaint


def differences(one: dict[str, Fact], other: dict[str, Fact]) -> list[str]:
    """Return where two views of a tree differ, in sentences."""
    return [
        f"{path}: {one.get(path)} told, {other.get(path)} there"
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    ]


class Held(NamedTuple):
    """What a process holds at one moment."""

    memory_mb: float
    """Resident, of the process alone."""
    all_mb: float
    """With its decode processes."""
    descriptors: int
    threads: int
    watches: int
    """Folders and files that the system watches for it."""
    children: int


def held(pid: int) -> Held:
    """Look at what a process holds. Linux only."""
    workers = decoders(pid)
    own = _resident_mb(pid)
    return Held(
        own,
        own + sum(map(_resident_mb, workers)),
        len(os.listdir(f"/proc/{pid}/fd")),
        len(os.listdir(f"/proc/{pid}/task")),
        _watches(pid),
        len(workers),
    )


def decoders(pid: int) -> list[int]:
    """Return the decode processes of a watcher."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(one) for one in file.read().split()]
    return found


def core_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have used so far."""
    total = 0
    for one in (pid, *decoders(pid)):
        for task in os.listdir(f"/proc/{one}/task"):
            with open(f"/proc/{one}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total / 1e9


def wake_ups(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            lines = [line for line in file if line.startswith("voluntary_ctxt_switches")]
        total += int(lines[0].split()[1])
    return total


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _watches(pid: int) -> int:
    count = 0
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}") as file:
            count += sum(line.startswith("inotify ") for line in file)
    return count


_COLOURS = ((230, 10, 10), (255, 96, 0), (0, 160, 0), (40, 60, 200), (128, 128, 128))
"""One to be flagged, one for review and three safe ones, for `tiny`'s package that sees red."""


class Pictures:
    """Small pictures, each with bytes that no other has."""

    def __init__(self, size: tuple[int, int] = (32, 24)) -> None:
        """`size` is width and height in pixels."""
        self._serial = 0
        self._drawn: list[bytes] = []
        for colour in _COLOURS:
            stream = io.BytesIO()
            Image.new("RGB", size, colour).save(stream, "JPEG", quality=90)
            self._drawn.append(stream.getvalue())

    def next(self) -> bytes:
        """Return the bytes of a JPEG file that was not there before."""
        self._serial += 1
        return marked(self._drawn[self._serial % len(self._drawn)], self._serial)


def marked(jpeg: bytes, number: int) -> bytes:
    """Return the same picture in other bytes: a comment after the start marker says `number`."""
    comment = f"{number:012d}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]

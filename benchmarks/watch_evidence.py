"""What there is to see of a watcher that went wrong: what was done, what it told, where it stands.

In: a watcher, its lines and its library, and the paths in question. Out: lines of text for a
person. All of it is best effort: what cannot be read is said, and nothing is raised.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import watched
from benchmarks.watch_soak import Plan, Tree
from nsfwscan.watch.places import is_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.watched import Line, Watched

_EVENTS = 24
_CHANGES = 200_000
_PATHS = 8
_LOG_LINES = 60
_SAID_LINES = 20
_SHORT = 12
"""Digits of a hash that tell contents apart."""
_READABLE = contextlib.suppress(OSError, ValueError)
"""A process or a file may end at any moment."""


@dataclass(slots=True)
class Journal:
    """What was done to the watcher, and when, by `time.perf_counter`."""

    began: float = field(default_factory=time.perf_counter)
    events: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Note something that is done now."""
        self.events.append((time.perf_counter(), what))

    def last(self) -> Iterator[str]:
        """Yield the last events."""
        for at, what in self.events[-_EVENTS:]:
            yield f"{at - self.began:9.3f} {what}"


class NotedTree(Tree):
    """A tree that remembers what was done to each path, and when."""

    def __init__(self, root: str, outside: str, plan: Plan) -> None:
        """See `Tree`."""
        self.history: deque[tuple[float, str, str]] = deque(maxlen=_CHANGES)
        super().__init__(root, outside, plan)

    def _note(self, path: str, sha256: str) -> None:
        super()._note(path, sha256)
        self.history.append((time.perf_counter(), path, f"holds {sha256[:_SHORT]}"))

    def _forget(self, path: str) -> None:
        super()._forget(path)
        self.history.append((time.perf_counter(), path, "is gone"))

    def _follow(self, folder: str, target: str) -> None:
        super()._follow(folder, target)
        self.history.append((time.perf_counter(), folder, f"became {target}"))

    def _drop_below(self, folder: str) -> None:
        super()._drop_below(folder)
        self.history.append((time.perf_counter(), folder, "is gone, with all in it"))

    def about(self, path: str) -> Iterator[tuple[float, str]]:
        """Yield what was done to `path` and to the folders above it."""
        for at, one, what in self.history:
            for folder in (one, what.removeprefix("became ")):
                if is_below(path, folder):
                    yield at, f"done: {one} {what}"
                    break


def evidence(
    watch: Watched | None,
    journal: Journal,
    tree: NotedTree,
    lines: Sequence[Line],
    paths: Sequence[str],
    home: str,
) -> Iterator[str]:
    """Yield all there is to see, first what was done, then what the watcher is doing."""
    yield f"evidence, {time.perf_counter() - journal.began:.3f} s after the beginning:"
    yield from journal.last()
    for path in paths[:_PATHS]:
        yield from _of_path(path, journal, tree, lines, home)
    if watch is not None:
        yield from _of_process(watch.pid)
        yield from (f"said: {one.rstrip()}" for one in watch.said[-_SAID_LINES:])
        yield from stacks(watch.pid)
    for name, most in (("watch-status.json", 1), ("watch.log", _LOG_LINES)):
        yield f"{name}:"
        with _READABLE, open(os.path.join(home, "state", name), errors="replace") as file:
            yield from (one.rstrip() for one in deque(file, maxlen=most))


def _of_path(
    path: str, journal: Journal, tree: NotedTree, lines: Iterable[Line], home: str
) -> Iterator[str]:
    yield f"about {path}:"
    happened = list(tree.about(path))
    for line in lines:
        if path in {line.path, line.record.get("from")}:
            record = line.record
            short = {**record, "sha256": str(record.get("sha256"))[:_SHORT]}
            keep = ("event", "status", "from", "path", "sha256", "decision", "reason", "outcome")
            told = ", ".join(f"{key} {short[key]}" for key in keep if short.get(key))
            happened.append((line.at, f"told: {told}"))
    for at, what in sorted(happened):
        yield f"  {at - journal.began:9.3f} {what}"
    try:
        found = os.stat(path)
        yield f"  there: {found.st_size} bytes, inode {found.st_ino}, {found.st_mtime_ns}"
    except OSError as error:
        yield f"  there: {error.strerror}"
    yield from (f"  in the cache: {row}" for row in _cached(home, path))


def _cached(home: str, path: str) -> list[str]:
    folder, name = map(os.fsencode, os.path.split(path))
    query = (
        "SELECT file.stat, file.sha256, file.written_at FROM file JOIN folder "
        "ON folder.id = file.folder WHERE folder.path = ? AND file.name = ?"
    )
    library = f"file:{home}/library.sqlite3?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(library, uri=True)) as cache:
            rows = cache.execute(query, (folder, name)).fetchall()
    except sqlite3.Error as error:
        return [str(error)]
    return [f"{stat.hex()} {sha.hex()[:_SHORT]} {at}" for stat, sha, at in rows] or ["nothing"]


def _of_process(pid: int) -> Iterator[str]:
    """Yield the state, limits, descriptors and threads of a watcher and its children."""
    for one in _with_children(pid):
        with _READABLE, open(f"/proc/{one}/cmdline", errors="replace") as file:
            yield f"process {one}: {' '.join(file.read().split(chr(0)))[:200]}"
        with _READABLE, open(f"/proc/{one}/status") as file:
            yield _rows(file, "State", "VmPeak", "VmSize", "VmRSS", "Threads", "SigPnd", "SigBlk")
        with _READABLE, open(f"/proc/{one}/limits") as file:
            yield _rows(file, "Max open files", "Max address space", "Max processes")
        with _READABLE:
            numbers = os.listdir(f"/proc/{one}/fd")
            yield f"  {len(numbers)} descriptors, the highest {max(map(int, numbers), default=0)}"
        with _READABLE:
            for task in os.listdir(f"/proc/{one}/task"):
                with _READABLE, open(f"/proc/{one}/task/{task}/wchan") as file:
                    yield f"  thread {task} waits in {file.read() or '-'}"


def _rows(rows: Iterable[str], *wanted: str) -> str:
    return "  " + ", ".join(" ".join(row.split()) for row in rows if row.startswith(wanted))


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with _READABLE:
            found += watched.decoders(one)
    return found


def stacks(pid: int) -> Iterator[str]:
    """Yield where the threads of a process are, if `py-spy` is installed."""
    beside = os.path.dirname(sys.executable)
    program = shutil.which("py-spy") or shutil.which("py-spy", path=beside)
    if program is None:
        yield "py-spy is not installed: no stacks"
        return
    for one in _with_children(pid):
        command = [program, "dump", "--nonblocking", "--pid", str(one)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            yield f"py-spy: {error}"
            continue
        yield from (run.stdout + run.stderr).splitlines()

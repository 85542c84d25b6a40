"""How long after a file was closed its verdict is there, and what a watcher costs when idle.

`python -m benchmarks.watch_latency` lets `nsfwscan watch --format jsonl` run with a warm model,
writes single pictures and then 1,000 at once, and takes the time from each file's close to its
line. Waiting until a file has stood still (`--settle-ms`) is part of that; so the same is measured
with two settings. watchdog alone, which only reports the close, runs beside it on the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import measure, tiny, watched
from benchmarks.measure import median
from benchmarks.scan import installed_opennsfw
from benchmarks.watched import Pictures, Watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT_SETTLE_MS, SHORT_SETTLE_MS = 1000, 100
_PIXELS = 640, 480
_WARM_UP = 4
_SINGLE_WITHIN_S = 60.0
_BURST_WITHIN_S = 600.0
_QUIET_S = 8.0
"""A file younger than three seconds is looked at once more; idleness begins after that."""


class Bare:
    """watchdog alone, in a process of its own, and when it reported each path first."""

    def __init__(self, root: str) -> None:
        self.seen: dict[str, float] = {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_watchdog", root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=measure.environment(root),
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()  # ready
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.setdefault(line.rstrip("\n"), time.perf_counter())

    def end(self) -> None:
        """End it, and wait for what it still prints."""
        self.process.communicate()
        self._thread.join(30)


@contextlib.contextmanager
def _bare(root: str) -> Iterator[Bare]:
    bare = Bare(root)
    try:
        yield bare
    finally:
        bare.process.kill()
        bare.end()


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from close to line: one number for each file."""

    what: str
    watcher: list[float]
    bare: list[float]

    def row(self) -> tuple[str, ...]:
        """Lay them out in milliseconds."""
        numbers = [
            number
            for values in (self.watcher, self.bare)
            for number in (median(values), percentile(values, 99))
        ]
        return (self.what, str(len(self.watcher)), *(f"{1e3 * one:.1f}" for one in numbers))


@dataclass(frozen=True, slots=True)
class Idle:
    """What a watcher did while nothing happened."""

    seconds: float
    core_seconds: float
    wake_ups: int
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much to measure."""

    singles: int
    burst: int
    idle_s: float


class Trial:
    """One watcher with one `--settle-ms`, and files that are written below its root."""

    def __init__(self, scratch: str, package: str, settle_ms: int) -> None:
        self._root = os.path.join(scratch, f"root-{settle_ms}")
        self._home = os.path.join(scratch, f"home-{settle_ms}")
        self._package, self._settle_ms = package, settle_ms
        self._pictures = Pictures(_PIXELS)
        self._serial = 0
        os.makedirs(self._root)

    def measure(self, sizes: Sizes) -> tuple[list[Latencies], Idle]:
        """Run it all. Raises SystemExit when a picture gets no line."""
        options = ["--settle-ms", str(self._settle_ms), "--unload-minutes", "1000"]
        with (
            Watched([self._root], home=self._home, package=self._package, options=options) as watch,
            _bare(self._root) as bare,
        ):
            watch.until_watching()
            for _ in range(_WARM_UP):
                self._wait(watch, self._write(1), _SINGLE_WITHIN_S)
            choose, closed = random.Random(1), dict[str, float]()
            for number in range(sizes.singles):
                measure.note(f"settle {self._settle_ms} ms: picture {number + 1}/{sizes.singles}")
                time.sleep(choose.uniform(0.05, 0.35))  # not in step with anything of the watcher's
                written = self._write(1)
                self._wait(watch, written, _SINGLE_WITHIN_S)
                closed |= written
            measure.note(f"settle {self._settle_ms} ms: a burst of {sizes.burst}")
            burst = self._write(sizes.burst)
            self._wait(watch, burst, _BURST_WITHIN_S)
            measure.note(f"settle {self._settle_ms} ms: idle")
            watch.until_quiet(_QUIET_S, within_s=60)
            idle = self._idle(watch, sizes.idle_s)
            bare.end()
            at = {line.path: line.at for line in reversed(watch.lines)}
        label = f"--settle-ms {self._settle_ms}"
        found = [
            Latencies(
                f"{label}, {what}",
                [at[path] - time_ for path, time_ in times.items()],
                [bare.seen[path] - time_ for path, time_ in times.items() if path in bare.seen],
            )
            for what, times in (("single files", closed), (f"a burst of {sizes.burst:,}", burst))
        ]
        return found, idle

    def _write(self, count: int) -> dict[str, float]:
        """Write pictures one after the other; return when each was closed."""
        closed = {}
        data = [self._pictures.next() for _ in range(count)]
        for one in data:
            self._serial += 1
            path = os.path.join(self._root, f"IMG_{self._serial:06d}.jpg")
            with open(path, "wb") as file:
                file.write(one)
            closed[path] = time.perf_counter()
        return closed

    def _wait(self, watch: Watched, written: dict[str, float], within_s: float) -> None:
        if not watch.until(lambda: written.keys() <= watch.view.known.keys(), within_s=within_s):
            missing = len(written.keys() - watch.view.known.keys())
            sys.exit(f"{missing} of {len(written)} pictures got no verdict: {watch.said}")

    def _idle(self, watch: Watched, seconds: float) -> Idle:
        began, core = time.perf_counter(), watched.core_seconds(watch.pid)
        woken = watched.wake_ups(watch.pid)
        time.sleep(seconds)
        return Idle(
            time.perf_counter() - began,
            watched.core_seconds(watch.pid) - core,
            watched.wake_ups(watch.pid) - woken,
            watched.held(watch.pid).all_mb,
        )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` percent of all do not exceed; NaN of nothing."""
    if not values:
        return float("nan")
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * share // 100).__int__() - 1)]


def report(latencies: Sequence[Latencies], idles: dict[int, Idle]) -> str:
    """Lay out what was measured."""
    header = ("ms from close to line", "files", "median", "p99", "watchdog, median", "p99")
    rows = [
        (
            f"--settle-ms {settle_ms}",
            f"{idle.seconds:.0f}",
            f"{idle.core_seconds:.3f}",
            f"{100 * idle.core_seconds / idle.seconds:.3f}%",
            f"{idle.wake_ups / idle.seconds:.1f}",
            f"{idle.memory_mb:.0f}",
        )
        for settle_ms, idle in idles.items()
    ]
    idle_header = (
        "idle, model in memory",
        "seconds",
        "core seconds",
        "of one core",
        "wake-ups/s",
        "RSS in MB, with decoders",
    )
    return (
        measure.table(header, [one.row() for one in latencies])
        + "\n\n"
        + measure.table(idle_header, rows)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--singles", type=int, default=50, metavar="N", help="single files")
    parser.add_argument("--burst", type=int, default=1000, metavar="N", help="files of the burst")
    parser.add_argument("--idle-seconds", type=float, default=300.0, metavar="S")
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="a model of a few hundred bytes instead of opennsfw: what is left is the watcher",
    )
    given = parser.parse_args(arguments)
    if sys.platform != "linux":
        sys.exit("processor time is read from /proc: Linux only")
    sizes = Sizes(given.singles, given.burst, given.idle_seconds)
    with tempfile.TemporaryDirectory() as scratch:
        package = tiny.write_package(scratch) if given.tiny else installed_opennsfw()
        found, idles = list[Latencies](), dict[int, Idle]()
        print(
            f"{measure.machine()}; {os.path.basename(package)}; pictures of "
            f"{_PIXELS[0]} x {_PIXELS[1]}; --settle-ms is part of each latency\n"
        )
        for settle_ms in (DEFAULT_SETTLE_MS, SHORT_SETTLE_MS):
            latencies, idles[settle_ms] = Trial(scratch, package, settle_ms).measure(sizes)
            found += latencies
        measure.note("")
        print(report(found, idles))


if __name__ == "__main__":
    main()

"""How much serving costs over scoring: `nsfwscan serve` under load, beside the bare lanes.

`python -m benchmarks.serve_load` starts a server and, in another process, the same engine without
HTTP: threads that examine the same pictures. Both are measured in turns, so other load on the
machine slows them alike. Then it sends ten times as much as the server takes, holds 500 connections
that send nothing or a byte at a time, and hangs up 1,000 times.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import measure, photos
from benchmarks.measure import median
from benchmarks.scan import installed_opennsfw
from benchmarks.serve_requests import (
    Answer,
    Load,
    ask,
    counted,
    leave,
    overload,
    request,
    slow_clients,
)
from benchmarks.watch_latency import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONCURRENCIES = (1, 8, 64, 256)
_WARM_UP = 8


class Served:
    """A server in a process of its own."""

    def __init__(self, package: str, home: str, *options: str) -> None:
        command = measure.nsfwscan("serve", "--port", "0", "--model", package, "--offline")
        self.process = subprocess.Popen(
            [*command, "--no-cache", *options],
            stderr=subprocess.PIPE,
            env=measure.environment(home),
            text=True,
        )
        assert self.process.stderr is not None
        found = re.search(r":(\d+)\.", self.process.stderr.readline())
        assert found, "the server does not listen"
        self.port = int(found[1])

    def stop(self) -> int:
        """Stop the server and return its exit code."""
        self.process.terminate()
        self.process.communicate(timeout=30)
        return self.process.returncode

    @property
    def memory_mb(self) -> float:
        """Memory of the server and its decode processes."""
        return measure.memory_mb(self.process.pid)


class Bare:
    """The engine alone, in a process of its own."""

    def __init__(self, package: str, paths: Sequence[str], home: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve_load", "--bare", package, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=measure.environment(home),
            text=True,
        )
        self.ask(1, _WARM_UP)

    def ask(self, threads: int, count: int) -> Load:
        """Examine `count` pictures with so many threads."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = measure.core_seconds(self.process.pid)
        print(threads, count, file=self.process.stdin, flush=True)
        found = json.loads(self.process.stdout.readline())
        answers = [Answer(200, seconds, b"") for seconds in found["each"]]
        used = measure.core_seconds(self.process.pid) - before
        return Load(answers, found["seconds"], core_ms=used / count * 1000)

    def stop(self) -> None:
        """End the process."""
        self.process.communicate(timeout=30)


def answer_bare(package: str, paths: Sequence[str]) -> None:
    """Examine pictures as asked on standard input; the other side of `Bare`."""
    from nsfwscan.models.package import open_package
    from nsfwscan.models.store import ModelStore
    from nsfwscan.scanning.engine import Engine
    from nsfwscan.scanning.session import Settings, loader

    store, model = ModelStore(os.path.dirname(package)), open_package(package)
    pictures = [_read(path) for path in paths]
    load = loader(store, model, Settings(), 1, lambda _: None)
    with Engine(load, model.manifest.input.geometry) as engine:
        engine.load()

        def one(data: bytes) -> float:
            begun = time.perf_counter()
            engine.examine(data)
            return time.perf_counter() - begun

        for line in sys.stdin:
            threads, count = map(int, line.split())
            wanted = itertools.islice(itertools.cycle(pictures), count)
            with ThreadPoolExecutor(threads) as pool:
                begun = time.perf_counter()
                each = list(pool.map(one, wanted))
                seconds = time.perf_counter() - begun
            print(json.dumps({"each": each, "seconds": seconds}), flush=True)


def expected(package: str, paths: Sequence[str], home: str) -> dict[str, float]:
    """Return the score of each file by the command line, on one core as a lane has."""
    command = measure.nsfwscan("scan", "--model", package, "--format", "jsonl", "--exit-zero")
    done = measure.run([*command, "--threads", "1", *paths], measure.environment(home))
    records = map(json.loads, done.output.splitlines())
    return {one["path"]: one["nsfw_score"] for one in records}


def _ms(seconds: Sequence[float], share: float) -> str:
    return f"{percentile(seconds, share) * 1000:.0f}" if seconds else "-"


def _different(load: Load, scores: Sequence[float]) -> int:
    """Return how many answers hold a score that no picture has on the command line."""
    known = set(scores)
    return sum(
        not known & {one["score"] for one in json.loads(answer.body)}
        for answer in load.answers
        if answer.status == 200
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def _both(package: str, paths: Sequence[str], home: str) -> Iterator[tuple[Served, Bare]]:
    served, bare = Served(package, home), Bare(package, paths, home)
    try:
        yield served, bare
    finally:
        bare.stop()
        code = served.stop()
        assert code == 0, f"the server ended with {code}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int
    count: int
    """Requests in one measurement."""
    overload_s: float
    crowd: int
    """Clients that are slow; twice as many hang up."""


def report(package: str, paths: Sequence[str], sizes: Sizes) -> str:
    """Measure, and lay out what was measured."""
    rounds, count = sizes.rounds, sizes.count
    pictures, cores = [_read(path) for path in paths], len(os.sched_getaffinity(0))
    requests = [*map(request, pictures)]
    with tempfile.TemporaryDirectory() as home, _both(package, paths, home) as (served, bare):
        scores = list(expected(package, paths, home).values())
        ask(served.port, requests, _WARM_UP, 1)
        alone: list[Load] = []
        lanes: list[Load] = []
        over: dict[int, list[Load]] = {one: [] for one in CONCURRENCIES}
        memory: dict[int, float] = {}
        for _ in range(rounds):
            alone.append(bare.ask(1, len(paths)))
            for concurrency in CONCURRENCIES:
                lanes.append(bare.ask(cores, count))
                loads = over[concurrency]
                before = measure.core_seconds(served.process.pid)
                loads.append(ask(served.port, requests, count, concurrency))
                used = measure.core_seconds(served.process.pid) - before
                loads[-1].core_ms = used / len(loads[-1].latencies(200)) * 1000
                memory[concurrency] = served.memory_mb
        rows = []
        for concurrency, loads in over.items():
            times = [one for load in loads for one in load.latencies(200)]
            # Each beside the lanes measured just before it.
            at = CONCURRENCIES.index(concurrency)
            beside = lanes[at :: len(CONCURRENCIES)]
            shares = [one.rate / other.rate for one, other in zip(loads, beside, strict=True)]
            rows.append(
                [
                    str(concurrency),
                    f"{median([load.rate for load in loads]):.1f}",
                    f"{median(shares):.0%}",
                    f"{median([load.core_ms for load in loads]):.1f}",
                    f"{median([load.core_ms for load in beside]):.1f}",
                    f"{median([load.sender_ms for load in loads]):.2f}",
                    _ms(times, 50),
                    _ms(times, 99),
                    str(sum(_different(load, scores) for load in loads)),
                    str(sum(load.lost + len(load.latencies(429, 503)) for load in loads)),
                    f"{memory[concurrency]:.0f}",
                ]
            )
        added = {
            share: median(
                [
                    percentile(one.latencies(200), share) - percentile(other.latencies(200), share)
                    for one, other in zip(over[1], alone, strict=True)
                ]
            )
            for share in (10, 50)
        }
        header = [
            *("connections", "pictures a second", "of the bare lanes", "core ms", "bare core ms"),
            "sender's core ms",
            *("p50 ms", "p99 ms"),
            *("other scores", "refused or lost", "MB"),
        ]
        extremes = _extremes(served, pictures, sizes)
    text = [measure.machine(), "", measure.table(header, rows), ""]
    text.append(
        f"Over one connection, {added[50] * 1000:+.1f} ms beside one bare lane (p50); "
        f"{added[10] * 1000:+.1f} ms in the tenth of requests that other programs disturb least."
    )
    return "\n".join([*text, *extremes])


def _extremes(served: Served, pictures: Sequence[bytes], sizes: Sizes) -> list[str]:
    """Overload the server, be slow, hang up; return what came of it."""
    count, overload_s, crowd = sizes.count, sizes.overload_s, sizes.crowd
    said = []
    requests = [*map(request, pictures)]
    small = min(pictures, key=len)
    alone = ask(served.port, [request(small)], count, 8)
    flood = asyncio.run(overload(served.port, small, 10 * alone.rate, overload_s))
    refused = flood.latencies(429)
    said.append(
        f"Ten times as much as it can do, for {overload_s:.0f} s: {len(flood.latencies(200))} "
        f"scored, {len(refused)} refused, {flood.lost} lost; refused after "
        f"{_ms(refused, 50)} ms (p50), {_ms(refused, 99)} ms (p99)."
    )
    before = ask(served.port, requests, count, 2)
    closed_s, honest = asyncio.run(slow_clients(served.port, pictures, count, crowd))
    ratio = percentile(honest.latencies(200), 99) / percentile(before.latencies(200), 99)
    said.append(
        f"{crowd} slow clients: all closed after {closed_s:.1f} s; {honest.lost} honest "
        f"requests lost, their p99 {ratio:.2f} times that without them."
    )
    asyncio.run(
        leave(served.port, pictures, 2 * crowd)
    )  # what buffers take stays with the C library
    ask(served.port, requests, 1, 1)
    scored, memory = asyncio.run(counted(served.port)), served.memory_mb
    asyncio.run(leave(served.port, pictures, 2 * crowd))
    ask(served.port, requests, 1, 1)
    more = asyncio.run(counted(served.port)) - scored - 1
    said.append(
        f"{2 * crowd:,} clients that hung up, a second time: {more:.0f} pictures scored for them; "
        f"memory {served.memory_mb - memory:+.0f} MB."
    )
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photographs", metavar="FOLDER", help="send these, all of them")
    parser.add_argument("--model", metavar="FOLDER", help="a model package; default: opennsfw")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=256, help="requests in one measurement")
    parser.add_argument("--overload", type=float, default=10, help="seconds of too many requests")
    parser.add_argument("--crowd", type=int, default=500, help="slow clients; twice as many leave")
    parser.add_argument("--bare", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.bare:
        answer_bare(given.bare[0], given.bare[1:])
        return
    paths = photos.photographs(given.photographs) if given.photographs else photos.default_set(40)
    sizes = Sizes(given.rounds, given.count, given.overload, given.crowd)
    print(report(given.model or installed_opennsfw(), paths, sizes))


if __name__ == "__main__":
    main()

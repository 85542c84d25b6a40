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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import measure, photos
from benchmarks.measure import median
from benchmarks.scan import installed_opennsfw
from benchmarks.watch_latency import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONCURRENCIES = (1, 8, 64, 256)
_SLOW_CLIENTS, _LEAVING = 500, 1000
_WARM_UP = 8
_OVERLOAD_S = 10.0


class Answer(NamedTuple):
    """One answer: its status, when it came and how long it took, and the best score."""

    status: int
    seconds: float
    body: bytes


@dataclass(slots=True)
class Load:
    """What came of a number of requests."""

    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    lost: int = 0
    """Requests without an answer."""
    core_ms: float = 0.0
    """Processor time for each, in all processes of the server."""

    def latencies(self, *statuses: int) -> list[float]:
        """Return the seconds of the answers with one of these statuses."""
        return [one.seconds for one in self.answers if one.status in statuses]

    @property
    def rate(self) -> float:
        """Pictures scored a second."""
        return len(self.latencies(200)) / self.seconds


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
        with contextlib.closing(self.process.stderr or open(os.devnull)):
            return self.process.wait(30)

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
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


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


def _request(data: bytes, path: str = "/") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), body


async def ask(port: int, pictures: Sequence[bytes], count: int, concurrency: int) -> Load:
    """Send `count` pictures over `concurrency` connections, each again once it is answered."""
    load, left = Load(), iter(range(count))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for number in left:
            begun = time.perf_counter()
            try:
                writer.write(_request(pictures[number % len(pictures)]))
                status, body = await _answer(reader)
            except (OSError, asyncio.IncompleteReadError):
                load.lost += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            load.answers.append(Answer(status, time.perf_counter() - begun, body))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(min(concurrency, count))))
    load.seconds = time.perf_counter() - begun
    return load


async def overload(port: int, picture: bytes, rate: float, seconds: float) -> Load:
    """Send a picture `rate` times a second over new connections, whatever has been answered."""
    load, begun = Load(), time.perf_counter()

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            asked = time.perf_counter()
            writer.write(_request(picture))
            status, body = await _answer(reader)
            load.answers.append(Answer(status, time.perf_counter() - asked, body))
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            load.lost += 1

    asked = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(begun + number / rate - time.perf_counter())
        asked.append(asyncio.ensure_future(one()))
    await asyncio.gather(*asked)
    load.seconds = time.perf_counter() - begun
    return load


async def slow_clients(port: int, pictures: Sequence[bytes], count: int) -> tuple[float, Load]:
    """Hold 500 slow connections; return the seconds until all are closed, and honest requests."""
    starts = (
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nabc",
    )
    begun = time.perf_counter()

    async def slow(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(starts[number % len(starts)])
        with contextlib.suppress(OSError):
            while True:
                if number % 2:
                    writer.write(b"x")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        if not await reader.read(1000):
                            break
        writer.close()

    slowly = [asyncio.ensure_future(slow(number)) for number in range(_SLOW_CLIENTS)]
    await asyncio.sleep(0.5)
    honest = await ask(port, pictures, count, 2)
    await asyncio.gather(*slowly)
    return time.perf_counter() - begun, honest


async def leave(port: int, pictures: Sequence[bytes]) -> None:
    """Send 1,000 pictures but for their last byte, and hang up."""
    for number in range(_LEAVING):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_request(pictures[number % len(pictures)])[:-1])
        writer.close()


async def counted(port: int) -> float:
    """Return how many pictures the server has scored."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _, body = await _answer(reader)
    writer.close()
    found = re.findall(rb"^nsfwscan_examine_seconds_count (\S+)", body, re.MULTILINE)
    return float(found[0]) if found else 0.0


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


def report(package: str, paths: Sequence[str], rounds: int, count: int) -> str:
    """Measure, and lay out what was measured."""
    pictures, cores = [_read(path) for path in paths], len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as home, _both(package, paths, home) as (served, bare):
        scores = list(expected(package, paths, home).values())
        asyncio.run(ask(served.port, pictures, _WARM_UP, 1))
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
                loads.append(asyncio.run(ask(served.port, pictures, count, concurrency)))
                used = measure.core_seconds(served.process.pid) - before
                loads[-1].core_ms = used / count * 1000
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
            *("p50 ms", "p99 ms"),
            *("other scores", "refused or lost", "MB"),
        ]
        extremes = _extremes(served, pictures, count)
    text = [measure.machine(), "", measure.table(header, rows), ""]
    text.append(
        f"Over one connection, {added[50] * 1000:+.1f} ms beside one bare lane (p50); "
        f"{added[10] * 1000:+.1f} ms in the tenth of requests that other programs disturb least."
    )
    return "\n".join([*text, *extremes])


def _extremes(served: Served, pictures: Sequence[bytes], count: int) -> list[str]:
    """Overload the server, be slow, hang up; return what came of it."""
    said = []
    small = min(pictures, key=len)
    alone = asyncio.run(ask(served.port, [small], count, 8))
    flood = asyncio.run(overload(served.port, small, 10 * alone.rate, _OVERLOAD_S))
    refused = flood.latencies(429)
    said.append(
        f"Ten times as much as it can do, for {_OVERLOAD_S:.0f} s: {len(flood.latencies(200))} "
        f"scored, {len(refused)} refused, {flood.lost} lost; refused after "
        f"{_ms(refused, 50)} ms (p50), {_ms(refused, 99)} ms (p99)."
    )
    before = asyncio.run(ask(served.port, pictures, count, 2))
    closed_s, honest = asyncio.run(slow_clients(served.port, pictures, count))
    ratio = percentile(honest.latencies(200), 99) / percentile(before.latencies(200), 99)
    said.append(
        f"{_SLOW_CLIENTS} slow clients: all closed after {closed_s:.1f} s; {honest.lost} honest "
        f"requests lost, their p99 {ratio:.2f} times that without them."
    )
    asyncio.run(leave(served.port, pictures))  # what buffers take stays with the C library
    asyncio.run(ask(served.port, pictures, 1, 1))
    scored, memory = asyncio.run(counted(served.port)), served.memory_mb
    asyncio.run(leave(served.port, pictures))
    asyncio.run(ask(served.port, pictures, 1, 1))
    more = asyncio.run(counted(served.port)) - scored - 1
    said.append(
        f"{_LEAVING:,} clients that hung up, a second time: {more:.0f} pictures scored for them; "
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
    parser.add_argument("--bare", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.bare:
        answer_bare(given.bare[0], given.bare[1:])
        return
    paths = photos.photographs(given.photographs) if given.photographs else photos.default_set(40)
    print(report(given.model or installed_opennsfw(), paths, given.rounds, given.count))


if __name__ == "__main__":
    main()

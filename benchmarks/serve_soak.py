"""Whether a server grows: as many requests as 72 hours have seconds, and what it holds meanwhile.

`python -m benchmarks.serve_soak` sends 260,000 requests of every kind to `nsfwscan serve` with a
tiny model, a cache that it writes, and jobs: pictures new and known, the formats of other programs,
forms, uploads of jobs, pages, junk, bodies too long, malformed HTTP, and clients that hang up.
Between tenths of them it notes memory, descriptors and threads. Exits with 1 if one of them grows,
or if a request is answered with 5xx.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from benchmarks import measure, tiny
from benchmarks.serve_requests import request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_TENTHS = 10
_MOST_MB = 4.0
"""By how much memory may grow after the first half, in which buffers find their size."""
_MOST_DESCRIPTORS = 3
"""By how many they may differ: the last connections are just being closed."""
_ANSWER_S = 10.0
_HANG_UP_S = 0.05
_JOBS_KEPT = 100
_PAGES = ("/health", "/info", "/metrics", "/openapi.json", "/nothing-here")


class Held(NamedTuple):
    """What a server and its decode processes hold."""

    memory_mb: float
    """Without files that are mapped, whose share depends on what else the machine runs."""
    children_mb: float
    """The part of it that the decode processes hold."""
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    """Return what a process and its children hold."""
    family = measure.family(pid)
    mb = [measure.pss_mb(one, "Pss_Anon") for one in family]
    return Held(
        sum(mb),
        sum(mb[1:]),
        sum(len(os.listdir(f"/proc/{one}/fd")) for one in family),
        sum(len(os.listdir(f"/proc/{one}/task")) for one in family),
    )


def form(pictures: Sequence[bytes], path: str) -> bytes:
    """Return a request with a multipart form of pictures."""
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + one + b"\r\n"
        for one in pictures
    )
    body += b"--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
    return f"{head}boundary=x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, method: str = "GET") -> bytes:
    """Return a request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()


def kinds(known: Sequence[bytes]) -> Iterator[Callable[[], bytes]]:
    """Return what makes one request of each kind; a picture is new or one of `known`."""
    numbers = itertools.count()

    def new() -> bytes:
        return known[0] + next(numbers).to_bytes(8, "big")  # bytes behind its end change no pixel

    def url(picture: bytes) -> bytes:
        return b"data:image/jpeg;base64," + base64.b64encode(picture)

    yield lambda: request(new())
    yield lambda: request(known[1])
    yield lambda: request(known[2][:-500])
    yield lambda: request(b"junk")
    yield lambda: request(b'{"inputs": "/w=="}')
    yield lambda: form([new(), *known], "/v1/scan")
    yield lambda: form(known, "/v1/detect-images")
    yield lambda: request(new(), "/validate")
    yield lambda: request(b'{"images": ["%b"]}' % url(new()), "/api/v1/vision/nsfw")
    yield lambda: request(
        b'{"input": [{"type": "image_url", "image_url": {"url": "%b"}}]}' % url(known[0]),
        "/v1/moderations",
    )
    yield lambda: get(_PAGES[next(numbers) % len(_PAGES)])
    yield lambda: b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    yield lambda: b"POST / HTTP/1.1\r\nHost: elsewhere.example\r\nContent-Length: 0\r\n\r\n"
    yield lambda: b"nonsense\r\n\r\n"
    yield lambda: request(new())[:-1]  # never whole
    yield lambda: form([new(), new(), known[1], b"junk"], "/v1/jobs")
    yield lambda: form([new()], "/v1/jobs")[:-9]  # an upload that is never whole
    yield lambda: get("/v1/jobs")


class Client:
    """Sends requests in turn, and hangs up on every seventh."""

    def __init__(self, port: int, known: Sequence[bytes]) -> None:
        self._port = port
        self._kinds = list(kinds(known))
        self._later: collections.deque[bytes] = collections.deque()
        """What is asked about the jobs that were made: results, and to delete them."""
        self.answers: collections.Counter[str] = collections.Counter()
        """How many had which status, or none."""

    async def send(self, count: int, at_once: int) -> None:
        """Send so many requests, each over a connection of its own."""
        left = iter(range(count))

        async def one_by_one() -> None:
            for number in left:
                waiting = len(self._later) > _JOBS_KEPT
                data = (
                    self._later.popleft() if waiting else self._kinds[number % len(self._kinds)]()
                )
                with contextlib.suppress(OSError):
                    await self._send(data, _ANSWER_S if number % 7 else _HANG_UP_S)

        await asyncio.gather(*(one_by_one() for _ in range(at_once)))

    async def _send(self, data: bytes, patience_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(data)
        whole = re.search(rb"Content-Length: (\d+)\r\n\r\n", data)
        if whole and int(whole[1]) > len(data) - whole.end():
            patience_s = _HANG_UP_S  # until then the server waits for the rest
        head = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                head = await reader.read(1 << 16)
        self.answers[head[9:12].decode() or "none"] += 1
        if job := re.search(rb"^location: (/v1/jobs/\w+)", head, re.MULTILINE | re.IGNORECASE):
            path = job[1].decode()
            self._later += [get(f"{path}/results"), get(path, "DELETE")]
        writer.close()


def _picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((320, 240), shade / 4).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


def start(package: str, home: str) -> tuple[subprocess.Popen[str], int]:
    """Start a server with everything that may grow; return its process and its port."""
    options = ["--port", "0", "--model", package, "--offline", "--write-cache"]
    process = subprocess.Popen(
        measure.nsfwscan("serve", *options),
        stderr=subprocess.PIPE,
        env=measure.environment(home),
        text=True,
    )
    assert process.stderr is not None
    found = re.search(r":(\d+)\.", process.stderr.readline())
    assert found, "the server does not listen"
    return process, int(found[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=260_000, help="requests")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        package = tiny.write_package(home)
        os.mkdir(os.path.join(home, "home"))
        process, port = start(package, os.path.join(home, "home"))
        client = Client(port, [_picture(shade) for shade in (0, 80, 160, 240)])
        found = []
        for _ in range(_TENTHS):
            asyncio.run(client.send(given.count // _TENTHS, 16))
            time.sleep(min(1.0, given.count / 10_000))  # what was hung up on is forgotten
            found.append(held(process.pid))
            measure.note(f"{len(found)} tenths: {found[-1]}")
        process.terminate()
        said = process.communicate(timeout=30)[1]
    rows = [
        [f"{(at + 1) * given.count // _TENTHS:,}", *(f"{part:.0f}" for part in one)]
        for at, one in enumerate(found)
    ]
    header = ["requests", "MB", "of it decode processes", "descriptors", "threads"]
    print(measure.table(header, rows))
    print(
        "\nAnswers:",
        ", ".join(f"{count:,} {what}" for what, count in sorted(client.answers.items())),
    )
    middle, last = found[_TENTHS // 2], found[-1]
    grown = (
        last.memory_mb - middle.memory_mb > _MOST_MB
        or last.descriptors - middle.descriptors > _MOST_DESCRIPTORS
        or last.threads > middle.threads
    )
    failed = any(status.startswith("5") for status in client.answers)
    grew = "something grew" if grown else "nothing grew"
    print(f"\nThe server ended with {process.returncode}; {grew}.")
    if said:
        print(said)
    sys.exit(int(grown or failed or process.returncode != 0))


if __name__ == "__main__":
    main()

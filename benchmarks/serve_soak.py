"""Whether a server grows: many requests of every kind, and what it holds meanwhile.

`python -m benchmarks.serve_soak` sends 200,000 requests to `nsfwscan serve` with a tiny model:
pictures, junk, forms of many, bodies too long, malformed HTTP, and clients that hang up. Between
tenths of them it notes memory, descriptors and threads. Exits with 1 if one of them grows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from benchmarks import measure, tiny
from benchmarks.serve_load import Served
from benchmarks.serve_requests import request

if TYPE_CHECKING:
    from collections.abc import Sequence

_TENTHS = 10
_MOST_MB = 8.0
"""By how much memory may grow after the first half, in which buffers find their size."""


class Held(NamedTuple):
    """What a server holds."""

    memory_mb: float
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    """Return what a process holds, and the memory of its children."""
    return Held(
        measure.memory_mb(pid),
        len(os.listdir(f"/proc/{pid}/fd")),
        len(os.listdir(f"/proc/{pid}/task")),
    )


def kinds(pictures: Sequence[bytes]) -> list[bytes]:
    """Return one request of each kind."""
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + one + b"\r\n"
        for one in pictures
    )
    head = "POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
    head += f"boundary=x\r\nContent-Length: {len(form) + 7}\r\n\r\n"
    return [
        *map(request, pictures),
        request(b"junk"),
        request(b'{"inputs": "/w=="}'),
        head.encode() + form + b"--x--\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: elsewhere.example\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        request(pictures[0])[:-1],  # never whole
    ]


async def send(port: int, requests: Sequence[bytes], count: int, at_once: int) -> None:
    """Send requests in turn, each over a connection of its own; hang up on every fifth."""
    left = iter(range(count))

    async def client() -> None:
        for number in left:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(requests[number % len(requests)])
                if number % 5:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await reader.read(100)
                writer.close()

    await asyncio.gather(*(client() for _ in range(at_once)))


def _picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((320, 240), shade / 4).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=200_000, help="requests")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        package = tiny.write_package(home)
        os.mkdir(os.path.join(home, "home"))
        pictures = [_picture(shade) for shade in (0, 80, 160, 240)]
        served = Served(package, os.path.join(home, "home"))
        found = []
        for _ in range(_TENTHS):
            asyncio.run(send(served.port, kinds(pictures), given.count // _TENTHS, 16))
            time.sleep(min(1.0, given.count / 10_000))  # what was hung up on is forgotten
            found.append(held(served.process.pid))
        code = served.stop()
    rows = [
        [f"{(at + 1) * given.count // _TENTHS:,}", f"{one.memory_mb:.0f}", *map(str, one[1:])]
        for at, one in enumerate(found)
    ]
    print(measure.table(["requests", "MB", "descriptors", "threads"], rows))
    middle, last = found[_TENTHS // 2], found[-1]
    grown = last.memory_mb - middle.memory_mb > _MOST_MB or last[1:] > middle[1:]
    print(f"\nThe server ended with {code}; {'something grew' if grown else 'nothing grew'}.")
    sys.exit(int(grown or code != 0))


if __name__ == "__main__":
    main()

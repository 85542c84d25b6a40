"""What `serve_load` and `serve_peers` send: requests over many connections, and worse clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEND_BUFFER = 1 << 20
_MOST_SLOW_S = 60.0
"""A server should have closed slow connections long before."""


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
    """Processor time for each picture scored, in all processes of the server."""
    sender_ms: float = 0.0
    """Processor time for each request, in the process that sends."""

    def latencies(self, *statuses: int) -> list[float]:
        """Return the seconds of the answers with one of these statuses."""
        return [one.seconds for one in self.answers if one.status in statuses]

    @property
    def rate(self) -> float:
        """Pictures scored a second."""
        return len(self.latencies(200)) / self.seconds


def request(data: bytes, path: str = "/") -> bytes:
    """Return a request with a picture as its body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12]), body


class _Line:
    """One connection, over which one request after the other is sent."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._port, self._selector = port, selector
        self.began = 0.0
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        # A whole picture fits, so that sending one takes one call.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._left, self._said = memoryview(b""), b""
        self._selector.register(self.socket, selectors.EVENT_READ, self)

    def send(self, sent: bytes) -> None:
        """Send a request, or begin to."""
        self._left, self._said, self.began = memoryview(sent), b"", time.perf_counter()
        self.go_on()

    def go_on(self) -> None:
        """Send on."""
        with contextlib.suppress(BlockingIOError):
            while self._left:
                self._left = self._left[self.socket.send(self._left) :]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._left else 0)
        if self._selector.get_key(self.socket).events != wanted:
            self._selector.modify(self.socket, wanted, self)

    def answer(self) -> Answer | None:
        """Return the answer if it is whole. Raises OSError if the connection has ended."""
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionResetError
        self._said += more
        head, end, body = self._said.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not end or len(body) < (int(length[1]) if length else 0):
            return None
        return Answer(int(head[9:12]), time.perf_counter() - self.began, body)

    def again(self) -> None:
        """Connect anew."""
        self.close()
        self._connect()

    def close(self) -> None:
        """End the connection."""
        self._selector.unregister(self.socket)
        self.socket.close()


def ask(port: int, requests: Sequence[bytes], count: int, concurrency: int) -> Load:
    """Send `count` requests over `concurrency` connections, each again once it is answered.

    In one thread and with as little work as possible: what sends uses the server's cores.
    """
    load, selector = Load(), selectors.DefaultSelector()
    left = itertools.islice(itertools.cycle(requests), count)
    lines = [_Line(port, selector) for _ in range(min(concurrency, count))]
    begun, used = time.perf_counter(), time.process_time()

    def next_of(line: _Line) -> None:
        sent = next(left, None)
        if sent is None:
            line.close()
        else:
            line.send(sent)

    for line in lines:
        next_of(line)
    while selector.get_map():
        for key, events in selector.select():
            line = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    line.go_on()
                answer = line.answer() if events & selectors.EVENT_READ else None
            except OSError:
                load.lost += 1
                line.again()
                next_of(line)
                continue
            if answer is not None:
                load.answers.append(answer)
                next_of(line)
    selector.close()
    load.seconds = time.perf_counter() - begun
    load.sender_ms = (time.process_time() - used) / count * 1000
    return load


async def overload(port: int, picture: bytes, rate: float, seconds: float) -> Load:
    """Send a picture `rate` times a second over new connections, whatever has been answered."""
    load, begun = Load(), time.perf_counter()

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            asked = time.perf_counter()
            writer.write(request(picture))
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


async def slow_clients(
    port: int, pictures: Sequence[bytes], count: int, crowd: int
) -> tuple[float, Load]:
    """Hold `crowd` slow connections.

    Returns the seconds until all are closed, or `_MOST_SLOW_S` if the server keeps one open, and
    what came of honest requests meanwhile.
    """
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
            while time.perf_counter() - begun < _MOST_SLOW_S:
                if number % 2:
                    writer.write(b"x")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        if not await reader.read(1000):
                            break
        writer.close()

    slowly = [asyncio.ensure_future(slow(number)) for number in range(crowd)]
    await asyncio.sleep(0.5)
    honest = await asyncio.to_thread(ask, port, [*map(request, pictures)], count, 2)
    await asyncio.gather(*slowly)
    return time.perf_counter() - begun, honest


async def leave(port: int, pictures: Sequence[bytes], count: int) -> None:
    """Send `count` pictures but for their last byte, and hang up."""
    for number in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(pictures[number % len(pictures)])[:-1])
        writer.close()


async def counted(port: int) -> float:
    """Return how many pictures the server has scored."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _, body = await _answer(reader)
    writer.close()
    found = re.findall(rb"^nsfwscan_examine_seconds_count (\S+)", body, re.MULTILINE)
    return float(found[0]) if found else 0.0

"""What one connection may send, and how it is cut up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import scan_fakes
from serving import NSFW, SAFE, Serving, serving

from nsfwscan.serve.settings import Limits, ServeSettings

HELD = b"\x01held"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def server(pool: scan_fakes.FakePool) -> Iterator[Serving]:
    with serving() as server:
        yield server


def post(picture: bytes, *headers: str) -> bytes:
    """Return a request that asks for the scores of a picture."""
    lines = ["POST / HTTP/1.1", "Host: localhost", f"Content-Length: {len(picture)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + picture


def connected(server: Serving) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def rest(line: socket.socket) -> bytes:
    """Return what comes until the server closes a connection."""
    said = b""
    while more := line.recv(65536):
        said += more
    return said


def test_requests_sent_before_their_answers_are_answered_in_order(server: Serving) -> None:
    with connected(server) as line:
        line.sendall(post(NSFW) + post(SAFE) + post(NSFW, "Connection: close"))
        said = rest(line)
    assert said.count(b"HTTP/1.1 200 OK") == 3
    best = [one.partition(b'"label":"')[2][:3] for one in said.split(b"HTTP/1.1 200 OK")[1:]]
    assert best == [b"red", b"oth", b"red"]


def test_very_many_requests_before_their_answers_are_refused(server: Serving) -> None:
    with connected(server) as line:
        line.sendall(post(NSFW) * 2000)
        assert b"HTTP/1.1 400 Refused" in rest(line)
    assert server.post("/", content=NSFW).status_code == 200
    server.wait_for(lambda: server.app_memory.used == 0)


def test_a_client_waiting_for_an_answer_is_not_slow(pool: scan_fakes.FakePool) -> None:
    """Whatever it has sent of its next request: nobody reads that yet."""
    held = pool.gates.setdefault(HELD, threading.Event())
    limits = Limits(header_s=0.2, slow_s=0.2)
    large = post(b"\x00" * 16_000_000, "Connection: close")
    with serving(settings=ServeSettings(limits=limits)) as server, ThreadPoolExecutor() as threads:
        lines = [connected(server) for _ in range(3)]
        try:
            for line, sent in zip(lines, (b"\r\n", b"POST / HT", large), strict=True):
                line.sendall(post(HELD))
                time.sleep(0.05)
                sending = threads.submit(line.sendall, sent)
            time.sleep(1.5)
            held.set()
            for line in lines:
                assert line.recv(65536).startswith(b"HTTP/1.1 200 OK")
            sending.result(20)
            assert rest(lines[-1]).count(b"HTTP/1.1 200 OK") == 1
        finally:
            for line in lines:
                line.close()


def test_a_header_that_comes_at_once_has_a_bound_as_well(server: Serving) -> None:
    with connected(server) as line:
        line.sendall(post(NSFW, "X: " + "x" * 60_000))
        said = rest(line)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"the header is too long" in said


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_body_in_chunks_of_any_size_is_put_together(
    pool: scan_fakes.FakePool, server: Serving, size: int
) -> None:
    picture = b"\x01" + bytes(range(256)) * 80
    pieces = [picture[at : at + size] for at in range(0, len(picture), size)]
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in [*pieces, b""])
    with connected(server) as line:
        line.sendall(head + b"Connection: close\r\n\r\n" + body)
        assert rest(line).startswith(b"HTTP/1.1 200 OK")
    assert pool.decoded == [picture]


def test_an_offer_to_change_the_protocol_is_ignored(
    pool: scan_fakes.FakePool, server: Serving
) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    pictures = [b"\x01" + bytes([at]) * 300_000 for at in range(3)]
    with connected(server) as line:
        for picture in pictures:
            line.sendall(post(picture, *offer))
        line.sendall(post(NSFW, "Connection: close"))
        assert rest(line).count(b"HTTP/1.1 200 OK") == 4
    assert pool.decoded == [*pictures, NSFW]


@pytest.mark.parametrize(
    "sent",
    [
        post(NSFW, "Transfer-Encoding: chunked"),
        post(NSFW, "Content-Length: 1"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ],
    ids=["two lengths", "two sizes", "HTTP/2", "TLS", "a proxy", "a space before a colon"],
)
def test_what_may_be_read_in_two_ways_is_refused(
    pool: scan_fakes.FakePool, server: Serving, sent: bytes
) -> None:
    with connected(server) as line:
        line.sendall(sent)
        assert rest(line).startswith(b"HTTP/1.1 400 ")
    assert pool.decoded == []

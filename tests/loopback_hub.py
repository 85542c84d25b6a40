"""A model hub on the loopback interface, with the real one's layout and with faults on demand.

`/{repo}/resolve/{revision}/{path}` redirects to `/storage/{sha256}`, as the real hub redirects to
its storage servers; that serves ranges and ETags.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from nsfwscan.models.fetch.client import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = Patience(
    connect_s=1.0, answer_s=1.0, stall_s=0.4, tries=4, backoff_s=0.01, longest_pause_s=2.0
)
"""Short waits, so that the tests of failures do not take as long as the failures."""


@dataclass
class Faults:
    """What goes wrong. Lists are used up one entry a request for the file's bytes."""

    statuses: list[int] = field(default_factory=list)
    """Answered instead of the bytes; 200 stands for no fault."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with those statuses."""
    cuts: list[int] = field(default_factory=list)
    """The connection is closed after so many bytes of the body; a negative number is no cut."""
    stall_after: int | None = None
    """The connection stays open and silent after so many bytes."""
    silent: bool = False
    """Nothing is ever answered."""
    html: bool = False
    """A sign-in page is served instead of the bytes."""
    html_status: int = 200
    wrong_bytes: bool = False
    too_long: int = 0
    """So many bytes more than the file has, in length and body."""
    no_length: bool = False
    """No Content-Length: the end of the connection ends the body."""
    ignore_range: bool = False
    wrong_range: bool = False
    etag: str | None = None
    """Instead of the one made of the content; an empty text sends none."""
    redirect_to: str = ""
    """Instead of the storage path on this server."""
    bytes_per_second: int | None = None


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]


class LoopbackHub:
    """The server's files, faults and what it was asked. Use `running()`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, tuple[str, str]] = {}
        """Path to (content type, text), as a package index lists its files."""
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self.server = _Server(self)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def put(self, repo: str, revision: str, path: str, content: bytes) -> str:
        """Publish a file and return its sha256."""
        self.files[f"/{repo}/resolve/{revision}/{path}"] = content
        return hashlib.sha256(content).hexdigest()

    def ranges(self) -> list[str]:
        """Return the Range header of every request for bytes."""
        return [one.headers.get("range", "") for one in self.seen if "/storage/" in one.path]


@contextmanager
def running() -> Iterator[LoopbackHub]:
    """Serve until the block ends; every thread is joined then."""
    hub = LoopbackHub()
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.server.shutdown()
        thread.join()
        hub.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server joins every thread
    block_on_close = True

    def __init__(self, hub: LoopbackHub) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name
        pass

    def do_GET(self) -> None:
        self.close_connection = True  # so that no thread waits for a next request
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.hub.seen.append(Seen(self.path, headers))
        # The client may be killed or give up: these tests make it do so.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.answer(headers)

    def answer(self, headers: dict[str, str]) -> None:
        path = re.sub(r"\Ahttp://[^/]+", "", self.path)  # a proxy is asked with the full address
        if self.server.hub.faults.silent:
            self.server.hub.closing.wait(15)
        elif path.startswith("/storage/"):
            digest = path.removeprefix("/storage/")
            known = {hashlib.sha256(one).hexdigest(): one for one in self.server.hub.files.values()}
            self.storage(known[digest], digest, headers)
        elif path in self.server.hub.pages:
            kind, text = self.server.hub.pages[path]
            self.plain(200, {"content-type": kind}, text.encode())
        elif path in self.server.hub.files:
            digest = hashlib.sha256(self.server.hub.files[path]).hexdigest()
            self.plain(
                302, {"location": self.server.hub.faults.redirect_to or f"/storage/{digest}"}
            )
        else:
            self.plain(404, {})

    def plain(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def storage(self, content: bytes, digest: str, headers: dict[str, str]) -> None:
        faults = self.server.hub.faults
        status = faults.statuses.pop(0) if faults.statuses else 200
        if status != 200:
            self.plain(status, faults.headers)
            return
        if faults.html:
            page = b"<html>Please sign in</html>"
            self.plain(faults.html_status, {"content-type": "text/html; charset=utf-8"}, page)
            return
        if faults.wrong_bytes:
            content = bytes(len(content))
        content += bytes(faults.too_long)
        etag = f'"{digest}"' if faults.etag is None else faults.etag
        start = self.start(headers, etag)
        if start >= len(content):
            self.plain(416, {"content-range": f"bytes */{len(content)}"})
            return
        said = start + 1 if faults.wrong_range and start else start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        self.send_header("content-type", "application/octet-stream")
        if etag:
            self.send_header("etag", etag)
        if not faults.no_length:
            self.send_header("content-length", str(len(content) - start))
        self.end_headers()
        self.body(content[start:])

    def start(self, headers: dict[str, str], etag: str) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if asked is None or self.server.hub.faults.ignore_range:
            return 0
        return int(asked[1]) if headers.get("if-range", etag) == etag else 0

    def body(self, content: bytes) -> None:
        faults = self.server.hub.faults
        cut = faults.cuts.pop(0) if faults.cuts else -1
        if cut >= 0:
            content = content[:cut]
        piece = 1 << 16 if faults.bytes_per_second is None else 1 << 12
        for at in range(0, len(content), piece):
            if faults.stall_after is not None and at >= faults.stall_after:
                self.server.hub.closing.wait(15)
                return
            self.wfile.write(content[at : at + piece])
            if faults.bytes_per_second is not None:
                time.sleep(piece / faults.bytes_per_second)

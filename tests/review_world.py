"""Pictures with scores in a cache, a review of them, and a client that speaks to its page.

Nothing is scanned: the rows that a scan would have written are written here, so a thousand pictures
take a second.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pictures
import tiny_model
from PIL import Image

from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.cache.cache import Cache
from nsfwscan.cache.rows import FactRow, FileRow, OutcomeRow
from nsfwscan.judge import Judge, Policy, RulingBook
from nsfwscan.media.decode.decoded import DECODER_VERSION
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.review.collect import OtherModel
from nsfwscan.review.review import Review, ReviewServer, prepare
from nsfwscan.system import locations
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.outcome import Outcome, Scored, Scorer, Unscorable
from nsfwscan.values.results import FailReason, ImageFacts, Scores

POLICY = Policy(0.5, 0.8)
SIZE = (96, 64)
BITS = 0x0F0F_3355_00FF_A5C3
"""A likeness; xor it with few bits for one nearby."""


def colour(number: int) -> tuple[int, int, int]:
    """Return the colour of picture `number`, far enough from all others to survive JPEG."""
    return 12 + number % 10 * 24, 12 + number // 10 % 10 * 24, 12 + number // 100 % 10 * 24


class World:
    """A folder of pictures, a cache that knows them, and what a review needs beside."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.manifest = tiny_model.manifest(tiny_model.graph())
        tiny_model.write_package(str(home / "models"))
        self.scorer = Scorer(self.manifest.fingerprint, DECODER_VERSION)
        self.cache = Cache.open(locations.cache_file(), warn=self.warn)
        self.cache.remember_model(self.manifest.fingerprint, "tiny-1", ("other", "red"))
        self.book = RulingBook(locations.rulings_file())
        self.quarantines = Quarantines(str(folder.parent / "quarantine"), self.warn)
        self.others: list[OtherModel] = []
        self.warnings: list[str] = []
        self._number = 0

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def picture(self, name: str, *, seed: int | None = None) -> bytes:
        """Write a picture unlike any other unless it has the `seed` of one; return its SHA-256."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._number += 1
        number = self._number if seed is None else seed
        image = Image.new("RGB", SIZE, colour(number))
        image.putpixel((0, 0), (number % 256, number // 256, 7))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        path.write_bytes(stream.getvalue())
        return hashlib.sha256(stream.getvalue()).digest()

    def photograph(self, name: str) -> bytes:
        """Write a picture as large and as detailed as a camera's, and store its score."""
        self._number += 1
        pictures.photo(2400, 1800, seed=self._number).save(self.folder / name, quality=90)
        (sha256,) = self.remember(name, score=0.99 - self._number / 10_000)
        return sha256

    def remember(
        self, *names: str, score: float | None = 0.9, bits: int = 0, scorer: Scorer | None = None
    ) -> list[bytes]:
        """Store what a scan would of these files; return their SHA-256s."""
        files, outcomes, facts, digests = [], [], [], []
        for name in names:
            path = self.folder / name
            sha256 = hashlib.sha256(path.read_bytes()).digest()
            outcome: Outcome = Unscorable(FailReason.TRUNCATED, "cut short")
            if score is not None:
                outcome = Scored(
                    ImageFacts("png", *SIZE, 1), Scores((1 - score, score), score), None
                )
            files.append(FileRow(str(path), FileKey.of(os.stat(path)), sha256))
            outcomes.append(OutcomeRow(sha256, scorer or self.scorer, outcome))
            if bits:
                facts.append(FactRow(sha256, LIKENESS, likeness.pack(bits)))
            digests.append(sha256)
        self.cache.write(files, outcomes, facts)
        return digests

    def add(
        self, name: str, score: float | None = 0.9, *, bits: int = 0, seed: int | None = None
    ) -> bytes:
        """Write a picture and store its score; return its SHA-256."""
        self.picture(name, seed=seed)
        (sha256,) = self.remember(name, score=score, bits=bits)
        return sha256

    def many(self, number: int) -> list[bytes]:
        """Add pictures p0.png, p1.png, ..., whose scores fall, so in the order of the review."""
        digests = [self.picture(f"p{index}.png") for index in range(number)]
        for index in range(number):
            self.remember(f"p{index}.png", score=0.99 - 0.4 * index / number)
        return digests

    def review(self, pool: DecodePool | None = None, *roots: Path) -> Review:
        """Return a review; without `pool` it cannot make pictures."""
        return prepare(
            self.cache,
            [str(one) for one in roots or (self.folder,)],
            scorer=self.scorer,
            manifest=self.manifest,
            judge=Judge(POLICY, self.book.load()),
            book=self.book,
            others=self.others,
            quarantines=self.quarantines,
            thumbnail=(pool or _NO_POOL).thumbnail,
            warn=self.warn,
        )

    def ruled(self) -> dict[str, str]:
        """Return what the rulings' file says now, by SHA-256 in hexadecimal digits."""
        return {one.sha256.hex(): one.ruling.value for one in self.book.load()}


_NO_POOL = DecodePool(0)


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """What a browser does with the page's address, request by request."""

    def __init__(self, address: str) -> None:
        self.address = urlsplit(address)
        self.cookie = ""
        self.key = ""

    @property
    def authority(self) -> str:
        return self.address.netloc

    def ask(self, method: str, path: str, given: object = None, **headers: str) -> Answer:
        """Send one request with JSON, or with bytes as they are.

        `headers` replace those that a browser sends; `-` leaves one out.
        """
        sent = {"Host": self.authority, "Sec-Fetch-Site": "same-origin"}
        if method == "POST":
            sent["Origin"] = f"http://{self.authority}"
        if self.cookie:
            sent["Cookie"] = self.cookie
        if self.key:
            sent["X-Review-Key"] = self.key
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            body = given if isinstance(given, bytes) else json.dumps(given).encode()
            body = b"" if given is None else body
            for name, value in sent.items():
                if value != "-":
                    connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()

    def enter(self) -> Answer:
        """Open the address, and keep cookie and key as a browser and the page do."""
        answer = self.ask("GET", self.address.path, Sec_Fetch_Site="none")
        if answer.status == 303:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
            self.key = answer.headers["location"].partition("#")[2]
        return answer

    def show(self, sha256: bytes, size: str = "large") -> Answer:
        return self.ask("GET", f"/api/picture/{sha256.hex()}/{size}")

    def post(self, deed: str, sha256: bytes | None = None, **given: Any) -> Answer:
        """Ask for a deed under a new name."""
        what = {} if sha256 is None else {"id": sha256.hex()}
        return self.ask("POST", f"/api/{deed}", {"request": uuid.uuid4().hex, **what, **given})

    @contextmanager
    def present(self) -> Iterator[None]:
        """Keep the page open."""
        connection = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=20)
        headers = {"Host": self.authority, "Cookie": self.cookie, "X-Review-Key": self.key}
        connection.request("GET", "/api/present", headers=headers)
        answer = connection.getresponse()
        try:
            assert answer.status == 200
            assert answer.read(1) == b"."
            yield
        finally:
            answer.close()
            connection.close()


class Running(threading.Thread):
    """A server in a thread."""

    def __init__(self, server: ReviewServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.crash: BaseException | None = None

    def run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:
            self.crash = error

    def end(self) -> None:
        """Wait until the server has ended."""
        self.join(20)
        assert not self.is_alive(), "the server does not end"


@contextmanager
def running(review: Review, *, grace_s: float = 60.0) -> Iterator[Running]:
    """Serve a review in a thread until the block is left, or until it ends by itself."""
    thread = Running(ReviewServer(review, grace_s=grace_s))
    thread.start()
    try:
        yield thread
    finally:
        thread.server.stop()
        thread.end()


@contextmanager
def serving(review: Review) -> Iterator[ReviewServer]:
    """Serve a review until the block is left."""
    with running(review) as thread:
        yield thread.server
    assert thread.crash is None, thread.crash

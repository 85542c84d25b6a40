"""A scan without processes and without a model: what a file holds says what becomes of it.

The first byte of a "picture" is its score, out of 255. Content that begins with `broken` cannot be
decoded, content that begins with `frames:` has one frame for each byte that follows.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import tiny_model

from nsfwscan.judge import NO_RULINGS, Judge, Rulings
from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.decoded import Decoded
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.scanning.engine import Engine, Pool
from nsfwscan.scanning.examine import identify
from nsfwscan.scanning.scanner import Scanner, ScanOptions
from nsfwscan.values import likeness
from nsfwscan.values.errors import DecodeError, NsfwscanError
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.outcome import Reading
from nsfwscan.values.results import FailReason, ImageFacts, Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    import pytest

    from nsfwscan.cache.cache import Cache
    from nsfwscan.models.classifier import Classifier
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.scanning.examine import Read
    from nsfwscan.values.geometry import Geometry
    from nsfwscan.values.results import ScanResult

MANIFEST = tiny_model.manifest(b"graph")
POLICY = Policy(0.5, 0.8)
NSFW, REVIEW, SAFE = b"\xff", b"\x99", b"\x00"
_FRAMES = b"frames:"


class FakePool:
    """Stands in for `DecodePool`."""

    def __init__(self) -> None:
        self.decoded: list[bytes] = []
        self.gates: dict[bytes, threading.Event] = {}
        """Content that has to wait for its event."""
        self.likenesses: dict[bytes, int] = {}
        """The likeness of some contents; all others have none."""
        self.waiting = threading.Event()
        """Set when some content has to wait."""
        self.on_start: Callable[[], None] = lambda: None
        self.started = self.closed = self.abandoned = 0
        self.running = self.disowned = False

    def start(self) -> None:
        self.started += 1
        self.on_start()
        self.running = True

    def close(self) -> None:
        self.closed += 1

    def abandon(self) -> None:
        self.abandoned += 1

    def decode(self, data: bytes, geometry: Geometry) -> Decoded:
        if not self.running:
            raise NsfwscanError("decoding was stopped")
        if data in self.gates:
            self.waiting.set()
            assert self.gates[data].wait(30)
        self.decoded.append(data)
        if data.startswith(b"broken"):
            raise DecodeError(FailReason.CORRUPT, "as the test wants it")
        frames = data.removeprefix(_FRAMES) if data.startswith(_FRAMES) else data[:1]
        size = geometry.crop_width * geometry.crop_height * 3
        pixels = b"".join(bytes([value]) * size for value in frames)
        facts = ImageFacts("TEST", len(data), 1, len(frames))
        alike = likeness.pack(self.likenesses.get(data, likeness.NONE))
        return Decoded(facts, tuple(range(len(frames))), pixels, {LIKENESS: alike})


class FakeClassifier:
    """Stands in for `OrtClassifier`: the score is the first byte of a frame, out of 255."""

    manifest: ModelManifest = MANIFEST

    def read(
        self, pixels: bytes, views: int, *, embedding: bool = False, attention: bool = False
    ) -> Reading:
        each = len(pixels) // views
        firsts = [pixels[at * each] / 255 for at in range(views)]
        unsafe = max(firsts)
        return Reading(Scores((1 - unsafe, unsafe), unsafe), firsts.index(unsafe))


class Surroundings:
    """What the engines and scanners made here work in."""

    pool: FakePool | None = None
    ahead_ns = 0
    """How far their clock is ahead."""

    @classmethod
    def clock(cls) -> int:
        return time.time_ns() + cls.ahead_ns


def install_pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    """Let engines decode with one fake pool, which is returned."""
    pool = FakePool()
    monkeypatch.setattr(Surroundings, "pool", pool)
    return pool


def engine(
    load: Callable[[], Classifier] = FakeClassifier,
    *,
    jobs: int = 2,
    make_pool: Callable[[int], Pool] | None = None,
) -> Engine:
    """Make an engine that decodes with the pool of `install_pool`, or with a real one."""
    geometry = MANIFEST.input.geometry
    pool = Surroundings.pool
    make_pool = make_pool or (DecodePool if pool is None else lambda _jobs: pool)
    return Engine(load, geometry, jobs=jobs, make_pool=make_pool)


class OwnEngine(Scanner):
    """A scanner that closes its engine, as a session does, so that a test need not."""

    def __init__(self, manifest: ModelManifest, engine: Engine, *rest: Any, **named: Any) -> None:
        super().__init__(manifest, engine, *rest, **named)
        self._engine = engine

    def scan(self, paths: Iterable[str], listed: Iterable[str] = ()) -> Generator[ScanResult]:
        try:
            yield from super().scan(paths, listed)
        finally:
            self._engine.close()


def scanner(
    cache: Cache | None = None,
    *,
    load: Callable[[], Classifier] = FakeClassifier,
    policy: Policy = POLICY,
    options: ScanOptions | None = None,
    rulings: Rulings = NO_RULINGS,
    warn: Callable[[str], None] | None = None,
    read: Read = identify,
    make_pool: Callable[[int], Pool] | None = None,
) -> Scanner:
    """Make a scanner whose parts are fakes unless they are given. A warning fails the test."""
    options = options or ScanOptions(jobs=2)
    return OwnEngine(
        MANIFEST,
        engine(load, jobs=options.jobs, make_pool=make_pool),
        Judge(policy, rulings),
        decoder=1,
        cache=cache,
        options=options,
        warn=warn or _no_warning,
        read=read,
        clock=Surroundings.clock,
    )


def write(path: Path, content: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def set_clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float = 10) -> None:
    """Let scans think that what a test wrote a moment ago has been at rest for long."""
    monkeypatch.setattr(Surroundings, "ahead_ns", int(seconds * 10**9))


def _no_warning(sentence: str) -> None:
    raise AssertionError(sentence)

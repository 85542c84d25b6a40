"""A scan without processes and without a model: what a file holds says what becomes of it.

The first byte of a "picture" is its score, out of 255. Content that begins with `broken` cannot be
decoded, content that begins with `frames:` has one frame for each byte that follows.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import tiny_model

from nsfwscan.judge import NO_RULINGS, Judge, Rulings
from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.decoded import Decoded
from nsfwscan.scanning import engine
from nsfwscan.scanning import workers as lanes
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.scanner import Scanner, ScanOptions
from nsfwscan.values.errors import DecodeError, NsfwscanError
from nsfwscan.values.likeness import NONE
from nsfwscan.values.results import FailReason, ImageFacts, Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    import pytest

    from nsfwscan.cache.cache import Cache
    from nsfwscan.models.classifier import Classifier
    from nsfwscan.models.manifest import ModelManifest
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
        return Decoded(facts, len(frames), pixels, self.likenesses.get(data, NONE))


class FakeClassifier:
    """Stands in for `OrtClassifier`: the score is the first byte of a frame, out of 255."""

    manifest: ModelManifest = MANIFEST

    def classify(self, pixels: bytes, pictures: int) -> list[Scores]:
        each = len(pixels) // pictures
        firsts = [pixels[at * each] / 255 for at in range(pictures)]
        return [Scores((1 - unsafe, unsafe), unsafe) for unsafe in firsts]


def install_pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    """Let lanes decode with one fake pool, which is returned."""
    pool = FakePool()
    monkeypatch.setattr(engine, "DecodePool", lambda _workers: pool)
    return pool


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
) -> Scanner:
    """Make a scanner whose parts are fakes unless they are given. A warning fails the test."""
    options = options or ScanOptions(jobs=2)
    return OwnEngine(
        MANIFEST,
        Engine(load, MANIFEST.input.geometry, jobs=options.jobs),
        Judge(policy, rulings),
        decoder=1,
        cache=cache,
        options=options,
        warn=warn or _no_warning,
    )


def write(path: Path, content: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def set_clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: int = 10) -> None:
    """Let lanes think that what a test wrote a moment ago has been at rest for long."""
    real = lanes.time.time_ns
    monkeypatch.setattr(lanes.time, "time_ns", lambda: real() + seconds * 10**9)


def _no_warning(sentence: str) -> None:
    raise AssertionError(sentence)

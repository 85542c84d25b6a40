from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from scan_fakes import FakeClassifier, FakePool

from nsfwscan.media.discover import WalkOptions
from nsfwscan.scanning import path_scan
from nsfwscan.scanning.examine import Content, Read, identify
from nsfwscan.scanning.path_scan import Done, PathScan
from nsfwscan.scanning.scan_cache import ScanCache
from nsfwscan.scanning.workers import ThreadWorkers
from nsfwscan.values.errors import ModelUnusable, NsfwscanError
from nsfwscan.values.file_key import FileKey, is_racy
from nsfwscan.values.outcome import Reading, Scored, Scorer, Unscorable
from nsfwscan.values.results import Failed, FailReason, Origin, Skipped, SkipReason


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def memory() -> ScanCache:
    return ScanCache(None, Scorer("f", 1), rescan=False, retry_failed=False, warn=pytest.fail)


class Lanes:
    """Workers that scan paths, as a scanner drives them."""

    def __init__(self, workers: ThreadWorkers, scan: PathScan) -> None:
        self._workers, self._scan = workers, scan
        self.stop = workers.stop

    def submit(self, path: str, *, named: bool) -> Future[Done | None]:
        return self._workers.submit(lambda: self._scan.scan(path, named=named))


@contextmanager
def running(
    memory: ScanCache,
    load: Callable[[], Any] = FakeClassifier,
    *,
    jobs: int = 2,
    walk: WalkOptions | None = None,
    read: Read = identify,
) -> Iterator[Lanes]:
    with scan_fakes.engine(load, jobs=jobs) as engine:
        workers = ThreadWorkers(engine.jobs)
        try:
            yield Lanes(workers, PathScan(memory, engine, walk=walk or WalkOptions(), read=read))
        finally:
            workers.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("nsfwscan")]


def done(future: Future[Done | None]) -> Done:
    result = future.result(30)
    assert result is not None
    return result


def test_a_picture_goes_the_whole_way(tmp_path: Path, pool: FakePool, memory: ScanCache) -> None:
    path = scan_fakes.write(tmp_path / "a.jpg", b"\xff picture")
    with running(memory) as lanes:
        found = done(lanes.submit(str(path), named=True))
    assert isinstance(found.found, Scored)
    assert found.found.scores.unsafe == 1.0
    assert (found.path, found.origin) == (str(path), Origin.MODEL)
    assert (pool.started, pool.closed) == (1, 1)


def test_nothing_is_started_for_what_needs_no_score(
    tmp_path: Path, pool: FakePool, memory: ScanCache
) -> None:
    path = scan_fakes.write(tmp_path / "a.jpg", b"\xff picture")
    memory.claim(hashlib.sha256(path.read_bytes()).digest())
    with running(memory, lambda: pytest.fail("loaded")) as lanes:
        assert isinstance(done(lanes.submit(str(path), named=True)).found, Future)
        vanished = done(lanes.submit(str(tmp_path / "gone.jpg"), named=True)).found
        other = scan_fakes.write(tmp_path / "notes", b"only text")
        assert done(lanes.submit(str(other), named=False)).found == Skipped(
            str(other), SkipReason.NOT_AN_IMAGE
        )
    assert isinstance(vanished, Failed)
    assert vanished.reason is FailReason.VANISHED
    assert pool.started == 0


def test_stop_gives_none_for_what_was_not_begun(
    tmp_path: Path, pool: FakePool, memory: ScanCache
) -> None:
    paths = [scan_fakes.write(tmp_path / f"{at}.jpg", b"%d" % at) for at in range(6)]
    gate = pool.gates[b"0"] = threading.Event()
    with running(memory, jobs=1) as lanes:
        futures = [lanes.submit(str(path), named=True) for path in paths]
        assert not wait(futures, 0.05).done
        lanes.stop()
        gate.set()
        assert isinstance(done(futures[0]).found, Scored)
        assert [future.result(30) for future in futures[1:]] == [None] * 5


def test_a_model_that_cannot_be_loaded_breaks_every_lane_alike(
    tmp_path: Path, pool: FakePool, memory: ScanCache
) -> None:
    def load() -> Any:
        raise ModelUnusable("no such operator", hint="update")

    with running(memory, load) as lanes:
        for at in range(4):
            path = scan_fakes.write(tmp_path / f"{at}.jpg", b"%d" % at)
            with pytest.raises(ModelUnusable, match="no such operator"):
                lanes.submit(str(path), named=True).result(30)
    assert pool.closed == 1


def test_decoders_that_cannot_be_started_break_every_lane_alike(
    tmp_path: Path, pool: FakePool, memory: ScanCache
) -> None:
    def refuse() -> None:
        raise NsfwscanError("too many processes")

    pool.on_start = refuse
    with running(memory, lambda: pytest.fail("loaded")) as lanes:
        futures = [
            lanes.submit(str(scan_fakes.write(tmp_path / f"{at}.jpg", b"%d" % at)), named=True)
            for at in range(4)
        ]
        for future in futures:
            with pytest.raises(NsfwscanError, match="too many processes"):
                future.result(30)
    assert pool.started == 1


def test_a_bug_in_a_lane_leaves_nobody_waiting(
    tmp_path: Path, pool: FakePool, memory: ScanCache
) -> None:
    class Buggy(FakeClassifier):
        def read(self, *_: Any, **__: Any) -> Reading:
            raise ZeroDivisionError

    one, two = (scan_fakes.write(tmp_path / name, b"same") for name in ("1.jpg", "2.jpg"))
    gate = pool.gates[b"same"] = threading.Event()
    with running(memory, Buggy) as lanes:
        first = lanes.submit(str(one), named=True)
        second = done(lanes.submit(str(two), named=True)) if _claimed(memory, b"same") else None
        gate.set()
        with pytest.raises(ZeroDivisionError):
            first.result(30)
        assert second is not None
        assert isinstance(second.found, Future)
        with pytest.raises(ZeroDivisionError):
            second.found.result(30)


def test_an_outcome_that_cannot_be_stored_leaves_no_thread_waiting(
    tmp_path: Path, pool: FakePool, memory: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(memory, "settle", settle)
    one, two = (scan_fakes.write(tmp_path / name, b"same") for name in ("1.jpg", "2.jpg"))
    gate = pool.gates[b"same"] = threading.Event()
    with running(memory) as lanes:
        first = lanes.submit(str(one), named=True)
        second = done(lanes.submit(str(two), named=True)) if _claimed(memory, b"same") else None
        gate.set()
        with pytest.raises(MemoryError):
            first.result(30)
        assert second is not None
        assert isinstance(second.found, Future)
        with pytest.raises(MemoryError):
            second.found.result(30)


def _claimed(memory: ScanCache, data: bytes) -> bool:
    """Wait until a lane has claimed a content."""
    sha256 = hashlib.sha256(data).digest()
    deadline = time.monotonic() + 30
    while sha256 not in memory._claims and time.monotonic() < deadline:
        time.sleep(0.001)
    return sha256 in memory._claims


def test_numbers_that_are_none_are_a_failure_of_the_picture(
    tmp_path: Path, pool: FakePool, memory: ScanCache
) -> None:
    class Nan(FakeClassifier):
        def read(self, *_: Any, **__: Any) -> Reading:
            raise ModelUnusable("returned nan")

    path = scan_fakes.write(tmp_path / "a.jpg", b"x")
    with running(memory, Nan) as lanes:
        found = done(lanes.submit(str(path), named=True)).found
    assert found == Unscorable(FailReason.BAD_OUTPUT, "returned nan")


def test_large_files_are_read_one_at_a_time(
    tmp_path: Path, pool: FakePool, memory: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_scan, "_LARGE_BYTES", 100)
    lock, most, now = threading.Lock(), 0, 0

    def read(source: str, **options: Any) -> Content:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        content = identify(source, **options)
        with lock:
            now -= 1
        return content

    paths = [scan_fakes.write(tmp_path / f"{at}.jpg", bytes([at]) * 101) for at in range(6)]
    with running(memory, jobs=4, read=read) as lanes:
        for future in [lanes.submit(str(path), named=True) for path in paths]:
            assert isinstance(done(future).found, Scored)
    assert most == 1


@pytest.mark.parametrize(
    ("mtime_s", "ctime_s", "racy"),
    [
        (90, 90, False),
        (97, 96, False),
        (97.1, 90, True),
        (90, 97.1, True),
        (100, 100, True),
        (3000, 90, True),
        (90, 3000, True),
        (5000, 100, True),
    ],
)
def test_young_files_and_those_from_the_near_future_are_racy(
    mtime_s: float, ctime_s: float, racy: bool
) -> None:
    key = FileKey(1, int(mtime_s * 10**9), int(ctime_s * 10**9), 1)
    assert is_racy(key, 100 * 10**9) is racy


@pytest.mark.parametrize(("mtime_s", "ctime_s"), [(5000, 90), (90, 5000), (5000, 5000)])
def test_a_time_far_ahead_is_trusted_unless_it_may_be_a_servers_present(
    mtime_s: int, ctime_s: int
) -> None:
    key = FileKey(1, mtime_s * 10**9, ctime_s * 10**9, 1)
    assert not is_racy(key, 100 * 10**9)
    assert is_racy(key, 100 * 10**9, 1)


@pytest.mark.parametrize("days", [3, 400])
def test_no_servers_present_is_days_ahead(days: int) -> None:
    key = FileKey(1, days * 86400 * 10**9, 90 * 10**9, 1)
    assert not is_racy(key, 100 * 10**9, 1)

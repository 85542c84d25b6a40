"""A watcher to which the system refuses something for a while waits, and then knows the truth."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from watch_fakes import SCORER, Told, picture, tree, watching

from nsfwscan.cache.cache import Cache
from nsfwscan.media import read as reading
from nsfwscan.scanning.scanner import Scanner
from nsfwscan.system import interrupts, threads
from nsfwscan.values.errors import CacheUnavailable, NsfwscanError
from nsfwscan.watch import batches, observation, reconcile, settle, unsaved
from nsfwscan.watch.events import Events

_REFUSED = 1 << 62
"""Bytes that no system has."""
_NEXT_TO_NOTHING = """
import resource
from nsfwscan.system.threads import require_room
require_room()
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (9 << 20), resource.RLIM_INFINITY))
try:
    require_room()
except MemoryError:
    print("short")
"""


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as opened:
        yield opened


@pytest.mark.skipif(sys.platform != "linux", reason="Linux limits the address space")
def test_room_for_one_more_stack_is_not_room_for_threads() -> None:
    command = [sys.executable, "-c", _NEXT_TO_NOTHING]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "short\n"


def test_work_that_must_be_done_needs_no_room_for_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert interrupts.apart(threading.get_ident) != threading.get_ident()
    monkeypatch.setattr(threads, "_ROOM_BYTES", _REFUSED)
    assert interrupts.apart(threading.get_ident) == threading.get_ident()


def test_no_thread_is_started_while_there_is_no_room_for_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_RESTART_S", 0.2)
    monkeypatch.setattr(observation, "_OBSERVE_AGAIN_S", 0.2)
    monkeypatch.setattr(reconcile, "_LEAST_POLL_S", 0.2)
    picture(root / "a.jpg", b"content")
    started: list[str] = []
    start = threading.Thread.start

    def noted(self: threading.Thread) -> None:
        started.append(self.name)
        start(self)

    monkeypatch.setattr(threads, "_ROOM_BYTES", _REFUSED)
    with watching(root) as running:
        monkeypatch.setattr(threading.Thread, "start", noted)
        running.until(lambda: len(running.watcher.state().degraded) == 2)
        time.sleep(1.0)
        assert started == []
        assert running.told.changes == []
        monkeypatch.setattr(threads, "_ROOM_BYTES", 1)
        running.until_as(root)
        running.until(lambda: running.watcher.state().degraded == ())
        assert started != []
    assert sum("out of memory" in one for one in running.warnings) == 2


def test_a_shortage_at_the_start_and_while_it_is_told_ends_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_RESTART_S", 0.2)
    begin, rest = observation.Observation.begin, batches.Batches.rest
    refusals = iter(range(2))

    def refuse(self: observation.Observation) -> None:
        for _ in refusals:
            raise MemoryError
        begin(self)

    def refuse_rest(self: batches.Batches) -> None:
        rest(self)
        raise MemoryError

    monkeypatch.setattr(observation.Observation, "begin", refuse)
    monkeypatch.setattr(batches.Batches, "rest", refuse_rest)
    picture(root / "a.jpg", b"content")
    with watching(root) as running:
        running.until_as(root)


class Shortage:
    """Keeps the watcher's thread from listing folders while it is `short` of descriptors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.short = False
        self.refused = 0
        self._real = os.scandir
        monkeypatch.setattr(os, "scandir", self._list)

    def _list(self, name: Any = ".") -> Any:
        if self.short and threading.current_thread().name == "test-watcher":
            self.refused += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._real(name)


def test_what_is_gone_is_told_though_its_folder_could_not_be_listed_for_a_moment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_LEAST_AGAIN_S", 0.2)
    path = picture(root / "folder" / "a.jpg", b"content")
    listing = Shortage(monkeypatch)
    with watching(root) as running:
        running.until_as(root)
        listing.short = True
        path.unlink()
        running.until(lambda: listing.refused > 0)
        listing.short = False
        running.until_as(root)
    assert running.told.lines == [("new", "a.jpg"), ("gone", "a.jpg")]


def test_a_folder_that_came_while_descriptors_were_short_is_scanned_soon(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_LEAST_AGAIN_S", 0.2)
    picture(tmp_path / "outside" / "a.jpg", b"content")
    listing = Shortage(monkeypatch)
    with watching(root) as running:
        running.until_first_look()
        listing.short = True
        (tmp_path / "outside").rename(root / "folder")
        running.until(lambda: listing.refused > 0)
        listing.short = False
        running.until_as(root)
        running.until(lambda: running.watcher.state().degraded == ())


def test_what_can_never_be_listed_is_tried_ever_more_rarely(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_LEAST_AGAIN_S", 0.05)
    (root / "closed").mkdir()
    real = os.scandir
    tried: list[float] = []

    def refuse(name: Any = ".") -> Any:
        if name == str(root / "closed"):
            tried.append(time.monotonic())
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name)

    monkeypatch.setattr(os, "scandir", refuse)
    with watching(root) as running:
        running.until(lambda: len(tried) > 5)
        waits = [later - earlier for earlier, later in itertools.pairwise(tried)]
        assert waits[-1] > 0.05 * 2**3
        assert len(tried) < 9


def test_a_picture_does_not_lose_its_verdict_because_a_second_look_found_no_descriptor(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_RETRY_S", (0.2, 0.2))
    told = Told()
    picture(root / "a.jpg", b"content")
    real, short, refused = reading.open_picture, False, 0

    def refuse(name: str, *, follow: bool) -> int:
        nonlocal refused
        if short:
            refused += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(name, follow=follow)

    monkeypatch.setattr(reading, "open_picture", refuse)
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
        short = True  # at three seconds it is read once more
        running.until(lambda: refused > 1)
    short = False
    with watching(root, cache=cache, told=told) as running:
        running.until_first_look()
        running.until(lambda: running.watcher.state().queue == 0)
        assert told.tree == tree(root)
    assert told.lines == [("new", "a.jpg")]


def test_what_was_told_while_the_cache_did_not_work_is_known_to_it_once_it_does(
    root: Path, cache: Cache, pool: scan_fakes.FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_RETRY_S", (0.2, 0.2))
    monkeypatch.setattr(settle, "_LATER_S", 1)
    monkeypatch.setattr(unsaved, "_AT_A_TIME", 2)
    told = Told()

    def refuse(*_: object) -> None:
        raise CacheUnavailable("unable to open database file")

    real = Cache.write
    paths = [picture(root / f"{at}.jpg", b"content %d" % at) for at in range(9)]
    monkeypatch.setattr(Cache, "write", refuse)
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
        running.until(lambda: len(pool.decoded) > len(paths))  # one was tried once more
        monkeypatch.setattr(Cache, "write", real)
        assert any("unable to open" in one for one in running.watcher.state().degraded)
        running.until(lambda: running.watcher.state().degraded == ())
    for path in paths[::2]:
        path.unlink()
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
    assert [event for event, _name in told.lines] == ["new"] * 9 + ["gone"] * 5


def test_a_cache_that_never_works_costs_ever_less(
    root: Path, cache: Cache, pool: scan_fakes.FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_RETRY_S", (0.1, 0.1, 60.0))

    def refuse(*_: object) -> None:
        raise CacheUnavailable("the disk is full")

    monkeypatch.setattr(Cache, "write", refuse)
    for at in range(9):
        os.utime(picture(root / f"{at}.jpg", b"content %d" % at), (1e9, 1e9))
    with watching(root, cache=cache) as running:
        running.until_as(root)
        time.sleep(4.0)  # in which young files are looked at once more
        assert len(pool.decoded) <= 9 + 9 + 2


def test_what_was_told_before_decoders_failed_is_known_to_the_cache_at_once(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Scanner.scan_listings

    def fails_in_the_end(*given: Any) -> Iterator[Any]:
        yield from real(*given)
        raise NsfwscanError("no decoder starts")

    monkeypatch.setattr(Scanner, "scan_listings", fails_in_the_end)
    paths = [picture(root / f"{at}.jpg", b"content %d" % at) for at in range(5)]
    with watching(root, cache=cache) as running:
        running.until_as(root)
        # Until the next scan, half a minute later, a kill may come.
        running.until(lambda: len(cache.folder(str(root), SCORER)) == len(paths), within_s=3)


def test_what_was_told_when_there_was_no_memory_to_locate_it_is_located_later(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_RESTART_S", 0.2)
    real = Cache.write
    refusals = iter([MemoryError()])

    def refuse(self: Cache, files: Any, *rest: Any) -> None:
        if files:
            for refusal in refusals:
                raise refusal
        real(self, files, *rest)

    monkeypatch.setattr(Cache, "write", refuse)
    paths = [picture(root / f"{at}.jpg", b"content %d" % at) for at in range(5)]
    with watching(root, cache=cache) as running:
        running.until_as(root)
        running.until(lambda: len(cache.folder(str(root), SCORER)) == len(paths), within_s=2.5)


@pytest.mark.parametrize("ahead_s", [365 * 86_400, -365 * 86_400])
def test_what_was_told_while_the_clock_was_set_is_known_to_the_cache(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    real = batches.Batches._begin

    def ahead(self: batches.Batches) -> batches._Batch:
        begun = real(self)
        begun.began_ns += ahead_s * 10**9  # and it is set right before a picture is read
        return begun

    monkeypatch.setattr(batches.Batches, "_begin", ahead)
    with watching(root, cache=cache) as running:
        running.until_first_look()
        picture(root / "a.jpg", b"content")
        running.until_as(root)
        running.until(lambda: "a.jpg" in cache.folder(str(root), SCORER), within_s=2.5)


START = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
"""What `Thread.start` calls."""


def test_an_observer_whose_threads_never_begin_is_given_up_and_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "_START_S", 0.3)

    events = Events(lambda _: True)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading, START, lambda *_, **__: None)
            assert "does not begin" in events.observe(str(root))
        assert events.observe(str(root)) == ""
        assert events.observes(str(root))
    finally:
        events.close()

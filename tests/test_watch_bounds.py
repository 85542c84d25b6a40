"""What could grow, spin or starve in a watcher, and the bound it has."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from watch_fakes import picture, watching

from nsfwscan.cache.cache import Cache
from nsfwscan.media import read as reading
from nsfwscan.values.changes import Told
from nsfwscan.values.results import Failed, FailReason
from nsfwscan.watch import judging, settle
from nsfwscan.watch.cache_sync import CacheSync
from nsfwscan.watch.manners import Pace, When
from nsfwscan.watch.settle import Settling
from nsfwscan.watch.watcher import Watcher


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


def rewritten(settling: Settling, path: str, now: float, key: bytes) -> None:
    """Let a program open, write and close a file, as the system tells it."""
    settling.written(path, now)
    settling.closed(path, now)
    settling.note(path, key, now, 0.0)


def test_a_file_that_never_stands_still_is_due_again_and_again_in_a_small_queue() -> None:
    settling = Settling(1.0)
    looks, longest, now, since = 0, 0, 0.0, 0.0
    for step in range(18_000):  # half an hour, ten times a second
        now += 0.1
        rewritten(settling, "/cam.jpg", now, b"%d" % step)
        for path, waiting in settling.due(now, 4096).items():
            if waiting.is_overdue(now):
                looks, longest, since = looks + 1, max(longest, int(now - since)), now
            settling.note(path, b"after %d" % step, now, 0.0)
        assert len(settling._queue) <= 2 + settle._QUEUE_SLACK
    assert looks >= 18_000 / 10 / settle.MOST_UNSETTLED_S - 2
    assert longest <= settle.MOST_UNSETTLED_S + 1


def test_a_file_that_is_held_open_for_writing_is_not_read_half_way() -> None:
    settling = Settling(1.0)
    for second in range(300):
        settling.written("/download.jpg", float(second))
        settling.note("/download.jpg", b"%d" % second, float(second), 0.0)
        assert settling.due(float(second), 10) == {}
    settling.closed("/download.jpg", 300.0)
    assert list(settling.due(301.0, 10)) == ["/download.jpg"]


def test_many_files_that_come_and_go_leave_nothing_in_the_queue() -> None:
    settling = Settling(1.0)
    for number in range(10_000):
        path = f"/{number}.jpg"
        settling.note(path, b"key", 0.0, 0.0)
        settling.drop(path)
    settling.note("/last.jpg", b"key", 0.0, 0.0)
    assert len(settling._queue) <= 2 + settle._QUEUE_SLACK


def test_a_picture_of_a_camera_is_told_although_it_never_stands_still(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MOST_UNSETTLED_S", 1.0)
    ended = threading.Event()

    def film() -> None:
        number = 0
        while not ended.wait(0.004):
            number += 1
            (root / "next").write_bytes(b"\xff picture %d" % number)
            os.replace(root / "next", root / "cam.jpg")

    with watching(root) as running:
        running.until_first_look()
        camera = threading.Thread(target=film)
        camera.start()
        try:
            running.until(lambda: len(running.told.changes) >= 3)
        finally:
            ended.set()
            camera.join()
        running.until_as(root)
    assert {event for event, _name in running.told.lines} == {"new", "changed"}


def test_a_paused_watcher_sleeps_though_a_known_picture_is_missing(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = picture(root / "known.jpg", b"\xff known")
    with watching(root, cache=cache, once=True) as running:
        running.until(lambda: len(running.told.changes) == 1)
        running._thread.join(20)
    known.unlink()
    # As after a scan, which does not remember which disk was there.
    monkeypatch.setattr(CacheSync, "places", lambda _self: {})
    for folder in "abc":  # the walk waits for the end of the pause
        (root / folder).mkdir()
        for number in range(100):
            picture(root / folder / f"{number}.jpg", b"\x00 %s %d" % (folder.encode(), number))
    time.sleep(0.5)  # they have settled
    turns = 0
    turn = Watcher._turn

    def counted(self: Watcher) -> Iterator[Told]:
        nonlocal turns
        turns += 1
        return turn(self)

    monkeypatch.setattr(Watcher, "_turn", counted)
    paused = [True]
    with watching(
        root,
        cache=cache,
        pace=lambda: Pace(When.PAUSE, "on battery") if paused[0] else Pace(When.RUN, ""),
    ) as running:
        running.until(lambda: running.watcher.state().paused == "on battery")
        time.sleep(3.0)  # until it is overdue
        before = turns
        time.sleep(4.0)
        assert turns - before < 20
        paused[0] = False
        running.until(lambda: len(running.told.tree) == 300)


def test_a_reconcile_that_waits_for_scans_is_not_taken_for_a_long_one(root: Path) -> None:
    for folder in "ab":
        for number in range(100):
            path = root / folder / f"{number}.jpg"
            os.utime(picture(path, b"%s %d" % (folder.encode(), number)), (1e9, 1e9))
    time.sleep(0.5)  # they have settled
    paused = [True]
    with watching(
        root,
        pace=lambda: Pace(When.PAUSE, "on battery") if paused[0] else Pace(When.RUN, ""),
    ) as running:
        running.until(lambda: running.watcher.state().paused == "on battery")
        time.sleep(3.0)
        assert running.watcher.state().reconciled_at is None
        paused[0] = False
        running.until_as(root)
        # Otherwise hints in doubt would be relied on for a minute, and polls be an hour apart.
        assert running.watcher._reconcile.took_s < 2.0


def test_a_failure_that_may_not_be_the_files_is_not_believed_at_once_however_old_the_file() -> None:
    old = 10 * 86_400.0
    for reason in FailReason:
        believed = settle.retry_delay_s(reason, old, 0) is None
        assert believed == (not reason.startswith("decoder-"))
    assert settle.retry_delay_s(FailReason.DECODER_CRASHED, old, 2) is None


def test_a_picture_that_could_not_be_opened_for_want_of_descriptors_is_scanned_in_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_RETRY_S", (0.1, 0.1))
    monkeypatch.setattr(settle, "_LATER_S", 1)
    path = picture(root / "old.jpg", b"an old picture")
    os.utime(path, (1e9, 1e9))
    real, short = reading.open_picture, True

    def refuse(name: str, *, follow: bool) -> int:
        if short and name == str(path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(name, follow=follow)

    monkeypatch.setattr(reading, "open_picture", refuse)
    with watching(root) as running:
        running.until(lambda: running.told.lines == [("new", "old.jpg")])
        assert isinstance(running.told.changes[0].result, Failed)
        short = False
        running.until_as(root)
    assert running.told.lines == [("new", "old.jpg"), ("changed", "old.jpg")]


def test_a_failure_that_may_pass_is_tried_ever_more_rarely() -> None:
    delays = [settle.later_delay_s(tries) for tries in (0, 3, 4, 5, 12, 13)]
    assert delays == [2, 60, 60, 120, 15360, 15360]
    assert settle.retry_delay_s(FailReason.UNREADABLE, 1e9, 0, transient=True) == 2.0
    assert settle.retry_delay_s(FailReason.UNREADABLE, 1e9, 0) is None


def test_a_picture_of_which_nothing_can_be_learnt_for_a_moment_is_not_dropped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_RETRY_S", (0.2, 0.2))
    path = picture(root / "a.jpg", b"content")
    real, refusals = os.stat, iter([errno.ESTALE, errno.EIO])

    def refuse(name: object, **how: Any) -> os.stat_result:
        if name == str(path):
            for code in refusals:
                raise OSError(code, os.strerror(code))
        return real(name, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(judging.os, "stat", refuse)
    with watching(root) as running:
        running.until_as(root)
    assert running.told.lines == [("new", "a.jpg")]

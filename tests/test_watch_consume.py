"""What a consumer did not take stays untold, however it fails, and is told to the next one."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from watch_fakes import SCORER, Told, opened, picture, tree, watching

from nsfwscan.cache.cache import Cache
from nsfwscan.scanning.scanner import Scanner
from nsfwscan.values.changes import BatchDone, Change, Event, WatchState
from nsfwscan.values.changes import Told as WhatIsTold
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.watch import batches, judging
from nsfwscan.watch.consume import hand_on


class Failure(Exception):
    """Of a consumer."""


@pytest.fixture(autouse=True)
def located_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the stat of files however young they are."""
    scan_fakes.install_pool(monkeypatch)
    scan_fakes.set_clock_ahead(monkeypatch, 3)
    monkeypatch.setattr(judging, "_TRUSTED_S", 0.0)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "cache.sqlite3"), warn=pytest.fail) as cache:
        yield cache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with three pictures."""
    for name in ("a", "b", "c"):
        picture(tmp_path / "root" / f"{name}.jpg", name.encode())
    return tmp_path / "root"


def once(root: Path, cache: Cache, take: Callable[[WhatIsTold], None]) -> None:
    """Watch until all is told."""
    with opened(root, cache=cache, once=True) as watcher:
        hand_on(watcher.run(), take)


def told_once(root: Path, cache: Cache) -> list[Change]:
    told = Told()
    once(root, cache, told.take)
    return told.changes


def new(root: Path) -> None:
    picture(root / "new.jpg", b"new")


def changed(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"another content")


def moved(root: Path) -> None:
    (root / "a.jpg").rename(root / "elsewhere.jpg")


def gone(root: Path) -> None:
    (root / "a.jpg").unlink()


def a_link(root: Path) -> None:
    (root / "a.jpg").unlink()
    (root / "a.jpg").symlink_to("b.jpg")


def fails(told: WhatIsTold) -> None:
    if isinstance(told, Change):
        raise Failure


def is_interrupted(told: WhatIsTold) -> None:
    if isinstance(told, Change):
        raise KeyboardInterrupt


@pytest.mark.parametrize("take", [fails, is_interrupted])
@pytest.mark.parametrize(
    ("happens", "event"),
    [
        (new, Event.NEW),
        (changed, Event.CHANGED),
        (moved, Event.MOVED),
        (gone, Event.GONE),
        (a_link, Event.CHANGED),
    ],
)
def test_a_change_that_was_not_taken_is_told_to_the_next_consumer(
    root: Path,
    cache: Cache,
    happens: Callable[[Path], None],
    event: Event,
    take: Callable[[WhatIsTold], None],
) -> None:
    assert len(told_once(root, cache)) == 3
    happens(root)
    with pytest.raises((Failure, KeyboardInterrupt)):
        once(root, cache, take)
    changes = told_once(root, cache)
    assert [change.event for change in changes] == [event]
    assert told_once(root, cache) == []


def test_a_watcher_that_is_asked_no_more_leaves_the_rest_of_its_batch_untold(
    root: Path, cache: Cache
) -> None:
    taken: list[str] = []
    with (
        opened(root, cache=cache, once=True) as watcher,
        contextlib.closing(watcher.run()) as stream,
    ):
        for told in stream:
            if isinstance(told, Change):
                if taken:
                    break  # yielded and not taken
                taken.append(told.path)
    rest = [change.path for change in told_once(root, cache)]
    assert sorted(taken + rest) == sorted(str(path) for path in root.iterdir())


def test_a_consumer_without_memory_is_told_once_more(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_RESTART_S", 0.2)
    refusals = iter([MemoryError(), RuntimeError("can't start new thread")])

    class Short(Told):
        def take(self, told: WhatIsTold) -> None:
            if isinstance(told, Change | BatchDone):
                for refusal in refusals:
                    raise refusal
            super().take(told)

    with watching(root, cache=cache, told=Short()) as running:
        running.until_as(root)
        running.until(lambda: running.watcher.state().degraded == ())
    assert [event for event, _name in running.told.lines] == ["new"] * 3
    assert told_once(root, cache) == []


def test_what_was_found_before_decoders_failed_is_told_after_a_restart(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Scanner.scan_listings

    def finds_and_fails(*given: Any) -> Iterator[object]:
        list(real(*given))
        raise NsfwscanError("no decoder starts")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(Scanner, "scan_listings", finds_and_fails)
        assert told_once(root, cache) == []
    assert len(told_once(root, cache)) == 3
    assert told_once(root, cache) == []


def test_what_was_found_before_decoders_failed_is_told_once_by_the_same_watcher(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(told_once(root, cache)) == 3
    changed(root)
    monkeypatch.setattr(batches, "_RESTART_S", 0.2)
    real = Scanner.scan_listings
    failures = iter([NsfwscanError("no decoder starts")])

    def finds_and_fails(*given: Any) -> Iterator[object]:
        results = list(real(*given))
        for failure in failures:
            raise failure
        yield from results

    monkeypatch.setattr(Scanner, "scan_listings", finds_and_fails)
    with watching(root, cache=cache) as running:
        running.until(lambda: bool(running.told.changes))
    assert running.told.lines == [("changed", "a.jpg")]
    assert told_once(root, cache) == []


def test_what_a_killed_watcher_had_saved_and_not_told_is_told_by_the_next(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsfwscan.scanning.scan_cache._BATCH_SECONDS", 0.0)
    library, owed = tmp_path / "library.sqlite3", tmp_path / "owed.jsonl"
    kept = tmp_path / "kept"
    kept.mkdir()
    told, before = Told(), Told()
    for at in range(20):
        picture(root / f"{at}.jpg", b"\xff %d" % at)
    time.sleep(0.5)  # they have settled, and are one batch

    def take(what: WhatIsTold) -> None:
        told.take(what)
        if len(told.changes) == 1:
            time.sleep(0.5)  # the rest is scanned meanwhile
        if len(told.changes) == 4 and isinstance(what, Change):
            before.changes[:], before.tree = told.changes, dict(told.tree)
            for path in (library, owed):  # as a kill leaves them
                shutil.copy(path, kept)

    with (
        Cache.open(str(library), warn=pytest.fail) as cache,
        opened(root, cache=cache, once=True, owed_file=str(owed)) as watcher,
    ):
        hand_on(watcher.run(), take)
    assert told.tree == tree(root)
    with Cache.open(str(kept / library.name), warn=pytest.fail) as cache:
        assert len(cache.folder(str(root), SCORER)) > len(before.tree), "saved and not told"
        with opened(root, cache=cache, once=True, owed_file=str(kept / owed.name)) as watcher:
            hand_on(watcher.run(), before.take)
    assert before.tree == tree(root)


def test_the_state_is_told_while_there_is_nothing_else(root: Path) -> None:
    states: list[WatchState] = []
    with opened(root) as watcher:
        for told in watcher.run():
            if isinstance(told, WatchState):
                states.append(told)
                if sum(state.complete for state in states) == 2:
                    watcher.stop()
    assert states[-1].pictures == 3
    assert states[-1].scanned == 3

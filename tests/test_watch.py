"""The watcher in a thread, with fakes for decoders and model: what it hears and what it tells."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
import watch_fakes
from scan_fakes import FakePool
from sizes import trials
from watch_fakes import Told, picture, tree, watching

from nsfwscan.cache.cache import Cache
from nsfwscan.media import discover
from nsfwscan.media.listing import Listing
from nsfwscan.scanning.examine import Content, identify
from nsfwscan.scanning.scanner import Scanner
from nsfwscan.values.changes import Event
from nsfwscan.values.errors import CacheUnavailable, NsfwscanError, ResourcesExhausted
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.results import Failed, FailReason, Scanned
from nsfwscan.watch import batches, judging, reconcile, settle, watcher
from nsfwscan.watch.events import Events
from nsfwscan.watch.judging import Judged, Judging, News
from nsfwscan.watch.manners import Pace, When
from nsfwscan.watch.places import WatchedPlaces
from nsfwscan.watch.reconcile import Reconcile


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up hope for a broken picture, and for one that is open, within a second."""
    monkeypatch.setattr(settle, "_RETRY_S", (0.2, 0.2))


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose all events from now on."""
    monkeypatch.setattr(Events, "add", lambda *_arguments, **_named: None)


# What is told


def test_each_change_gives_one_event(root: Path, cache: Cache) -> None:
    picture(root / "a.jpg", b"\xff one")
    picture(root / "b.jpg", b"\x00 two")
    with watching(root, cache=cache) as running:
        running.until_as(root)
        assert running.told.lines == [("new", "a.jpg"), ("new", "b.jpg")]
        picture(root / "b.jpg", b"\xff other")
        running.until_as(root)
        os.rename(root / "a.jpg", root / "c.jpg")
        running.until_as(root)
        (root / "b.jpg").unlink()
        running.until_as(root)
        time.sleep(0.5)
    changes = running.told.changes
    assert running.told.lines[2:] == [("changed", "b.jpg"), ("moved", "c.jpg"), ("gone", "b.jpg")]
    assert changes[3].came_from == str(root / "a.jpg")
    assert isinstance(changes[3].result, Scanned)
    assert changes[3].result.verdict.decision == "nsfw"
    assert (changes[4].result, changes[4].decision) == (None, "nsfw")


def test_what_is_known_outlives_the_watcher(root: Path, cache: Cache, pool: FakePool) -> None:
    for at in range(5):
        picture(root / f"{at}.jpg", b"%d" % at)
    with watching(root, cache=cache, once=True) as running:
        running.until(lambda: len(running.told.changes) == 5)
        running._thread.join(20)  # it ends by itself, when the cache knows the young files, too
        assert not running._thread.is_alive()
    assert len(pool.decoded) == 5
    os.rename(root / "0.jpg", root / "moved.jpg")
    (root / "1.jpg").unlink()
    picture(root / "2.jpg", b"another")
    told = Told()
    told.know(cache, root)
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
    assert sorted(running.told.lines) == [
        ("changed", "2.jpg"), ("gone", "1.jpg"), ("moved", "moved.jpg"),
    ]  # fmt: skip
    assert len(pool.decoded) == 6


def test_another_old_copy_of_a_deleted_picture_has_not_moved(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_COPIED_S", 0.0)
    first = picture(root / "a" / "x.jpg", b"same")
    with watching(root, cache=cache) as running:
        running.until_as(root)
    first.unlink()
    picture(root / "b" / "y.jpg", b"same")
    time.sleep(1.5)  # it was there for long before the watcher looked
    told = Told()
    told.know(cache, root)
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
    assert sorted(told.lines) == [("gone", "x.jpg"), ("new", "y.jpg")]


def test_a_picture_that_moved_while_no_watcher_ran_has_moved_among_equal_ones(
    root: Path, cache: Cache
) -> None:
    for name in ("a", "b"):
        picture(root / name / f"{name}.jpg", b"same")
    with watching(root, cache=cache) as running:
        running.until_as(root)
    (root / "a" / "a.jpg").unlink()
    (root / "c").mkdir()
    (root / "b" / "b.jpg").rename(root / "c" / "a.jpg")
    told = Told()
    told.know(cache, root)
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
    moved = [one for one in told.changes if one.event is Event.MOVED]
    assert [one.path for one in moved] == [str(root / "c" / "a.jpg")]


def test_the_state_counts_each_picture_once(root: Path, cache: Cache) -> None:
    picture(root / "a.jpg", b"content")
    with watching(root, cache=cache) as running:
        running.until(lambda: len(running.told.changes) == 1)
        (root / "a.jpg").rename(root / "b.jpg")
        running.until(lambda: len(running.told.changes) == 2)
        state = running.watcher.state()
        assert (state.scanned, state.pictures, state.complete) == (1, 1, True)


def test_a_young_file_is_located_later_without_a_second_event(
    root: Path, cache: Cache, pool: FakePool
) -> None:
    with watching(root, cache=cache) as running:
        path = picture(root / "a.jpg", b"young")
        running.until_as(root)

        def located() -> bool:
            known = cache.folder(str(root), watch_fakes.SCORER)
            return "a.jpg" in known and known["a.jpg"].key == FileKey.of(os.stat(path))

        assert not located()
        running.until(located, within_s=8)
        # Same size, same times but the inode's: only reading it again tells.
        running.until(lambda: running.watcher.state().queue == 0)
    assert running.told.lines == [("new", path.name)]
    assert pool.decoded == [b"young"]


def test_a_restart_right_after_a_verdict_tells_nothing_twice(
    root: Path, cache: Cache, pool: FakePool
) -> None:
    told = watch_fakes.Told()
    path, other = picture(root / "a.jpg", b"as it was"), picture(root / "b.jpg", b"stays")
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
    assert len(told.changes) == 2
    found = path.stat()
    path.write_bytes(b"otherwise")  # as long, and soon as old
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
        running.until(lambda: running.watcher.state().queue == 0)
    assert told.lines[2:] == [("changed", "a.jpg")]
    assert pool.decoded.count(b"stays") == 1, other


def test_a_file_from_the_future_is_read_once_and_not_at_each_restart(
    root: Path, cache: Cache
) -> None:
    read: list[str] = []

    def counted(source: str, **how: Any) -> Content:
        read.append(source)
        return identify(source, **how)

    path = picture(root / "a.jpg", b"by a camera whose clock is wrong")
    ahead = time.time_ns() + 400 * 86400 * 10**9
    os.utime(path, ns=(ahead, ahead))
    time.sleep(3.2)  # it must have been at rest
    told = Told()
    for _ in range(3):
        with watching(root, cache=cache, told=told, read=counted) as running:
            running.until_first_look()
            running.until_as(root)
            running.until(lambda: running.watcher.state().queue == 0)
    assert told.lines == [("new", "a.jpg")]
    assert read == [str(path)]


def test_a_burst_makes_few_scans_and_few_transactions(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    real = Cache.write
    monkeypatch.setattr(
        Cache, "write", lambda self, *rows: (writes.append(len(rows[0])), real(self, *rows))[1]
    )
    with watching(root, cache=cache) as running:
        running.until_first_look()
        for at in range(1000):
            picture(root / f"{at}.jpg", b"%d" % at)
        running.until_as(root)
    assert len(running.told.changes) == 1000
    assert running.told.batches <= 20
    assert len(writes) <= 40


def test_a_touched_file_gives_no_event(root: Path, cache: Cache) -> None:
    path = picture(root / "a.jpg", b"same")
    with watching(root, cache=cache) as running:
        running.until_as(root)
        os.utime(path)
        path.chmod(0o600)
        picture(root / "b.jpg", b"later")
        running.until_as(root)
        time.sleep(0.5)
    assert running.told.lines == [("new", "a.jpg"), ("new", "b.jpg")]


def test_a_picture_that_becomes_a_link_has_no_verdict_any_more(root: Path, tmp_path: Path) -> None:
    path = picture(root / "a.jpg", b"content")
    other = picture(tmp_path / "other.jpg", b"other")
    with watching(root) as running:
        running.until_as(root)
        path.unlink()
        path.symlink_to(other)
        running.until_as(root)
    assert running.told.lines[-1][0] in {"changed", "gone"}


def test_own_files_and_hidden_ones_are_left(root: Path) -> None:
    with watching(root) as running:
        picture(root / ".nsfwscan-quarantine" / "a.jpg", b"quarantined")
        picture(root / ".hidden.jpg", b"hidden")
        picture(root / "seen.jpg", b"seen")
        running.until_as(root)
        time.sleep(0.4)
    assert running.told.lines == [("new", "seen.jpg")]


def test_reading_a_picture_is_no_event(root: Path, cache: Cache, pool: FakePool) -> None:
    path = picture(root / "a.jpg", b"read me")
    with watching(root, cache=cache) as running:
        running.until_as(root)
        running.until(lambda: running.watcher.state().queue == 0)
        time.sleep(0.2)
        seen = []
        running.watcher._events.add = lambda *one, **_named: seen.append(one)  # type: ignore[method-assign]
        for _ in range(5):
            path.read_bytes()
            subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
        time.sleep(0.5)
        assert seen == []


# Trees that appear


def _make_and_write(root: Path) -> None:
    for at in range(trials(300, 10_000)):
        folder = root / f"{at % 50}" / f"{at % 7}" / f"{at}"
        folder.mkdir(parents=True)
        (folder / "p.jpg").write_bytes(b"%d" % at)


def _untar(root: Path) -> None:
    archive = root.parent / "archive.tar"
    source = root.parent / "source"
    for at in range(trials(1000, 50_000)):
        path = source / f"{at % 100}" / f"{at}.jpg"
        picture(path, b"%d" % at)
        os.utime(path, (1e9, 1e9))  # which an archive keeps
    with tarfile.open(archive, "w") as tar:
        tar.add(source, "source")
    subprocess.run(["tar", "-xf", archive, "-C", root], check=True)


def _copy(root: Path) -> None:
    source = root.parent / "source"
    for at in range(trials(500, 10_000)):
        picture(source / f"{at % 30}" / f"{at}.jpg", b"%d" % at)
    subprocess.run(["cp", "-r", source, root], check=True)


def _move_in(root: Path) -> None:
    source = root.parent / "source"
    for at in range(trials(300, 10_000)):
        picture(source / f"{at % 30}" / f"{at}.jpg", b"%d" % at)
    os.rename(source, root / "source")


@pytest.mark.parametrize("arrive", [_make_and_write, _untar, _copy, _move_in])
def test_of_trees_that_appear_at_once_nothing_is_missed(root: Path, arrive) -> None:
    with watching(root) as running:
        running.until_first_look()
        arrive(root)
        running.until_as(root, within_s=trials(30, 100))
        assert running.watcher.state().degraded == ()


# Files that are being written


def _rename_over(path: Path, final: bytes) -> None:
    temporary = path.with_name("half.jpg.tmp")
    temporary.write_bytes(final[:3])
    temporary.write_bytes(final)
    temporary.replace(path)


def _download(path: Path, final: bytes) -> None:
    path.touch()  # Firefox reserves the name
    part = path.with_name(f"{path.name}.part")
    for at in range(len(final)):
        with part.open("ab") as file:
            file.write(final[at : at + 1])
        time.sleep(0.05)
    part.replace(path)


def _truncate_and_write(path: Path, final: bytes) -> None:
    path.write_bytes(b"")
    with path.open("r+b") as file:
        for at in range(len(final)):
            file.write(final[at : at + 1])
            file.flush()
            time.sleep(0.05)


def _stall(path: Path, final: bytes) -> None:
    with path.open("wb") as file:
        file.write(final[:4])
        file.flush()
        time.sleep(0.6)  # four times the settling time
        file.write(final[4:])


def _keep_times(path: Path, final: bytes) -> None:
    source = path.with_name("source.bin")
    source.write_bytes(final)
    os.utime(source, (1e9, 1e9))
    shutil.copy2(source, path)


@pytest.mark.parametrize(
    ("save", "known"),
    [
        (_rename_over, True),
        (_rename_over, False),
        (_download, False),
        (_truncate_and_write, True),
        (_stall, False),
        (_keep_times, True),
    ],
)
def test_one_verdict_for_the_final_content_and_none_for_a_part(
    root: Path, cache: Cache, save, known: bool
) -> None:
    path = root / "p.jpg"
    final = b"\xff final content"
    if known:
        picture(path, b"\x00 before")
    with watching(root, cache=cache) as running:
        running.until_first_look()
        running.until_as(root)
        before = len(running.told.changes)
        save(path, final)
        running.until_as(root)
        time.sleep(0.6)
    events = running.told.changes[before:]
    assert [one.event for one in events] == [Event.CHANGED if known else Event.NEW]
    assert running.told.tree == tree(root)


def test_a_fresh_picture_that_cannot_be_decoded_is_tried_again_and_then_told_once(
    root: Path, cache: Cache, impatient: None
) -> None:
    path = picture(root / "p.jpg", b"broken for now")
    with watching(root, cache=cache) as running:
        time.sleep(0.4)
        assert running.told.changes == []
        path.write_bytes(b"whole")
        running.until_as(root)
        picture(root / "q.jpg", b"broken for good")
        running.until_as(root)
        time.sleep(0.5)
    assert running.told.lines == [("new", "p.jpg"), ("new", "q.jpg")]
    result = running.told.changes[1].result
    assert isinstance(result, Failed)
    assert result.reason is FailReason.CORRUPT


def test_what_was_located_and_not_told_is_told_after_a_restart(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_RETRY_S", (0.2, 60.0))
    scan_fakes.set_clock_ahead(monkeypatch, 2.9)  # located before it is believed
    told = watch_fakes.Told()
    picture(root / "broken.jpg", b"broken")
    told_first = picture(root / "known.jpg", b"told")
    with watching(root, cache=cache, told=told) as running:
        running.until(lambda: told.lines == [("new", "known.jpg")])
        told_first.write_bytes(b"broken, too")
        time.sleep(1.0)
        assert told.lines == [("new", "known.jpg")]
    monkeypatch.setattr(settle, "_RETRY_S", ())
    with watching(root, cache=cache, told=told) as running:
        running.until_as(root)
    assert sorted(told.lines[1:]) == [("changed", "known.jpg"), ("new", "broken.jpg")]


def test_what_was_located_and_vanished_untold_is_not_said_to_be_gone(
    root: Path, cache: Cache, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan_fakes.set_clock_ahead(monkeypatch, 3)
    told = watch_fakes.Told()
    path = picture(root / "a.jpg", b"passes by")
    judge = Judging.judge

    def vanishes(self: Judging, *arguments: Any) -> News | Judged:
        path.unlink(missing_ok=True)
        return judge(self, *arguments)

    monkeypatch.setattr(Judging, "judge", vanishes)
    with watching(root, cache=cache, told=told) as running:
        running.until(lambda: not path.exists())
    with watching(root, cache=cache, told=told) as running:
        running.until_first_look()
        time.sleep(2)
    assert told.changes == []


def test_a_failure_of_an_old_file_is_believed_at_once(root: Path) -> None:
    assert settle.retry_delay_s(FailReason.CORRUPT, 3600.0, 0) is None
    assert settle.retry_delay_s(FailReason.CORRUPT, 1.0, 0) == 2.0
    assert settle.retry_delay_s(FailReason.TOO_MANY_PIXELS, 1.0, 0) is None
    assert settle.retry_delay_s(FailReason.CORRUPT, 1.0, 4) is None


# Moves, links and names


def test_a_tree_moves_in_and_out(root: Path, cache: Cache, pool: FakePool) -> None:
    for at in range(60):
        picture(root / "trip" / f"{at % 5}" / f"{at}.jpg", b"%d" % at)
    with watching(root, cache=cache) as running:
        running.until_as(root)
        os.rename(root / "trip", root / "renamed")
        running.until_as(root)
        assert {event for event, _name in running.told.lines[60:]} == {"moved"}
        os.rename(root / "renamed", root.parent / "outside")
        running.until_as(root)
        assert running.told.tree == {}
        os.rename(root.parent / "outside", root / "back")
        running.until_as(root)
    assert len(pool.decoded) == 60, "nothing is scored twice"


def test_a_storm_of_renames_scores_nothing_again(root: Path, cache: Cache, pool: FakePool) -> None:
    for at in range(20):
        picture(root / f"{at}.jpg", b"%d" % at)
    with watching(root, cache=cache) as running:
        running.until_as(root)
        for turn in range(trials(100, 2000)):
            for at in range(20):
                os.rename(
                    root / (f"{at}-{turn - 1}.jpg" if turn else f"{at}.jpg"),
                    root / f"{at}-{turn}.jpg",
                )
        running.until_as(root)
    assert len(pool.decoded) == 20
    assert {event for event, _name in running.told.lines[20:]} == {"moved"}


def test_links_that_lead_in_circles_are_not_followed(root: Path) -> None:
    (root / "a").mkdir()
    picture(root / "a" / "p.jpg", b"content")
    (root / "a" / "loop").symlink_to(root)
    (root / "dead.jpg").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    with watching(root) as running:
        running.until_as(root)
        (root / "a" / "loop2").symlink_to(root / "a")
        picture(root / "a" / "q.jpg", b"another")
        running.until_as(root)
    assert running.told.lines == [("new", "p.jpg"), ("new", "q.jpg")]


@pytest.mark.parametrize("name", [b"new\nline.jpg", b"not \xff utf-8.jpg", b" .jpg", b"*?[.jpg"])
def test_hostile_names_are_reported_byte_for_byte(root: Path, cache: Cache, name: bytes) -> None:
    with watching(root, cache=cache) as running:
        path = os.path.join(os.fsencode(root), b"sub\n\xfe", name)
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(b"content")
        running.until_as(root)
        os.rename(path, path + b".jpg")
        running.until_as(root)
        os.unlink(path + b".jpg")
        running.until_as(root)
    assert [event for event, _name in running.told.lines] == ["new", "moved", "gone"]
    assert os.fsencode(running.told.changes[0].path) == path


# What cannot be reached


def test_a_root_that_is_deleted_is_waited_for_and_nothing_is_forgotten(
    root: Path, cache: Cache
) -> None:
    for at in range(5):
        picture(root / "sub" / f"{at}.jpg", b"%d" % at)
    with watching(root, cache=cache) as running:
        running.until_as(root)
        running.until(lambda: running.watcher.state().queue == 0)
        shutil.rmtree(root)
        running.until(lambda: "waiting for" in " ".join(running.watcher.state().degraded))
        time.sleep(2.5)
        assert len(running.told.changes) == 5
        assert len(cache.folder(str(root / "sub"), watch_fakes.SCORER)) == 5
        picture(root / "sub" / "9.jpg", b"9")
        running.until(lambda: ("new", "9.jpg") in running.told.lines)
        running.until(lambda: running.watcher.state().degraded == ())
        picture(root / "8.jpg", b"8")
        running.until(lambda: ("new", "8.jpg") in running.told.lines)
    assert not [one for one in running.told.lines if one[0] == "gone"]
    assert len(cache.folder(str(root / "sub"), watch_fakes.SCORER)) >= 5


def test_a_folder_that_cannot_be_listed_loses_nothing(
    root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(root / "sub" / "a.jpg", b"a")
    picture(root / "b.jpg", b"b")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path) == str(root / "sub"):
            raise OSError(5, "Input/output error")
        return real(path)

    with watching(root, cache=cache, reconcile_minutes=0.02) as running:
        running.until_as(root)
        monkeypatch.setattr(os, "scandir", scandir)
        running.until(lambda: any("cannot be listed" in one for one in running.warnings))
        running.until_reconciled()
        time.sleep(2)
        monkeypatch.setattr(os, "scandir", real)
    assert running.told.lines == [("new", "b.jpg"), ("new", "a.jpg")]


# Lost hints


def test_lost_hints_are_made_up_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(root) as running:
        running.until_first_look()
        deaf(monkeypatch)
        picture(root / "sub" / "a.jpg", b"unheard")
        time.sleep(0.5)
        assert running.told.changes == []
        running.watcher._events.lose("as the test wants it")
        running.until_as(root)


def test_more_hints_than_are_kept_make_a_reconcile(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsfwscan.watch.events._MOST_HINTS", 20)
    with watching(root) as running:
        running.until_first_look()
        for at in range(200):
            picture(root / f"{at}.jpg", b"%d" % at)
        running.until_as(root)


def test_a_dead_observer_is_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    with watching(root) as running:
        running.until_first_look()
        events = running.watcher._events
        observer = events._observers[str(root)]
        observer.stop()
        observer.join()
        picture(root / "a.jpg", b"while nobody looked")
        running.until_as(root)
        assert events.observes(str(root))
        picture(root / "b.jpg", b"and now")
        took = running.until_as(root)
        assert took < 1.5


def test_a_clock_that_jumps_makes_a_reconcile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, offset = time.time, 0
    with watching(root) as running:
        running.until_first_look()
        deaf(monkeypatch)
        monkeypatch.setattr(watcher.time, "time", lambda: real() + offset)
        for turn, offset in enumerate((86_400, -86_400)):  # noqa: B007  the clock reads it
            picture(root / f"{turn}.jpg", b"%d" % turn)
            running.until_as(root, within_s=30)


@pytest.mark.parametrize("poll", [True, False])
def test_polling_finds_what_nobody_reports(
    root: Path, monkeypatch: pytest.MonkeyPatch, poll: bool
) -> None:
    deaf(monkeypatch)
    monkeypatch.setattr(reconcile, "_LEAST_POLL_S", 0.5)
    if not poll:  # as on a network file system
        monkeypatch.setattr(WatchedPlaces, "is_silent", lambda *_: True)
    with watching(root, poll=poll) as running:
        running.until_first_look()
        picture(root / "a.jpg", b"unheard")
        running.until_as(root, within_s=5)
        assert bool(running.watcher.state().degraded) is not poll
        assert running.watcher._events._observers == {}


# What may fail


def test_without_a_library_it_works_from_memory(root: Path, pool: FakePool) -> None:
    for at in range(5):
        picture(root / f"{at}.jpg", b"%d" % at)
    with watching(root, reconcile_minutes=0.01) as running:
        running.until_as(root)
        for _ in range(3):
            running.until_reconciled()
    assert len(running.told.changes) == 5
    assert set(pool.decoded) == {b"%d" % at for at in range(5)}


def test_a_cache_that_cannot_be_written_is_said_once_and_nothing_is_scored_again(
    root: Path, cache: Cache, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CacheUnavailable("the disk is full")

    real = Cache.write
    monkeypatch.setattr(Cache, "write", refuse)
    with watching(root, cache=cache, reconcile_minutes=0.01) as running:
        for at in range(3):
            picture(root / f"{at}.jpg", b"%d" % at)
            running.until_as(root)
        for _ in range(3):
            running.until_reconciled()
        assert len([one for one in running.warnings if "disk is full" in one]) == 1
        assert any("disk is full" in one for one in running.watcher.state().degraded)
        scored = len(pool.decoded)
        running.until(lambda: running.watcher.state().queue <= 1)  # one waits to try the cache
        monkeypatch.setattr(Cache, "write", real)
        picture(root / "later.jpg", b"later")
        running.until_as(root)
        running.until(lambda: running.watcher.state().degraded == ())
    assert scored <= 6, "each once, and perhaps once more when it was no longer young"
    assert len(running.told.changes) == 4


@pytest.mark.parametrize("error", [NsfwscanError("too much"), ResourcesExhausted("too much")])
def test_decoders_that_do_not_start_are_tried_again(
    root: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch, error: NsfwscanError
) -> None:
    monkeypatch.setattr(batches, "_RESTART_S", 0.3)
    refusals = 2

    def refuse() -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise error

    pool.on_start = refuse
    picture(root / "a.jpg", b"content")
    with watching(root) as running:
        running.until_as(root)
        running.until(lambda: running.watcher.state().degraded == ())
    assert running.told.lines == [("new", "a.jpg")]
    assert any("too much" in one for one in running.warnings)


@pytest.mark.parametrize(("owner", "method"), [(Scanner, "scan_listings"), (Reconcile, "_begin")])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_a_watcher_without_memory_or_threads_waits_and_misses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, error: Exception
) -> None:
    monkeypatch.setattr(batches, "_RESTART_S", 0.3)
    real = getattr(owner, method)
    refusals = iter([error, error])

    def refuse(*given: object) -> object:
        for refusal in refusals:
            raise refusal
        return real(*given)

    monkeypatch.setattr(owner, method, refuse)
    picture(root / "a.jpg", b"content")
    with watching(root) as running:
        running.until_as(root)
        running.until(lambda: running.watcher.state().degraded == ())
    assert running.told.lines == [("new", "a.jpg")]
    assert any("out of memory or threads" in one for one in running.warnings)


def test_once_does_not_call_a_file_safe_that_cannot_be_reached(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(root / "a.jpg", b"content")
    picture(root / "b.jpg", b"content")
    real = discover.discover

    def without_a(*given: Any, **more: Any) -> Iterator[Listing]:
        for listing in real(*given, **more):
            at = listing.names.index("a.jpg")
            failed = Failed(str(root / "a.jpg"), FailReason.UNREADABLE, "Input/output error")
            names = [*listing.names[:at], *listing.names[at + 1 :]]
            keys = [*listing.keys[:at], *listing.keys[at + 1 :]]
            yield replace(listing, names=names, keys=keys, not_opened=[*listing.not_opened, failed])

    monkeypatch.setattr(reconcile, "discover", without_a)
    with watching(root, once=True) as running:
        running._thread.join(20)
        assert running.watcher.state().unread == 1
    assert running.told.lines == [("new", "b.jpg")]


def test_once_ends_where_decoders_do_not_start(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object, **_more: object) -> None:
        raise NsfwscanError("no decoder starts")

    monkeypatch.setattr("nsfwscan.scanning.session.Session.scanner", broken)
    picture(root / "a.jpg", b"content")
    with watching(root, once=True) as running:
        running._thread.join(20)
        assert not running._thread.is_alive()
        assert running.watcher.state().unread == 1


def test_once_ends_in_a_tree_that_never_rests(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_LAST_WAIT_S", 1.0)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            picture(root / f"{number % 50}.jpg", b"%d" % number)
            number += 1
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with watching(root, once=True) as running:
            running._thread.join(30)
            assert not running._thread.is_alive()
    finally:
        done.set()
        writer.join()


def test_the_engine_is_unloaded_when_idle_and_comes_back(
    root: Path, cache: Cache, pool: FakePool
) -> None:
    picture(root / "a.jpg", b"one")
    with watching(root, cache=cache, idle_unload_minutes=0.01) as running:
        running.until_as(root)
        running.until(lambda: not running.watcher.state().loaded, within_s=10)
        assert pool.closed == 1
        picture(root / "b.jpg", b"two")
        running.until_as(root)
    assert pool.started == 2


def test_nothing_is_scored_during_a_pause(
    root: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = [Pace(When.PAUSE, "on battery")]
    monkeypatch.setattr(batches, "CHECK_S", 0.2)
    with watching(root, pace=lambda: pace[0]) as running:
        picture(root / "a.jpg", b"content")
        running.until(lambda: running.watcher.state().paused == "on battery")
        time.sleep(0.5)
        assert pool.decoded == []
        pace[0] = Pace(When.SLOW, "others are busy")
        running.until_as(root)
        assert running.watcher.state().paused == ""


def test_stop_finishes_the_picture_in_hand(root: Path, cache: Cache, pool: FakePool) -> None:
    gate = pool.gates[b"slow"] = threading.Event()
    picture(root / "a.jpg", b"slow")
    for at in range(50):  # all wait, or a fast worker might be through before the watcher is told
        pool.gates[b"%d" % at] = gate
        picture(root / f"b{at}.jpg", b"%d" % at)
    with watching(root, cache=cache) as running:
        assert pool.waiting.wait(20)
        running.watcher.stop()
        gate.set()
    assert ("new", "a.jpg") in running.told.lines
    assert len(running.told.changes) < 51

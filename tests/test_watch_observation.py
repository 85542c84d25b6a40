"""How the watcher finds out that hints have ended, with events and places that only pretend."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import cast

import pytest
from watchdog.utils import BaseThread

from nsfwscan.watch import events as events_module
from nsfwscan.watch import observation
from nsfwscan.watch.conditions import Conditions
from nsfwscan.watch.events import Events
from nsfwscan.watch.observation import Observation
from nsfwscan.watch.places import WatchedPlaces


class FakeEvents:
    """Counts how often it was asked to observe."""

    def __init__(self) -> None:
        self.begun = 0

    def observe(self, _root: str) -> str:
        self.begun += 1
        return ""

    def forget(self, _root: str) -> None: ...

    def observes(self, _root: str) -> bool:
        return True

    def leads_elsewhere(self, _root: str) -> bool:
        return False

    def is_swamped(self, _root: str) -> bool:
        return False


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(observation.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(observation.time, "time", lambda: self.now + 1e9)


def test_folders_that_are_not_watched_make_it_begin_anew_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, events, said = Clock(monkeypatch), FakeEvents(), list[str]()
    conditions = Conditions(said.append, said.append)
    places = WatchedPlaces([str(tmp_path)], {})
    places.accept(str(tmp_path), places.identity(str(tmp_path)))
    looked_after = Observation(
        [str(tmp_path)], cast(Events, events), places, conditions, without_events=False
    )
    looked_after.begin()
    inode = os.stat(tmp_path).st_ino
    monkeypatch.setattr(observation, "watched_inodes", lambda: [inode])
    folders = {str(tmp_path): inode, str(tmp_path / "missed"): inode + 1}
    begun = []
    for _ in range(1800):  # an hour
        clock.now += observation.CHECK_S
        before = events.begun
        for why in looked_after.check(clock.now, last_beat=clock.now, walk_s=0.01, may_change=True):
            assert "not watched" in why
        if events.begun > before:
            begun.append(clock.now - 1000.0)
        looked_after.count(folders)  # as after each look at everything
    assert conditions.reasons == ("1 of 2 directories watched",)
    assert looked_after.must_poll
    assert begun[0] < 10
    assert 5 < len(begun) < 14
    # Once all are watched it is over, and the next time counts as the first.
    monkeypatch.setattr(observation, "watched_inodes", lambda: [inode, inode + 1])
    looked_after.count(folders)
    assert conditions.reasons == ()
    assert said[-1] == "no longer so: 1 of 2 directories watched"
    assert not looked_after.must_poll
    monkeypatch.setattr(observation, "watched_inodes", lambda: [inode])
    looked_after.count(folders)
    clock.now += 8.0
    before = events.begun
    assert list(looked_after.check(clock.now, last_beat=clock.now, walk_s=0.01, may_change=True))
    assert events.begun == before + 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "inotify instances"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate"),
        (RuntimeError("can't start new thread"), "new thread"),
    ],
)
def test_a_root_that_cannot_be_observed_is_polled_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def refuse() -> None:
        raise error

    clock, said = Clock(monkeypatch), list[str]()
    places = WatchedPlaces([str(tmp_path)], {})
    places.accept(str(tmp_path), places.identity(str(tmp_path)))
    events, conditions = Events(lambda _name: True), Conditions(said.append, said.append)
    looked_after = Observation([str(tmp_path)], events, places, conditions, without_events=False)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(events_module, "Observer", refuse)
            looked_after.begin()
            assert why in conditions.reasons[0]
            assert f"{tmp_path} is polled" in conditions.reasons[0]
            assert looked_after.must_poll
        clock.now += 61
        list(looked_after.check(clock.now, last_beat=clock.now, walk_s=0.01, may_change=True))
        assert conditions.reasons == ()
        assert not looked_after.must_poll
        assert events.observes(str(tmp_path))
    finally:
        events.close()


def test_an_observer_that_cannot_be_stopped_ends_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck:
        def is_alive(self) -> bool:
            return True

        def stop(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

        def join(self) -> None:
            pytest.fail("it would be waited for without end")

    events_module._end(Stuck())  # type: ignore[arg-type]
    assert "could not be stopped" in caplog.text


@pytest.mark.parametrize("refused", [OSError(errno.ENOMEM, "no memory"), ValueError("a bug")])
def test_only_what_the_system_refuses_watchdogs_thread_is_taken_for_lost_changes(
    monkeypatch: pytest.MonkeyPatch, refused: Exception
) -> None:
    heard: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)

    class Reader(BaseThread):
        def run(self) -> None:
            raise refused

    events = Events(lambda _name: True)
    try:
        thread = Reader()
        thread.__class__.__module__ = "watchdog.observers.inotify_c"
        thread.start()
        thread.join()
        lost = events.take().lost
    finally:
        events.close()
    assert threading.excepthook == heard.append
    if isinstance(refused, OSError):
        assert (lost, heard) == ("an observer of changes ended", [])
    else:
        assert not lost
        assert [one.exc_value for one in heard] == [refused]

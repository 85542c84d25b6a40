"""Roots that lie in one another, that are links, and links that are turned while watched."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scan_fakes
from watch_fakes import picture, tree, watching

from nsfwscan.cache.cache import Cache
from nsfwscan.watch.events import Events
from nsfwscan.watch.places import Presence, WatchedPlaces

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as opened:
        yield opened


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return tmp_path / "outer"


@pytest.mark.parametrize("link_first", [True, False])
def test_a_link_to_a_folder_that_is_watched_tells_each_change_once(
    outer: Path, tmp_path: Path, *, link_first: bool, cache: Cache
) -> None:
    link = tmp_path / "link"
    link.symlink_to(outer / "inner")
    picture(outer / "inner" / "0.jpg", b"\xff 0")
    roots = [link, outer] if link_first else [outer, link]
    with watching(*roots, cache=cache) as running:
        running.until_first_look()
        picture(outer / "inner" / "1.jpg", b"\xff 1")
        picture(link / "2.jpg", b"\x00 2")
        (link / "deep").mkdir()
        picture(link / "deep" / "3.jpg", b"\x00 3")
        running.until(lambda: len(running.told.tree) == 4)
        os.rename(link / "1.jpg", outer / "1.jpg")
        (outer / "inner" / "2.jpg").unlink()
        running.until(lambda: len(running.told.changes) >= 6)
        time.sleep(2.5)
    seen = str(link) if link_first else str(outer / "inner")
    assert sorted(running.told.lines) == [
        ("gone", "2.jpg"), ("moved", "1.jpg"),
        *(("new", f"{number}.jpg") for number in range(4)),
    ]  # fmt: skip
    assert set(running.told.tree) == {f"{seen}/0.jpg", f"{outer}/1.jpg", f"{seen}/deep/3.jpg"}
    assert running.told.wrong == []
    with watching(*roots, cache=cache) as running:  # nor is it told again by the next one
        running.until_first_look()
        time.sleep(0.5)
    assert running.told.changes == []


@pytest.mark.parametrize("inner_first", [True, False])
def test_a_hidden_root_inside_another_is_told_of_at_once(outer: Path, inner_first: bool) -> None:
    hidden = outer / ".hidden"
    hidden.mkdir()
    roots = [hidden, outer] if inner_first else [outer, hidden]
    with watching(*roots, reconcile_minutes=60) as running:
        running.until_first_look()
        for number in range(5):
            picture(hidden / f"{number}.jpg", b"%d" % number)
            picture(outer / f"{number}.jpg", b"outer %d" % number)
        took = running.until(lambda: len(running.told.tree) == 10)
        (hidden / "0.jpg").unlink()
        (outer / "0.jpg").unlink()
        took += running.until(lambda: len(running.told.tree) == 8)
    assert took < 15
    assert running.told.wrong == []


def test_of_a_link_that_leads_elsewhere_the_new_folder_is_watched(tmp_path: Path) -> None:
    a, b, link = tmp_path / "a", tmp_path / "b", tmp_path / "link"
    a.mkdir()
    b.mkdir()
    link.symlink_to(a)
    picture(a / "a.jpg", b"\xff a")
    picture(b / "b.jpg", b"\xff b")
    with watching(link) as running:
        running.until(lambda: len(running.told.changes) == 1)
        (tmp_path / "next").symlink_to(b)
        os.replace(tmp_path / "next", link)
        running.until(lambda: ("new", "b.jpg") in running.told.lines)
        picture(b / "later.jpg", b"\xff later")
        running.until(lambda: ("new", "later.jpg") in running.told.lines)
        count = len(running.told.changes)
        picture(a / "old.jpg", b"\xff old")
        (a / "a.jpg").unlink()
        time.sleep(2.0)
        assert len(running.told.changes) == count
        assert {os.path.basename(one) for one in tree(link)} == {"b.jpg", "later.jpg"}


def test_a_folder_in_which_a_disk_was_once_mounted_is_watched_when_it_is_used_without_it(
    outer: Path, cache: Cache
) -> None:
    usb = outer / "inner"
    cache.remember_places({str(usb): "mount:abc:0"})
    with watching(outer, cache=cache) as running:
        running.until_first_look()
        picture(usb / "1.jpg", b"\xff 1")
        picture(usb / "2.jpg", b"\x00 2")
        running.until(lambda: len(running.told.tree) == 2)
        time.sleep(2.5)
        (usb / "1.jpg").unlink()
        running.until(lambda: ("gone", "1.jpg") in running.told.lines)


def test_the_empty_folder_under_a_disk_is_no_deletion(tmp_path: Path) -> None:
    usb = tmp_path / "usb"
    usb.mkdir()
    places = WatchedPlaces([str(usb)], {str(usb): "mount:abc:0"})
    assert places.presence(str(usb)) is Presence.AWAY
    (usb / "note").touch()
    assert places.presence(str(usb)) is Presence.OTHER
    places.accept(str(usb), places.identity(str(usb)))
    (usb / "note").unlink()
    assert places.presence(str(usb)) is Presence.SAME


def test_what_was_looked_at_is_accepted_and_not_what_a_link_led_to_a_moment_later(
    tmp_path: Path,
) -> None:
    a, b, link = tmp_path / "a", tmp_path / "b", tmp_path / "link"
    a.mkdir()
    b.mkdir()
    link.symlink_to(a)
    places = WatchedPlaces([str(link)], {})
    looked_at = places.identity(str(link))
    link.unlink()
    link.symlink_to(b)
    places.accept(str(link), looked_at)
    assert places.presence(str(link)) is Presence.OTHER
    events = Events(lambda _name: True)
    try:
        assert events.observe(str(link)) == ""
        assert not events.leads_elsewhere(str(link))
        link.unlink()
        link.symlink_to(a)
        assert events.leads_elsewhere(str(link))
    finally:
        events.close()

"""The parts of the watcher, each by itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import scan_fakes
import watch_fakes
from scan_fakes import write

from nsfwscan.media.discover import Listing, Symlinks, WalkOptions, discover, discover_some
from nsfwscan.media.discover import WalkTally as Tally
from nsfwscan.media.volumes import Mount
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.results import Skipped
from nsfwscan.watch import tracker
from nsfwscan.watch.absent import Absent
from nsfwscan.watch.inventory import NO_DIGEST, Inventory, Tracked
from nsfwscan.watch.places import Presence, WatchedPlaces, is_below
from nsfwscan.watch.settle import Settling, Waiting, is_unfinished

# Looking at some files


def some(root: Path, *paths: str, **options: object) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(root / path)
        wanted.setdefault(folder, []).append(name)
    found: dict[str, list[str]] = {}
    for listing in discover_some(str(root), wanted, WalkOptions(**options)):  # type: ignore[arg-type]
        names = found.setdefault(os.path.relpath(listing.folder, root), [])
        names += [*listing.names, *(f"!{os.path.basename(one.path)}" for one in listing.not_opened)]
    return {folder: names for folder, names in found.items() if names}


def whole(root: Path, **options: object) -> set[str]:
    listings = discover([str(root)], WalkOptions(**options), Tally())  # type: ignore[arg-type]
    return {os.path.join(one.folder, name) for one in listings for name in one.names}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "a.jpg",
        "b.txt",
        ".h.jpg",
        "sub/c.jpg",
        "sub/deep/d.png",
        ".hid/e.jpg",
        "x/f.gif",
    ):
        write(tmp_path / "root" / name, b"content")
    (tmp_path / "root" / "link.jpg").symlink_to("a.jpg")
    return tmp_path / "root"


def test_some_files_are_found_by_the_rules_of_a_walk(root: Path) -> None:
    assert some(root, "a.jpg", "b.txt", ".h.jpg", "gone.jpg", "link.jpg") == {
        ".": ["a.jpg", "!link.jpg"]
    }
    assert some(root, "sub") == {"sub": ["c.jpg"], "sub/deep": ["d.png"]}
    assert some(root, "sub", "sub/c.jpg", "sub/deep/d.png") == {
        "sub": ["c.jpg"],
        "sub/deep": ["d.png"],
    }, "no folder twice"
    assert some(root, ".hid", ".hid/e.jpg") == {}
    assert some(root, ".hid/e.jpg", hidden=True) == {".hid": ["e.jpg"]}
    assert some(root, "sub/c.jpg", "x/f.gif", exclude=("sub/",)) == {"x": ["f.gif"]}
    assert some(root, "sub/deep/d.png", exclude=("sub/",)) == {}
    assert some(root, "sub/c.jpg", "x/f.gif", include=("*.gif",)) == {"x": ["f.gif"]}
    assert some(root, "link.jpg", symlinks=Symlinks.FOLLOW) == {".": ["link.jpg"]}
    assert some(root, "nowhere/a.jpg") == {}


@pytest.mark.parametrize(
    "options", [{}, {"hidden": True}, {"any_name": True}, {"exclude": ("sub/",)}]
)
def test_some_files_and_a_walk_agree_on_each_file(root: Path, options: dict[str, object]) -> None:
    for folder, _folders, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, root)
            seen = {
                os.path.join(root, where, one)
                for where, ones in some(root, inside, **options).items()
                for one in ones
                if not one.startswith("!")
            }
            assert {os.path.normpath(one) for one in seen} == ({path} & whole(root, **options))


def test_keys_of_some_files_are_those_of_a_walk(root: Path) -> None:
    (walked,) = (
        one for one in discover([str(root)], WalkOptions(), Tally()) if one.folder == str(root)
    )
    (looked,) = discover_some(str(root), {str(root): ["a.jpg"]}, WalkOptions())
    assert (looked.names, looked.keys) == (walked.names, walked.keys)
    assert (looked.incomplete, walked.incomplete) == (True, False)
    assert (looked.inode, looked.device) == (root.stat().st_ino, root.stat().st_dev)


def test_own_folders_are_not_entered(root: Path) -> None:
    own = (str(root / "sub"), str(root / "nowhere"))
    assert whole(root, own=own) == {str(root / "a.jpg"), str(root / "x" / "f.gif")}
    assert some(root, "sub", "sub/c.jpg", "sub/deep/d.png", "a.jpg", own=own) == {".": ["a.jpg"]}


# The inventory


def entry(number: int) -> Tracked:
    return Tracked(FileKey(number, 2, 3, 4).pack(), number.to_bytes(32, "big"), number / 1000)


def listing(folder: str, numbers: Iterable[int]) -> Listing:
    ordered = sorted((f"{number}.jpg", entry(number).key) for number in numbers)
    return Listing(folder, [name for name, _ in ordered], [key for _, key in ordered])


def test_the_inventory_holds_what_was_put_in_whatever_the_order() -> None:
    inventory = Inventory()
    numbers = [(at * 7919) % 1000 for at in range(1000)]
    for number in numbers:
        inventory.put(f"/f/{number}.jpg", entry(number))
    assert len(inventory) == 1000
    assert all(inventory.get(f"/f/{number}.jpg") == entry(number) for number in numbers)
    assert inventory.is_unchanged(listing("/f", numbers))
    assert not inventory.is_unchanged(listing("/f", numbers[1:]))
    for number in numbers[:990]:
        inventory.drop(f"/f/{number}.jpg")
    inventory.drop("/f/nobody.jpg")
    assert len(inventory) == 10
    assert inventory.names("/f") == sorted(f"{number}.jpg" for number in numbers[990:])
    assert inventory.get(f"/f/{numbers[0]}.jpg") is None
    inventory.put(f"/f/{numbers[999]}.jpg", entry(1))
    assert len(inventory) == 10
    for number in numbers[990:]:
        inventory.drop(f"/f/{number}.jpg")
    assert (len(inventory), list(inventory.folders_below("/"))) == (0, [])


def test_folders_below_are_those_below_and_not_those_with_the_same_beginning() -> None:
    inventory = Inventory()
    for path in ("/a/1.jpg", "/a/b/2.jpg", "/ab/3.jpg"):
        inventory.put(path, entry(1))
    assert sorted(inventory.folders_below("/a")) == ["/a", "/a/b"]
    inventory.forget_below("/a")
    assert len(inventory) == 1
    assert is_below("/a/b", "/a")
    assert is_below("/anything", "/")
    assert not is_below("/ab", "/a")


# Settling


def test_a_file_is_due_when_it_has_stood_still() -> None:
    settling = Settling(1.0)
    settling.note("/new", b"1", now=100.0, still_s=0.0)
    settling.note("/older", b"1", now=100.0, still_s=0.7)
    settling.note("/from the future", b"1", now=100.0, still_s=-9999.0)
    assert set(settling.due(100.2, 10)) == set()
    assert set(settling.due(100.4, 10)) == {"/older"}
    settling.note("/new", b"2", now=100.9, still_s=0.0)
    assert set(settling.due(101.5, 10)) == {"/from the future"}
    assert set(settling.due(102.0, 10)) == {"/new"}
    assert (len(settling), settling.next_due()) == (0, None)


def test_a_file_that_is_open_waits_longer_and_until_it_is_closed() -> None:
    settling = Settling(1.0)
    settling.written("/p", now=100.0)
    settling.note("/p", b"1", now=100.0, still_s=0.0)
    assert settling.due(110.0, 10) == {}
    settling.closed("/p", now=110.0)
    assert set(settling.due(111.1, 10)) == {"/p"}
    settling.written("/q", now=200.0)
    assert set(settling.due(221.0, 10)) == {"/q"}


def test_a_verdict_comes_before_a_silent_look() -> None:
    settling = Settling(1.0)
    settling.later("/p", Waiting(b"1", 105.0, silent=True))
    settling.note("/p", b"2", now=100.0, still_s=0.0)
    (waiting,) = settling.due(101.1, 10).values()
    assert not waiting.silent


@pytest.mark.parametrize("name", ["a.jpg.part", "A.JPG.CRDOWNLOAD", "x.tmp"])
def test_unfinished_names(name: str) -> None:
    assert is_unfinished(name)
    assert not is_unfinished(name.rpartition(".")[0])


# Absence


def test_of_equal_pictures_the_one_of_the_same_name_moved() -> None:
    absent = Absent(1.0)
    for path in ("/old/b.jpg", "/old/a.jpg"):
        absent.add(path, b"same", now=10.0)
    assert absent.earlier_path("/new/a.jpg", b"same") == "/old/a.jpg"
    assert absent.earlier_path("/new/z.jpg", b"same") in {"/old/a.jpg", "/old/b.jpg"}
    assert absent.earlier_path("/new/a.jpg", b"other") == ""
    absent.drop("/old/a.jpg")
    assert absent.earlier_path("/new/a.jpg", b"same") == "/old/b.jpg"
    assert absent.overdue(10.5) == []
    assert absent.overdue(11.0) == ["/old/b.jpg"]
    absent.drop("/old/b.jpg")
    assert (len(absent), absent.next_due()) == (0, None)


def test_what_could_not_be_read_is_never_taken_for_moved() -> None:
    absent = Absent(1.0)
    absent.add("/old/a.jpg", NO_DIGEST, now=10.0)
    assert absent.earlier_path("/new/a.jpg", NO_DIGEST) == ""


# What is not listed


def test_a_picture_that_came_back_as_its_folder_was_listed_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan_fakes.install_pool(monkeypatch)
    path = str(write(tmp_path / "a.jpg", b"content"))
    with watch_fakes.opened(tmp_path) as watcher:
        known = watcher._tracker
        known.inventory.put(path, Tracked(bytes(32), b"s" * 32, 0.1))
        without_it = Listing(str(tmp_path), inode=1)
        assert list(known.take(without_it)) == []
        assert known.inventory.get(path) is not None
        assert path in known.settling, "it is looked at again"
        monkeypatch.setattr(tracker, "_LISTED_S", -1.0)
        assert list(known.take(without_it)) == []
        assert known.inventory.get(path) is None, "excluded since"


# Places


def test_a_place_is_known_again_and_another_in_its_place_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    places = WatchedPlaces([str(root)], {})
    assert places.presence(str(root)) is Presence.OTHER, "nothing is known of it yet"
    places.accept(str(root), places.identity(str(root)))
    assert places.presence(str(root)) is Presence.SAME
    again = WatchedPlaces([str(root)], places.identities)
    assert again.presence(str(root)) is Presence.SAME
    root.rename(tmp_path / "away")
    assert again.presence(str(root)) is Presence.AWAY
    root.mkdir()
    assert again.presence(str(root)) is Presence.OTHER
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert again.presence(str(root)) is Presence.SAME


def test_the_empty_folder_below_a_disk_is_not_the_disk(tmp_path: Path) -> None:
    places = WatchedPlaces([str(tmp_path)], {str(tmp_path): "mount:abc:2"})
    assert places.presence(str(tmp_path)) is Presence.AWAY


def test_a_list_of_mounts_that_cannot_be_read_for_a_moment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usb = tmp_path / "usb"
    usb.mkdir()
    listed = [Mount(str(usb), usb.stat().st_dev, "fuse.sshfs", "ann@host:/")]
    monkeypatch.setattr("nsfwscan.watch.places.mounts", lambda: listed)
    places = WatchedPlaces([str(tmp_path)], {})
    places.accept(str(usb), places.identity(str(usb)))
    assert places.is_silent(str(tmp_path))
    listed = []
    assert not places.look()
    assert places.presence(str(usb)) is Presence.SAME
    assert places.is_silent(str(tmp_path))


def test_the_innermost_place_holds_a_path(tmp_path: Path) -> None:
    places = WatchedPlaces(["/pictures"], {"/pictures": "folder:1:1", "/pictures/usb": "mount:2:2"})
    assert places.holding("/pictures/usb/a.jpg") == "/pictures/usb"
    assert places.holding("/pictures/usb2/a.jpg") == "/pictures"
    assert places.holding("/elsewhere") == ""
    assert places.inner("/pictures") == ["/pictures/usb"]


def test_a_link_that_is_passed_over_is_a_skip(root: Path) -> None:
    (found,) = discover_some(str(root), {str(root): ["link.jpg"]}, WalkOptions())
    assert isinstance(found.not_opened[0], Skipped)

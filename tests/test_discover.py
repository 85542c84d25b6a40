from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.media import discover as module
from nsfwscan.media.discover import (
    QUARANTINE_NAME,
    UNREAD_ENDINGS,
    Listing,
    Symlinks,
    WalkOptions,
    WalkTally,
    check_roots,
    count_files,
    discover,
    discover_some,
    is_named_like_a_picture,
    join,
    printable,
)
from nsfwscan.media.sniff import PICTURE_ENDINGS
from nsfwscan.values.errors import UsageError
from nsfwscan.values.file_key import pack_key
from nsfwscan.values.results import Failed, FailReason, Skipped, SkipReason

_FOLLOW = WalkOptions(symlinks=Symlinks.FOLLOW)
_posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return an empty folder."""
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def touch(*paths: Path, size: int = 3) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


def walk(
    *roots: Path | str, options: WalkOptions | None = None, tally: WalkTally | None = None
) -> list[Listing]:
    return list(discover(map(str, roots), options or WalkOptions(), tally or WalkTally()))


def found(tree: Path, *, options: WalkOptions | None = None) -> list[str]:
    """Return what a walk finds, as paths inside of `tree`."""
    return [
        Path(join(listing.folder, name)).relative_to(tree).as_posix()
        for listing in walk(tree, options=options)
        for name in listing.names
    ]


def passed(*roots: Path, options: WalkOptions | None = None) -> list[Skipped | Failed]:
    return [one for listing in walk(*roots, options=options) for one in listing.not_opened]


def test_files_come_before_subfolders_and_both_in_order_of_names(tree: Path) -> None:
    names = ["z.jpg", "B.jpg", "a.jpg", "b/2.jpg", "b/10.jpg", "a/z/1.jpg", "a/y.jpg", "a-b/1.jpg"]
    touch(*(tree / name for name in names))
    assert found(tree) == [
        *("B.jpg", "a.jpg", "z.jpg"),
        *("a/y.jpg", "a/z/1.jpg"),
        "a-b/1.jpg",
        *("b/10.jpg", "b/2.jpg"),
    ]


def test_keys_are_those_of_stat(tree: Path) -> None:
    touch(tree / "a.jpg", tree / "sub" / "b.png", size=7)
    for listing in walk(tree, tree / "a.jpg"):
        for name, key in zip(listing.names, listing.keys, strict=True):
            assert key == pack_key(os.stat(join(listing.folder, name)))


def test_names_decide_whatever_their_case(tree: Path) -> None:
    names = [f"x.{ending}" for ending in (*PICTURE_ENDINGS, *UNREAD_ENDINGS)]
    names += ["y.JPG", "z.JpEg"]
    touch(*(tree / name for name in names))
    others = ["notes.txt", "no-ending", "x.jpg.bak", "jpg", "png", "x.jpg "]
    touch(*(tree / name for name in others))
    tally = WalkTally()
    (listing,) = walk(tree, tally=tally)
    assert listing.names == sorted(names)
    assert (tally.other_names, tally.hidden, tally.excluded, tally.folders) == (6, 0, 0, 1)
    assert all(map(is_named_like_a_picture, names))
    assert not any(map(is_named_like_a_picture, others))


def test_any_name_takes_every_file(tree: Path) -> None:
    touch(tree / "a.txt", tree / "b", tree / "c.jpg", tree / ".d", tree / "sub.txt" / "e")
    assert found(tree, options=WalkOptions(any_name=True)) == ["a.txt", "b", "c.jpg", "sub.txt/e"]


def test_hidden_files_and_folders_are_counted_and_not_entered(tree: Path) -> None:
    touch(tree / ".a.jpg", tree / ".git" / "b.jpg", tree / "c.jpg")
    tally = WalkTally()
    (listing,) = walk(tree, tally=tally)
    assert listing.names == ["c.jpg"]
    assert tally.hidden == 2
    assert found(tree, options=WalkOptions(hidden=True)) == [".a.jpg", "c.jpg", ".git/b.jpg"]


@pytest.mark.parametrize("name", ["x.jpg", "jpg", "photos.d"])
def test_a_folder_is_entered_whatever_its_name(name: str, tree: Path) -> None:
    touch(tree / name / "a.jpg")
    assert found(tree) == [f"{name}/a.jpg"]
    assert passed(tree) == []


def test_patterns_are_those_of_gitignore(tree: Path) -> None:
    names = ["a.jpg", "b.png", "raw/a.jpg", "deep/raw/b.jpg", "deep/keep.jpg", "thumb_1.jpg"]
    touch(*(tree / name for name in names))
    tally = WalkTally()
    options = WalkOptions(exclude=("raw/", "thumb_*", "/b.png"))
    listings = walk(tree, options=options, tally=tally)
    assert [listing.names for listing in listings] == [["a.jpg"], ["keep.jpg"]]
    assert tally.excluded == 4  # a folder counts once
    assert found(tree, options=WalkOptions(exclude=("*.jpg", "!keep.jpg"))) == [
        "b.png",
        "deep/keep.jpg",
    ]
    assert found(tree, options=WalkOptions(include=("*.png",))) == ["b.png"]
    assert found(tree, options=WalkOptions(include=("deep/**",), exclude=("raw/",))) == [
        "deep/keep.jpg"
    ]


def test_a_pattern_that_cannot_be_read_is_named(tree: Path) -> None:
    with pytest.raises(UsageError, match="!"):
        walk(tree, options=WalkOptions(exclude=("!",)))


@_posix_only
def test_links_are_skipped_and_those_to_pictures_said(tree: Path, tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "a.jpg")
    (tree / "folder").symlink_to(tmp_path / "outside")
    (tree / "link.jpg").symlink_to(tmp_path / "outside" / "a.jpg")
    assert found(tree) == []
    assert passed(tree) == [Skipped(str(tree / "link.jpg"), SkipReason.SYMLINK)]


@_posix_only
def test_links_are_followed_each_folder_once(tree: Path, tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "a.jpg", tree / "b.jpg", tree / "sub" / "c.jpg")
    (tree / "up").symlink_to(tree)
    (tree / "sub" / "again").symlink_to(tree / "sub")
    (tree / "one").symlink_to(tmp_path / "outside")
    (tree / "two").symlink_to(tmp_path / "outside")
    (tree / "link.jpg").symlink_to(tree / "b.jpg")
    assert found(tree, options=_FOLLOW) == ["b.jpg", "link.jpg", "one/a.jpg", "sub/c.jpg"]
    assert passed(tree, options=_FOLLOW) == []


@_posix_only
@pytest.mark.parametrize("name", ["loop", "loop.jpg"])
def test_a_link_that_cannot_be_followed_costs_itself_only(name: str, tree: Path) -> None:
    touch(tree / "a.jpg", tree / "sub" / "b.jpg")
    (tree / name).symlink_to(name)
    assert found(tree, options=_FOLLOW) == ["a.jpg", "sub/b.jpg"]
    (failed,) = passed(tree, options=_FOLLOW)
    assert isinstance(failed, Failed)
    assert (failed.path, failed.reason) == (str(tree / name), FailReason.UNREADABLE)


@_posix_only
def test_a_link_to_nothing_has_vanished(tree: Path) -> None:
    (tree / "a.jpg").symlink_to(tree / "nothing")
    (failed,) = passed(tree, options=_FOLLOW)
    assert isinstance(failed, Failed)
    assert failed.reason is FailReason.VANISHED


@_posix_only
def test_a_link_given_as_a_root_is_followed(tree: Path, tmp_path: Path) -> None:
    touch(tree / "a.jpg")
    (tmp_path / "link").symlink_to(tree)
    (tmp_path / "link.jpg").symlink_to(tree / "a.jpg")
    names = [listing.names for listing in walk(tmp_path / "link", tmp_path / "link.jpg")]
    assert names == [["a.jpg"], ["link.jpg"]]


def _other_device(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let `folder` and what is below it seem to lie on another file system."""
    real = os.stat

    def faked(path: Any, **options: Any) -> os.stat_result:
        status = real(path, **options)
        if str(path).startswith(str(folder)):
            return os.stat_result((*status[:2], status.st_dev + 1, *status[3:10]))
        return status

    monkeypatch.setattr(module.os, "stat", faked)


def test_other_file_systems_are_left_out_and_said(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tree / "a.jpg", tree / "disk" / "b.jpg")
    _other_device(monkeypatch, tree / "disk")
    assert found(tree) == ["a.jpg", "disk/b.jpg"]
    one = WalkOptions(one_file_system=True)
    assert found(tree, options=one) == ["a.jpg"]
    assert passed(tree, options=one) == [Skipped(str(tree / "disk"), SkipReason.OTHER_FILE_SYSTEM)]


def test_another_file_system_is_scanned_when_it_is_a_root_of_its_own(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tree / "disk" / "b.jpg")
    _other_device(monkeypatch, tree / "disk")
    listings = walk(tree, tree / "disk", options=WalkOptions(one_file_system=True))
    assert [listing.names for listing in listings] == [[], [], ["b.jpg"]]


def test_files_above_the_limit_are_skipped(tree: Path) -> None:
    touch(tree / "a.jpg", size=10)
    touch(tree / "b.jpg", size=11)
    options = WalkOptions(max_bytes=10)
    assert found(tree, options=options) == ["a.jpg"]
    expected = Skipped(
        str(tree / "b.jpg"), SkipReason.TOO_BIG, "11 bytes, more than the limit of 10"
    )
    assert passed(tree, options=options) == [expected]
    named = Failed(expected.path, FailReason.TOO_BIG, expected.detail)
    assert passed(tree / "b.jpg", options=options) == [named]


@_posix_only
def test_what_is_no_regular_file_is_not_opened(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree / "fifo.jpg")
    monkeypatch.chdir(tree)  # the name of a socket may only be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.jpg")
        assert [(one.reason, one.detail) for one in passed(tree)] == [
            (SkipReason.NOT_REGULAR, "a named pipe"),
            (SkipReason.NOT_REGULAR, "a socket"),
        ]


@_posix_only
def test_what_is_no_regular_file_is_a_failure_when_it_was_named(tree: Path) -> None:
    os.mkfifo(tree / "fifo.jpg")
    for path, kind in ((tree / "fifo.jpg", "a named pipe"), (Path("/dev/null"), "a character")):
        (failed,) = passed(path)
        assert isinstance(failed, Failed)
        assert (failed.path, failed.reason) == (str(path), FailReason.UNREADABLE)
        assert kind in failed.detail


@_posix_only
def test_names_may_hold_any_byte_but_the_slash(tree: Path) -> None:
    names = [b"new\nline.jpg", b"\xff\xfe.jpg", b"tab\t.jpg", b" .jpg", "é.jpg".encode(), b"\\.jpg"]
    for name in names:
        with open(os.path.join(os.fsencode(tree), name), "wb"):
            pass
    for options in (WalkOptions(), WalkOptions(include=("*.jpg",), exclude=("x",))):
        (listing,) = walk(tree, options=options)
        assert sorted(map(os.fsencode, listing.names)) == sorted(names)
    assert printable(os.fsdecode(b"\xff.jpg")) == "\\xff.jpg"


class _Unlistable:
    """Stands in for `os.scandir`, and refuses one folder."""

    def __init__(self, folder: Path, error: OSError) -> None:
        self._folder, self._error, self._real = str(folder), error, os.scandir

    def __call__(self, folder: str) -> Any:
        if folder == self._folder:
            raise self._error
        return self._real(folder)


def test_a_folder_that_cannot_be_listed_is_failed_and_the_rest_goes_on(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may list everything, so the refusal is a fake."""
    touch(tree / "a" / "a.jpg", tree / "b" / "b.jpg", tree / "c" / "c.jpg")
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr(module.os, "scandir", _Unlistable(tree / "b", denied))
    assert found(tree) == ["a/a.jpg", "c/c.jpg"]
    assert passed(tree) == [Failed(str(tree / "b"), FailReason.UNREADABLE, "Permission denied")]


def test_a_folder_that_vanishes_has_vanished(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "b").mkdir()
    gone = FileNotFoundError(2, "No such file or directory")
    monkeypatch.setattr(module.os, "scandir", _Unlistable(tree / "b", gone))
    (failed,) = passed(tree)
    assert failed.reason is FailReason.VANISHED


class _Vanishing:
    """An entry of a folder whose file is removed before it is looked at."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self._entry, self.name = entry, entry.name

    def is_dir(self, **options: bool) -> bool:
        return self._entry.is_dir(**options)

    def stat(self, **options: bool) -> os.stat_result:
        if self.name == "gone.jpg":
            os.unlink(self._entry.path)
        return os.stat(self._entry.path, **options)


def test_a_file_that_vanishes_after_it_was_listed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tree / "a.jpg", tree / "gone.jpg", tree / "z.jpg")
    real = os.scandir

    class Scan:
        def __init__(self, folder: str) -> None:
            self._found = real(folder)

        def __enter__(self) -> Iterator[_Vanishing]:
            return map(_Vanishing, self._found)

        def __exit__(self, *_: object) -> None:
            self._found.close()

    monkeypatch.setattr(module.os, "scandir", Scan)
    (listing,) = walk(tree)
    assert listing.names == ["a.jpg", "z.jpg"]
    (failed,) = listing.not_opened
    assert (failed.path, failed.reason) == (str(tree / "gone.jpg"), FailReason.VANISHED)


_LEVELS = 2_100


@pytest.fixture
def deep(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a tree deeper than a path may be long, each folder with one picture."""
    monkeypatch.chdir(tree)
    for _ in range(_LEVELS):
        os.mkdir("d")
        os.chdir("d")
        touch(Path("a.jpg"))
    yield tree
    for _ in range(_LEVELS):  # pytest's own way is recursive and fails
        os.unlink("a.jpg")
        os.chdir("..")
        os.rmdir("d")


@_posix_only
def test_a_tree_may_be_deeper_than_the_stack_and_longer_than_a_path(deep: Path) -> None:
    listings = walk(deep)
    reached = sum(len(listing.names) for listing in listings)
    assert reached > sys.getrecursionlimit()
    assert reached < _LEVELS, "the test's tree is not deep enough"
    *_, last = listings
    (failed,) = last.not_opened
    assert isinstance(failed, Failed)
    assert (failed.path, failed.reason) == (last.folder, FailReason.UNREADABLE)


def test_a_folder_reached_twice_is_listed_once(tree: Path) -> None:
    touch(tree / "a.jpg", tree / "sub" / "b.jpg")
    assert len(walk(tree, tree)) == 2
    child_first = walk(tree / "sub", tree)
    assert [listing.names for listing in child_first] == [["b.jpg"], ["a.jpg"]]
    assert len(walk(tree, tree / "sub")) == 2


def test_files_named_one_by_one_come_in_that_order_and_whatever_their_names(tree: Path) -> None:
    touch(tree / "b.txt", tree / ".a.jpg", tree / "sub" / "c", tree / "d.jpg")
    listings = walk(tree / "b.txt", tree / ".a.jpg", tree / "sub" / "c", tree / "d.jpg", tree)
    assert [(listing.names, listing.given_by_user) for listing in listings] == [
        (["b.txt", ".a.jpg"], True),
        (["c"], True),
        (["d.jpg"], True),
        ([], False),
        ([], False),
    ]


def test_a_root_that_is_gone_has_vanished_and_keeps_its_place(tree: Path) -> None:
    touch(tree / "a.jpg", tree / "z.jpg")
    listings = walk(tree / "a.jpg", tree / "gone", tree / "z.jpg")
    assert [listing.names for listing in listings] == [["a.jpg"], [], ["z.jpg"]]
    (failed,) = listings[1].not_opened
    assert (failed.path, failed.reason) == (str(tree / "gone"), FailReason.VANISHED)
    check_roots([str(tree)])
    with pytest.raises(UsageError, match="gone does not exist"):
        check_roots([str(tree), str(tree / "gone")])


def test_counting_agrees_with_walking(tree: Path) -> None:
    touch(tree / "a.jpg", tree / "sub" / "b.jpg", tree / "big.jpg", tree / "notes.txt")
    assert count_files([str(tree)], WalkOptions()) == 3


_part = st.text(st.characters(exclude_characters="/\\\0", codec="utf-8"), min_size=1)


@given(st.lists(_part, max_size=3).map("/".join), _part)
def test_joining_is_that_of_the_standard_library(folder: str, name: str) -> None:
    for start in (folder, f"/{folder}", "/"):
        assert join(start, name) == os.path.join(start, name)


def test_a_quarantine_is_left_out_however_one_comes_to_it(tree: Path) -> None:
    inside = tree / "sub" / QUARANTINE_NAME / "files"
    inside.mkdir(parents=True)
    (inside / "x.jpg").write_bytes(b"x")
    (tree / "sub" / "y.jpg").write_bytes(b"y")
    options = WalkOptions(hidden=True, any_name=True)
    tally = WalkTally()
    listings = list(discover([str(tree)], options, tally))
    assert [name for one in listings for name in one.names] == ["y.jpg"]
    assert tally.hidden == 0
    (listing,) = discover([str(inside)], options, WalkTally())
    assert listing.not_opened == [
        Skipped(str(inside), SkipReason.QUARANTINED, "a quarantine is never scanned")
    ]
    assert list(discover_some(str(tree), {str(inside): ["x.jpg"]}, options)) == []
    (tree / "way").symlink_to(inside)
    with pytest.raises(UsageError, match="never scanned"):
        check_roots([str(tree / "way")])

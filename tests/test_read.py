from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsfwscan.media import read as module
from nsfwscan.media.read import read_head, read_picture
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.results import FailReason

_posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a file of 100 KB."""
    path = tmp_path / "a.jpg"
    path.write_bytes(os.urandom(100_000))
    return path


def refusal(path: Path, *, follow: bool = True, max_bytes: int = 1 << 20) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        read_picture(str(path), follow=follow, max_bytes=max_bytes)
    return caught.value


def after_first_read(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], None]) -> list[int]:
    """Call `change` with its count after each first `os.read` of a file; return the counts."""
    real_open, real_read, calls = os.open, os.read, list[int]()
    fresh: set[int] = set()

    def opened(*arguments: Any, **options: Any) -> int:
        file = real_open(*arguments, **options)
        fresh.add(file)
        return file

    def read(file: int, length: int) -> bytes:
        data = real_read(file, length)
        if file in fresh:
            fresh.remove(file)
            calls.append(len(calls))
            change(len(calls))
        return data

    monkeypatch.setattr(module.os, "open", opened)
    monkeypatch.setattr(module.os, "read", read)
    return calls


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def test_a_file_is_read_whole_and_its_key_is_its_stat(picture: Path) -> None:
    contents = read_picture(str(picture), follow=False, max_bytes=1 << 20)
    assert contents.data == picture.read_bytes()
    assert contents.key == FileKey.of(os.stat(picture))


def test_short_reads_are_put_together(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems may give less than was asked for."""
    real, expected = os.read, picture.read_bytes()
    monkeypatch.setattr(module.os, "read", lambda file, length: real(file, min(length, 7777)))
    assert read_picture(str(picture), follow=False, max_bytes=1 << 20).data == expected


def test_a_file_that_gives_less_than_its_size_is_not_taken_for_whole(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network file system does whose server went away; the stat stays the same."""
    real = os.read
    monkeypatch.setattr(module.os, "read", lambda file, length: real(file, length)[:60_000])
    monkeypatch.setattr(module, "_read_all", lambda file, size: module.os.read(file, size + 1))
    assert refusal(picture).reason is FailReason.CHANGED


def test_empty_vanished_and_unreadable_files(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert refusal(tmp_path / "empty.jpg").reason is FailReason.EMPTY
    assert refusal(tmp_path / "gone.jpg").reason is FailReason.VANISHED
    assert refusal(picture / "below").reason is FailReason.UNREADABLE


def test_a_file_above_the_limit_is_not_read(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = after_first_read(monkeypatch, lambda _: None)
    error = refusal(picture, max_bytes=99_999)
    assert (error.reason, error.detail) == (
        FailReason.TOO_BIG,
        "100000 bytes, more than the limit of 99999",
    )
    assert not calls


@_posix_only
@pytest.mark.timeout(20)
def test_a_fifo_in_the_place_of_a_picture_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    error = refusal(tmp_path / "a.jpg")
    assert (error.reason, error.detail) == (FailReason.UNREADABLE, "it is now a named pipe")
    assert read_head(str(tmp_path / "a.jpg"), 64, follow=True) == b""
    with open(os.open(tmp_path / "a.jpg", os.O_RDWR), "wb"):  # a writer who says nothing
        assert refusal(tmp_path / "a.jpg").reason is FailReason.UNREADABLE
        with pytest.raises(DecodeError, match="unreadable"):
            read_head(str(tmp_path / "a.jpg"), 64, follow=True)


def test_a_folder_in_the_place_of_a_picture(tmp_path: Path) -> None:
    assert refusal(tmp_path).reason is FailReason.UNREADABLE


@_posix_only
def test_a_link_in_the_place_of_a_picture_leads_nowhere(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(picture)
    assert refusal(tmp_path / "link.jpg", follow=False).reason is FailReason.UNREADABLE
    with pytest.raises(DecodeError):
        read_head(str(tmp_path / "link.jpg"), 64, follow=False)
    followed = read_picture(str(tmp_path / "link.jpg"), follow=True, max_bytes=1 << 20)
    assert followed.data == picture.read_bytes()


def test_a_file_that_changed_once_is_read_again(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = after_first_read(monkeypatch, lambda at: append(picture) if at == 1 else None)
    contents = read_picture(str(picture), follow=False, max_bytes=1 << 20)
    assert len(calls) == 2
    assert contents.data == picture.read_bytes()
    assert contents.key == FileKey.of(os.stat(picture))


def test_a_file_that_keeps_growing_is_given_up(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = after_first_read(monkeypatch, lambda _: append(picture))
    assert refusal(picture).reason is FailReason.CHANGED
    assert len(calls) == 3


@pytest.mark.parametrize("length", [0, 1, 50_000])
def test_a_file_that_is_cut_is_never_taken_for_whole(
    length: int, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_first_read(monkeypatch, lambda at: os.truncate(picture, length + 10 - at))
    assert refusal(picture).reason is FailReason.CHANGED


def test_an_edit_of_the_same_size_is_seen(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(at: int) -> None:
        before = os.stat(picture)
        with picture.open("r+b") as file:
            file.write(bytes([at]) * 100)
        os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns + at * 10**9))

    after_first_read(monkeypatch, edit)
    assert refusal(picture).reason is FailReason.CHANGED


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="only Linux can read without a trace")
def test_reading_asks_the_kernel_to_leave_no_trace(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(picture, ns=(10**9, 2 * 10**9))  # relatime would update an access before a change
    read_picture(str(picture), follow=False, max_bytes=1 << 20)
    assert os.stat(picture).st_atime_ns == 10**9


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="only Linux can read without a trace")
def test_the_pictures_of_others_are_read_all_the_same(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, flags_seen = os.open, list[int]()

    def refuse(path: str, flags: int) -> int:
        flags_seen.append(flags)
        if flags & os.O_NOATIME:
            raise PermissionError(1, "Operation not permitted")
        return real(path, flags)

    monkeypatch.setattr(module.os, "open", refuse)
    assert read_picture(str(picture), follow=False, max_bytes=1 << 20).data
    assert len(flags_seen) == 2


def test_no_descriptor_is_left_open(picture: Path, tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("counts descriptors in /proc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read_picture(str(picture), follow=False, max_bytes=1 << 20)
        refusal(picture, max_bytes=1)
        refusal(tmp_path)
        read_head(str(picture), 10, follow=False)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("code", "transient"), [(errno.EMFILE, True), (errno.EIO, False)])
def test_a_shortage_of_descriptors_says_nothing_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, transient: bool
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"content")

    def refuse(*_given: object, **_more: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DecodeError) as caught:
        read_picture(str(path), follow=False, max_bytes=100)
    assert (caught.value.reason, caught.value.transient) == ("unreadable", transient)

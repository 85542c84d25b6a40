from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_model

import nsfwscan
from nsfwscan.media import discover, volumes
from nsfwscan.media.read import FileContents
from nsfwscan.media.volumes import RELIABLE, UNKNOWN, Volumes
from nsfwscan.scanning import examine, path_scan, scan_cache
from nsfwscan.values import file_key
from nsfwscan.values.file_key import FileKey

_MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:45 / /mnt/nas rw,relatime shared:5 master:3 - nfs4 nas:/photos rw,vers=4.2
41 22 8:17 / /media/stick rw - vfat /dev/sdb1 rw
42 22 0:50 / /home/a/remote rw - fuse.sshfs a@b:/ rw
43 22 0:51 / /tmp rw - tmpfs tmpfs rw
"""


def stamp(tmp_path: Path, kind: str, source: str, device: str = "0:77") -> int:
    """Return the stamp of one mount."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"40 22 {device} / /place rw - {kind} {source} rw\n")
    major, minor = map(int, device.split(":"))
    return Volumes(str(mounts)).stamp(os.makedev(major, minor))


@pytest.mark.parametrize(
    ("device", "loose"),
    [((8, 1), False), ((0, 45), True), ((8, 17), True), ((0, 50), True), ((0, 51), False)],
)
def test_network_fuse_and_fat_are_loose(
    device: tuple[int, int], loose: bool, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(_MOUNTS)
    found = Volumes(str(mounts)).stamp(os.makedev(*device))
    assert (found != RELIABLE) is loose
    assert found != UNKNOWN
    assert 0 <= found < 2**64


@pytest.mark.parametrize("kind", ["squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"])
def test_images_that_cannot_be_told_apart_are_never_relied_on(kind: str, tmp_path: Path) -> None:
    for source in ("/dev/sr0", "none", "/dev/loop99999", "/dev/mapper/x"):
        assert stamp(tmp_path, kind, source) == UNKNOWN


@pytest.mark.parametrize("program", ["squashfuse", "fuse-zip", "archivemount", "ratarmount"])
def test_so_are_archives_of_a_program_that_does_not_say_which(program: str, tmp_path: Path) -> None:
    for kind in (f"fuse.{program}", "fuse"):
        assert stamp(tmp_path, kind, program) == UNKNOWN


def test_an_image_is_known_by_the_file_it_is_in(tmp_path: Path) -> None:
    image = tmp_path / "a.sqf"
    image.write_bytes(b"one")
    first = stamp(tmp_path, "fuse.squashfuse", str(image))
    assert first == stamp(tmp_path, "fuse.squashfuse", str(image), device="0:99")
    image.write_bytes(b"another")
    assert first != stamp(tmp_path, "fuse.squashfuse", str(image))
    other = tmp_path / "b.sqf"
    other.write_bytes(b"one")
    assert first != stamp(tmp_path, "fuse.squashfuse", str(other))


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("fuse.sshfs", "a@b:/photos", "a@c:/photos"),
        ("nfs4", "nas:/a", "nas:/b"),
        ("cifs", "//nas/a", "//nas/b"),
        ("vfat", "/dev/sdb1", "/dev/sdc1"),
    ],
)
def test_what_is_mounted_identifies_other_volumes(
    kind: str, one: str, other: str, tmp_path: Path
) -> None:
    assert stamp(tmp_path, kind, one) == stamp(tmp_path, kind, one, device="0:99")
    assert stamp(tmp_path, kind, one) != stamp(tmp_path, kind, other)
    assert RELIABLE < stamp(tmp_path, kind, one) < UNKNOWN


def test_a_memory_card_is_known_by_its_own_number_wherever_it_is_plugged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "_uuid", {"/dev/sdb1": "12AB", "/dev/sdc1": "12AB"}.get)
    assert stamp(tmp_path, "vfat", "/dev/sdb1") == stamp(tmp_path, "vfat", "/dev/sdc1")
    monkeypatch.setattr(volumes, "_uuid", {"/dev/sdb1": "12AB", "/dev/sdc1": "34CD"}.get)
    assert stamp(tmp_path, "vfat", "/dev/sdb1") != stamp(tmp_path, "vfat", "/dev/sdc1")


def test_another_image_in_the_same_place_is_not_taken_for_the_one_before(
    tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal names, sizes, times and inode numbers, as of two squashfs images mounted in turn."""
    monkeypatch.setattr(path_scan, "is_racy", lambda *_: False)
    alike = FileKey(5000, 10**18, 10**18, 7)
    monkeypatch.setattr(discover, "pack_key", lambda _found: alike.pack())
    read_picture = examine.read_picture
    monkeypatch.setattr(
        examine,
        "read_picture",
        lambda path, **options: FileContents(read_picture(path, **options).data, alike),
    )
    place = tmp_path / "place" / "1.bmp"

    def scan(colour: tuple[int, int, int], stamp: int) -> tuple[str, str]:
        paint(place, colour)
        monkeypatch.setattr(Volumes, "stamp", lambda _self, _device: stamp)
        (found,) = nsfwscan.scan(place.parent)
        assert isinstance(found, nsfwscan.Scanned)
        return found.verdict.decision, found.origin

    assert scan(tiny_model.GREEN, 12) == ("safe", "model")
    assert scan(tiny_model.GREEN, 12) == ("safe", "cache")
    assert scan(tiny_model.RED, 34) == ("nsfw", "model")
    assert scan(tiny_model.GREEN, UNKNOWN) == ("safe", "model")
    assert scan(tiny_model.RED, UNKNOWN) == ("nsfw", "model")


def test_a_disk_that_is_mounted_later_is_seen(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(_MOUNTS.splitlines()[0] + "\n")
    known = Volumes(str(mounts))
    assert known.stamp(os.makedev(8, 1)) == RELIABLE
    mounts.write_text(_MOUNTS)
    assert known.stamp(os.makedev(8, 17)) != RELIABLE


@pytest.mark.parametrize("content", [None, "", "nonsense\n", "1 2 x:y / / rw - ext4 d rw\n"])
def test_without_a_list_of_mounts_everything_is_relied_on(
    content: str | None, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    if content is not None:
        mounts.write_text(content)
    assert Volumes(str(mounts)).stamp(os.makedev(8, 1)) == RELIABLE


@pytest.mark.parametrize("loose", [True, False])
def test_inodes_that_change_cost_a_reading_only_where_they_mean_something(
    loose: bool, tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _count_readings(monkeypatch, loose)
    picture = paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    monkeypatch.setattr(path_scan, "is_racy", lambda *_: False)
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["model"]
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == 1
    # As after the volume was mounted anew.
    monkeypatch.setattr(discover, "pack_key", lambda found: _other_inode(file_key.pack_key(found)))
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == (1 if loose else 2)


def test_a_file_on_a_loose_volume_is_read_again_after_a_while(
    tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _count_readings(monkeypatch, loose=True)
    picture = paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    monkeypatch.setattr(path_scan, "is_racy", lambda *_: False)
    for _ in range(2):
        list(nsfwscan.scan(picture.parent))
    assert len(read) == 1
    monkeypatch.setattr(scan_cache, "_LOOSE_SECONDS", -10)
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == 2


def test_what_was_read_while_the_clock_was_ahead_is_read_again_on_a_loose_volume(
    tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _count_readings(monkeypatch, loose=True)
    picture = paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    monkeypatch.setattr(path_scan, "is_racy", lambda *_: False)
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + 10**9)
        list(nsfwscan.scan(picture.parent))
    for _ in range(2):
        assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == 2


def _count_readings(monkeypatch: pytest.MonkeyPatch, loose: bool) -> list[str]:
    read: list[str] = []
    read_picture = examine.read_picture

    def counted(path: str, **options: Any) -> Any:
        read.append(path)
        return read_picture(path, **options)

    monkeypatch.setattr(examine, "read_picture", counted)
    monkeypatch.setattr(Volumes, "stamp", lambda _self, _device: int(loose))
    return read


def _other_inode(packed: bytes) -> bytes:
    key = FileKey.unpack(packed)
    return key._replace(inode=key.inode + 1).pack()


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    assert 0 <= Volumes().stamp(os.stat(tmp_path).st_dev) < 2**64

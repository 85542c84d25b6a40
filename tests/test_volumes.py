from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tiny_model

import nsfwscan
from nsfwscan import lanes, results, scanner
from nsfwscan.images import discover
from nsfwscan.images.volumes import Volumes
from nsfwscan.results import FileKey

_MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:45 / /mnt/nas rw,relatime shared:5 master:3 - nfs4 nas:/photos rw,vers=4.2
41 22 8:17 / /media/stick rw - vfat /dev/sdb1 rw
42 22 0:50 / /home/a/remote rw - fuse.sshfs a@b:/ rw
43 22 0:51 / /tmp rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("device", "loose"),
    [((8, 1), False), ((0, 45), True), ((8, 17), True), ((0, 50), True), ((0, 51), False)],
)
def test_network_fuse_and_fat_are_loose(
    device: tuple[int, int], loose: bool, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(_MOUNTS)
    assert Volumes(str(mounts)).is_loose(os.makedev(*device)) is loose


def test_a_disk_that_is_mounted_later_is_seen(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(_MOUNTS.splitlines()[0] + "\n")
    volumes = Volumes(str(mounts))
    assert not volumes.is_loose(os.makedev(8, 1))
    mounts.write_text(_MOUNTS)
    assert volumes.is_loose(os.makedev(8, 17))


@pytest.mark.parametrize("content", [None, "", "nonsense\n", "1 2 x:y / / rw - ext4 d rw\n"])
def test_without_a_list_of_mounts_everything_is_relied_on(
    content: str | None, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    if content is not None:
        mounts.write_text(content)
    assert not Volumes(str(mounts)).is_loose(os.makedev(8, 1))


@pytest.mark.parametrize("loose", [True, False])
def test_inodes_that_change_cost_a_reading_only_where_they_mean_something(
    loose: bool, tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _count_readings(monkeypatch, loose)
    picture = paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    monkeypatch.setattr(lanes, "is_racy", lambda *_: False)
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["model"]
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == 1
    # As after the volume was mounted anew.
    monkeypatch.setattr(discover, "pack_key", lambda found: _other_inode(results.pack_key(found)))
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == (1 if loose else 2)


def test_a_file_on_a_loose_volume_is_read_again_after_a_while(
    tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _count_readings(monkeypatch, loose=True)
    picture = paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    monkeypatch.setattr(lanes, "is_racy", lambda *_: False)
    for _ in range(2):
        list(nsfwscan.scan(picture.parent))
    assert len(read) == 1
    monkeypatch.setattr(scanner, "_LOOSE_SECONDS", -10)
    assert [one.origin for one in nsfwscan.scan(picture.parent)] == ["cache"]
    assert len(read) == 2


def _count_readings(monkeypatch: pytest.MonkeyPatch, loose: bool) -> list[str]:
    read: list[str] = []
    read_picture = lanes.read_picture

    def counted(path: str, **options: Any) -> Any:
        read.append(path)
        return read_picture(path, **options)

    monkeypatch.setattr(lanes, "read_picture", counted)
    monkeypatch.setattr(Volumes, "is_loose", lambda _self, _device: loose)
    return read


def _other_inode(packed: bytes) -> bytes:
    key = FileKey.unpack(packed)
    return key._replace(inode=key.inode + 1).pack()


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    assert Volumes().is_loose(os.stat(tmp_path).st_dev) in {True, False}

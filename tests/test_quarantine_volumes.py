"""A picture goes back to the volume that it came from, wherever that is mounted, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from quarantine_worker import move_in, restore_all, vault_in
from shell import own_mounts

from nsfwscan.actions.quarantine.places import Destination, Places
from nsfwscan.actions.quarantine.volume import Volume, from_record
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.system.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts")

_HEAD = f"""
import os, subprocess, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
from quarantine_worker import *

def mount(*words): subprocess.run(["mount", *map(str, words)], check=True)
def umount(place): subprocess.run(["umount", str(place)], check=True)
def disk(place):
    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=700", "x", place)
    return place
def put(path, content=b"a picture"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
def told(results): return [f"{{one.moved.outcome}}: {{one.moved.detail}}" for one in results]
def files(folder): return sorted(str(one.relative_to(folder)) for one in folder.rglob("*.jpg"))
here = Path(sys.argv[1])
one, two, disk_q = here / "one", here / "two", here / "q"
two.mkdir()
"""


def inside(tmp_path: Path, script: str) -> list[str]:
    """Run a script where it may mount things, and return what it printed."""
    done = subprocess.run(
        [*own_mounts(), sys.executable, "-c", _HEAD + script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_picture_goes_back_to_its_stick_where_that_is_mounted_now(tmp_path: Path) -> None:
    script = """
disk(one); put(one / "2024" / "s.jpg"); move_in(one, [one / "2024" / "s.jpg"])
mount("--bind", one, two); umount(one)
disk(one)  # and another stick is where it was
print(*told(restore_all(two)), files(one), files(two))
"""
    (line,) = inside(tmp_path, script)
    assert line == "done: its volume is mounted elsewhere now [] ['2024/s.jpg']"


def test_a_picture_stays_in_quarantine_while_its_volume_is_away(tmp_path: Path) -> None:
    script = """
disk(one); put(one / "s.jpg"); put(one / "2024" / "t.jpg")
move_in(disk_q, [one / "s.jpg", one / "2024" / "t.jpg"])
mount("--bind", one, two); umount(one)
print(*set(told(restore_all(disk_q))), files(one))
disk(one)
print(*set(told(restore_all(disk_q))), files(one))
umount(one); mount("--bind", two, one)
print(*set(told(restore_all(disk_q))), files(one))
"""
    away, another, back = inside(tmp_path, script)
    where = tmp_path / "one"
    stays = "it stays in quarantine []"
    assert away == f"failed: its volume is not mounted at {where} now; {stays}"
    assert another == (f"failed: another volume is mounted at {where} now; {stays}")
    assert back == "done:  ['2024/t.jpg', 's.jpg']"


def test_a_quarantine_that_was_copied_to_another_volume_gives_back_to_the_first(
    tmp_path: Path,
) -> None:
    script = """
disk(one); put(one / "2024" / "s.jpg"); move_in(one, [one / "2024" / "s.jpg"])
disk(two); subprocess.run(["cp", "-a", one / ".nsfwscan-quarantine", two], check=True)
print(*told(restore_all(two)), files(one), files(two))
"""
    assert inside(tmp_path, script) == ["done:  ['2024/s.jpg'] []"]


def test_what_is_mounted_over_the_folder_of_a_picture_gets_nothing(tmp_path: Path) -> None:
    script = """
put(one / "inner" / "s.jpg"); move_in(one, [one / "inner" / "s.jpg"])
disk(one / "inner")
print(*told(restore_all(one)), files(one))
umount(one / "inner")
print(*told(restore_all(one)), files(one))
"""
    over, back = inside(tmp_path, script)
    where = tmp_path / "one" / "inner"
    assert over == (f"failed: another volume is mounted at {where} now; it stays in quarantine []")
    assert back == "done:  ['inner/s.jpg']"


def test_a_move_that_was_cut_short_waits_until_its_volume_is_back(tmp_path: Path) -> None:
    script = """
from nsfwscan.actions.quarantine import recovery
disk(one); put(one / "s.jpg")
real, recovery.aside = recovery.aside, lambda *_: os.kill(os.getpid(), 9)
if os.fork() == 0: move_in(disk_q, [one / "s.jpg"])
os.wait(); recovery.aside = real
mount("--bind", one, two); umount(one)
said = []; vault = vault_in(disk_q, said.append)
with vault.locked() as ledger: print(len(said), len(ledger.under_way), files(one), files(two))
mount("--bind", two, one)
with vault.locked() as ledger: print(len(said), len(ledger.under_way), files(one), vault.names())
"""
    assert inside(tmp_path, script) == ["1 1 [] ['s.jpg']", "1 0 ['s.jpg'] set()"]


def test_a_picture_of_a_quarantine_cannot_be_quarantined_by_way_of_a_mount(tmp_path: Path) -> None:
    script = """
disk(one); put(one / "s.jpg"); move_in(None, [one / "s.jpg"])
(vault,) = Quarantines(None, print).everywhere()
mount("--bind", os.path.join(vault.folder, "files"), two)
(name,) = os.listdir(two)
print(*(f"{act.outcome}: {act.detail}" for act in move_in(here / "another", [two / name])))
print(os.listdir(two) == [name])
"""
    assert inside(tmp_path, script) == ["left: it is already in quarantine", "True"]


# What needs no mounts


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "pictures" / "a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a picture")
    return path


def test_a_folder_that_was_renamed_with_its_quarantine_gets_its_pictures(
    picture: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    move_in(home, [picture])
    home.rename(tmp_path / "new")
    (one,) = restore_all(tmp_path / "new")
    assert one.moved.target == str(tmp_path / "new" / "pictures" / "a.jpg")
    assert not home.exists()


def test_a_quarantine_that_was_moved_gives_back_to_where_the_pictures_were(
    picture: Path, tmp_path: Path
) -> None:
    move_in(tmp_path / "home", [picture])
    (tmp_path / "new").mkdir()
    (tmp_path / "home" / QUARANTINE_NAME).rename(tmp_path / "new" / QUARANTINE_NAME)
    (one,) = restore_all(tmp_path / "new")
    assert (one.moved.outcome, one.moved.target) == ("done", str(picture))


def _as_of_an_earlier_version(q: Path) -> None:
    """Take out of a journal what earlier versions did not write."""
    path = q / QUARANTINE_NAME / "journal.jsonl"
    records: list[dict[str, Any]] = Journal(str(path)).read().records
    path.unlink()
    later = {"volume", "base"}
    Journal(str(path)).append(
        *({key: value for key, value in one.items() if key not in later} for one in records)
    )


def test_a_journal_of_an_earlier_version_gives_its_pictures_back(
    picture: Path, tmp_path: Path, elsewhere: Path
) -> None:
    other = elsewhere / "inner" / "b.jpg"
    other.parent.mkdir()
    other.write_bytes(b"another")
    q = tmp_path / "q"
    move_in(q, [picture, other])
    _as_of_an_earlier_version(q)
    other.parent.rmdir()  # a volume that is away looks like this
    results = {one.entry.path: one.moved for one in restore_all(q)}
    assert results[str(picture)].outcome == "done"
    assert results[str(other)].outcome == "failed"
    assert "its volume is not known" in results[str(other)].detail
    other.parent.mkdir()
    assert [one.moved.outcome for one in restore_all(q)] == ["done"]
    assert other.read_bytes() == b"another"


def test_another_volume_between_two_looks_gets_nothing(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = tmp_path / "q"
    move_in(q, [picture])
    (entry,) = vault_in(q).peek().held
    place = Places(vault_in(q).folder).of(entry)
    assert place == Destination(str(picture))
    real = os.stat

    def stat(path: Any, **options: Any) -> Any:
        found = real(path, **options)
        if (
            path == str(picture.parent)
            and real(q / QUARANTINE_NAME / "journal.jsonl").st_size > size
        ):
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))  # mounted just now
        return found

    size = real(q / QUARANTINE_NAME / "journal.jsonl").st_size
    monkeypatch.setattr(os, "stat", stat)
    (one,) = restore_all(q)
    assert (one.moved.outcome, "another volume" in one.moved.detail) == ("failed", True)
    monkeypatch.setattr(os, "stat", real)
    assert [one.moved.outcome for one in restore_all(q)] == ["done"]


def test_a_volume_is_known_by_its_name_or_else_by_its_place() -> None:
    stick = Volume("/media/stick", "vfat", "/dev/sdb1", "1234-ABCD")
    moved = Volume("/mnt", "vfat", "/dev/sdc1", "1234-ABCD")
    another = stick._replace(name="5678-ABCD")
    assert stick.is_known_as(moved)
    assert stick.may_be(moved)
    assert not stick.is_known_as(another)
    assert not stick.may_be(another)
    nameless = Volume("/media/stick", "vfat", "/dev/sdb1")
    assert stick.is_known_as(nameless)
    assert not nameless.is_known_as(nameless._replace(mount="/mnt"))
    assert nameless.may_be(nameless._replace(mount="/mnt"))
    assert not nameless.may_be(Volume("/media/stick", "ext4", "/dev/sdb1"))
    assert from_record(json.loads(json.dumps(stick.record()))) == stick


@pytest.mark.parametrize("record", [None, [], {}, {"mount": ""}, {"mount": "/", "kind": 3}])
def test_a_volume_that_is_not_understood_is_none(record: object) -> None:
    assert from_record(record) is None

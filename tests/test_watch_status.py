"""The status file: whole, private, and written as seldom as can be."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from nsfwscan.watch import status
from nsfwscan.watch.status import Status, StatusFile, read

STATUS = Status(
    pid=7,
    running_since=1_700_000_000.5,
    roots=("/home/someone/Pictures", "/odd\udcff"),
    watched=3,
    directories=4,
    queue=1,
    scanned=10,
    flagged=2,
    failed=0,
    last_reconcile=None,
    degraded=("3 of 4 directories watched",),
    paused="",
    model="tiny-1",
    version="0.1",
)


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(status, "time", clock)
    return clock


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "state" / "status.json")
    assert read(path) is None
    StatusFile(path).write(STATUS)
    assert read(path) == STATUS
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path / "state") == ["status.json"]


def test_nothing_is_written_when_nothing_changed(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "status.json"
    file = StatusFile(str(path))
    file.write(STATUS)
    before = os.stat(path).st_mtime_ns, os.stat(path).st_ino
    for _ in range(10):
        clock.now += 60
        file.write(STATUS)
    assert (os.stat(path).st_mtime_ns, os.stat(path).st_ino) == before


def test_a_burst_is_one_write_and_the_last_word_is_not_lost(tmp_path: Path, clock: Clock) -> None:
    path = str(tmp_path / "status.json")
    file = StatusFile(path)
    for scanned in range(10):
        file.write(dataclasses.replace(STATUS, scanned=scanned))
    assert read(path) == dataclasses.replace(STATUS, scanned=0)
    clock.now += 2.5
    file.write(dataclasses.replace(STATUS, scanned=9))
    assert read(path) == dataclasses.replace(STATUS, scanned=9)
    file.write(dataclasses.replace(STATUS, scanned=10), now=True)
    assert read(path) == dataclasses.replace(STATUS, scanned=10)


def test_a_place_that_cannot_be_written_is_no_trouble(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "status.json"
    file = StatusFile(str(path))
    file.write(STATUS)
    (tmp_path / "file").unlink()
    clock.now += 3
    file.write(STATUS)
    assert read(str(path)) == STATUS


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"v": 2}', '{"v": 1, "pid": 3}', "\xff"])
def test_what_cannot_be_understood_is_no_status(tmp_path: Path, text: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(text, "latin-1")
    assert read(str(path)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("queue", "3"), ("scanned", None), ("running_since", "now"), ("paused", 1), ("roots", 7)],
)
def test_a_status_of_the_wrong_kind_is_none(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "status.json"
    StatusFile(str(path)).write(STATUS)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, name: value}))
    assert read(str(path)) is None

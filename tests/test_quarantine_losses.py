"""The quarantine: what could lose a picture, or call one back that is lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from quarantine_worker import move_in, restore_all

from nsfwscan.actions import moves

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes, links")


@pytest.fixture
def q(tmp_path: Path) -> Path:
    """Return the folder that the quarantine is in."""
    return tmp_path / "q"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a picture")
    return path


@pytest.mark.parametrize("name", ["x" * 250 + ".jpg", "é" * 125 + ".jpg", "a." + "x" * 250])
def test_a_picture_with_a_long_name_that_is_taken_is_restored_under_a_shorter_one(
    q: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    for content in (b"1", b"2", b"3"):
        path.write_bytes(content)
        assert [act.outcome for act in move_in(q, [path])] == ["done"]
    path.write_bytes(b"taken")
    assert {one.moved.outcome for one in restore_all(q)} == {"done"}
    back = [one for one in tmp_path.iterdir() if one.is_file()]
    assert sorted(one.read_bytes() for one in back) == [b"1", b"2", b"3", b"taken"]
    assert path.read_bytes() == b"taken"


def test_a_write_that_keeps_size_and_time_while_a_picture_is_copied_is_not_lost(
    q: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = elsewhere / "a.jpg"
    path.write_bytes(b"a picture")
    real = moves.rename

    def rename(source: str, target: str, **options: Any) -> None:
        if source == str(path) and ".nsfwscan-" in target:  # the copy is made
            found = path.stat()
            path.write_bytes(b"A PICTURE")
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        real(source, target, **options)

    monkeypatch.setattr(moves, "rename", rename)
    (act,) = move_in(q, [path])
    assert (act.outcome, path.read_bytes()) == ("left", b"A PICTURE")
    assert os.listdir(q / ".nsfwscan-quarantine" / "files") == []

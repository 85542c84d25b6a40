"""Files that are replaced whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nsfwscan.system.atomic_file import replace_file


@pytest.mark.parametrize("sync", [False, True])
def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path, *, sync: bool) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"", b"new\n"):
        replace_file(str(path), content, sync=sync)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are those of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_who_may_read_it_is_said(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o666)
    replace_file(str(path), b"new", mode=mode)
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(str(path), b"new", sync=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]

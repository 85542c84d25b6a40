from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
import tiny_model
from conftest import Paint

from nsfwscan.system import locations

_ALL: list[Callable[[], str]] = [
    locations.config_file,
    locations.models_folder,
    locations.cache_file,
]


def test_everything_is_below_the_home_that_is_set(home: Path) -> None:
    assert {os.path.dirname(where()) for where in _ALL} == {str(home)}
    assert len({where() for where in _ALL}) == len(_ALL)


@pytest.mark.parametrize("given", ["~/portable", "portable"])
def test_a_home_is_made_absolute(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NSFWSCAN_HOME", given)
    assert locations.models_folder() == str(tmp_path / "portable" / "models")


@pytest.mark.parametrize("given", ["", None])
def test_without_a_home_the_system_says_where(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NSFWSCAN_HOME")
    if given is not None:
        monkeypatch.setenv("NSFWSCAN_HOME", given)
    where = [os.path.dirname(path()) for path in _ALL]
    system = platformdirs.PlatformDirs("nsfwscan", appauthor=False)
    assert where == [system.user_config_dir, system.user_data_dir, system.user_cache_dir]


def test_asking_creates_nothing(home: Path) -> None:
    for where in _ALL:
        where()
    assert list(home.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no permission bits")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
def test_folders_are_made_for_their_owner_only_whatever_the_umask(
    tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        locations.make_private(str(tmp_path / "state" / "nsfwscan" / "inner"))
        locations.make_private(str(tmp_path / "state" / "nsfwscan"))
    finally:
        os.umask(before)
    for name in ("state", "state/nsfwscan", "state/nsfwscan/inner"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no permission bits")
def test_everything_that_a_person_writes_is_theirs_alone_whatever_the_umask(
    tmp_path: Path, tiny: Path, paint: Paint
) -> None:
    picture = paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    home = tmp_path / "home"
    env = {**os.environ, "NSFWSCAN_HOME": str(home), "HOME": str(tmp_path / "pictures")}
    code = "import os, runpy, sys; os.umask(0); runpy.run_module('nsfwscan', run_name='__main__')"
    for arguments in (
        ["models", "add", str(tiny)], ["allow", str(picture)], ["rulings", "forget", str(picture)],
        ["scan", "--exit-zero", "--action", "quarantine", "--yes",
         "--quarantine", str(tmp_path / "q"), str(picture)],
    ):  # fmt: skip
        command = [sys.executable, "-c", code, *arguments]
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    for folder in (home, home / "state"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("rulings.jsonl", "library.sqlite3", "library.sqlite3.lock",
                 "state/quarantines.jsonl"):  # fmt: skip
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="files have no owner there")
def test_a_folder_that_somebody_else_is_faster_to_make_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def late(path: str, mode: int) -> None:
        real(path, mode)
        raise FileExistsError(17, "File exists", path)

    monkeypatch.setattr(os, "mkdir", late)
    locations.make_private(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        locations.make_private(str(tmp_path / "file"))


def test_a_file_system_without_permissions_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    locations.make_private(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()

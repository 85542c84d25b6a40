from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from nsfwscan import locations

_ALL: list[Callable[[], str]] = [
    locations.config_file,
    locations.models_folder,
    locations.library_file,
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

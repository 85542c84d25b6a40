from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from cache_facts import SCORER, fill, known_contents, known_numbers

from nsfwscan.cache import database, migrations
from nsfwscan.cache.cache import Cache
from nsfwscan.values.errors import CacheTooNew

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = len(migrations.MIGRATIONS)


def fail_on_warning(text: str) -> None:
    raise AssertionError(text)


def released_cache(version: int, path: Path, data: Path) -> None:
    raw = sqlite3.connect(path)
    raw.executescript((data / f"library_schema_{version}.sql").read_text())
    raw.close()


def schema_of(path: Path) -> list[tuple[str, str]]:
    raw = sqlite3.connect(path)
    schema = raw.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    ).fetchall()
    raw.close()
    return schema


@pytest.fixture
def data(request: pytest.FixtureRequest) -> Path:
    return request.path.parent / "data"


def test_every_migration_is_named_by_its_number() -> None:
    numbers = [int(one.__name__[1:4]) for one in migrations.MIGRATIONS]
    assert numbers == list(range(1, NEWEST + 1))


def test_a_blank_file_gets_the_newest_schema(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    path.touch()
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert cache.stats().schema == NEWEST


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
def test_every_released_schema_migrates_and_keeps_its_facts(
    version: int, tmp_path: Path, data: Path
) -> None:
    path, blank = tmp_path / "library.sqlite3", tmp_path / "blank.sqlite3"
    released_cache(version, path, data)
    Cache.open(str(blank), warn=fail_on_warning).close()
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert cache.stats().schema == NEWEST
        assert cache.stats().models[0][:2] == (SCORER, "a model")
        assert known_numbers(cache, 6) == set(range(6))
        assert known_contents(cache, 6) == set(range(6))
        assert cache.verify().deleted == 0
    assert schema_of(path) == schema_of(blank)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_newer_schema_is_refused_untouched(
    mode: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.sqlite3"
    released_cache(1, path, data)
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA journal_mode = {mode}")
    raw.execute(f"PRAGMA user_version = {NEWEST + 1}")
    raw.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    for wanted in ("wal", "delete"):
        monkeypatch.setattr(database, "journal_mode", lambda _version, wanted=wanted: wanted)
        with pytest.raises(CacheTooNew, match="later version") as caught:
            Cache.open(str(path), warn=fail_on_warning)
        assert caught.value.hint
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert {one.name for one in tmp_path.iterdir()} == {path.name, f"{path.name}.lock"}


def test_a_migration_that_is_interrupted_leaves_the_schema_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.sqlite3"

    def m002_interrupted(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE file ADD COLUMN colour")
        connection.execute("DELETE FROM outcome")
        raise KeyboardInterrupt

    with Cache.open(str(path), warn=fail_on_warning) as cache:
        fill(cache, 6)
    before = schema_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m002_interrupted))
        with pytest.raises(KeyboardInterrupt):
            Cache.open(str(path), warn=fail_on_warning)
    assert schema_of(path) == before
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert known_numbers(cache, 6) == set(range(6))


def test_relative_folders_of_earlier_versions_are_forgotten_and_contents_are_not(
    tmp_path: Path, data: Path
) -> None:
    path = tmp_path / "library.sqlite3"
    released_cache(3, path, data)
    raw = sqlite3.connect(path)
    for number, folder in enumerate((b".", b"", b"./sub", b"Pictures"), 100):
        raw.execute("INSERT INTO folder VALUES (?, ?)", (number, folder))
        raw.execute(
            "INSERT INTO file SELECT ?, name, stat, sha256, 0, 0 FROM file WHERE folder = 1",
            (number,),
        )
        raw.execute("INSERT INTO snapshot VALUES (?, 1, 0, x'00')", (number,))
    raw.commit()
    raw.close()
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert cache.stats().folders == 1
        assert cache.verify().deleted == 0
        assert known_numbers(cache, 6) == set(range(6))
        assert known_contents(cache, 6) == set(range(6))

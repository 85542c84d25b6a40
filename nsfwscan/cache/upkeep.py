"""Counting, pruning, checking and exporting the cache: the work of `nsfwscan cache`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nsfwscan.cache.database import SIDE_FILES, Database
from nsfwscan.cache.migrations import schema_version
from nsfwscan.cache.rows import (
    decode_outcome,
    fact_checksum,
    file_checksum,
    model_checksum,
    outcome_checksum,
    part_checksum,
    place_checksum,
    snapshot_checksum,
)
from nsfwscan.values.errors import CacheUnavailable
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.outcome import Outcome, Scorer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    _Find: TypeAlias = Callable[[sqlite3.Connection], tuple[int, list[tuple[Any, ...]]]]


_DAY_S = 86_400


class ModelStats(NamedTuple):
    """How much of the cache comes from one scorer."""

    scorer: Scorer
    name: str
    """The model's name; empty if unknown."""
    outcomes: int


class CacheStats(NamedTuple):
    """Size and counts of the cache."""

    path: str
    bytes: int
    """Size of the file and its journals."""
    schema: int
    journal_mode: str
    read_only: bool
    folders: int
    files: int
    contents: int
    """Different contents with at least one outcome."""
    models: tuple[ModelStats, ...]
    set_aside: tuple[str, ...]
    """Paths of damaged cache files that were set aside."""


class Pruned(NamedTuple):
    """How many rows were dropped."""

    files: int
    outcomes: int


class Verified(NamedTuple):
    """How many rows were checked, and how many failed and were deleted."""

    checked: int
    deleted: int
    set_aside: bool
    """Whether SQLite's own check failed, so that the whole file was set aside."""


class ExportRow(NamedTuple):
    """One outcome of one file; fields that are unknown are None or empty."""

    path: str | None
    """None for content that is no longer in any known file."""
    key: FileKey | None
    sha256: bytes
    scorer: Scorer | None
    model: str
    labels: tuple[str, ...]
    outcome: Outcome | None


def stats(database: Database) -> CacheStats:
    """Return the cache's size and counts. Raises `CacheUnavailable`."""

    def count(connection: sqlite3.Connection) -> CacheStats:
        names = {fingerprint: name for fingerprint, name, _ in _models(connection)}
        return CacheStats(
            path=database.path,
            bytes=sum(_size(database.path + suffix) for suffix in ("", *SIDE_FILES)),
            schema=schema_version(connection),
            journal_mode=_text(_one(connection, "PRAGMA journal_mode")),
            read_only=database.read_only,
            folders=_one(connection, "SELECT count(*) FROM folder"),
            files=_one(connection, "SELECT count(*) FROM file"),
            contents=_one(connection, "SELECT count(DISTINCT sha256) FROM outcome"),
            models=tuple(
                ModelStats(
                    Scorer(text := _text(fingerprint), decoder),
                    names.get(text, ""),
                    outcomes,
                )
                for fingerprint, decoder, outcomes in connection.execute(
                    "SELECT fingerprint, decoder, count(*) FROM outcome"
                    " JOIN scorer ON scorer.id = outcome.scorer GROUP BY scorer.id"
                )
            ),
            set_aside=tuple(_set_aside_files(database.path)),
        )

    return database.read(count)


def prune(database: Database, *, older_than_days: float) -> Pruned:
    """Drop what no longer saves time; see `Cache.prune`. Raises `CacheUnavailable`."""
    now = time.time()
    # Rows dated in the future were written while the clock was wrong, and would never get old.
    old = (int(now - older_than_days * _DAY_S), int(now + _DAY_S))
    files = sum(
        _prune_folder(database, number, path, old) for number, path in database.read(_folders)
    )

    def drop(connection: sqlite3.Connection) -> int:
        connection.execute("DELETE FROM part WHERE container NOT IN (SELECT sha256 FROM file)")
        dropped = connection.execute(
            "DELETE FROM outcome WHERE (written_at < ? OR written_at > ?)"
            " AND sha256 NOT IN (SELECT sha256 FROM file)"
            " AND sha256 NOT IN (SELECT sha256 FROM part)",
            old,
        ).rowcount
        connection.execute("DELETE FROM folder WHERE id NOT IN (SELECT folder FROM file)")
        connection.execute(
            "DELETE FROM fact WHERE sha256 NOT IN (SELECT sha256 FROM outcome)"
            " AND sha256 NOT IN (SELECT sha256 FROM file)"
            " AND sha256 NOT IN (SELECT sha256 FROM part)"
        )
        return dropped

    outcomes = database.write(drop)
    for path in _set_aside_files(database.path):
        with contextlib.suppress(OSError):
            if os.lstat(path).st_mtime < old[0]:
                os.unlink(path)
    _give_space_back(database)
    return Pruned(files, outcomes)


def verify(database: Database) -> Verified:
    """Check every row and delete those that fail. Raises `CacheUnavailable`."""
    problem = database.read(lambda connection: _text(_one(connection, "PRAGMA integrity_check(1)")))
    if problem != "ok":
        database.set_aside(problem)
        return Verified(0, 0, set_aside=True)

    def check(connection: sqlite3.Connection) -> Verified:
        checked = deleted = 0
        for table, (keys, find) in _CHECKED.items():
            count, bad = find(connection)
            _delete(connection, table, [f"{key} = ?" for key in keys], bad)
            if bad:
                # Damage can turn a key into text or NULL, which never equals the value read.
                _, left = find(connection)
                alike = [f"CAST({key} AS BLOB) IS CAST(? AS BLOB)" for key in keys]
                _delete(connection, table, alike, left)
            checked += count
            deleted += len(bad)
        return Verified(checked, deleted, set_aside=False)

    return database.write(check)


def _delete(
    connection: sqlite3.Connection,
    table: str,
    conditions: Sequence[str],
    keys: Iterable[tuple[Any, ...]],
) -> None:
    query = f"DELETE FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608  our own names
    connection.executemany(query, keys)


def clear(database: Database) -> None:
    """Delete everything. Raises `CacheUnavailable`."""

    def drop(connection: sqlite3.Connection) -> None:
        for table in (*_CHECKED, "folder", "scorer"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608  our own table names

    # The file is not removed: other processes may have it open, and would corrupt a new one.
    database.write(drop)
    _give_space_back(database)
    for path in _set_aside_files(database.path):
        with contextlib.suppress(OSError):
            os.unlink(path)


def export(database: Database) -> Iterator[ExportRow]:
    """Yield every row that passes its checksum. Raises `CacheUnavailable`."""
    models = {name: rest for name, *rest in database.read(_models)}
    seen: set[bytes] = set()
    for number, folder in database.read(_folders):
        # A folder at a time, so that no other process waits for the reader of the export.
        for name, stat, sha256, _ in _good_files(database, number, folder):
            seen.add(sha256)
            path = os.path.join(os.fsdecode(folder), os.fsdecode(name))
            outcomes = _good_outcomes(database, sha256) or [(None, None)]
            for scorer, outcome in outcomes:
                yield _export_row(models, path, FileKey.unpack(stat), sha256, scorer, outcome)
    for (sha256,) in database.read(
        lambda connection: connection.execute(
            "SELECT DISTINCT sha256 FROM outcome ORDER BY sha256"
        ).fetchall()
    ):
        if sha256 not in seen:
            for scorer, outcome in _good_outcomes(database, sha256):
                yield _export_row(models, None, None, sha256, scorer, outcome)


def _export_row(
    models: Mapping[str, Sequence[Any]],
    path: str | None,
    key: FileKey | None,
    sha256: bytes,
    scorer: Scorer | None,
    outcome: Outcome | None,
) -> ExportRow:
    name, labels = models.get(scorer.fingerprint, ("", ())) if scorer else ("", ())
    return ExportRow(path, key, sha256, scorer, name, labels, outcome)


def _folders(connection: sqlite3.Connection) -> list[tuple[int, bytes]]:
    # Damage can turn a path into anything.
    return connection.execute(
        "SELECT id, path FROM folder WHERE typeof(path) = 'blob' ORDER BY path"
    ).fetchall()


def _good_files(database: Database, number: int, folder: bytes) -> list[tuple[Any, ...]]:
    rows = database.read(
        lambda connection: connection.execute(
            "SELECT name, stat, sha256, written_at, checksum FROM file WHERE folder = ?", (number,)
        ).fetchall()
    )
    return [row[:4] for row in rows if file_checksum(folder, *row[:4]) == row[4]]


def _good_outcomes(database: Database, sha256: bytes) -> list[tuple[Scorer | None, Outcome | None]]:
    rows = database.read(
        lambda connection: connection.execute(
            "SELECT fingerprint, decoder, sha256, written_at, body, checksum"
            " FROM outcome JOIN scorer ON scorer.id = outcome.scorer"
            " WHERE sha256 = ? ORDER BY scorer.id",
            (sha256,),
        ).fetchall()
    )
    return [
        (scorer, decode_outcome(row[4]))
        for row in rows
        if outcome_checksum(scorer := Scorer(_text(row[0]), row[1]), *row[2:5]) == row[5]
    ]


def _models(connection: sqlite3.Connection) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (_text(fingerprint), _text(name), tuple(json.loads(labels)))
        for fingerprint, name, labels, checksum in connection.execute(
            "SELECT fingerprint, name, labels, checksum FROM model"
        )
        if checksum == model_checksum(fingerprint, name, labels)
    ]


def _prune_folder(database: Database, number: int, path: bytes, old: tuple[int, int]) -> int:
    known = {name for name, *_ in _good_files(database, number, path)}
    try:
        with os.scandir(path) as entries:
            present = {os.fsencode(entry.name) for entry in entries} & known
    except (OSError, ValueError):  # gone, unplugged, forbidden, or damaged: contains a NUL
        present = set()
    if not present:  # also true of the mount point of an unplugged disk

        def drop_old(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM file WHERE folder = ? AND (written_at < ? OR written_at > ?)",
                (number, *old),
            ).rowcount

        dropped = database.write(drop_old)
    else:
        gone = known - present
        dropped = len(gone)
        if gone:
            database.write(
                lambda connection: connection.executemany(
                    "DELETE FROM file WHERE folder = ? AND name = ?",
                    [(number, name) for name in gone],
                )
            )
    if dropped:
        database.write(
            lambda connection: connection.execute(
                "DELETE FROM snapshot WHERE folder = ?", (number,)
            )
        )
    return dropped


def _bad_files(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute(
        "SELECT folder, name, stat, sha256, written_at, checksum, path"
        " FROM file LEFT JOIN folder ON folder.id = file.folder"
    )
    return _failing(
        rows,
        keys=2,
        holds=lambda row: file_checksum(row[6], *row[1:5]) == row[5],
    )


def _bad_outcomes(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute(
        "SELECT sha256, scorer, written_at, body, checksum, fingerprint, decoder"
        " FROM outcome LEFT JOIN scorer ON scorer.id = outcome.scorer"
    )
    return _failing(
        rows,
        keys=2,
        holds=lambda row: (
            row[4] == outcome_checksum(Scorer(_text(row[5]), row[6]), row[0], row[2], row[3])
        ),
    )


def _bad_facts(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute("SELECT sha256, kind, version, body, checksum FROM fact")
    return _failing(rows, keys=3, holds=lambda row: fact_checksum(*row[:4]) == row[4])


def _bad_parts(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute("SELECT container, number, part, sha256, checksum FROM part")
    return _failing(rows, keys=2, holds=lambda row: part_checksum(*row[:4]) == row[4])


def _bad_snapshots(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute(
        "SELECT folder, scorer, checksum, body, path, fingerprint, decoder FROM snapshot"
        " LEFT JOIN folder ON folder.id = snapshot.folder"
        " LEFT JOIN scorer ON scorer.id = snapshot.scorer"
    )
    return _failing(
        rows,
        keys=2,
        holds=lambda row: (
            isinstance(row[4], bytes)
            and row[2] == snapshot_checksum(row[4], Scorer(_text(row[5]), row[6]), row[3])
        ),
    )


def _bad_models(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute("SELECT fingerprint, name, labels, checksum FROM model")
    return _failing(rows, keys=1, holds=lambda row: model_checksum(*row[:3]) == row[3])


def _bad_places(connection: sqlite3.Connection) -> tuple[int, list[tuple[Any, ...]]]:
    rows = connection.execute("SELECT path, identity, checksum FROM place")
    return _failing(rows, keys=1, holds=lambda row: place_checksum(*row[:2]) == row[2])


def _failing(
    rows: Iterable[tuple[Any, ...]], *, keys: int, holds: Callable[[tuple[Any, ...]], bool]
) -> tuple[int, list[tuple[Any, ...]]]:
    """Return the number of rows, and the keys (the first columns) of those that fail."""
    count = 0
    failing = []
    for row in rows:
        count += 1
        if not holds(row):
            failing.append(row[:keys])
    return count, failing


_CHECKED: dict[str, tuple[tuple[str, ...], _Find]] = {
    "file": (("folder", "name"), _bad_files),
    "outcome": (("sha256", "scorer"), _bad_outcomes),
    "fact": (("sha256", "kind", "version"), _bad_facts),
    "part": (("container", "number"), _bad_parts),
    "snapshot": (("folder", "scorer"), _bad_snapshots),
    "model": (("fingerprint",), _bad_models),
    "place": (("path",), _bad_places),
}
"""Tables whose rows have checksums: the key, and a function to count rows and find bad ones."""


def _give_space_back(database: Database) -> None:
    # Needs exclusive access, and as much free space as the file; if it fails, no harm is done.
    with contextlib.suppress(CacheUnavailable):
        database.read(lambda connection: connection.execute("VACUUM").fetchall())


def _set_aside_files(path: str) -> list[str]:
    folder, name = os.path.split(path)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, found) for found in names if found.startswith(f"{name}.corrupt-")]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise CacheUnavailable(f"{path} cannot be read: {error.strerror or error}") from error


def _one(connection: sqlite3.Connection, query: str) -> Any:
    (value,) = connection.execute(query).fetchone()
    return value


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""

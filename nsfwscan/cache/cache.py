"""`Cache`: what earlier scans found out, so that no picture is read or scored twice.

(path, stat) -> digest and (digest, scorer) -> outcome are facts about content; verdicts are not
kept. The cache is disposable: whatever happens to it costs time and never a wrong answer. A row
that fails its checksum is unknown, a damaged file is set aside, and everything else that can go
wrong is a `CacheError`, whereupon the scan goes on without.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from typing import TYPE_CHECKING, Self

from nsfwscan.cache import upkeep
from nsfwscan.cache.database import Damage, Database
from nsfwscan.cache.folder_view import FolderView, ViewRow
from nsfwscan.cache.rows import (
    FileRow,
    LikenessRow,
    OutcomeRow,
    decode_likeness,
    decode_outcome,
    encode_likeness,
    encode_outcome,
    file_checksum,
    likeness_checksum,
    model_checksum,
    outcome_checksum,
    place_checksum,
    snapshot_checksum,
)
from nsfwscan.values.likeness import UNKNOWN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from nsfwscan.values.outcome import Outcome, Scorer

_SNAPSHOTS = 100

_FIND_SNAPSHOT = """
    SELECT snapshot.checksum, snapshot.body
    FROM folder
    JOIN scorer ON scorer.fingerprint = ? AND scorer.decoder = ?
    JOIN snapshot ON snapshot.folder = folder.id AND snapshot.scorer = scorer.id
    WHERE folder.path = ?
"""
_FIND_FILES = """
    SELECT file.name, file.stat, file.sha256, file.written_at, file.checksum,
        likeness.bits, likeness.checksum,
        outcome.sha256, outcome.written_at, outcome.body, outcome.checksum
    FROM folder
    JOIN file ON file.folder = folder.id
    LEFT JOIN likeness ON likeness.sha256 = file.sha256
    LEFT JOIN outcome ON outcome.sha256 = file.sha256 AND outcome.scorer =
        (SELECT id FROM scorer WHERE fingerprint = ? AND decoder = ?)
    WHERE folder.path = ?
"""
_FIND_FILE = f"{_FIND_FILES} AND file.name = ?"
_FIND_FOLDERS = """
    SELECT path FROM folder
    WHERE (path = ? OR path >= ? AND path < ?)
        AND EXISTS (SELECT 1 FROM file WHERE file.folder = folder.id)
    ORDER BY path
"""
_SEP = os.sep.encode()
_FIND_OUTCOME = """
    SELECT outcome.sha256, outcome.written_at, outcome.body, outcome.checksum
    FROM outcome
    JOIN scorer ON scorer.id = outcome.scorer
    WHERE outcome.sha256 = ? AND scorer.fingerprint = ? AND scorer.decoder = ?
"""
_FIND_LIKENESS = "SELECT bits, checksum FROM likeness WHERE sha256 = ?"


class Cache:
    """The cache in one SQLite file; any thread may use it, and several processes at once.

    Every method raises `CacheUnavailable` when the file cannot be read or written. Closing
    works then, too.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: str, *, warn: Callable[[str], None]) -> Cache:
        """Open the cache at `path`, or begin one.

        A file that turns out to be damaged, now or later, is renamed to `<name>.corrupt-<time>`,
        a new one is begun, and `warn` gets one sentence. Raises `CacheTooNew` for the file of a
        later version, which is left untouched, and `CacheUnavailable`.
        """
        return cls(Database(path, warn=warn))

    @property
    def path(self) -> str:
        """Where the file is, symbolic links resolved."""
        return self._database.path

    @property
    def read_only(self) -> bool:
        """Whether `write` is sure to fail, because the file or its folder is write-protected."""
        return self._database.read_only

    def folder(self, folder: str, scorer: Scorer) -> FolderView:
        """Return what is known of the files directly in a folder, by name.

        `folder` is spelled as `os.path.dirname` gives it for the paths that were written.
        """
        where = (scorer.fingerprint.encode(), scorer.decoder, path := os.fsencode(folder))

        def load(connection: sqlite3.Connection) -> FolderView:
            for checksum, body in connection.execute(_FIND_SNAPSHOT, where).fetchall():
                if checksum == snapshot_checksum(path, scorer, body):
                    view = FolderView.from_bytes(body)
                    if view is not None:
                        return view
            return _view_from_rows(connection, path, scorer)

        return self._database.read(load)

    def files(self, folder: str, names: Sequence[str], scorer: Scorer) -> FolderView:
        """Return what `folder` does, of a few files; cheaper when they are few of many."""
        path = os.fsencode(folder)
        wanted = [os.fsencode(name) for name in names]

        def load(connection: sqlite3.Connection) -> FolderView:
            rows = []
            for name in wanted:
                where = (scorer.fingerprint.encode(), scorer.decoder, path, name)
                rows += _view_rows(connection.execute(_FIND_FILE, where), path, scorer)
            return FolderView.from_rows(rows)

        return self._database.read(load)

    def folders_below(self, root: str) -> list[str]:
        """Return the folders at and below `root` in which files are known, in order."""
        path = os.fsencode(root)
        prefix = path if path.endswith(_SEP) else path + _SEP
        where = (path, prefix, prefix[:-1] + bytes([prefix[-1] + 1]))
        found = self._database.read(
            lambda connection: connection.execute(_FIND_FOLDERS, where).fetchall()
        )
        return [os.fsdecode(folder) for (folder,) in found if isinstance(folder, bytes)]

    def outcome(self, sha256: bytes, scorer: Scorer) -> Outcome | None:
        """Return the outcome for content by this scorer, or None when it is not known."""
        where = (sha256, scorer.fingerprint.encode(), scorer.decoder)
        rows = self._database.read(
            lambda connection: connection.execute(_FIND_OUTCOME, where).fetchall()
        )
        body = _checked_body(sha256, scorer, rows[0]) if rows else None
        return None if body is None else decode_outcome(body)

    def likeness(self, sha256: bytes) -> int:
        """Return the likeness of content; `UNKNOWN` when nobody computed it yet."""
        row = self._database.read(
            lambda connection: connection.execute(_FIND_LIKENESS, (sha256,)).fetchone()
        )
        return UNKNOWN if row is None else _checked_likeness(sha256, *row)

    def write(
        self,
        files: Sequence[FileRow],
        outcomes: Sequence[OutcomeRow],
        likenesses: Sequence[LikenessRow] = (),
    ) -> None:
        """Store rows in one transaction; when this returns, they outlive this process.

        Rows of the same key are replaced. Snapshots that would miss something are dropped.
        """
        now = int(time.time())

        def store(connection: sqlite3.Connection) -> None:
            _store_files(connection, files, now)
            _store_outcomes(connection, outcomes, now)
            _store_likenesses(connection, likenesses)

        self._database.write(store)

    def snapshot(self, folders: Iterable[str], scorer: Scorer) -> None:
        """Store all that is known of each folder in one row, so that `folder` is fast next time.

        For a scanner that is done with folders in which something was written, or whose views were
        not `stored`. Snapshots hold what the tables hold, or they are dropped: nothing is read
        twice. They are written a hundred at a time, so that nobody else waits for long.
        """
        left = iter(folders)
        while some := [os.fsencode(folder) for folder in itertools.islice(left, _SNAPSHOTS)]:
            self._database.write(functools.partial(_store_snapshots, folders=some, scorer=scorer))

    def forget(self, paths: Iterable[str]) -> None:
        """Drop files that are gone, in one transaction. What is known of their content stays."""
        folders: dict[str, list[bytes]] = {}
        for path in paths:
            folder, name = os.path.split(path)
            folders.setdefault(folder, []).append(os.fsencode(name))

        def drop(connection: sqlite3.Connection) -> None:
            for folder, names in folders.items():
                number = _folder_id(connection, os.fsencode(folder))
                connection.executemany(
                    "DELETE FROM file WHERE folder = ? AND name = ?",
                    [(number, name) for name in names],
                )
                connection.execute("DELETE FROM snapshot WHERE folder = ?", (number,))

        self._database.write(drop)

    def places(self) -> dict[str, str]:
        """Return what `remember_places` was given, all in all."""
        found = self._database.read(
            lambda connection: connection.execute(
                "SELECT path, identity, checksum FROM place"
            ).fetchall()
        )
        return {
            os.fsdecode(path): os.fsdecode(identity)
            for path, identity, checksum in found
            if checksum == place_checksum(path, identity)
        }

    def remember_places(self, identities: Mapping[str, str]) -> None:
        """Keep what identifies the file system at each of these paths."""
        rows = [
            (path, identity, place_checksum(path, identity))
            for path, identity in (
                (os.fsencode(path), os.fsencode(identity)) for path, identity in identities.items()
            )
        ]
        self._database.write(
            lambda connection: connection.executemany(
                "INSERT OR REPLACE INTO place (path, identity, checksum) VALUES (?, ?, ?)", rows
            )
        )

    def remember_model(self, fingerprint: str, name: str, labels: Sequence[str]) -> None:
        """Keep a model's name and labels, so that `export` can tell what the scores mean."""
        row = (fingerprint.encode(), name.encode(), json.dumps(labels).encode())
        row_with_checksum = (*row, model_checksum(*row))
        known = self._database.read(
            lambda connection: connection.execute(
                "SELECT fingerprint, name, labels, checksum FROM model WHERE fingerprint = ?",
                row[:1],
            ).fetchone()
        )
        if known != row_with_checksum:  # a scan of unchanged files writes nothing at all
            self._database.write(
                lambda connection: connection.execute(
                    "INSERT OR REPLACE INTO model (fingerprint, name, labels, checksum)"
                    " VALUES (?, ?, ?, ?)",
                    row_with_checksum,
                )
            )

    def stats(self) -> upkeep.CacheStats:
        """Count what is there."""
        return upkeep.stats(self._database)

    def prune(
        self, *, older_than_days: float, models: Collection[str] | None = None
    ) -> upkeep.Pruned:
        """Drop what no longer saves time, and give the space back.

        That is: files that are gone from a folder in which others are still there; files of all
        other folders, and outcomes of content that no file points to, when they were written more
        than `older_than_days` ago (an unplugged disk looks like a deleted folder, its mount point
        like one that was emptied) or are dated in the future; and outcomes of models whose
        fingerprint is not in `models`, unless that is None.
        """
        return upkeep.prune(self._database, older_than_days=older_than_days, models=models)

    def verify(self) -> upkeep.Verified:
        """Check every row against its checksum and delete those that fail.

        A file that fails SQLite's own check is set aside as a whole.
        """
        return upkeep.verify(self._database)

    def clear(self) -> None:
        """Forget everything, including damaged files that were set aside earlier."""
        upkeep.clear(self._database)

    def export(self) -> Iterator[upkeep.ExportRow]:
        """Give every row in a stable order, a few hundred at a time: nobody is kept waiting."""
        return upkeep.export(self._database)

    def close(self) -> None:
        """Close the file. Never raises."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _view_from_rows(connection: sqlite3.Connection, path: bytes, scorer: Scorer) -> FolderView:
    found = connection.execute(_FIND_FILES, (scorer.fingerprint.encode(), scorer.decoder, path))
    return FolderView.from_rows(_view_rows(found, path, scorer))


def _view_rows(found: sqlite3.Cursor, path: bytes, scorer: Scorer) -> list[ViewRow]:
    rows = []
    for name, stat, sha256, written_at, checksum, bits, bits_checksum, *outcome in found:
        if checksum == file_checksum(path, name, stat, sha256, written_at):
            body = _checked_body(sha256, scorer, outcome)
            likeness = _checked_likeness(sha256, bits, bits_checksum)
            rows.append(ViewRow(os.fsdecode(name), stat, sha256, written_at, body, likeness))
    return rows


def _checked_body(sha256: bytes, scorer: Scorer, row: Sequence[object]) -> bytes | None:
    found, written_at, body, checksum = row
    if found != sha256 or checksum != outcome_checksum(scorer, found, written_at, body):
        return None
    return body if isinstance(body, bytes) else None


def _checked_likeness(sha256: bytes, bits: object, checksum: object) -> int:
    if not isinstance(bits, bytes) or checksum != likeness_checksum(sha256, bits):
        return UNKNOWN
    return decode_likeness(bits)


def _store_files(connection: sqlite3.Connection, files: Sequence[FileRow], now: int) -> None:
    folders: dict[str, int] = {}
    rows = []
    for path, key, sha256 in files:
        folder, name = os.path.split(path)
        folder_bytes, name_bytes, stat = os.fsencode(folder), os.fsencode(name), key.pack()
        if folder not in folders:
            folders[folder] = _folder_id(connection, folder_bytes)
        checksum = file_checksum(folder_bytes, name_bytes, stat, sha256, now)
        rows.append((folders[folder], name_bytes, stat, sha256, now, checksum))
    connection.executemany(
        "INSERT OR REPLACE INTO file (folder, name, stat, sha256, written_at, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.executemany(
        "DELETE FROM snapshot WHERE folder = ?", [(number,) for number in folders.values()]
    )


def _store_outcomes(
    connection: sqlite3.Connection, outcomes: Sequence[OutcomeRow], now: int
) -> None:
    scorers: dict[Scorer, int] = {}
    rows = []
    for sha256, scorer, outcome in outcomes:
        if scorer not in scorers:
            scorers[scorer] = _scorer_id(connection, scorer)
        number, body = scorers[scorer], encode_outcome(outcome)
        before = connection.execute(
            "SELECT body FROM outcome WHERE sha256 = ? AND scorer = ?", (sha256, number)
        ).fetchone()
        if before is not None and before[0] != body:
            # A failure that went well when it was tried again. Nothing tells which folders hold
            # the content, and this is rare: all are read from the tables once more.
            connection.execute("DELETE FROM snapshot WHERE scorer = ?", (number,))
        checksum = outcome_checksum(scorer, sha256, now, body)
        rows.append((sha256, number, now, body, checksum))
    connection.executemany(
        "INSERT OR REPLACE INTO outcome (sha256, scorer, written_at, body, checksum)"
        " VALUES (?, ?, ?, ?, ?)",
        rows,
    )


def _store_likenesses(connection: sqlite3.Connection, rows: Sequence[LikenessRow]) -> None:
    # Snapshots stay as they are: one in which a likeness is unknown is not wrong.
    connection.executemany(
        "INSERT OR REPLACE INTO likeness (sha256, bits, checksum) VALUES (?, ?, ?)",
        [
            (sha256, bits := encode_likeness(likeness), likeness_checksum(sha256, bits))
            for sha256, likeness in rows
        ],
    )


def _store_snapshots(
    connection: sqlite3.Connection, folders: Sequence[bytes], scorer: Scorer
) -> None:
    number = _scorer_id(connection, scorer)
    for path in folders:
        view = _view_from_rows(connection, path, scorer)
        if len(view):
            body = view.to_bytes()
            checksum = snapshot_checksum(path, scorer, body)
            connection.execute(
                "INSERT OR REPLACE INTO snapshot (folder, scorer, checksum, body)"
                " VALUES (?, ?, ?, ?)",
                (_folder_id(connection, path), number, checksum, body),
            )


def _folder_id(connection: sqlite3.Connection, path: bytes) -> int:
    connection.execute("INSERT OR IGNORE INTO folder (path) VALUES (?)", (path,))
    return _number(connection.execute("SELECT id FROM folder WHERE path = ?", (path,)))


def _scorer_id(connection: sqlite3.Connection, scorer: Scorer) -> int:
    key = (scorer.fingerprint.encode(), scorer.decoder)
    connection.execute("INSERT OR IGNORE INTO scorer (fingerprint, decoder) VALUES (?, ?)", key)
    return _number(
        connection.execute("SELECT id FROM scorer WHERE fingerprint = ? AND decoder = ?", key)
    )


def _number(found: sqlite3.Cursor) -> int:
    row = found.fetchone()
    number = None if row is None else row[0]
    if not isinstance(number, int):
        raise Damage("a row that was written cannot be found")
    return number

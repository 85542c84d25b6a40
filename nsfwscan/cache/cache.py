"""`Cache`: results of earlier scans, so that no picture is read or scored twice.

It stores facts about content, (path, stat) -> digest and (digest, scorer) -> outcome, and no
verdicts. The cache is disposable: losing it costs time and never gives a wrong answer. A row that
fails its checksum counts as unknown, a damaged file is set aside, and any other failure is a
`CacheError`, after which the scan continues without a cache.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from typing import TYPE_CHECKING, Self

from nsfwscan.cache import relatives, upkeep
from nsfwscan.cache.database import Database
from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import (
    FactRow,
    FileRow,
    OutcomeRow,
    PartRow,
    decode_outcome,
    decode_part,
    file_checksum,
    model_checksum,
    part_checksum,
    place_checksum,
    snapshot_checksum,
)
from nsfwscan.cache.tables import (
    FIND_FILE,
    checked_body,
    checked_fact,
    folder_id,
    store_facts,
    store_files,
    store_outcomes,
    store_parts,
    store_snapshots,
    view_from_rows,
    view_rows,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nsfwscan.values.facts import FactKind
    from nsfwscan.values.outcome import Outcome, Scorer

_SNAPSHOTS = 100

_FIND_SNAPSHOT = """
    SELECT snapshot.checksum, snapshot.body
    FROM folder
    JOIN scorer ON scorer.fingerprint = ? AND scorer.decoder = ?
    JOIN snapshot ON snapshot.folder = folder.id AND snapshot.scorer = scorer.id
    WHERE folder.path = ?
"""
_FIND_FOLDERS = """
    SELECT path FROM folder
    WHERE (path = ? OR path >= ? AND path < ?)
        AND EXISTS (SELECT 1 FROM file WHERE file.folder = folder.id)
    ORDER BY path
"""
_FIND_ALL_FOLDERS = """
    SELECT path FROM folder
    WHERE EXISTS (SELECT 1 FROM file WHERE file.folder = folder.id) ORDER BY path
"""
_FIND_NAMES = """
    SELECT file.name FROM file JOIN folder ON folder.id = file.folder
    WHERE folder.path = ? ORDER BY file.name
"""
_SEP = os.sep.encode()
_FIND_OUTCOME = """
    SELECT outcome.sha256, outcome.written_at, outcome.body, outcome.checksum
    FROM outcome
    JOIN scorer ON scorer.id = outcome.scorer
    WHERE outcome.sha256 = ? AND scorer.fingerprint = ? AND scorer.decoder = ?
"""
_FIND_PLACES = """
    SELECT folder.path, file.name, file.stat, file.sha256, file.written_at, file.checksum
    FROM file JOIN folder ON folder.id = file.folder WHERE file.sha256 = ?
    ORDER BY folder.path, file.name
"""
_FIND_FACT = "SELECT body, checksum FROM fact WHERE sha256 = ? AND kind = ? AND version = ?"
_FIND_PARTS = "SELECT number, part, sha256, checksum FROM part WHERE container = ? ORDER BY number"


class Cache:
    """The cache in one SQLite file; several threads and processes may use it at once.

    Every method but `close` raises `CacheUnavailable` if the file cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: str, *, warn: Callable[[str], None]) -> Cache:
        """Open the cache at `path`, creating it if necessary.

        If the file turns out to be damaged, now or later, it is renamed to `<name>.corrupt-<time>`,
        a new one is created, and `warn` gets one sentence. Raises `CacheUnavailable`, and
        `CacheTooNew` for a later version's file, which is left untouched.
        """
        return cls(Database(path, warn=warn))

    @property
    def path(self) -> str:
        """The file's path, with symbolic links resolved."""
        return self._database.path

    def folder(self, folder: str, scorer: Scorer) -> FolderView:
        """Return what is known about the files directly in a folder, by name.

        `folder` must be spelled as `os.path.dirname` gives it for the paths that were written.
        """
        where = (scorer.fingerprint.encode(), scorer.decoder, path := os.fsencode(folder))

        def load(connection: sqlite3.Connection) -> FolderView:
            for checksum, body in connection.execute(_FIND_SNAPSHOT, where).fetchall():
                if checksum == snapshot_checksum(path, scorer, body):
                    view = FolderView.from_bytes(body)
                    if view is not None:
                        return view
            return view_from_rows(connection, path, scorer)

        return self._database.read(load)

    def files(self, folder: str, names: Sequence[str], scorer: Scorer) -> FolderView:
        """Return the same as `folder` for a few files only; cheaper if the folder has many more."""
        path = os.fsencode(folder)
        wanted = [os.fsencode(name) for name in names]

        def load(connection: sqlite3.Connection) -> FolderView:
            rows = []
            for name in wanted:
                where = (scorer.fingerprint.encode(), scorer.decoder, path, name)
                rows += view_rows(connection.execute(FIND_FILE, where), path, scorer)
            return FolderView.from_rows(rows)

        return self._database.read(load)

    def folders(self) -> list[str]:
        """Return all folders that have known files, in order."""
        found = self._database.read(
            lambda connection: connection.execute(_FIND_ALL_FOLDERS).fetchall()
        )
        return [os.fsdecode(folder) for (folder,) in found if isinstance(folder, bytes)]

    def names(self, folder: str) -> list[str]:
        """Return the names of the known files directly in a folder, in order."""
        path = os.fsencode(folder)
        found = self._database.read(
            lambda connection: connection.execute(_FIND_NAMES, (path,)).fetchall()
        )
        return [os.fsdecode(name) for (name,) in found if isinstance(name, bytes)]

    def folders_below(self, root: str) -> list[str]:
        """Return the folders at and below `root` that have known files, in order.

        `root` is absolute, or empty for all folders.
        """
        path = os.fsencode(root)
        prefix = path if path.endswith(_SEP) else path + _SEP
        where = (path, prefix, prefix[:-1] + bytes([prefix[-1] + 1]))
        if not root:
            where = (b"", b"", b"\xff")
        found = self._database.read(
            lambda connection: connection.execute(_FIND_FOLDERS, where).fetchall()
        )
        return [os.fsdecode(folder) for (folder,) in found if isinstance(folder, bytes)]

    def places_of(self, sha256: bytes) -> list[str]:
        """Return the paths of all files known to have this content, in order.

        Looks through all files: meant for a few contents.
        """
        rows = self._database.read(
            lambda connection: connection.execute(_FIND_PLACES, (sha256,)).fetchall()
        )
        return [
            os.path.join(os.fsdecode(folder), os.fsdecode(name))
            for folder, name, stat, digest, at, checksum in rows
            if checksum == file_checksum(folder, name, stat, digest, at)
        ]

    def outcome(self, sha256: bytes, scorer: Scorer) -> Outcome | None:
        """Return the outcome for content by this scorer, or None if it is not known."""
        where = (sha256, scorer.fingerprint.encode(), scorer.decoder)
        rows = self._database.read(
            lambda connection: connection.execute(_FIND_OUTCOME, where).fetchall()
        )
        body = checked_body(sha256, scorer, rows[0]) if rows else None
        return None if body is None else decode_outcome(body)

    def fact(self, sha256: bytes, kind: FactKind) -> bytes | None:
        """Return a fact about content, or None if it is not known."""
        where = (sha256, kind.name.encode(), kind.version.encode())
        row = self._database.read(
            lambda connection: connection.execute(_FIND_FACT, where).fetchone()
        )
        return None if row is None else checked_fact(sha256, kind, *row)

    def copies(self, sha256: bytes) -> list[str]:
        """Return the paths of all files known to have this content."""
        return relatives.copies(self._database, sha256)

    def lookalikes(self, sha256: bytes, bits: int, within: int) -> list[relatives.Lookalike]:
        """Return known files that look like a picture; see `nsfwscan.cache.relatives`."""
        return relatives.lookalikes(self._database, sha256, bits, within)

    def parts(self, container: bytes) -> list[PartRow]:
        """Return the known parts of the file with this digest, in the file's order."""
        rows = self._database.read(
            lambda connection: connection.execute(_FIND_PARTS, (container,)).fetchall()
        )
        return [
            PartRow(container, number, decode_part(part), sha256)
            for number, part, sha256, checksum in rows
            if checksum == part_checksum(container, number, part, sha256)
        ]

    def write(
        self,
        files: Sequence[FileRow],
        outcomes: Sequence[OutcomeRow],
        facts: Sequence[FactRow] = (),
        parts: Sequence[PartRow] = (),
    ) -> None:
        """Store rows in one transaction; when this returns, they survive this process.

        Rows with the same key are replaced. Snapshots that are now incomplete are dropped.
        """
        now = int(time.time())

        def store(connection: sqlite3.Connection) -> None:
            store_files(connection, files, now)
            store_outcomes(connection, outcomes, now)
            store_facts(connection, facts)
            store_parts(connection, parts)

        self._database.write(store)

    def snapshot(self, folders: Iterable[str], scorer: Scorer) -> None:
        """Store all that is known about each folder in one row, so that `folder` is fast next time.

        A scanner calls this when it is done with folders in which it wrote something, or whose
        views were not `stored`. A snapshot holds the same as the tables, or is dropped. They are
        written a hundred at a time, so that other processes never wait long.
        """
        left = iter(folders)
        while some := [os.fsencode(folder) for folder in itertools.islice(left, _SNAPSHOTS)]:
            self._database.write(functools.partial(store_snapshots, folders=some, scorer=scorer))

    def forget(self, paths: Iterable[str]) -> None:
        """Drop files that are gone, in one transaction. What is known of their content stays."""
        folders: dict[str, list[bytes]] = {}
        for path in paths:
            folder, name = os.path.split(path)
            folders.setdefault(folder, []).append(os.fsencode(name))

        def drop(connection: sqlite3.Connection) -> None:
            for folder, names in folders.items():
                number = folder_id(connection, os.fsencode(folder))
                connection.executemany(
                    "DELETE FROM file WHERE folder = ? AND name = ?",
                    [(number, name) for name in names],
                )
                connection.execute("DELETE FROM snapshot WHERE folder = ?", (number,))

        self._database.write(drop)

    def places(self) -> dict[str, str]:
        """Return everything stored with `remember_places`."""
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
        """Store what identifies the file system at each of these paths."""
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
        """Store a model's name and labels, so that `export` can give the scores a meaning."""
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
        """Return the cache's size and counts."""
        return upkeep.stats(self._database)

    def prune(self, *, older_than_days: float) -> upkeep.Pruned:
        """Drop what no longer saves time, and shrink the file.

        If a folder still has some of its known files, the missing ones are dropped. In all other
        folders, files are dropped that were written more than `older_than_days` ago: an unplugged
        disk looks like a deleted folder, its mount point like an emptied one. Outcomes of content
        that is in no known file are dropped at the same age. Dates in the future count as old.
        """
        return upkeep.prune(self._database, older_than_days=older_than_days)

    def verify(self) -> upkeep.Verified:
        """Check every row against its checksum and delete those that fail.

        A file that fails SQLite's own integrity check is set aside as a whole.
        """
        return upkeep.verify(self._database)

    def clear(self) -> None:
        """Delete everything, including damaged files that were set aside earlier."""
        upkeep.clear(self._database)

    def export(self) -> Iterator[upkeep.ExportRow]:
        """Yield every row in a stable order, a few hundred at a time so that no process waits."""
        return upkeep.export(self._database)

    def close(self) -> None:
        """Close the file. Never raises."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

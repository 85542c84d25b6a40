"""The cache's schema, as the steps that lead to it from a blank file.

A released step is never edited: existing caches went through it as it was. A new step is a new
function at the end of `MIGRATIONS`; its position is its number. Each step runs in one transaction
that also updates the number, so a cache is never between two schemas.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from nsfwscan.system.reading import open_bytes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

APPLICATION_ID = 0x4E53_4657
"""Written to the file's header, to tell our database from another program's."""


def m001_first_schema(connection: sqlite3.Connection) -> None:
    """Create the tables: files point at contents, contents have outcomes.

    Texts and paths are BLOBs: names need not be UTF-8, and damaged text cannot fail to decode.
    `file` and `outcome` are authoritative; a `snapshot` repeats a folder of them in one row, and
    may be deleted at any time.
    """
    execute = connection.execute
    execute("CREATE TABLE folder (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE)")
    execute(
        "CREATE TABLE scorer (id INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL,"
        " decoder INTEGER NOT NULL, UNIQUE (fingerprint, decoder))"
    )
    execute(
        "CREATE TABLE model (fingerprint BLOB PRIMARY KEY, name BLOB NOT NULL,"
        " labels BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"
    )
    execute(
        "CREATE TABLE file (folder INTEGER NOT NULL, name BLOB NOT NULL, stat BLOB NOT NULL,"
        " sha256 BLOB NOT NULL, written_at INTEGER NOT NULL, checksum INTEGER NOT NULL,"
        " PRIMARY KEY (folder, name)) WITHOUT ROWID"
    )
    execute(
        "CREATE TABLE outcome (sha256 BLOB NOT NULL, scorer INTEGER NOT NULL,"
        " written_at INTEGER NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL,"
        " PRIMARY KEY (sha256, scorer)) WITHOUT ROWID"
    )
    execute(
        "CREATE TABLE snapshot (folder INTEGER NOT NULL, scorer INTEGER NOT NULL,"
        " checksum INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (folder, scorer))"
    )


def m002_places(connection: sqlite3.Connection) -> None:
    """Create the table of watched places, which says which file system was where.

    Without it, a starting watcher would take an unplugged disk for deleted pictures.
    """
    connection.execute(
        "CREATE TABLE place (path BLOB PRIMARY KEY, identity BLOB NOT NULL,"
        " checksum INTEGER NOT NULL) WITHOUT ROWID"
    )


def m003_likenesses(connection: sqlite3.Connection) -> None:
    """Add likenesses, which reveal near-duplicates: one number per content, for all models.

    Content scored earlier gets one when it is first needed. Snapshots keep their format: in one
    without likenesses, all are unknown.
    """
    connection.execute(
        "CREATE TABLE likeness (sha256 BLOB PRIMARY KEY, bits BLOB NOT NULL,"
        " checksum INTEGER NOT NULL) WITHOUT ROWID"
    )


def m004_absolute_paths(connection: sqlite3.Connection) -> None:
    """Drop folders with relative paths: `.` depends on the current folder.

    What is known about the contents stays, and applies again once the files have been read.
    """
    relative = [
        (number,)
        for number, path in connection.execute("SELECT id, path FROM folder").fetchall()
        if isinstance(path, bytes) and not os.path.isabs(os.fsdecode(path))
    ]
    connection.executemany("DELETE FROM file WHERE folder = ?", relative)
    connection.executemany("DELETE FROM snapshot WHERE folder = ?", relative)
    connection.executemany("DELETE FROM folder WHERE id = ?", relative)


def m005_facts_and_parts(connection: sqlite3.Connection) -> None:
    """Put all kinds of facts into one table, likenesses being the first, and add parts of files.

    A part has its own digest, under which its outcome and facts are stored. The format of snapshots
    changes; the next scan writes them again.
    """
    execute = connection.execute
    execute(
        "CREATE TABLE fact (sha256 BLOB NOT NULL, kind BLOB NOT NULL, version BLOB NOT NULL,"
        " body BLOB NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (sha256, kind, version))"
        " WITHOUT ROWID"
    )
    execute(
        "CREATE TABLE part (container BLOB NOT NULL, number INTEGER NOT NULL, part BLOB NOT NULL,"
        " sha256 BLOB NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (container, number))"
        " WITHOUT ROWID"
    )
    kind, version = b"likeness", b"phash64-1"
    connection.executemany(
        "INSERT INTO fact (sha256, kind, version, body, checksum) VALUES (?, ?, ?, ?, ?)",
        [
            (
                sha256, kind, version, bits,
                zlib.crc32(b"".join((b"fact", sha256, kind, b"\0", version, b"\0", bits))),
            )
            for sha256, bits, checksum in execute("SELECT sha256, bits, checksum FROM likeness")
            if isinstance(sha256, bytes) and isinstance(bits, bytes)
            and (len(sha256), len(bits)) == (32, 8)
            and zlib.crc32(b"".join((b"likeness", sha256, bits))) == checksum
        ],
    )  # fmt: skip
    execute("DROP TABLE likeness")
    execute("DELETE FROM snapshot")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_first_schema,
    m002_places,
    m003_likenesses,
    m004_absolute_paths,
    m005_facts_and_parts,
)
"""In order. The schema's version is the number of steps a cache has been through."""


def schema_version(connection: sqlite3.Connection) -> int:
    """Return how many migrations the cache has been through; 0 for a blank file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def stored_schema(path: str) -> int:
    """Return the schema that a cache file says it has, without opening it; 0 if it says none.

    `user_version` is at offset 60 of the header (SQLite database file format, 1.3).
    """
    try:
        with open_bytes(path) as file:
            header = file.read(64)
    except OSError:
        return 0
    return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else 0


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the cache to the newest schema, one transaction per step.

    Several processes may do this at once: the first to get the write lock takes the step, and the
    others see that it is done. Raises what sqlite3 raises.
    """
    for number, migration in enumerate(MIGRATIONS, start=1):
        if schema_version(connection) >= number:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            if schema_version(connection) < number:
                migration(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

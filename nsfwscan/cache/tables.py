"""Reading and writing rows, each checked against its checksum.

In: a connection, inside the caller's transaction. A row that fails its checksum counts as unknown.
Raises what sqlite3 raises, and `Damage`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.cache.database import Damage
from nsfwscan.cache.folder_view import FolderView, ViewRow
from nsfwscan.cache.rows import (
    encode_outcome,
    encode_part,
    fact_checksum,
    file_checksum,
    outcome_checksum,
    part_checksum,
    snapshot_checksum,
)
from nsfwscan.values.facts import IN_COLUMNS, FactKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from nsfwscan.cache.rows import FactRow, FileRow, OutcomeRow, PartRow
    from nsfwscan.values.outcome import Scorer

_FACTS = [(f"fact{number}", kind) for number, kind in enumerate(IN_COLUMNS)]
FIND_FILES = f"""
    SELECT file.name, file.stat, file.sha256, file.written_at, file.checksum,
        outcome.sha256, outcome.written_at, outcome.body, outcome.checksum
        {"".join(f", {fact}.body, {fact}.checksum" for fact, _ in _FACTS)}
    FROM folder
    JOIN file ON file.folder = folder.id
    LEFT JOIN outcome ON outcome.sha256 = file.sha256 AND outcome.scorer =
        (SELECT id FROM scorer WHERE fingerprint = ? AND decoder = ?)
    {
    "".join(
        f" LEFT JOIN fact AS {fact} ON {fact}.sha256 = file.sha256"
        f" AND {fact}.kind = x'{kind.name.encode().hex()}'"
        f" AND {fact}.version = x'{kind.version.encode().hex()}'"
        for fact, kind in _FACTS
    )
}
    WHERE folder.path = ?
"""  # noqa: S608  our own names
_FACTS_AT = range(4, 4 + 2 * len(IN_COLUMNS), 2)
"""Where the facts begin, counted from the outcome."""
FIND_FILE = f"{FIND_FILES} AND file.name = ?"


def view_from_rows(connection: sqlite3.Connection, path: bytes, scorer: Scorer) -> FolderView:
    """Return what the tables hold about the files directly in a folder."""
    found = connection.execute(FIND_FILES, (scorer.fingerprint.encode(), scorer.decoder, path))
    return FolderView.from_rows(view_rows(found, path, scorer))


def view_rows(found: sqlite3.Cursor, path: bytes, scorer: Scorer) -> list[ViewRow]:
    """Return the rows found by `FIND_FILES` or `FIND_FILE`, without those that fail."""
    rows = []
    for name, stat, sha256, written_at, checksum, *rest in found:
        if checksum == file_checksum(path, name, stat, sha256, written_at):
            body = checked_body(sha256, scorer, rest[:4])
            facts = tuple(
                checked_fact(sha256, kind, *rest[at : at + 2])
                for at, kind in zip(_FACTS_AT, IN_COLUMNS, strict=True)
            )
            rows.append(ViewRow(os.fsdecode(name), stat, sha256, written_at, body, facts))
    return rows


def checked_body(sha256: bytes, scorer: Scorer, row: Sequence[object]) -> bytes | None:
    """Return the stored outcome of a row, or None if it fails its checksum."""
    found, written_at, body, checksum = row
    if found != sha256 or checksum != outcome_checksum(scorer, found, written_at, body):
        return None
    return body if isinstance(body, bytes) else None


def checked_fact(sha256: bytes, kind: FactKind, body: object, checksum: object) -> bytes | None:
    """Return the fact of a row, or None if it fails its checksum."""
    if not isinstance(body, bytes) or not kind.takes(body):
        return None
    name, version = kind.name.encode(), kind.version.encode()
    return body if checksum == fact_checksum(sha256, name, version, body) else None


def store_files(connection: sqlite3.Connection, files: Sequence[FileRow], now: int) -> None:
    """Store where contents are, and drop the snapshots of those folders."""
    folders: dict[str, int] = {}
    rows = []
    for path, key, sha256 in files:
        folder, name = os.path.split(path)
        folder_bytes, name_bytes, stat = os.fsencode(folder), os.fsencode(name), key.pack()
        if folder not in folders:
            folders[folder] = folder_id(connection, folder_bytes)
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


def store_outcomes(
    connection: sqlite3.Connection, outcomes: Sequence[OutcomeRow], now: int
) -> None:
    """Store outcomes, and drop snapshots that would give an older outcome."""
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
            # A failure succeeded when it was tried again. We cannot tell which folders hold the
            # content, and this is rare, so all folders are read from the tables once.
            connection.execute("DELETE FROM snapshot WHERE scorer = ?", (number,))
        checksum = outcome_checksum(scorer, sha256, now, body)
        rows.append((sha256, number, now, body, checksum))
    connection.executemany(
        "INSERT OR REPLACE INTO outcome (sha256, scorer, written_at, body, checksum)"
        " VALUES (?, ?, ?, ?, ?)",
        rows,
    )


def store_facts(connection: sqlite3.Connection, rows: Sequence[FactRow]) -> None:
    """Store facts. Snapshots stay: a fact that is unknown there is not wrong."""
    connection.executemany(
        "INSERT OR REPLACE INTO fact (sha256, kind, version, body, checksum)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (*row, fact_checksum(*row))
            for row in (
                (sha256, kind.name.encode(), kind.version.encode(), body)
                for sha256, kind, body in rows
            )
        ],
    )


def store_parts(connection: sqlite3.Connection, rows: Sequence[PartRow]) -> None:
    """Store the parts of files."""
    connection.executemany(
        "INSERT OR REPLACE INTO part (container, number, part, sha256, checksum)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (*row, part_checksum(*row))
            for row in (
                (container, number, encode_part(part), sha256)
                for container, number, part, sha256 in rows
            )
        ],
    )


def store_snapshots(
    connection: sqlite3.Connection, folders: Sequence[bytes], scorer: Scorer
) -> None:
    """Write each folder's rows into one snapshot row."""
    number = _scorer_id(connection, scorer)
    for path in folders:
        view = view_from_rows(connection, path, scorer)
        if len(view):
            body = view.to_bytes()
            checksum = snapshot_checksum(path, scorer, body)
            connection.execute(
                "INSERT OR REPLACE INTO snapshot (folder, scorer, checksum, body)"
                " VALUES (?, ?, ?, ?)",
                (folder_id(connection, path), number, checksum, body),
            )


def folder_id(connection: sqlite3.Connection, path: bytes) -> int:
    """Return the number of a folder, adding the folder if it is new."""
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

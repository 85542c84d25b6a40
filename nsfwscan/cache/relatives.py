"""Where else a content is, and what looks like it, as far as the cache knows.

Nothing is indexed by content or likeness: each question reads one column of a table, which takes a
tenth of a second for 100,000 pictures. Raises `CacheUnavailable`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.cache.rows import file_checksum
from nsfwscan.cache.tables import checked_fact
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS

if TYPE_CHECKING:
    import sqlite3

    from nsfwscan.cache.database import Database

_FIND_COPIES = """
    SELECT folder.path, file.name, file.stat, file.sha256, file.written_at, file.checksum
    FROM file JOIN folder ON folder.id = file.folder
    WHERE file.sha256 = ?
"""
_FIND_LIKENESSES = "SELECT sha256, body, checksum FROM fact WHERE kind = ? AND version = ?"


class Lookalike(NamedTuple):
    """A file that shows something similar."""

    path: str
    sha256: bytes
    distance: int
    """Bits in which its likeness differs, of 64."""


def copies(database: Database, sha256: bytes) -> list[str]:
    """Return the paths at which this content was last seen, in order."""
    return database.read(lambda connection: _paths(connection, sha256))


def lookalikes(database: Database, sha256: bytes, bits: int, within: int) -> list[Lookalike]:
    """Return the files whose likeness differs from `bits` in at most `within` bits, closest first.

    Files with the content `sha256` itself are left out.
    """
    if not likeness.is_comparable(bits):
        return []

    def find(connection: sqlite3.Connection) -> list[Lookalike]:
        where = (LIKENESS.name.encode(), LIKENESS.version.encode())
        found = []
        for other, body, checksum in connection.execute(_FIND_LIKENESSES, where).fetchall():
            if other == sha256 or not isinstance(body, bytes) or len(body) != LIKENESS.width:
                continue
            away = likeness.distance(likeness.unpack(body), bits)
            if away <= within and checked_fact(other, LIKENESS, body, checksum) is not None:
                found += [Lookalike(path, other, away) for path in _paths(connection, other)]
        return sorted(found, key=lambda one: (one.distance, one.path))

    return database.read(find)


def _paths(connection: sqlite3.Connection, sha256: bytes) -> list[str]:
    return sorted(
        os.fsdecode(os.path.join(folder, name))
        for folder, name, *row, checksum in connection.execute(_FIND_COPIES, (sha256,)).fetchall()
        if checksum == file_checksum(folder, name, *row)
    )

"""The SQLite file: opening it, transactions, and what happens when anything about it fails.

No sqlite3 exception leaves this module. A damaged file is set aside and a new one is begun; all
other trouble is `CacheUnavailable`, whereupon a scan goes on without its cache.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Literal, TypeVar

from nsfwscan.cache.migrations import APPLICATION_ID, MIGRATIONS, migrate, schema_version
from nsfwscan.cache.use_lock import UseLock
from nsfwscan.system.locations import make_private
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import CacheTooNew, CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_S = 30.0
"""How long to wait for another process. Ours hold the file for milliseconds, `verify` for seconds;
who holds it longer is stopped or foreign, and the scan had better go on."""

SIDE_FILES = ("-journal", "-wal", "-shm")

_NOT_DAMAGE = {
    sqlite3.SQLITE_AUTH: "look at the permissions of the file and its folder",
    sqlite3.SQLITE_BUSY: "another program holds it; close that program and try again",
    sqlite3.SQLITE_CANTOPEN: "look at the permissions of the file and its folder",
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_INTERRUPT: "try again",
    sqlite3.SQLITE_IOERR: "look at the disk, its free space and the system's log",
    sqlite3.SQLITE_LOCKED: "another program holds it; close that program and try again",
    sqlite3.SQLITE_NOLFS: "keep the cache on another disk; NSFWSCAN_HOME says where",
    sqlite3.SQLITE_NOMEM: "free some memory",
    sqlite3.SQLITE_PERM: "look at the permissions of the file and its folder",
    sqlite3.SQLITE_PROTOCOL: "another program holds it; close that program and try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable, or set NSFWSCAN_HOME",
}
"""Primary result codes that say nothing against the file, and what to do about each."""

SQLITE_VERSION = sqlite3.sqlite_version_info
"""Of the library that Python was built with: (major, minor, patch)."""

_T = TypeVar("_T")
_opening = threading.Lock()
_inherited: list[sqlite3.Connection | None] = []
"""Connections of a parent process. A forked child may not use or close them, says SQLite."""


def journal_mode(version: tuple[int, int, int]) -> Literal["wal", "delete"]:
    """Return the journal mode to use with this version of SQLite.

    From 3.7.0 to 3.51.2 a write-ahead log with two or more connections can be reset at the wrong
    moment, which corrupts the database (fixed in 3.51.3, 3.50.7 and 3.44.6). A rollback journal
    has no such fault and costs a few milliseconds a batch.
    """
    fixed = (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )
    return "wal" if fixed else "delete"


class Database:
    """One connection to the cache's file; any thread may use it, one at a time.

    Raises `CacheTooNew` for a file of a later schema, which is left as it is, and
    `CacheUnavailable` for one that cannot be opened.
    """

    def __init__(self, path: str, *, warn: Callable[[str], None]) -> None:
        self.path = os.path.realpath(path)
        self.read_only = False
        self._warn = warn
        self._use = UseLock(f"{self.path}.lock")
        self._thread_lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False
        self._process = os.getpid()
        try:
            self._guarded(lambda _connection: None)
        except BaseException:
            self.close()
            raise

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run queries. `work` may run twice: the second time on the new file, after damage."""
        with self._thread_lock:
            return self._guarded(work)

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in one transaction; when this returns, what it wrote outlives the process.

        `work` may run twice: the second time on the new file, after damage.
        """
        with self._thread_lock:
            if self.read_only:
                raise CacheUnavailable(
                    f"the cache {self.path} cannot be written",
                    hint=_NOT_DAMAGE[sqlite3.SQLITE_READONLY],
                )
            return self._guarded(lambda connection: _in_transaction(connection, work))

    def set_aside(self, problem: str) -> None:
        """Rename a damaged file out of the way. The next use begins a new one.

        Raises `CacheUnavailable` when that is impossible.
        """
        with self._thread_lock:
            self._disconnect()
            damaged = f"the cache {self.path} is damaged ({problem})"
            if self.read_only or not self._use.exclude(wait_s=BUSY_S):
                self._use.release()
                raise CacheUnavailable(
                    f"{damaged} and cannot be set aside",
                    hint="close every other nsfwscan, or remove the file; it only saves time",
                )
            try:
                if _identity(self.path) != self._identity:
                    return  # another process was quicker
                name = _move_away(self.path)
            except OSError as error:
                raise CacheUnavailable(
                    f"{damaged} and cannot be set aside: {error.strerror}",
                    hint="close every other nsfwscan, or remove the file; it only saves time",
                ) from error
            finally:
                self._use.release()
            self._warn(f"{damaged}; it was set aside as {name} and a new one begun")

    def close(self) -> None:
        """Close the file. Never raises; a closed database is unavailable.

        A forked child leaves it to its parent, a thread of which may have held the lock.
        """
        if os.getpid() != self._process:
            _inherited.append(self._connection)
            return
        with self._thread_lock:
            self._disconnect()
            self._use.release()
            self._closed = True

    def _guarded(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work`, set a damaged file aside and run it again, translate all other errors."""
        try:
            try:
                return work(self._connected())
            except sqlite3.Error as error:
                if not self._is_gone():  # deleted amid the work: that is no damage
                    if not self._is_damage(error):
                        raise
                    self.set_aside(str(error))
            return work(self._connected())
        except sqlite3.Error as error:
            code = _primary_code(error)
            raise CacheUnavailable(
                f"the cache {self.path} cannot be used: {_plain(code, error)}",
                hint=_NOT_DAMAGE.get(code, "remove the file; it only saves time"),
            ) from error

    def _is_damage(self, error: sqlite3.Error) -> bool:
        """Whether the file is to blame: our statements are right, so what fails them is the file.

        A byte of its header can forbid writing, and so can somebody who replaced the file.
        """
        if isinstance(error, Damage):
            return True
        code = _primary_code(error)
        if code == sqlite3.SQLITE_READONLY:
            return not (self.read_only or _is_write_protected(self.path))
        return code not in _NOT_DAMAGE and code not in {sqlite3.SQLITE_OK, sqlite3.SQLITE_MISUSE}

    def _is_gone(self) -> bool:
        """Return True if the file that is open is not the one at its path any more."""
        return self._connection is not None and _identity(self.path) != self._identity

    def _connected(self) -> sqlite3.Connection:
        if self._is_gone():
            # Deleted, as a cache may be, or replaced: what went on into it would be lost.
            self._disconnect()
            self._warn(f"the cache {self.path} was deleted; a new one is begun")
        if self._connection is None:
            if self._closed:
                raise CacheUnavailable(f"the cache {self.path} was closed")
            with _opening:  # closing the descriptor that creates a file drops SQLite's locks on it
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        self.read_only = _make_file(self.path)
        if not self._use.share(wait_s=BUSY_S):
            raise CacheUnavailable(
                f"the cache {self.path} is damaged and is being set aside", hint="try again"
            )
        self._identity = _identity(self.path)
        connection = _open_read_only(self.path) if self.read_only else _open(self.path)
        try:
            _check_header(connection, self.path, read_only=self.read_only)
            if not self.read_only:
                _set_journal_mode(connection)
                migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def is_cache(path: str) -> bool:
    """Return True for a file that says in its header that it is a cache of ours.

    See "The Database Header" of SQLite's file format: the application's number is at byte 68.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(100)
    except OSError:
        return False
    return head[:16] == b"SQLite format 3\0" and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


class Damage(sqlite3.DatabaseError):
    """Damage that SQLite did not notice. Raise it in the `work` of a `Database`, not elsewhere."""


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that the sqlite3 module raises by itself have no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def _plain(code: int, error: sqlite3.Error) -> str:
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}:
        return "another program has been holding it for too long"
    return str(error)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make_file(path: str) -> bool:
    """Create the file and its folder if there are none; return whether they are read-only.

    Only their owner may read them: paths are nobody else's business.
    """
    folder = os.path.dirname(path)
    problem = "it is not a file"
    try:
        make_private(folder)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        problem = error.strerror or str(error)
    if not os.path.isfile(path):
        raise CacheUnavailable(
            f"the cache {path} cannot be opened: {problem}",
            hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
        )
    return _is_write_protected(path)


def _is_write_protected(path: str) -> bool:
    return not (os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK))


def _open(database: str, *, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=uri
    )
    connection.text_factory = bytes  # damaged text must not fail to decode
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_read_only(path: str) -> sqlite3.Connection:
    import urllib.parse  # rarely needed, and a tenth of what this package costs to import

    uri = "file:" + urllib.parse.quote(os.fsencode(path).replace(os.sep.encode(), b"/"))
    connection = _open(f"{uri}?mode=ro", uri=True)
    try:
        schema_version(connection)
    except sqlite3.OperationalError:
        connection.close()
        # A write-ahead log needs a writable folder, unless it is empty and nobody can add to it.
        if os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal"):
            raise
        return _open(f"{uri}?immutable=1", uri=True)
    return connection


def _check_header(connection: sqlite3.Connection, path: str, *, read_only: bool) -> None:
    """Raise unless the file is blank or a library that this version understands."""
    connection.execute("BEGIN")  # one view of all three, while others may be creating it
    version = schema_version(connection)
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.execute("COMMIT")
    if application_id == APPLICATION_ID:
        if version > len(MIGRATIONS):
            raise CacheTooNew(
                f"the cache {path} was written by a later version of nsfwscan",
                hint="update nsfwscan, or set NSFWSCAN_HOME to another folder",
            )
    elif {b"folder", b"file", b"outcome"} <= tables:
        raise Damage("its header does not fit its contents")
    elif tables or application_id or version:
        raise CacheUnavailable(
            f"{path} is the database of another program",
            hint="move it away, or set NSFWSCAN_HOME to another folder",
        )
    if read_only and version < len(MIGRATIONS):
        raise CacheUnavailable(
            f"the cache {path} is of an earlier version and cannot be written",
            hint=_NOT_DAMAGE[sqlite3.SQLITE_READONLY],
        )


def _set_journal_mode(connection: sqlite3.Connection) -> None:
    """Choose the journal, and how hard to push each commit to the disk.

    FULL keeps a rollback journal whole when the power fails. A write-ahead log is whole with
    NORMAL already; the last batches may be lost with the power, and are scanned again.
    """
    wanted = journal_mode(sqlite3.sqlite_version_info)
    if _current_journal_mode(connection) != wanted:
        _change_journal_mode(connection, wanted)
    mode = _current_journal_mode(connection)  # some file systems have no write-ahead log
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _change_journal_mode(connection: sqlite3.Connection, wanted: str) -> None:
    """Change it as soon as nobody else has the file open, which SQLite does not wait for.

    Without a write-ahead log we do as well; with a SQLite that corrupts it we must not go on.
    """
    deadline = time.monotonic() + (BUSY_S if wanted == "delete" else 0.0)
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode = {wanted}").fetchall()
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > deadline:
                if wanted == "delete":
                    raise
                break
            time.sleep(0.05)
        else:
            break
    connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")


def _current_journal_mode(connection: sqlite3.Connection) -> str:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return bytes(mode).decode()


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    return result


def _move_away(path: str) -> str:
    """Rename the file and its journals; return the new name. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    aside = f"{path}.corrupt-{stamp}"
    count = 1
    while os.path.lexists(aside):
        count += 1
        aside = f"{path}.corrupt-{stamp}-{count}"
    # The database last: a journal left without it would be played back into the new one.
    for suffix in SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    os.rename(path, aside)
    return os.path.basename(aside)

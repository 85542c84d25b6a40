"""The SQLite file: opening it, transactions, and error handling.

No sqlite3 exception leaves this module. A damaged file is set aside and a new one is created. All
other errors become `CacheUnavailable`, after which a scan continues without its cache.
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
"""How long to wait for another process. Ours lock the file for milliseconds, `verify` for seconds.
A process that holds it longer is suspended or not ours, and the scan should continue."""

SIDE_FILES = ("-journal", "-wal", "-shm")

_NOT_DAMAGE = {
    sqlite3.SQLITE_AUTH: "check the permissions of the file and its folder",
    sqlite3.SQLITE_BUSY: "another program is using it; close that program and try again",
    sqlite3.SQLITE_CANTOPEN: "check the permissions of the file and its folder",
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_INTERRUPT: "try again",
    sqlite3.SQLITE_IOERR: "check the disk, its free space and the system's log",
    sqlite3.SQLITE_LOCKED: "another program is using it; close that program and try again",
    sqlite3.SQLITE_NOLFS: "keep the cache on another disk, by setting NSFWSCAN_HOME",
    sqlite3.SQLITE_NOMEM: "free some memory",
    sqlite3.SQLITE_PERM: "check the permissions of the file and its folder",
    sqlite3.SQLITE_PROTOCOL: "another program is using it; close that program and try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable, or set NSFWSCAN_HOME",
}
"""Primary result codes that do not mean a damaged file, and what to do about each."""

SQLITE_VERSION = sqlite3.sqlite_version_info
"""Version of the SQLite that Python uses: (major, minor, patch)."""

_T = TypeVar("_T")
_opening = threading.Lock()
_inherited: list[sqlite3.Connection | None] = []
"""Connections of a parent process. SQLite forbids a forked child to use or close them."""


def journal_mode(version: tuple[int, int, int]) -> Literal["wal", "delete"]:
    """Return the journal mode to use with this version of SQLite.

    From 3.7.0 to 3.51.2 a write-ahead log with two or more connections can be reset at the wrong
    moment, which corrupts the database (fixed in 3.51.3, 3.50.7 and 3.44.6). A rollback journal
    does not have this bug and costs a few milliseconds per batch.
    """
    fixed = (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )
    return "wal" if fixed else "delete"


class Database:
    """One connection to the cache's file; any thread may use it, one at a time.

    Raises `CacheTooNew` for a file with a later schema, which is left as it is, and
    `CacheUnavailable` for a file that cannot be opened.
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
        """Run queries. `work` may run twice, the second time on a new file, after damage."""
        with self._thread_lock:
            return self._guarded(work)

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in one transaction; when this returns, what it wrote survives the process.

        `work` may run twice, the second time on a new file, after damage.
        """
        with self._thread_lock:
            if self.read_only:
                raise CacheUnavailable(
                    f"the cache {self.path} cannot be written",
                    hint=_NOT_DAMAGE[sqlite3.SQLITE_READONLY],
                )
            return self._guarded(lambda connection: _in_transaction(connection, work))

    def set_aside(self, problem: str) -> None:
        """Rename a damaged file out of the way. The next use creates a new one.

        Raises `CacheUnavailable` if that is impossible.
        """
        with self._thread_lock:
            self._disconnect()
            damaged = f"the cache {self.path} is damaged ({problem})"
            if self.read_only or not self._use.exclude(wait_s=BUSY_S):
                self._use.release()
                raise CacheUnavailable(
                    f"{damaged} and cannot be set aside",
                    hint="close every other nsfwscan, or delete the file, which only saves time",
                )
            try:
                if _identity(self.path) != self._identity:
                    return  # another process was faster
                name = _move_away(self.path)
            except OSError as error:
                raise CacheUnavailable(
                    f"{damaged} and cannot be set aside: {error.strerror}",
                    hint="close every other nsfwscan, or delete the file, which only saves time",
                ) from error
            finally:
                self._use.release()
            self._warn(f"{damaged}; it was renamed to {name} and a new one created")

    def close(self) -> None:
        """Close the file. Never raises. A closed database is unavailable.

        A forked child leaves the file to its parent: a thread there may have held the lock.
        """
        if os.getpid() != self._process:
            _inherited.append(self._connection)
            return
        with self._thread_lock:
            self._disconnect()
            self._use.release()
            self._closed = True

    def _guarded(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work`; set a damaged file aside and run it again; translate all other errors."""
        try:
            try:
                return work(self._connected())
            except sqlite3.Error as error:
                if not self._is_gone():  # the file was deleted meanwhile, which is not damage
                    if not self._is_damage(error):
                        raise
                    self.set_aside(str(error))
            return work(self._connected())
        except sqlite3.Error as error:
            code = _primary_code(error)
            raise CacheUnavailable(
                f"the cache {self.path} cannot be used: {_plain(code, error)}",
                hint=_NOT_DAMAGE.get(code, "delete the file, which only saves time"),
            ) from error

    def _is_damage(self, error: sqlite3.Error) -> bool:
        """Return True if the file is damaged: our SQL is right, so other failures are the file's.

        A flipped bit in its header can make it read-only, and so can replacing the file.
        """
        if isinstance(error, Damage):
            return True
        code = _primary_code(error)
        if code == sqlite3.SQLITE_READONLY:
            return not (self.read_only or _is_write_protected(self.path))
        return code not in _NOT_DAMAGE and code not in {sqlite3.SQLITE_OK, sqlite3.SQLITE_MISUSE}

    def _is_gone(self) -> bool:
        """Return True if the open file is no longer the file at its path."""
        return self._connection is not None and _identity(self.path) != self._identity

    def _connected(self) -> sqlite3.Connection:
        if self._is_gone():
            # Deleted, as a cache may be, or replaced: whatever is written to it now would be lost.
            self._disconnect()
            self._warn(f"the cache {self.path} was deleted; a new one is created")
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
    """Return True if the file's header marks it as a cache of nsfwscan.

    See "The Database Header" in SQLite's file format: the application ID is at byte 68.
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
    # Errors raised by the sqlite3 module itself have no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def _plain(code: int, error: sqlite3.Error) -> str:
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}:
        return "another program has locked it for too long"
    return str(error)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make_file(path: str) -> bool:
    """Create the file and its folder if they do not exist; return True if they are read-only.

    Only their owner may read them: the paths in it are private.
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
    import urllib.parse  # rarely needed, and a tenth of this package's import time

    uri = "file:" + urllib.parse.quote(os.fsencode(path).replace(os.sep.encode(), b"/"))
    connection = _open(f"{uri}?mode=ro", uri=True)
    try:
        schema_version(connection)
    except sqlite3.OperationalError:
        connection.close()
        # Reading a write-ahead log needs a writable folder, unless the log is empty and stays so.
        if os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal"):
            raise
        return _open(f"{uri}?immutable=1", uri=True)
    return connection


def _check_header(connection: sqlite3.Connection, path: str, *, read_only: bool) -> None:
    """Raise unless the file is blank or a cache that this version understands."""
    connection.execute("BEGIN")  # a consistent view, as other processes may be creating the file
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
        raise Damage("its header does not match its contents")
    elif tables or application_id or version:
        raise CacheUnavailable(
            f"{path} is another program's database",
            hint="move it away, or set NSFWSCAN_HOME to another folder",
        )
    if read_only and version < len(MIGRATIONS):
        raise CacheUnavailable(
            f"the cache {path} is from an earlier version and cannot be written",
            hint=_NOT_DAMAGE[sqlite3.SQLITE_READONLY],
        )


def _set_journal_mode(connection: sqlite3.Connection) -> None:
    """Choose the journal mode, and how often commits are flushed to the disk.

    FULL keeps a rollback journal intact in a power failure. A write-ahead log is intact with NORMAL
    already; only the last batches may be lost, and are scanned again.
    """
    wanted = journal_mode(sqlite3.sqlite_version_info)
    if _current_journal_mode(connection) != wanted:
        _change_journal_mode(connection, wanted)
    mode = _current_journal_mode(connection)  # some file systems do not support write-ahead logs
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _change_journal_mode(connection: sqlite3.Connection, wanted: str) -> None:
    """Change the mode once no other process has the file open, which SQLite does not wait for.

    We can do without a write-ahead log, but must not continue with one that SQLite corrupts.
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
    # The database comes last: a journal left behind would be replayed into the new database.
    for suffix in SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    os.rename(path, aside)
    return os.path.basename(aside)

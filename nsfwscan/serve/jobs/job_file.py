"""The SQLite file of jobs: opening it, transactions, errors. The owner of sqlite3 in the server.

What SQLite or the disk reports becomes `JobFileError`, a refusal of the one request: the server
goes on. The file is opened again for each call until that succeeds, so that a cause which is
removed needs no restart.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, TypeVar

from nsfwscan.cache.database import SQLITE_VERSION, journal_mode
from nsfwscan.serve.problems import RequestRefused
from nsfwscan.system.locations import make_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPLICATION_ID = 0x4E534A42  # "NSJB"
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE job (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, owner TEXT NOT NULL, folder BLOB,
    created_at REAL NOT NULL, ended_at REAL, total INTEGER NOT NULL, problem TEXT NOT NULL,
    callback TEXT NOT NULL, callback_tries INTEGER NOT NULL, callback_at REAL
);
CREATE TABLE picture (
    job TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    name BLOB NOT NULL, start INTEGER, length INTEGER, sha256 BLOB,
    position INTEGER, kind TEXT, record TEXT,
    PRIMARY KEY (job, number)
);
CREATE INDEX picture_position ON picture (job, position);
CREATE INDEX picture_kind ON picture (job, kind);
"""
_BUSY_S = 10.0
STATUS = {
    sqlite3.SQLITE_FULL: (507, "disk-full", "its disk is full: free some space"),
    sqlite3.SQLITE_BUSY: (503, "busy", "another program has locked it: try again"),
    sqlite3.SQLITE_LOCKED: (503, "busy", "another program has locked it: try again"),
    sqlite3.SQLITE_READONLY: (500, "job-file", "it cannot be written: check its permissions"),
    sqlite3.SQLITE_CANTOPEN: (500, "job-file", "it cannot be opened: check its permissions"),
    sqlite3.SQLITE_PERM: (500, "job-file", "it cannot be opened: check its permissions"),
    sqlite3.SQLITE_IOERR: (500, "job-file", "its disk fails: check the system's log"),
    sqlite3.SQLITE_NOMEM: (503, "no-memory", "the system is out of memory"),
}
_LOG = logging.getLogger("nsfwscan.serve")
_T = TypeVar("_T")


class JobFileError(RequestRefused):
    """The job file cannot be used; the message says which, and what to do."""


class JobFile:
    """One connection to the file `path`; any thread may use it, one at a time. Calls block."""

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._told = ""

    @property
    def exists(self) -> bool:
        """Whether there is such a file. The first `write` creates it."""
        return os.path.lexists(self.path)

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run queries that see one state of the file; as long as there is none, an empty one."""
        with self._lock, self._translated():
            if not self.exists:
                self._disconnect()
                with contextlib.closing(_open(":memory:")) as nothing:
                    return work(nothing)
            db = self._connected()
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("ROLLBACK")

    def write(self, work: Callable[[sqlite3.Connection], _T], *, durable: bool = False) -> _T:
        """Run `work` in one transaction, which survives a kill of this process.

        With `durable` it survives a power cut, too.
        """
        with self._lock, self._translated():
            db = self._connected()
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else self._synchronous}")
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                raise
            return result

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._disconnect()
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            status, word, what = STATUS.get(
                code,
                (
                    500,
                    "job-file",
                    "it is damaged: stop the server, move the file away, start again",
                ),
            )
            self._tell(f"the job file {self.path} cannot be used: {error}; {what}")
            name = os.path.basename(self.path)
            raise JobFileError(
                status, word, f"the job file {name} cannot be used: {error}; {what}"
            ) from error
        except OSError as error:
            raise os_error(error, self.path) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self.path) != self._identity:
            self._disconnect()  # deleted or replaced: what is written now would be lost
        if self._connection is None:
            make_private(os.path.dirname(self.path))
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = _open(self.path)
            self._identity = _identity(self.path)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @property
    def _synchronous(self) -> str:
        # NORMAL keeps a write-ahead log intact in a power cut, and a rollback journal does not.
        return "NORMAL" if journal_mode(SQLITE_VERSION) == "wal" else "FULL"

    def _tell(self, what: str) -> None:
        """Log what is wrong, with the path, which is not for clients; once and not each time."""
        if what != self._told:
            self._told = what
            _LOG.warning(what)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            self._disconnect()


def os_error(error: OSError, path: str) -> JobFileError:
    """Return what a failure of a file of the jobs' folder means to a client; the log has more."""
    _LOG.warning("%s cannot be used: %s", path, error.strerror)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return JobFileError(
        507 if full else 500,
        "disk-full" if full else "job-file",
        f"the server cannot write its {os.path.basename(path)}: {error.strerror}",
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA foreign_keys = ON")
        # Versions of SQLite whose write-ahead log can corrupt the file get a rollback journal.
        db.execute(f"PRAGMA journal_mode = {journal_mode(SQLITE_VERSION)}")
        _create(db)
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")  # several processes may open a new file at once
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application_id,) = db.execute("PRAGMA application_id").fetchone()
        if not version and not application_id:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        elif (version, application_id) != (_SCHEMA_VERSION, APPLICATION_ID):
            said = f"it is not a job file of version {_SCHEMA_VERSION}"
            raise sqlite3.DatabaseError(said)  # noqa: TRY301  the transaction is ended below
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise

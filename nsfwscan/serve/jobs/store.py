"""`JobStore`: jobs and their results, in one SQLite file.

In: jobs, pictures, results. Out: the same, after a restart too. A commit survives a kill of the
process; `add` survives a power cut as well. Everything is one transaction: a result and the end of
its job, a job and its pictures. All methods block and raise `JobFileError`; run them in a thread.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from nsfwscan.serve.jobs.job_file import JobFile
from nsfwscan.serve.jobs.states import (
    FAILED_PICTURE,
    Callback,
    JobPicture,
    JobState,
    JobStatus,
    ResultPage,
    Spooled,
)
from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from nsfwscan.serve.jobs.states import PictureResult


FILE = "jobs.sqlite3"


class NoSuchJob(RequestRefused):
    """There is no such job, or it belongs to somebody else."""

    def __init__(self) -> None:
        super().__init__(404, "no-such-job", "there is no such job; perhaps it has expired")


class JobStore:
    """The job file in a folder of its own."""

    def __init__(self, home: str, *, now: Callable[[], float] = time.time) -> None:
        """Open nothing yet. `now` returns the time in seconds since 1970."""
        self.home = home
        self.path = os.path.join(home, FILE)
        self._now = now
        self._file = JobFile(self.path)

    @property
    def exists(self) -> bool:
        """Whether there has been any job. Nothing is written before."""
        return self._file.exists

    def add(
        self,
        pictures: Sequence[JobPicture] = (),
        *,
        job: str = "",
        folder: str | None = None,
        owner: str = "",
        callback: str = "",
    ) -> str:
        """Create a job and return its id, which cannot be guessed.

        A job has pictures that were uploaded, or a folder that is still to be listed. Once this
        returns, the job survives a power cut.
        """
        job = job or new_job_id()
        state = JobState.LISTING if folder is not None else JobState.RUNNING
        if not pictures and folder is None:
            raise ValueError("a job has pictures or a folder")

        def work(db: sqlite3.Connection) -> None:
            where = None if folder is None else os.fsencode(folder)
            db.execute(
                "INSERT INTO job VALUES (?, ?, ?, ?, ?, NULL, ?, '', ?, 0, NULL)",
                (job, state, owner, where, self._now(), len(pictures), callback),
            )
            _insert(db, job, pictures)

        self._file.write(work, durable=True)
        return job

    def listed(self, job: str, pictures: Sequence[JobPicture]) -> None:
        """Add the pictures that were found in a job's folder; from now on it runs."""

        def work(db: sqlite3.Connection) -> None:
            changed = db.execute(
                "UPDATE job SET state = ?, total = ? WHERE id = ? AND state = ?",
                (JobState.RUNNING, len(pictures), job, JobState.LISTING),
            ).rowcount
            if changed:
                _insert(db, job, pictures)
                self._end_complete(db, {job})

        self._file.write(work)

    def unfinished(self) -> list[tuple[str, JobState, str | None]]:
        """Return (id, state, folder) of the jobs that have not ended, oldest first."""
        rows = self._file.read(
            lambda db: db.execute(
                "SELECT id, state, folder FROM job WHERE state IN (?, ?) ORDER BY created_at",
                (JobState.LISTING, JobState.RUNNING),
            ).fetchall()
        )
        return [(job, JobState(state), _path(folder)) for job, state, folder in rows]

    def pending(self, job: str, after: int, count: int) -> list[JobPicture]:
        """Return up to `count` pictures without a result whose number is above `after`."""
        rows = self._file.read(
            lambda db: db.execute(
                "SELECT number, name, start, length, sha256 FROM picture"
                " WHERE job = ? AND number > ? AND position IS NULL ORDER BY number LIMIT ?",
                (job, after, count),
            ).fetchall()
        )
        return [
            JobPicture(
                job,
                number,
                os.fsdecode(name),
                None if start is None else Spooled(start, length, sha256),
            )
            for number, name, start, length, sha256 in rows
        ]

    def save(self, results: Iterable[PictureResult]) -> set[str]:
        """Store results; return the jobs that have ended with them.

        A result for a picture that has one, or whose job is gone, changes nothing.
        """
        rows = list(results)

        def work(db: sqlite3.Connection) -> set[str]:
            for row in rows:
                db.execute(
                    "UPDATE picture SET kind = ?, record = ?, sha256 = ?, position ="
                    " (SELECT coalesce(max(position), 0) + 1 FROM picture WHERE job = ?)"
                    " WHERE job = ? AND number = ? AND position IS NULL",
                    (row.kind, row.record, row.sha256, row.job, row.job, row.number),
                )
            return self._end_complete(db, {row.job for row in rows})

        return self._file.write(work)

    def known(self, job: str, sha256: bytes) -> tuple[str, str] | None:
        """Return (kind, record) of a picture of the job with these bytes and a verdict, if any."""

        def work(db: sqlite3.Connection) -> tuple[str, str] | None:
            found: tuple[str, str] | None = db.execute(
                "SELECT kind, record FROM picture WHERE job = ? AND sha256 = ?"
                " AND position IS NOT NULL AND kind != ? LIMIT 1",
                (job, sha256, FAILED_PICTURE),
            ).fetchone()
            return found

        return self._file.read(work)

    def end(self, job: str, state: JobState, problem: str = "") -> bool:
        """End a job; return False if it had ended, or is gone."""

        def work(db: sqlite3.Connection) -> bool:
            now = self._now()
            return bool(
                db.execute(
                    "UPDATE job SET state = ?, problem = ?, ended_at = ?, callback_at = ?"
                    " WHERE id = ? AND ended_at IS NULL",
                    (state, problem, now, now, job),
                ).rowcount
            )

        return self._file.write(work)

    def note(self, job: str, problem: str) -> None:
        """Say what keeps a job from going on; empty for nothing."""
        self._file.write(
            lambda db: db.execute(
                "UPDATE job SET problem = ? WHERE id = ? AND ended_at IS NULL", (problem, job)
            )
        )

    def delete(self, job: str) -> None:
        """Forget a job and its results."""
        self._file.write(lambda db: db.execute("DELETE FROM job WHERE id = ?", (job,)))

    def expire(self, keep_s: float, give_up_s: float) -> list[str]:
        """Cancel what took too long and forget what ended long ago; return what was forgotten."""

        def work(db: sqlite3.Connection) -> list[str]:
            now = self._now()
            db.execute(
                "UPDATE job SET state = ?, problem = 'it took too long', ended_at = ?,"
                " callback_at = ? WHERE ended_at IS NULL AND created_at < ?",
                (JobState.CANCELLED, now, now, now - give_up_s),
            )
            gone = db.execute(
                "DELETE FROM job WHERE ended_at < ? RETURNING id", (now - keep_s,)
            ).fetchall()
            return [job for (job,) in gone]

        return self._file.write(work)

    def clock_was_set(self, by_s: float) -> None:
        """Move the times of all jobs, because the system's clock was moved by so many seconds.

        Otherwise a computer that learns the time after its start, from the network, would forget
        every result and give up every job.
        """

        def work(db: sqlite3.Connection) -> None:
            # Of what was noted since, nothing is so old, or lies in the future.
            since = "<= :now - :by" if by_s > 0 else "> :now"
            for column in ("created_at", "ended_at", "callback_at"):
                db.execute(
                    f"UPDATE job SET {column} = {column} + :by WHERE {column} {since}",  # noqa: S608  our own words
                    {"now": self._now(), "by": by_s},
                )

        self._file.write(work)

    def status(self, job: str, owner: str = "") -> JobStatus:
        """Return how far a job is. Raises `NoSuchJob` if there is none of this owner."""

        def work(db: sqlite3.Connection) -> JobStatus:
            return _status(db, _row(db, job, owner))

        return self._file.read(work)

    def jobs(self, owner: str = "", limit: int = 1000) -> list[JobStatus]:
        """Return the owner's jobs, newest first."""

        def work(db: sqlite3.Connection) -> list[JobStatus]:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM job WHERE owner = ?"  # noqa: S608  our own words
                " ORDER BY created_at DESC, rowid DESC LIMIT ?",
                (owner, limit),
            ).fetchall()
            return [_status(db, row) for row in rows]

        return self._file.read(work)

    def page(self, job: str, after: int, limit: int, owner: str = "") -> ResultPage:
        """Return up to `limit` results behind position `after`; 0 is the beginning."""

        def work(db: sqlite3.Connection) -> ResultPage:
            state = JobState(_row(db, job, owner)[1])
            rows = db.execute(
                "SELECT position, number, record FROM picture"
                " WHERE job = ? AND position > ? ORDER BY position LIMIT ?",
                (job, after, limit),
            ).fetchall()
            return ResultPage(rows, state)

        return self._file.read(work)

    def spooled_bytes(self) -> int:
        """Return the bytes of uploaded pictures whose jobs have not ended."""

        def work(db: sqlite3.Connection) -> int:
            (total,) = db.execute(
                "SELECT coalesce(sum(length), 0) FROM picture JOIN job ON job.id = picture.job"
                " WHERE ended_at IS NULL"
            ).fetchone()
            return int(total)

        return self._file.read(work)

    def ids(self) -> tuple[set[str], set[str]]:
        """Return the ids of the jobs that have not ended, and of those that have."""

        def work(db: sqlite3.Connection) -> tuple[set[str], set[str]]:
            rows = db.execute("SELECT id, ended_at IS NULL FROM job").fetchall()
            return {job for job, runs in rows if runs}, {job for job, runs in rows if not runs}

        return self._file.read(work)

    def callbacks_due(self) -> list[Callback]:
        """Return whom to tell about ended jobs now."""
        rows = self._file.read(
            lambda db: db.execute(
                "SELECT id, callback, callback_tries FROM job WHERE callback != ''"
                " AND ended_at IS NOT NULL AND callback_at <= ?",
                (self._now(),),
            ).fetchall()
        )
        return [Callback(*row) for row in rows]

    def called(self, job: str, again_in_s: float | None) -> None:
        """Count a try to tell; `again_in_s` is None if it succeeded, or is given up."""
        again_at = None if again_in_s is None else self._now() + again_in_s
        self._file.write(
            lambda db: db.execute(
                "UPDATE job SET callback_tries = callback_tries + 1, callback_at = ? WHERE id = ?",
                (again_at, job),
            )
        )

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._file.close()

    def _end_complete(self, db: sqlite3.Connection, jobs: set[str]) -> set[str]:
        """End those of `jobs` that run and in which every picture has a result."""
        now, ended = self._now(), set()
        for job in jobs:
            if db.execute(
                "UPDATE job SET state = ?, problem = '', ended_at = ?, callback_at = ?"
                " WHERE id = ? AND state = ? AND NOT EXISTS"
                " (SELECT 1 FROM picture WHERE job = ? AND position IS NULL)",
                (JobState.DONE, now, now, job, JobState.RUNNING, job),
            ).rowcount:
                ended.add(job)
        return ended


def new_job_id() -> str:
    """Return an id that nobody can guess: 32 hexadecimal digits."""
    return secrets.token_hex(16)


_COLUMNS = "id, state, created_at, ended_at, folder, total, problem, owner"


def _row(db: sqlite3.Connection, job: str, owner: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = db.execute(
        f"SELECT {_COLUMNS} FROM job WHERE id = ? AND owner = ?",  # noqa: S608  our own words
        (job, owner),
    ).fetchone()
    if row is None:
        raise NoSuchJob
    return row


def _status(db: sqlite3.Connection, row: tuple[Any, ...]) -> JobStatus:
    job, state, created_at, ended_at, folder, total, problem, owner = row
    counts = dict(
        db.execute(
            "SELECT kind, count(*) FROM picture WHERE job = ? AND kind IS NOT NULL GROUP BY kind",
            (job,),
        ).fetchall()
    )
    return JobStatus(
        job, JobState(state), created_at, ended_at, _path(folder), total, counts, problem, owner
    )


def _insert(db: sqlite3.Connection, job: str, pictures: Iterable[JobPicture]) -> None:
    db.executemany(
        "INSERT INTO picture (job, number, name, start, length, sha256) VALUES (?, ?, ?, ?, ?, ?)",
        (
            (job, one.number, os.fsencode(one.name), *(one.spooled or (None, None, None)))
            for one in pictures
        ),
    )


def _path(folder: bytes | None) -> str | None:
    return None if folder is None else os.fsdecode(folder)

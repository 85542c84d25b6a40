"""`JobRunner`: scores the pictures of all jobs while the server answers other requests.

In: a `JobStore`. Out: results in it. As many pictures are in hand as the service has lanes, taken
from the jobs in turns, so that a small job does not wait for a large one. A kill costs scoring
those in hand again, and as many whose results were about to be stored. Of several processes the
one that holds the lock runs the jobs; when it ends, another takes over.

If the job file cannot be written, results wait in memory and no new picture is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from nsfwscan.serve.jobs.callbacks import call_back
from nsfwscan.serve.jobs.folders import list_pictures
from nsfwscan.serve.jobs.scoring import JobScoring
from nsfwscan.serve.jobs.states import JobPicture, JobState, PictureResult
from nsfwscan.serve.problems import RequestRefused
from nsfwscan.system.locations import make_private
from nsfwscan.system.locks import Lock, open_lock

if TYPE_CHECKING:
    from nsfwscan.serve.jobs.settings import JobSettings
    from nsfwscan.serve.jobs.spool import Spool
    from nsfwscan.serve.jobs.store import JobStore
    from nsfwscan.serve.service import ScoringService

_LOG = logging.getLogger("nsfwscan.serve")
LOCK = "runner.lock"
_LOOK_S = 1.0
"""How often to look for what other processes did: new jobs, cancellations, the lock."""
_TIDY_S = 60.0
_REFILL = 64
"""Pictures to fetch from the store at a time. A cancellation is noticed at the latest then."""
_MOST_RESULTS = 256
_STOP_S = 5.0
_CLOCK_SET_S = 300.0
"""The system's clock was set if it has moved by more; a few tidyings of `_TIDY_S` are less."""


class JobRunner:
    """Runs jobs until it is cancelled."""

    def __init__(
        self,
        store: JobStore,
        spool: Spool,
        service: ScoringService,
        settings: JobSettings,
        *,
        in_hand: int,
    ) -> None:
        """`in_hand` pictures are scored at a time."""
        self._store, self._spool, self._settings = store, spool, settings
        self._in_hand = in_hand
        self._woken = asyncio.Event()
        self._unlisted = asyncio.Event()
        self._taking = asyncio.Lock()
        self._queues: dict[str, deque[JobPicture]] = {}
        """What was fetched of each job that runs, in the order of their turns."""
        self._taken: dict[str, int] = {}
        """The highest number that was fetched, by job. What is above it was never in hand."""
        self._results: deque[PictureResult] = deque()
        self._saved = asyncio.Condition()
        self._busy = 0
        self._stopping = asyncio.Event()
        self._scoring = JobScoring(store, spool, service, settings.folders, self._stopping)
        self._untidy = asyncio.Event()
        self._said: dict[str, str] = {}

    def wake(self) -> None:
        """Say that there is a new job."""
        self._woken.set()
        self._unlisted.set()

    def dropped(self, job: str) -> None:
        """Say that a job has ended, or is gone."""
        self._queues.pop(job, None)
        self._taken.pop(job, None)
        self._untidy.set()

    async def stop(self) -> None:
        """Take no more pictures, and wait a while for those in hand; then cancel `run`."""
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            async with self._saved, asyncio.timeout(_STOP_S):
                await self._saved.wait_for(lambda: not self._busy)

    async def run(self) -> None:
        """Run jobs for as long as this process has the lock. Ends when it is cancelled."""
        while not self._store.exists or (lock := self._locked()) is None:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_S)
        self._queues.clear()
        self._taken.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tidy())
                group.create_task(self._list_folders())
                group.create_task(self._write())
                for _ in range(self._in_hand):
                    group.create_task(self._work())
        finally:
            self._save_now()
            lock.release()

    def _locked(self) -> Lock | None:
        try:
            make_private(self._settings.home)
            lock = open_lock(os.path.join(self._settings.home, LOCK), create=True)
            if lock.take():
                return lock
            lock.release()
        except OSError as error:
            self._warn("jobs cannot run", error)
        return None

    # Taking pictures

    async def _next(self) -> JobPicture:
        async with self._taking:
            while True:
                await self._room()
                for job, queue in list(self._queues.items()):
                    if queue and not self._stopping.is_set():
                        self._queues[job] = self._queues.pop(job)  # its next turn comes last
                        return queue.popleft()
                self._woken.clear()
                if self._stopping.is_set() or not await self._refill():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), _LOOK_S)

    async def _room(self) -> None:
        """Wait while too many results are not stored.

        A kill loses results that are not stored. Those that took scoring are limited to one for
        each lane, besides the pictures being scored: lanes keep working while a transaction is
        written, and wait only if the disk is slower. The total is limited to save memory.
        """

        def room() -> bool:
            costly = sum(result.scored for result in self._results)
            most = 2 * self._in_hand
            return self._busy + costly < most and len(self._results) < _MOST_RESULTS

        async with self._saved:
            await self._saved.wait_for(room)

    async def _refill(self) -> bool:
        """Fetch pictures of every job that runs; return True if there are any."""
        try:
            jobs = await asyncio.to_thread(self._store.unfinished)
            running = [job for job, state, _ in jobs if state is JobState.RUNNING]
            for known in (self._queues, self._taken):
                for job in known.keys() - set(running):
                    del known[job]
            for job in running:
                pictures = await asyncio.to_thread(
                    self._store.pending, job, self._taken.get(job, -1), _REFILL
                )
                if pictures:
                    self._taken[job] = pictures[-1].number
                    self._queues.setdefault(job, deque()).extend(pictures)
        except RequestRefused as error:
            self._warn("jobs wait", error)
            return False
        return any(self._queues.values())

    async def _list_folders(self) -> None:
        """List the folders of new jobs, beside the scoring: a large one may take minutes."""
        while True:
            try:
                for job, state, folder in await asyncio.to_thread(self._store.unfinished):
                    if state is JobState.LISTING:
                        await self._list(job, folder or "")
            except RequestRefused as error:
                self._warn("jobs wait", error)
            self._unlisted.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._unlisted.wait(), _LOOK_S)

    async def _list(self, job: str, folder: str) -> None:
        try:
            pictures, unreadable = await asyncio.to_thread(
                list_pictures, job, folder, self._settings.pictures_each
            )
        except RequestRefused as error:
            await asyncio.to_thread(self._store.end, job, JobState.FAILED, str(error))
            return
        first = len(pictures)
        pictures += [
            JobPicture(job, number, failed.path) for number, failed in enumerate(unreadable, first)
        ]
        await asyncio.to_thread(self._store.listed, job, pictures)
        self._woken.set()

    # Scoring them

    async def _work(self) -> None:
        while True:
            picture = await self._next()
            self._busy += 1
            try:
                result = await self._scoring.result(picture)
                if result is not None:
                    self._results.append(result)
            finally:
                self._busy -= 1
            async with self._saved:
                self._saved.notify_all()

    # Storing results

    async def _write(self) -> None:
        """Commit whatever has come while the last transaction was written."""
        while True:
            async with self._saved:
                await self._saved.wait_for(lambda: bool(self._results))
            rows = list(self._results)
            try:
                ended = await asyncio.to_thread(self._store.save, rows)
            except RequestRefused as error:
                self._warn("results of jobs wait in memory", error)
                await asyncio.sleep(_LOOK_S)
                continue
            self._scoring.stored(rows)
            async with self._saved:
                for _ in rows:
                    self._results.popleft()
                self._saved.notify_all()
            for job in ended:
                self._forget(job)

    def _save_now(self) -> None:
        """Commit what is left when the server stops."""
        try:
            for job in self._store.save(self._results):
                self._forget(job)
        except RequestRefused as error:
            self._warn("some pictures of jobs will be scored again", error)

    def _forget(self, job: str) -> None:
        self.dropped(job)
        self._spool.remove(job)

    def _warn(self, what: str, error: Exception) -> None:
        """Say what goes wrong, once and not for each of a thousand tries."""
        if self._said.get(what) != str(error):
            self._said[what] = str(error)
            _LOG.warning("%s: %s", what, error)

    # Tidying up

    async def _tidy(self) -> None:
        """Expire jobs, delete what they left, and tell those who want to be told."""
        settings, ahead = self._settings, wall_ahead()
        while True:
            try:
                if abs(moved := wall_ahead() - ahead) > _CLOCK_SET_S:
                    await asyncio.to_thread(self._store.clock_was_set, moved)
                    ahead += moved
                gone = await asyncio.to_thread(
                    self._store.expire, settings.keep_s, settings.give_up_s
                )
                for job in gone:
                    self._forget(job)
                self._untidy.clear()
                running, ended = await asyncio.to_thread(self._store.ids)
                await asyncio.to_thread(self._spool.sweep, running, ended)
                for due in await asyncio.to_thread(self._store.callbacks_due):
                    await call_back(self._store, due, settings)
            except RequestRefused as error:
                self._warn("jobs cannot be tidied up", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._untidy.wait(), _TIDY_S)


def wall_ahead() -> float:
    """Return how many seconds the wall clock is ahead of the boot clock, which cannot be set."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # as `monotonic`, and it counts sleep
    return time.time() - (time.monotonic() if boot is None else time.clock_gettime(boot))

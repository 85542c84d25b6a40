"""`JobRunner`: scores the pictures of all jobs while the server answers other requests.

In: a `JobStore`. Out: results in it. As many pictures are in hand as the service has lanes, taken
from the jobs in turns, so that a small job does not wait for a large one. A kill costs scoring
those in hand again, and nothing else. Of several processes the one that holds the lock runs the
jobs; when it ends, another takes over.

What the service cannot judge now (no model, a full queue) waits here; nothing is skipped or called
safe. If the job file cannot be written, results wait in memory and no new picture is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from nsfwscan.media.discover import DEFAULT_MAX_BYTES, too_big
from nsfwscan.report.record import Recorder
from nsfwscan.serve.jobs.callbacks import call_back
from nsfwscan.serve.jobs.folders import list_pictures, read_allowed
from nsfwscan.serve.jobs.states import FAILED_PICTURE, JobPicture, JobState, PictureResult
from nsfwscan.serve.problems import Overloaded, RequestRefused, Unavailable
from nsfwscan.system.locations import make_private
from nsfwscan.system.locks import Lock, open_lock
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import Failed, FailReason

if TYPE_CHECKING:
    from nsfwscan.serve.jobs.settings import JobSettings
    from nsfwscan.serve.jobs.spool import Spool
    from nsfwscan.serve.jobs.store import JobStore
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.values.results import Scanned

_LOG = logging.getLogger("nsfwscan.serve")
LOCK = "runner.lock"
_LOOK_S = 1.0
"""How often to look for what other processes did: new jobs, cancellations, the lock."""
_TIDY_S = 60.0
_REFILL = 64
"""Pictures to fetch from the store at a time. A cancellation is noticed at the latest then."""
_STOP_S = 5.0
_LONGEST_WAIT_S = 60.0
_TRIES = 3
"""How often a picture is tried with which the model fails."""


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
        self._store, self._spool, self._service = store, spool, service
        self._settings = settings
        self._in_hand, self._max_bytes = in_hand, DEFAULT_MAX_BYTES
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
        """Wait while results cannot be written: more would fill the memory."""
        async with self._saved:
            await self._saved.wait_for(lambda: len(self._results) < 4 * _REFILL)

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
                result = await self._result(picture)
            finally:
                self._busy -= 1
            async with self._saved:
                if result is not None:
                    self._results.append(result)
                self._saved.notify_all()

    async def _result(self, picture: JobPicture) -> PictureResult | None:
        """Score one picture, however long it takes; None if its job has ended meanwhile."""
        scored: Scanned | Failed | None
        try:
            data = await asyncio.to_thread(self._read, picture)
        except DecodeError as error:
            scored = Failed("", error.reason, error.detail, transient=error.transient)
            if picture.spooled is not None and await self._has_ended(picture.job):
                return None  # its upload was removed with it
        else:
            scored = await self._score(picture, data)
        if scored is None or not await self._model_is_known(picture.job):
            return None
        scored = replace(scored, path=picture.name)
        kind = FAILED_PICTURE if scored.decision is None else scored.decision.value
        record = json.dumps(Recorder(self._service.manifest).record(scored), allow_nan=False)
        return PictureResult(picture.job, picture.number, kind, record)

    def _read(self, picture: JobPicture) -> bytes:
        if picture.spooled is None:
            return read_allowed(picture.name, self._settings.folders, self._max_bytes)
        if picture.spooled.length > self._max_bytes:
            detail = too_big(picture.spooled.length, self._max_bytes)
            raise DecodeError(FailReason.TOO_BIG, detail)
        try:
            return self._spool.read(picture.job, picture.spooled)
        except OSError as error:
            raise DecodeError(FailReason.UNREADABLE, error.strerror or str(error)) from error

    async def _score(self, picture: JobPicture, data: bytes) -> Scanned | Failed | None:
        """Score, and wait as long as it takes until that is possible; None if the job has ended."""
        noted, tries = False, 0
        try:
            while True:
                try:
                    return await self._service.score(data)
                except Overloaded as full:
                    wait_s = full.retry_after
                except Unavailable as missing:
                    wait_s = missing.retry_after
                    tries += await self._model_is_open()
                    if tries == _TRIES:
                        return Failed("", FailReason.BAD_OUTPUT, str(missing))
                    noted = await self._note(picture.job, str(missing))
                except Exception:  # noqa: BLE001  one picture must not end all jobs
                    _LOG.exception("a picture of job %s could not be judged", picture.job)
                    return Failed("", FailReason.BAD_OUTPUT, "an unexpected error")
                if not await self._again(picture.job, min(wait_s, _LONGEST_WAIT_S)):
                    return None
        finally:
            if noted:
                await self._note(picture.job, "")

    async def _model_is_open(self) -> bool:
        """Return True if there is a model, so that a failure may be this one picture's."""
        try:
            await self._service.ready(0.0)
        except Unavailable:
            return False
        return True

    async def _model_is_known(self, job: str) -> bool:
        """Wait until there has been a model, which every record names; False if the job ended."""
        while True:
            try:
                return bool(self._service.manifest)
            except Unavailable as missing:
                await self._note(job, str(missing))
                if not await self._again(job, _LOOK_S):
                    return False

    async def _again(self, job: str, wait_s: float) -> bool:
        """Wait a while; return False if the job has ended by then, or the server stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)
            return False
        return not await self._has_ended(job)

    async def _note(self, job: str, problem: str) -> bool:
        with contextlib.suppress(RequestRefused):
            await asyncio.to_thread(self._store.note, job, problem)
        return bool(problem)

    async def _has_ended(self, job: str) -> bool:
        try:
            jobs = await asyncio.to_thread(self._store.unfinished)
        except RequestRefused:
            return False
        return job not in {known for known, _, _ in jobs}

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
        settings = self._settings
        while True:
            try:
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

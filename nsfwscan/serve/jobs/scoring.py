"""`JobScoring`: one picture of a job, from where it is stored to its record.

In: a `JobPicture`. Out: a `PictureResult`, however long it takes: what cannot be judged now, for
lack of a model or because the queue is full, waits here. Nothing is skipped or called safe.
Pictures of a job with the same bytes are scored once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.discover import DEFAULT_MAX_BYTES, too_big
from nsfwscan.report.record import Recorder
from nsfwscan.serve.jobs.folders import read_allowed
from nsfwscan.serve.jobs.states import FAILED_PICTURE, JobPicture, PictureResult
from nsfwscan.serve.problems import Overloaded, RequestRefused, Unavailable
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import Failed, FailReason, Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsfwscan.serve.jobs.spool import Spool
    from nsfwscan.serve.jobs.store import JobStore
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.values.results import Scanned

_LOG = logging.getLogger("nsfwscan.serve")
_LOOK_S = 1.0
_LONGEST_WAIT_S = 60.0
_TRIES = 3
"""How often a picture is tried with which the model fails."""


class _ReadPicture(NamedTuple):
    data: bytes
    sha256: bytes


class JobScoring:
    """Scores pictures of jobs in the event loop; several calls may be under way."""

    def __init__(
        self,
        store: JobStore,
        spool: Spool,
        service: ScoringService,
        folders: Sequence[str],
        stopping: asyncio.Event,
    ) -> None:
        """`folders` may be read. Once `stopping` is set, nothing is waited for any more."""
        self._store, self._spool, self._service = store, spool, service
        self._folders, self._stopping = folders, stopping
        self._claims: dict[tuple[str, bytes], asyncio.Future[PictureResult | None]] = {}
        """The contents that are being scored, or whose result is not in the store yet, by job."""

    async def result(self, picture: JobPicture) -> PictureResult | None:
        """Return the result for a picture; None if its job has ended meanwhile."""
        try:
            read = await asyncio.to_thread(self._read, picture)
        except DecodeError as error:
            if picture.spooled is not None and await self._has_ended(picture.job):
                return None  # its upload was removed with it
            failed = Failed("", error.reason, error.detail, transient=error.transient)
            return await self._recorded(picture, failed)
        key = picture.job, read.sha256
        while (claim := self._claims.get(key)) is not None:
            first = await asyncio.shield(claim)
            if first is not None:
                return self._copied(picture, first.kind, first.record, read.sha256)
        return await self._claimed(picture, read, key)

    def stored(self, results: Iterable[PictureResult]) -> None:
        """Say that results are in the store now."""
        for result in results:
            key = result.job, result.sha256
            claim = self._claims.get(key)
            if claim is not None and claim.done():
                del self._claims[key]

    async def _claimed(
        self, picture: JobPicture, read: _ReadPicture, key: tuple[str, bytes]
    ) -> PictureResult | None:
        """Score a content that nobody else scores now; others with the same bytes wait for it."""
        claim = self._claims[key] = asyncio.get_running_loop().create_future()
        result: PictureResult | None = None
        try:
            with contextlib.suppress(RequestRefused):
                known = await asyncio.to_thread(self._store.known, *key)
                if known is not None:
                    result = self._copied(picture, *known, read.sha256)
            if result is None:
                scored = await self._score(picture, read.data)
                result = await self._recorded(picture, scored, read.sha256)
            return result
        finally:
            has_verdict = result is not None and result.kind != FAILED_PICTURE
            if not has_verdict:  # another with the same bytes may fare better
                del self._claims[key]
            claim.set_result(result if has_verdict else None)

    async def _recorded(
        self, picture: JobPicture, scored: Scanned | Failed | None, sha256: bytes = b""
    ) -> PictureResult | None:
        if scored is None or not await self._model_is_known(picture.job):
            return None
        scored = replace(scored, path=picture.name)
        kind = FAILED_PICTURE if scored.decision is None else scored.decision.value
        record = json.dumps(Recorder(self._service.manifest).record(scored), allow_nan=False)
        return PictureResult(picture.job, picture.number, kind, record, sha256, scored=bool(sha256))

    def _copied(self, picture: JobPicture, kind: str, record: str, sha256: bytes) -> PictureResult:
        """Return the result of another picture with the same bytes as this one's."""
        named = Recorder(self._service.manifest).gone(picture.name, None, None)
        own = {key: named[key] for key in ("path", "path_base64")}
        copy = json.dumps(json.loads(record) | own | {"origin": Origin.DUPLICATE.value})
        return PictureResult(picture.job, picture.number, kind, copy, sha256)

    def _read(self, picture: JobPicture) -> _ReadPicture:
        where = picture.spooled
        if where is None:
            data = read_allowed(picture.name, self._folders, DEFAULT_MAX_BYTES)
            return _ReadPicture(data, hashlib.sha256(data).digest())
        if where.length > DEFAULT_MAX_BYTES:
            raise DecodeError(FailReason.TOO_BIG, too_big(where.length, DEFAULT_MAX_BYTES))
        try:
            return _ReadPicture(self._spool.read(picture.job, where), where.sha256)
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

"""`Jobs`: what one server process needs to take, run and answer for jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from nsfwscan.serve.jobs.runner import JobRunner
from nsfwscan.serve.jobs.spool import Spool
from nsfwscan.serve.jobs.states import JobState
from nsfwscan.serve.jobs.store import JobStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nsfwscan.serve.jobs.settings import JobSettings
    from nsfwscan.serve.service import ScoringService

_LOG = logging.getLogger("nsfwscan.serve")
_AGAIN_S = 5.0


class Jobs:
    """The job file, the uploads, and what runs them."""

    def __init__(self, service: ScoringService, settings: JobSettings) -> None:
        """Create nothing yet."""
        self.settings = settings
        self.store = JobStore(settings.home)
        self.spool = Spool(settings.home)
        self.runner = JobRunner(
            self.store,
            self.spool,
            service,
            settings,
            in_hand=service.lanes.count,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run jobs inside the block. What is in hand at its end is finished, if that is quick."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await self.runner.stop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.store.close()

    async def _run(self) -> None:
        while True:
            try:
                await self.runner.run()
            except* Exception:  # noqa: BLE001  single requests are answered all the same
                _LOG.exception("the jobs stopped and start again")
            await asyncio.sleep(_AGAIN_S)

    def end(self, job: str, *, forget: bool) -> None:
        """Cancel a job, and with `forget` delete its results. Blocks. Raises `JobFileError`."""
        if forget:
            self.store.delete(job)
        else:
            self.store.end(job, JobState.CANCELLED)
        self.spool.remove(job)

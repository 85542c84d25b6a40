"""`ScoringService`: from the bytes of a picture to its result, for every protocol.

In: bytes, in the event loop. Out: `Scanned` or `Failed`, as a scan gives them: the same decode
processes, model, rulings and thresholds. What can fail: too much is waiting (`Overloaded`), or
nothing can be scored (`Unavailable`). A caller that is cancelled costs nothing if its picture is
still waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.scanning.examine import ALL, FACTS, Content, Wanted
from nsfwscan.serve.lanes import Job, Lanes
from nsfwscan.serve.metrics import Metrics
from nsfwscan.serve.models import ModelKeeper, ModelState, OpenSession, Phase, Scoring
from nsfwscan.serve.problems import Overloaded, Unavailable
from nsfwscan.values.outcome import Reading, Scored
from nsfwscan.values.results import Failed, FailReason, Origin, Scanned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.judge.policy import Policy
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.models.staging import Say
    from nsfwscan.serve.settings import Limits

_NOTHING = Failed("", FailReason.EMPTY, "the request has no picture")


class Examined(NamedTuple):
    """A result, what else was wanted, and how long it took."""

    result: Scanned | Failed
    reading: Reading | None = None
    """What the model said beside scores, if that was wanted."""
    queued_s: float = 0.0
    examined_s: float = 0.0
    """Seconds of decoding and scoring; 0 if the cache knew."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How pictures are to be examined."""

    deadline: float | None = None
    """A `time.monotonic()`; None for `Limits.answer_s` from now."""
    use_cache: bool = True
    """Without, a picture is scored even if the cache knows it."""
    patience: float | None = None
    """Seconds to wait for a model that is being loaded; None for `Limits.loading_s`."""
    wanted: Wanted = ALL


ASK = Ask()


class ScoringService:
    """The queue, the decode processes and the model of one server process."""

    def __init__(
        self,
        open_session: OpenSession,
        *,
        limits: Limits,
        lanes: int,
        warn: Say,
        write_cache: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        """`lanes` pictures are scored at a time. Nothing is started yet."""
        self.limits = limits
        self.lanes: Lanes[Examined] = Lanes(lanes, limits.waiting)
        self.metrics = metrics or Metrics()
        self._keeper = ModelKeeper(open_session, write_cache=write_cache, warn=warn)
        self._loaded = asyncio.Event()
        self._failing = ""
        """What the model said when it last failed, until it works again."""

    def start(self) -> None:
        """Start the lanes and begin to load the model. Called in the event loop."""
        loop = asyncio.get_running_loop()
        self._loaded = asyncio.Event()

        def changed() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._note)

        self._keeper.on_change(changed)
        self.lanes.start()
        self._keeper.start()

    @property
    def state(self) -> ModelState:
        """Whether pictures can be scored, for /health and /info."""
        state = self._keeper.state
        if self._failing and state.phase is Phase.READY:
            return ModelState(Phase.UNAVAILABLE, self._failing, "run `nsfwscan selftest`")
        return state

    @property
    def manifest(self) -> ModelManifest:
        """The model. Raises `Unavailable` if there has been none yet."""
        return self._known().session.manifest

    @property
    def policy(self) -> Policy:
        """The thresholds. Raises `Unavailable` if there has been no model yet."""
        return self._known().session.policy

    async def score(
        self,
        data: bytes,
        *,
        deadline: float | None = None,
        use_cache: bool = True,
        patience: float | None = None,
    ) -> Scanned | Failed:
        """Return the result for one picture file; see `answer`."""
        ask = Ask(deadline=deadline, use_cache=use_cache, patience=patience)
        return (await self.answer([data], ask))[0].result

    async def answer(self, pictures: Sequence[bytes], ask: Ask = ASK) -> list[Examined]:
        """Examine picture files, in the order given: all of them, or none if too much is waiting.

        Raises `Overloaded` if too much is waiting or the deadline passes, and `Unavailable` if
        nothing can be scored.
        """
        deadline = ask.deadline
        if deadline is None:
            deadline = time.monotonic() + self.limits.answer_s
        await self.ready(self.limits.loading_s if ask.patience is None else ask.patience)
        jobs = [self._job(data, ask) for data in pictures]
        try:
            self.lanes.submit(jobs)
        except Overloaded:
            self.metrics.refused(len(jobs))
            raise
        self.metrics.waiting(self.lanes.waiting)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                answers = [await job.future for job in jobs]
        except TimeoutError:
            raise Overloaded(self.lanes.retry_after, "not scored in time") from None
        finally:
            self.metrics.dropped(sum(map(self.lanes.withdraw, jobs)))
            for job in jobs:
                job.future.cancel()
            self.metrics.waiting(self.lanes.waiting)
        for answer in answers:
            self.metrics.answered(answer.result, answer.queued_s, answer.examined_s)
        return answers

    async def ready(self, patience: float) -> None:
        """Wait until there is a model, while it is being loaded. Raises `Unavailable`."""
        keeper = self._keeper
        if keeper.state.phase is Phase.LOADING and patience > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), patience)
        if keeper.state.phase is not Phase.READY:
            raise keeper.unavailable()

    def stop_waiting(self) -> None:
        """Refuse what still waits, because the server stops."""
        self.lanes.refuse_waiting(lambda: Unavailable("the server is stopping"))

    def close(self) -> None:
        """Finish what is being scored and end everything. Blocks."""
        self.lanes.close()
        self._keeper.close()

    def _note(self) -> None:
        self.metrics.ready(ready=self.state.phase is Phase.READY)
        if self.state.phase is not Phase.LOADING:
            self._loaded.set()

    def _known(self) -> Scoring:
        scoring = self._keeper.last
        if scoring is None:
            raise self._keeper.unavailable()
        return scoring

    def _job(self, data: bytes, ask: Ask) -> Job[Examined]:
        future: asyncio.Future[Examined] = asyncio.get_running_loop().create_future()
        job: Job[Examined] = Job(lambda: self._work(job, data, ask), future)
        return job

    def _work(self, job: Job[Examined], data: bytes, ask: Ask) -> Examined:
        """Do a lane's part: what a scan does with the content of a file."""
        if not data:
            return Examined(_NOTHING)
        content = Content(data, hashlib.sha256(data).digest())
        with self._keeper.using() as scoring:
            examined = _examine(content, ask, scoring)
        result = examined.result
        if isinstance(result, Failed) and result.reason is FailReason.BAD_OUTPUT:
            self._failing = f"the model fails: {result.detail}"
            raise Unavailable(self._failing)
        self._failing = ""
        examined_s = time.monotonic() - job.began_at if result.origin is Origin.MODEL else 0.0
        return examined._replace(queued_s=job.began_at - job.entered_at, examined_s=examined_s)


def _examine(content: Content, ask: Ask, scoring: Scoring) -> Examined:
    session, remembered = scoring.session, scoring.remembered
    judge, sha256 = session.judge(), content.sha256
    known = remembered.outcome(sha256) if ask.use_cache and ask.wanted == ALL else None
    if known is None:
        finding = session.engine.examine(content, ask.wanted)
        remembered.remember(finding)
        outcome = finding.expect_outcome()
        result = judge.result("", sha256, outcome, fact=finding.facts.get)
        return Examined(result, finding.reading)
    facts = {kind: remembered.fact(sha256, kind) for kind in judge.needed_facts}
    if isinstance(known, Scored) and None in facts.values():
        facts = dict(session.engine.examine(content, FACTS).facts)
    return Examined(judge.result("", sha256, known, Origin.CACHE, fact=facts.get))

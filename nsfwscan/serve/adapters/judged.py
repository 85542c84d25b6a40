"""One picture as the adapters see it: judged, or not judged and why."""

from __future__ import annotations

import asyncio
import logging
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nsfwscan.serve.problems import Overloaded, Unavailable
from nsfwscan.values.results import Decision, Failed, FailReason, Scanned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.serve.problems import Problem
    from nsfwscan.serve.service import ScoringService

_LOG = logging.getLogger("nsfwscan.serve")


class Cause(StrEnum):
    """Why a picture was not judged."""

    EMPTY = "empty"
    TOO_BIG = "too-big"
    UNREADABLE = "unreadable"
    """Its bytes are not a picture that can be decoded."""
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    """There is no model, or it failed, or another passing trouble: a retry may succeed."""

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self in {Cause.OVERLOADED, Cause.UNAVAILABLE}


class UnjudgedPicture(NamedTuple):
    """A picture without a decision. It is not safe."""

    cause: Cause
    message: str
    """One sentence for people."""
    retry_after_s: float = 5.0
    """When to try again, if the cause may pass."""


class JudgedPicture(NamedTuple):
    """A picture with a decision, by the model or by a person."""

    decision: Decision
    score: float
    """How likely it is not safe for work, 0 to 1; 0 or 1 by the ruling if it has no score."""
    flag_at: float
    """From which score the policy flags."""
    labels: Mapping[str, float] = {}
    """The model's probability for each of its labels."""
    unsafe_labels: frozenset[str] = frozenset()
    """Those of the labels that are not safe."""


AdapterAnswer: TypeAlias = JudgedPicture | UnjudgedPicture

_CAUSES = {
    FailReason.EMPTY: Cause.EMPTY,
    FailReason.TOO_BIG: Cause.TOO_BIG,
    FailReason.TOO_MANY_PIXELS: Cause.TOO_BIG,
    FailReason.BAD_OUTPUT: Cause.UNAVAILABLE,
}


def answer_of(result: Scanned | Failed, manifest: ModelManifest) -> AdapterAnswer:
    """Return what a result says. A failure has a decision only by a ruling on that very content."""
    if isinstance(result, Failed):
        if result.decision is not None:
            flagged = result.decision is Decision.NSFW
            return JudgedPicture(result.decision, float(flagged), 0.5)
        cause = _CAUSES.get(result.reason, Cause.UNREADABLE)
        return UnjudgedPicture(
            Cause.UNAVAILABLE if result.transient else cause,
            f"{result.reason}: {result.detail}" if result.detail else str(result.reason),
        )
    output = manifest.output
    return JudgedPicture(
        result.decision,
        result.score,
        result.verdict.flag_at,
        dict(zip(output.labels, result.scores.probabilities, strict=True)),
        frozenset(output.unsafe_labels),
    )


def is_unjudged(problem: Problem) -> bool:
    """Return True if a refusal leaves pictures unjudged that were asked about in the right form.

    A wrong token, a name that --allow-host lacks and a limit are mistakes of the operator, whom
    silence would never tell about them.
    """
    return problem.status in {401, 403, 408, 413, 421, 429} or problem.status >= 500


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to try again."""
    return {"Retry-After": str(max(1, round(seconds)))}


async def judge(service: ScoringService, data: bytes, *, patience_s: float) -> AdapterAnswer:
    """Judge one picture within `patience_s`, also if the queue is full or the model is loading.

    Never raises, but for cancellation: programs read a failed request as "not sensitive".
    """
    if not data:
        return UnjudgedPicture(Cause.EMPTY, "the picture is empty")
    until = time.monotonic() + patience_s
    try:
        while True:
            try:
                result = await service.score(data, deadline=until)
                return answer_of(result, service.manifest)
            except Overloaded as full:
                if until - time.monotonic() <= full.retry_after:
                    return UnjudgedPicture(Cause.OVERLOADED, str(full), full.retry_after)
                await asyncio.sleep(full.retry_after)
    except Unavailable as missing:
        return UnjudgedPicture(Cause.UNAVAILABLE, str(missing), missing.retry_after)
    except Exception:  # noqa: BLE001  the caller must still get an answer that it cannot read as safe
        _LOG.exception("a picture could not be judged")
        return UnjudgedPicture(Cause.UNAVAILABLE, "an unexpected error; the server's log has it")


async def judge_all(
    service: ScoringService, pictures: Sequence[bytes | UnjudgedPicture], *, patience_s: float
) -> list[AdapterAnswer]:
    """Judge several pictures; what is no picture stays as it is. The order is theirs."""

    async def one(picture: bytes | UnjudgedPicture) -> AdapterAnswer:
        if isinstance(picture, UnjudgedPicture):
            return picture
        return await judge(service, picture, patience_s=patience_s)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(picture)) for picture in pictures]
    return [task.result() for task in tasks]

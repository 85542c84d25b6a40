"""pict-rs, and with it Lemmy and PieFed: `POST /validate` for `media.external_validation`.

In: the uploaded file, in chunks, without a length. Out: a status. pict-rs accepts the upload after
any 2xx and rejects it after anything else; it waits 30 seconds and does not try again. The body is
for people who read logs.

Sources: releases/0.4.3.md and src/ingest.rs in pict-rs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import JSONResponse, Response

from nsfwscan.serve import openapi
from nsfwscan.serve.adapters.bodies import whole_body
from nsfwscan.serve.adapters.judged import Cause, JudgedPicture, UnjudgedPicture, judge, retry_after
from nsfwscan.serve.endpoint import Endpoints
from nsfwscan.values.results import Decision

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.serve.adapters.judged import AdapterAnswer
    from nsfwscan.serve.problems import Problem
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings
    from nsfwscan.system.json_lines import Json

_STATUS = {
    Cause.EMPTY: 400,
    Cause.TOO_BIG: 413,
    Cause.UNREADABLE: 415,
    Cause.OVERLOADED: 503,
    Cause.UNAVAILABLE: 503,
}


_PATIENCE_S = 25.0
"""pict-rs waits 30 seconds by default."""


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the route: `/validate`."""
    ours = settings.adapters

    def said(item: AdapterAnswer) -> Response:
        validation = answer(
            item, pass_review=ours.pass_review, pass_unavailable=ours.pass_unavailable
        )
        if validation.unchecked:
            service.metrics.unchecked()
        headers = retry_after(validation.retry_after_s) if validation.retry_after_s else None
        return JSONResponse(validation.body, validation.status, headers)

    async def validate(request: Request) -> Response:
        data = await whole_body(request, settings.limits)
        return said(await judge(service, data, patience_s=_PATIENCE_S))

    def refused(problem: Problem) -> Response:
        if problem.status == 429 or problem.status >= 500:
            return said(
                UnjudgedPicture(Cause.UNAVAILABLE, problem.message, problem.retry_after or 5.0)
            )
        return JSONResponse({"decision": None, "error": problem.message}, problem.status)

    return [Endpoints(service, settings, refused).route("/validate", validate, ["POST"])]


PATHS: dict[str, openapi.Json] = {
    "/validate": {
        "post": openapi.operation(
            "For pict-rs: 2xx accepts the picture that is the body, anything else rejects it.",
            {"type": "object", "required": ["decision"]},
            body={"application/octet-stream": openapi.PICTURE},
            errors=[415],
            failure={"type": "object"},
        )
    }
}


class Validation(NamedTuple):
    """An answer to pict-rs."""

    status: int
    body: dict[str, Json]
    retry_after_s: float = 0.0
    """Set with 503."""
    unchecked: bool = False
    """Whether the upload passes although nobody judged it: count this."""


def answer(item: AdapterAnswer, *, pass_review: bool, pass_unavailable: bool) -> Validation:
    """Decide about an upload.

    `pass_review` accepts pictures to review. `pass_unavailable` accepts all while there is no model
    or the queue is full; what cannot be decoded is rejected even then.
    """
    if isinstance(item, JudgedPicture):
        passes = item.decision is Decision.SAFE or (
            pass_review and item.decision is Decision.REVIEW
        )
        body: dict[str, Json] = {"decision": item.decision.value, "score": item.score}
        return Validation(200 if passes else 403, body)
    if item.cause.is_passing and pass_unavailable:
        return Validation(200, {"decision": None, "unchecked": item.message}, unchecked=True)
    status = _STATUS[item.cause]
    said: dict[str, Json] = {"decision": None, "error": item.message}
    return Validation(status, said, item.retry_after_s if status == 503 else 0.0)

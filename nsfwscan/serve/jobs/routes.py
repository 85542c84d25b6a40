"""`/v1/jobs`: hand over many pictures, ask how far they are, fetch the results page by page."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response

from nsfwscan.serve import openapi
from nsfwscan.serve.bodies import read_body, refuse_announced, too_large
from nsfwscan.serve.endpoint import Endpoints, PathsJson
from nsfwscan.serve.jobs.callbacks import allowed_callback
from nsfwscan.serve.jobs.folders import allowed_folder
from nsfwscan.serve.jobs.states import JobPicture
from nsfwscan.serve.jobs.store import new_job_id
from nsfwscan.serve.parts import FormReader, PartHead, is_multipart
from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.serve.jobs.jobs import Jobs
    from nsfwscan.serve.jobs.spool import Upload
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings

_MOST_JSON = 64 << 10
_PAGE, _MOST_PAGE, _LAST = 1000, 10_000, 1 << 53
_BLOCK = 1 << 20
"""Bytes of an upload that are written at a time, in a thread, so that a slow disk stops nobody."""
_CALLBACK, _MOST_CALLBACK = "callback", 4096


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the routes."""

    def who(request: Request) -> str:
        """Return the name of the token: its jobs are nobody else's."""
        caller = settings.tokens.caller(request.headers.get("authorization"))
        return caller.grant.name if caller else ""

    async def create(request: Request) -> Response:
        jobs = _jobs(request)
        room = await asyncio.to_thread(_room, jobs)
        if is_multipart(request.headers.get("content-type")):
            job = await _upload(request, jobs, who(request), room)
        else:
            job = await _scan_folder(request, jobs, who(request))
        jobs.runner.wake()
        return await status_of(jobs, job, who(request), 202)

    async def every(request: Request) -> Response:
        jobs = _jobs(request)
        found = await asyncio.to_thread(jobs.store.jobs, who(request))
        return PathsJson({"jobs": [one.record(jobs.settings.keep_s) for one in found]})

    async def one(request: Request) -> Response:
        return await status_of(_jobs(request), request.path_params["job"], who(request))

    async def status_of(jobs: Jobs, job: str, owner: str, code: int = 200) -> Response:
        status = await asyncio.to_thread(jobs.store.status, job, owner)
        headers = {"Location": f"/v1/jobs/{job}"} if code == 202 else None
        return PathsJson(status.record(jobs.settings.keep_s), code, headers)

    async def results(request: Request) -> Response:
        jobs, job = _jobs(request), request.path_params["job"]
        after = _number(request, "after", 0, 0, _LAST)
        limit = _number(request, "limit", _PAGE, 1, _MOST_PAGE)
        page = await asyncio.to_thread(jobs.store.page, job, after, limit, who(request))
        lines = [
            f'{{"position": {position}, "number": {number}, "record": {record}}}\n'
            for position, number, record in page.rows
        ]
        after = page.rows[-1][0] if page.rows else after
        headers = {"X-Job-State": page.state.value, "X-Next-After": str(after)}
        if not page.state.ended or len(page.rows) == limit:
            following = f"/v1/jobs/{job}/results?after={after}&limit={limit}"
            headers["Link"] = f'<{following}>; rel="next"'
        return Response("".join(lines), media_type="application/jsonl", headers=headers)

    async def cancel(request: Request) -> Response:
        jobs, job, owner = _jobs(request), request.path_params["job"], who(request)
        await asyncio.to_thread(jobs.store.status, job, owner)
        await asyncio.to_thread(jobs.end, job, forget=False)
        jobs.runner.dropped(job)
        return await status_of(jobs, job, owner)

    async def delete(request: Request) -> Response:
        jobs, job = _jobs(request), request.path_params["job"]
        await asyncio.to_thread(jobs.store.status, job, who(request))
        await asyncio.to_thread(jobs.end, job, forget=True)
        jobs.runner.dropped(job)
        return Response(status_code=204)

    make = Endpoints(service, settings)
    return [
        make.route("/v1/jobs", create, ["POST"]),
        make.route("/v1/jobs", every, ["GET"]),
        make.route("/v1/jobs/{job}", one, ["GET"]),
        make.route("/v1/jobs/{job}", delete, ["DELETE"]),
        make.route("/v1/jobs/{job}/results", results, ["GET"]),
        make.route("/v1/jobs/{job}/cancel", cancel, ["POST"]),
    ]


_STATUS = {
    "type": "object",
    "required": ["id", "state", "total", "done", "counts"],
    "properties": {
        "id": {"type": "string"},
        "state": {"type": "string"},
        "total": {"type": "integer"},
        "done": {"type": "integer"},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}
_ID = [openapi.in_path("job", "The id of a job.")]
_ERRORS = [404, 507]
PATHS: dict[str, openapi.Json] = {
    "/v1/jobs": {
        "post": openapi.operation(
            "Hand over many pictures, or name a folder of the server, to be scored later.",
            _STATUS,
            body={
                "multipart/form-data": openapi.PICTURES,
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["folder"],
                        "properties": {
                            "folder": {"type": "string"},
                            "callback": {"type": "string"},
                        },
                        "additionalProperties": False,
                    }
                },
            },
            errors=[415, 501, *_ERRORS],
            status=202,
        ),
        "get": openapi.operation(
            "Your jobs, newest first.", {"type": "object", "required": ["jobs"]}, errors=_ERRORS
        ),
    },
    "/v1/jobs/{job}": {
        "get": openapi.operation("How far a job is.", _STATUS, parameters=_ID, errors=_ERRORS),
        "delete": openapi.operation(
            "Forget a job and its results.", None, parameters=_ID, errors=_ERRORS, status=204
        ),
    },
    "/v1/jobs/{job}/results": {
        "get": openapi.operation(
            "Results, a line each, in the order in which they came. `Link` has the next page.",
            {"type": "string"},
            parameters=[
                *_ID,
                openapi.query(
                    "after",
                    "The position of the last result that is known.",
                    {"type": "integer", "minimum": 0, "maximum": _LAST},
                ),
                openapi.query(
                    "limit",
                    "How many results to return at most.",
                    {"type": "integer", "minimum": 1, "maximum": _MOST_PAGE},
                ),
            ],
            errors=_ERRORS,
            media_type="application/jsonl",
        )
    },
    "/v1/jobs/{job}/cancel": {
        "post": openapi.operation(
            "Score no more of a job.", _STATUS, parameters=_ID, errors=_ERRORS
        )
    },
}


def _jobs(request: Request) -> Jobs:
    jobs: Jobs | None = request.app.state.jobs
    if jobs is None:
        raise RequestRefused(404, "jobs-off", "this server takes no jobs")
    return jobs


def _room(jobs: Jobs) -> int:
    """Return how many bytes may be uploaded now. Raises `RequestRefused` (429)."""
    settings = jobs.settings
    if len(jobs.store.unfinished()) >= settings.jobs_unfinished:
        raise RequestRefused(429, "too-many-jobs", "too many jobs have not ended yet")
    return settings.bytes_all - jobs.store.spooled_bytes()


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 18 and least <= int(text) <= most):
        said = f"{name} must be a whole number from {least} to {most}"
        raise RequestRefused(400, "bad-request", said)
    return int(text)


async def _scan_folder(request: Request, jobs: Jobs, owner: str) -> str:
    body = await read_body(request, _MOST_JSON)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("folder"), str):
        said = 'send pictures as multipart/form-data, or JSON: {"folder": "/path"}'
        raise RequestRefused(415 if document is None else 400, "bad-request", said)
    if unknown := sorted(set(document) - {"folder", _CALLBACK}):
        raise RequestRefused(400, "bad-request", f"unknown field {unknown[0]!r}")
    callback = document.get(_CALLBACK) or ""
    if callback:
        callback = allowed_callback(str(callback), jobs.settings)
    folder = await asyncio.to_thread(allowed_folder, document["folder"], jobs.settings.folders)
    return await asyncio.to_thread(jobs.store.add, folder=folder, owner=owner, callback=callback)


async def _upload(request: Request, jobs: Jobs, owner: str, room: int) -> str:
    job = new_job_id()
    with jobs.spool.receive(job) as upload:
        received = await _receive(request, jobs, job, upload, room)
        if not received.pictures:
            raise RequestRefused(400, "no-pictures", "the request has no pictures")
        await asyncio.to_thread(upload.keep)
        try:
            await asyncio.to_thread(
                jobs.store.add, received.pictures, job=job, owner=owner, callback=received.callback
            )
        except RequestRefused:
            # And not if the client has left: the job may have been added all the same.
            upload.discard()
            raise
    return job


class _Received(NamedTuple):
    pictures: list[JobPicture]
    callback: str


async def _receive(request: Request, jobs: Jobs, job: str, upload: Upload, room: int) -> _Received:
    """Write the pictures of a multipart body to disk as they come."""
    settings, total = jobs.settings, 0
    refuse_announced(request, settings.bytes_each)
    pictures: list[JobPicture] = []
    callback = ""
    held = bytearray()
    head: PartHead | None = None
    # One part more than pictures, for the callback.
    reader = FormReader(request.headers["content-type"], most_parts=settings.pictures_each + 1)
    async for chunk in request.stream():
        total += len(chunk)
        if total > settings.bytes_each:
            raise too_large(settings.bytes_each)
        upload.count(len(chunk))
        if jobs.spool.receiving > room:
            raise RequestRefused(507, "too-much-waiting", "too many uploaded pictures wait already")
        for event in reader.feed(chunk):
            if isinstance(event, PartHead):
                head = event
            elif event is not None:
                held += event
                if _is_callback(head) and len(held) > _MOST_CALLBACK:
                    raise RequestRefused(400, "bad-callback", "callback is too long")
                if len(held) >= _BLOCK:
                    await asyncio.to_thread(upload.write, held)
                    held = bytearray()
            elif _is_callback(head):
                callback = allowed_callback(held.decode("utf-8", "replace"), settings)
                held = bytearray()
            else:
                await asyncio.to_thread(upload.write, held)
                held = bytearray()
                name = head.filename if head else ""
                pictures.append(JobPicture(job, len(pictures), name, upload.finish_picture()))
    reader.end()
    return _Received(pictures, callback)


def _is_callback(head: PartHead | None) -> bool:
    return head is not None and head.name == _CALLBACK and not head.filename

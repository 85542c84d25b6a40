"""What the browser asks, and what it gets. The only module that imports Starlette.

    GET  /enter/TOKEN            once: sets the cookie and leads to the page, with the key
    GET  /, /review.js, ...      the page; needs the cookie
    GET  /api/pictures           all there is to go through
    GET  /api/picture/ID/SIZE    a JPEG made from the picture's pixels
    POST /api/decide             rule on a picture
    POST /api/quarantine         move a picture
    POST /api/undo               take back the last step
    POST /api/folder             show a picture's folder in the file manager
    GET  /api/present            open for as long as the page is

A picture is named by its SHA-256, never by a path, and only if it is part of the review. `/api/`
needs cookie and key. Answers are JSON; one with `refused` says why nothing was done.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from nsfwscan.review.access import KEY_HEADER, LASTS_S
from nsfwscan.review.desk import Refusal
from nsfwscan.review.gallery import Size
from nsfwscan.review.lookup import Gone
from nsfwscan.review.wire import document, done, undone
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import DecodeError, NsfwscanError
from nsfwscan.values.results import Ruling
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from nsfwscan.review.access import Access
    from nsfwscan.review.collect import ReviewPicture
    from nsfwscan.review.presence import OpenPages
    from nsfwscan.review.review import Review

_PAGE = os.path.join(os.path.dirname(__file__), "page")
_FILES = {
    "/": ("review.html", "text/html"),
    "/review.css": ("review.css", "text/css"),
    "/review.js": ("review.js", "text/javascript"),
    "/review.svg": ("review.svg", "image/svg+xml"),
}
_MOST_BODY_BYTES = 1 << 16


class _Json(JSONResponse):
    """JSON in ASCII: a path that is not valid UTF-8 can be sent in any text, such as an error's."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class _Unwanted(Exception):
    """A request that this page does not send; answered with its status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def application(review: Review, access: Access, presence: OpenPages) -> Starlette:
    """Return the application for one review."""
    return Starlette(
        routes=[
            Route("/enter/{token}", _Entrance(access).enter),
            *(Route(path, _PageFile(access, *file).get) for path, file in _FILES.items()),
            Mount(
                "/api",
                routes=_routes(review, presence),
                middleware=[Middleware(_Guarded, access=access)],
            ),
        ],
        exception_handlers={_Unwanted: _unwanted, ClientDisconnect: _unwanted},
    )


class _Entrance:
    def __init__(self, access: Access) -> None:
        self._access = access

    async def enter(self, request: Request) -> Response:
        """Exchange the token for cookie and key."""
        if self._access.has_cookie(request.cookies):
            return RedirectResponse("/", 303)  # the address was opened again
        given = self._access.enter(request.path_params["token"])
        if given is None:
            return PlainTextResponse(
                "This address works once, and was used before. Go back to the window that it "
                "opened, or end `nsfwscan review` with Ctrl-C and start it again.\n",
                403,
            )
        cookie, key = given
        # What follows `#` never leaves the browser. The page keeps it and removes it at once.
        response = RedirectResponse(f"/#{key}", 303)
        response.set_cookie(
            self._access.cookie_name, cookie, max_age=LASTS_S, httponly=True, samesite="strict"
        )
        return response


class _PageFile:
    """One file of the page."""

    def __init__(self, access: Access, name: str, media_type: str) -> None:
        self._access = access
        self._media_type = media_type
        with open_bytes(os.path.join(_PAGE, name)) as file:
            self._body = file.read()

    async def get(self, request: Request) -> Response:
        """Return the file."""
        if not self._access.has_cookie(request.cookies):
            return _stranger()
        return Response(self._body, media_type=self._media_type)


class _Guarded:
    """Lets only requests with cookie and key through."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        known = self._access.has_cookie(request.cookies)
        known &= self._access.has_key(request.headers.get(KEY_HEADER))
        await (self._app if known else _stranger())(scope, receive, send)


def _stranger() -> Response:
    return PlainTextResponse("Open the address that `nsfwscan review` printed.\n", 403)


def _routes(review: Review, presence: OpenPages) -> list[Route]:
    api = _Api(review)
    return [
        Route("/pictures", api.pictures),
        Route("/picture/{id}/{size}", api.picture),
        Route("/decide", api.decide, methods=["POST"]),
        Route("/quarantine", api.quarantine, methods=["POST"]),
        Route("/undo", api.undo, methods=["POST"]),
        Route("/folder", api.folder, methods=["POST"]),
        Route("/present", presence),
    ]


class _Api:
    """The answers about pictures. What touches files runs in a thread."""

    def __init__(self, review: Review) -> None:
        self._review = review

    async def pictures(self, _request: Request) -> Response:
        """Return everything there is to go through."""
        return _Json(await run_in_threadpool(document, self._review))

    async def picture(self, request: Request) -> Response:
        """Return a picture in one of the sizes."""
        picture = self._known(request.path_params["id"])
        try:
            size = Size(request.path_params["size"])
        except ValueError:
            raise _Unwanted(404, "There is no such size.") from None
        try:
            made = await run_in_threadpool(self._review.gallery.get, picture, size)
        except Gone as gone:
            return _Json({"gone": readable(str(gone))}, 410)
        except DecodeError as error:
            return _Json({"gone": readable(f"It cannot be shown: {error.detail}")}, 422)
        except NsfwscanError as error:  # for lack of memory, say; the next one may be shown
            return _Json({"gone": readable(f"It cannot be shown: {error}")}, 503)
        return Response(made.data, media_type=made.media_type)

    async def decide(self, request: Request) -> Response:
        """Rule on a picture and those that look like it."""
        given = await _given(request)
        ruling = _ruling(_text(given, "ruling"))
        return await self._done(
            lambda: done(
                self._review,
                self._review.desk.decide(
                    _text(given, "request"),
                    _digest(given.get("id")),
                    ruling,
                    _digests(given),
                ),
            )
        )

    async def quarantine(self, request: Request) -> Response:
        """Move a picture and those that look like it to quarantine."""
        given = await _given(request)
        return await self._done(
            lambda: done(
                self._review,
                self._review.desk.quarantine(
                    _text(given, "request"), _digest(given.get("id")), _digests(given)
                ),
            )
        )

    async def undo(self, request: Request) -> Response:
        """Take back the last step."""
        given = await _given(request)
        return await self._done(
            lambda: undone(self._review, self._review.desk.undo(_text(given, "request")))
        )

    async def folder(self, request: Request) -> Response:
        """Show a picture's folder in the file manager."""
        given = await _given(request)
        picture = self._known(given.get("id"))
        return await self._done(lambda: {"done": readable(self._review.show_folder(picture))})

    def _known(self, name: object) -> ReviewPicture:
        picture = self._review.pictures.find(_digest(name))
        if picture is None:
            raise _Unwanted(404, "This picture is not part of the review.")
        return picture

    async def _done(self, deed: Callable[[], Mapping[str, Any]]) -> Response:
        try:
            return _Json(await run_in_threadpool(deed))
        except (Refusal, Gone) as refusal:
            return _Json({"refused": readable(str(refusal))}, 409)
        except NsfwscanError as error:
            return _Json({"refused": readable(str(error)), "hint": readable(error.hint)}, 409)


async def _given(request: Request) -> dict[str, Any]:
    """Return the JSON object that was sent. Raises `_Unwanted`."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY_BYTES:
            raise _Unwanted(413, "The request is too long.")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise _Unwanted(400, "The request is not a JSON object.")
    return given


def _text(given: Mapping[str, Any], field: str) -> str:
    value = given.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise _Unwanted(400, f"`{field}` is missing.")
    return value


def _ruling(name: str) -> Ruling:
    try:
        return Ruling(name)
    except ValueError:
        raise _Unwanted(400, "There is no such ruling.") from None


def _digest(name: object) -> bytes:
    """Return the SHA-256 that names a picture. Raises `_Unwanted`."""
    if isinstance(name, str) and len(name) == 64 and name.isascii():
        try:
            return bytes.fromhex(name)
        except ValueError:
            pass
    raise _Unwanted(404, "This is not the name of a picture.")


def _digests(given: Mapping[str, Any]) -> list[bytes]:
    also = given.get("also", [])
    if not isinstance(also, list):
        raise _Unwanted(400, "`also` is not a list.")
    return [_digest(one) for one in also]


async def _unwanted(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, _Unwanted) else 400
    return PlainTextResponse(f"{error}\n", status)

"""/openapi.json: a description of the routes, put together from what each protocol says of itself.

A protocol's module has `PATHS`: for each path, its operations as OpenAPI 3.1 describes them, made
with `operation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsfwscan._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

_WORDS = {
    400: "The request or the picture is wrong; the error says what.",
    401: "A token is missing or unknown.",
    403: "The request was sent by a page of another origin.",
    404: "There is no such model here.",
    408: "The request did not arrive in time.",
    413: "The request is too long, or has too many parts.",
    415: "The request or the picture is of a kind that this route does not take.",
    421: "The request is meant for another host.",
    429: "Too much is waiting. Retry-After says when to come back.",
    500: "An error in nsfwscan.",
    501: "An extra is not installed.",
    503: "Nothing can be scored now. Retry-After says when to try again.",
    507: "The disk, or the room for uploads, is full.",
}
_EVERYWHERE = (400, 403, 421, 500)
_ASKING = (401, 408, 413, 429, 503)
PICTURE: Json = {"schema": {"type": "string", "format": "binary"}}
"""A body that is one picture file."""
PICTURES: Json = {
    "schema": {
        "type": "object",
        "additionalProperties": {"type": "string", "format": "binary"},
    }
}
"""A multipart body whose parts are picture files."""


def operation(
    summary: str,
    answer: Json | None,
    *,
    body: Mapping[str, Json] | None = None,
    parameters: Sequence[Json] = (),
    errors: Sequence[int] = (),
    public: bool = False,
    media_type: str = "application/json",
    status: int = 200,
    failure: Json | None = None,
) -> Json:
    """Return an operation. `answer` is the schema of `status`, `body` media type -> content.

    An `answer` of None is an empty body. `failure` is the schema of what all errors have in
    common, where it is not our own.
    """
    expected = (*_EVERYWHERE, *(() if public else _ASKING), *errors)
    made: Json = {
        "summary": summary,
        "responses": {
            str(status): _success(media_type, answer),
            **{str(one): _failure(one, failure) for one in sorted(set(expected))},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": dict(body)}
    if parameters:
        made["parameters"] = list(parameters)
    if not public:
        made["security"] = [{"token": []}, {}]
    return made


def header(name: str, description: str) -> Json:
    """Return an optional header that says true or false."""
    schema = {"type": "string", "enum": ["true", "false"]}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def query(name: str, description: str, schema: Json) -> Json:
    """Return an optional parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def in_path(name: str, description: str) -> Json:
    """Return a parameter of the path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }


def document(paths: Sequence[Mapping[str, Json]]) -> Json:
    """Return the whole description."""
    together: Json = {}
    for some in paths:
        for path, operations in some.items():
            together.setdefault(path, {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nsfwscan",
            "version": __version__,
            "description": "Scores pictures. They stay in memory, and nothing is fetched.",
        },
        "paths": together,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_PROBLEM: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "One sentence."},
        "code": {"type": "string", "description": "A stable word."},
        "reason": {"type": "string", "description": "Why a picture has no verdict."},
        "estimated_time": {"type": "number", "description": "Seconds until the model is loaded."},
    },
}


def _success(media_type: str, schema: Json | None) -> Json:
    if schema is None:
        return {"description": "OK"}
    return {"description": "OK", "content": {media_type: {"schema": schema}}}


def _failure(status: int, schema: Json | None) -> Json:
    schema = schema or {"$ref": "#/components/schemas/Problem"}
    return {"description": _WORDS[status], "content": {"application/json": {"schema": schema}}}

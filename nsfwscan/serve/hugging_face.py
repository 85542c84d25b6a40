"""The image-classification API of the Hugging Face hub, for its own clients, unchanged.

In: the bytes of a picture, or JSON with `inputs` in base64. Out: a list of labels and scores, best
first. What was sent is found out from the bytes, never from `Content-Type`: the hub's client
guesses that from a file name, or sends none.
"""

from __future__ import annotations

import base64
import binascii
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import JSONResponse, Response

from nsfwscan.models.manifest import OutputKind
from nsfwscan.serve import openapi
from nsfwscan.serve.bodies import json_of, read_body
from nsfwscan.serve.endpoint import Endpoints, plain_problem
from nsfwscan.serve.problems import NoVerdict, Problem, RequestRefused
from nsfwscan.serve.service import Ask, Examined
from nsfwscan.values.results import Failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.serve.service import ScoringService
    from nsfwscan.serve.settings import ServeSettings

DEFAULT_TOP_K = 5
"""As the hub's pipelines have it."""
FUNCTIONS = ("softmax", "sigmoid", "none")
_PARAMETERS = ("top_k", "function_to_apply")
_FALSE = frozenset({"false", "0", "no"})


class Question(NamedTuple):
    """A picture, and what is asked about it."""

    picture: bytes
    top_k: int
    function: str
    """One of `FUNCTIONS`, or empty for the model's own."""
    options: Mapping[str, Any]
    """`wait_for_model` and `use_cache`, of clients that send them in the body."""


def routes(service: ScoringService, settings: ServeSettings) -> list[BaseRoute]:
    """Return the routes: `/`, `/predict` and `/models/ID`."""
    limit = settings.limits.body_bytes

    async def classify(request: Request) -> Response:
        began: float = request.state.began
        body = await read_body(request, limit)
        question = parse(body, request.query_params if request.scope["query_string"] else {})
        ask = Ask(
            use_cache=not question.function and _wants(request, question, "use_cache"),
            patience=None if _wants(request, question, "wait_for_model") else 0.0,
        )
        if name := request.path_params.get("name"):
            await service.ready(settings.limits.loading_s if ask.patience is None else 0.0)
            check_name(name, service.manifest)
        (answer,) = await service.answer([question.picture], ask)
        result = answer.result
        if isinstance(result, Failed):
            raise NoVerdict(result)
        logits = answer.reading.outputs if answer.reading else ()
        probabilities = result.scores.probabilities
        scores = scores_by(question.function, probabilities, logits, service.manifest)
        ranked = sorted(zip(scores, service.manifest.output.labels, strict=True), key=_best_first)
        found = [{"label": label, "score": score} for score, label in ranked[: question.top_k]]
        return JSONResponse(found, headers=compute_headers(answer, began))

    def formats(problem: Problem) -> Response:
        if problem.loading:  # as the hub says it; clients look for these words
            name = settings.scan.model
            called = "The model" if name == "auto" else f"Model {name}"
            problem = replace(problem, message=f"{called} is currently loading")
        return plain_problem(problem)

    make = Endpoints(service, settings, formats)
    return [
        make.route("/", classify, ["POST"]),
        make.route("/predict", classify, ["POST"]),
        make.route("/models/{name:path}", classify, ["POST"]),
    ]


_SCORES: openapi.Json = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["label", "score"],
        "additionalProperties": False,
        "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
    },
}
_JSON_BODY: openapi.Json = {
    "schema": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {"type": "string", "contentEncoding": "base64"},
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "top_k": {"type": ["integer", "null"], "minimum": 1},
                    "function_to_apply": {"type": ["string", "null"], "enum": [*FUNCTIONS, None]},
                },
            },
        },
    }
}


def _described(summary: str, *, named: bool = False) -> openapi.Json:
    return {
        "post": openapi.operation(
            summary,
            _SCORES,
            body={"application/octet-stream": openapi.PICTURE, "application/json": _JSON_BODY},
            parameters=[
                *([openapi.in_path("name", "The name of the model that runs.")] if named else []),
                openapi.query("top_k", "How many labels.", {"type": "integer", "minimum": 1}),
                openapi.query(
                    "function_to_apply",
                    "What is applied to logits; a model without any refuses all but its own.",
                    {"type": "string", "enum": list(FUNCTIONS)},
                ),
                openapi.header("x-use-cache", "Without, the picture is scored again."),
                openapi.header("x-wait-for-model", "Without, a model that is loading gives 503."),
            ],
            errors=[404] if named else [],
        )
    }


PATHS: dict[str, openapi.Json] = {
    "/": _described("Labels and scores, best first, as the Hugging Face hub gives them."),
    "/predict": _described("The same as `/`."),
    "/models/{name}": _described("The same, if the model that runs is called so.", named=True),
}


def parse(body: bytes, query: Mapping[str, str]) -> Question:
    """Return what a body asks: it is JSON if it begins as an object does, else a picture.

    Raises `RequestRefused` (400).
    """
    parameters: dict[str, Any] = {name: query[name] for name in _PARAMETERS if name in query}
    options: Mapping[str, Any] = {}
    picture = body
    if body[:64].lstrip()[:1] == b"{":  # no picture begins so
        document = _json(body)
        picture = _picture(document.get("inputs"))
        given = _table(document, "parameters")
        if "candidate_labels" in given:
            raise _wrong("this is an image-classification model, which takes no candidate_labels")
        if unknown := sorted(set(given) - set(_PARAMETERS)):
            raise _wrong(f"unknown parameter {unknown[0]!r}: there are top_k and function_to_apply")
        parameters |= {name: value for name, value in given.items() if value is not None}
        options = _table(document, "options")
    function = parameters.get("function_to_apply", "")
    if function not in ("", *FUNCTIONS):
        raise _wrong(f"function_to_apply is one of {', '.join(FUNCTIONS)}")
    return Question(picture, _top_k(parameters.get("top_k", DEFAULT_TOP_K)), function, options)


def scores_by(
    function: str,
    probabilities: tuple[float, ...],
    logits: tuple[float, ...],
    manifest: ModelManifest,
) -> tuple[float, ...]:
    """Return a score for each label, by the function asked for. Raises `RequestRefused` (400).

    A graph that ends in its own softmax has no logits: they cannot be recovered, and a softmax of
    probabilities would be wrong.
    """
    own = "sigmoid" if manifest.output.kind is OutputKind.INDEPENDENT_LOGITS else "softmax"
    if function in {"", own}:
        return probabilities
    if manifest.output.kind is OutputKind.PROBABILITIES or not logits:
        raise _wrong(
            f"function_to_apply {function!r} needs logits, and the model {manifest.name} returns "
            "only probabilities (softmax)"
        )
    match function:
        case "none":
            return logits
        case "sigmoid":
            return tuple(0.5 + 0.5 * math.tanh(value / 2) for value in logits)
        case _:
            powers = [math.exp(value - max(logits)) for value in logits]
            return tuple(power / math.fsum(powers) for power in powers)


def check_name(name: str, manifest: ModelManifest) -> None:
    """Raise `RequestRefused` (404) unless the model that runs is called `name`."""
    known = (manifest.name, manifest.package, manifest.source)
    if name.lower() not in map(str.lower, known):
        raise RequestRefused(
            404, "no-such-model", f"Model {name} does not exist: this server runs {manifest.name}"
        )


def compute_headers(answer: Examined, began: float) -> dict[str, str]:
    """Return how long a request took, in whole milliseconds, as text-embeddings-inference does."""
    total_s = time.monotonic() - began
    return {
        "x-compute-type": "cpu",
        "x-compute-time": str(round(answer.examined_s * 1000)),
        "x-total-time": str(round(total_s * 1000)),
        "x-queue-time": str(round(answer.queued_s * 1000)),
        "x-inference-time": str(round(answer.examined_s * 1000)),
    }


def _wants(request: Request, question: Question, option: str) -> bool:
    """Return whether a header such as `x-use-cache`, or else an option, does not say false."""
    header = request.headers.get("x-" + option.replace("_", "-"))
    if header is not None:
        return header.strip().lower() not in _FALSE
    return question.options.get(option) is not False


def _best_first(one: tuple[float, str]) -> float:
    return -one[0]


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json_of(body)
    except ValueError:
        raise _wrong("the body begins like JSON, but it is not valid JSON") from None
    if not isinstance(document, dict):
        raise _wrong("the body is JSON, but not an object with `inputs`")
    return document


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = document.get(key)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise _wrong(f"{key} is not an object")
    return table


def _picture(inputs: object) -> bytes:
    if not isinstance(inputs, str):
        raise _wrong("inputs is not a picture in base64")
    if inputs[:8].lower().startswith(("http://", "https://", "file:")):
        raise _wrong("inputs is an address, and this server fetches nothing: send the picture")
    try:
        return base64.b64decode(inputs, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("inputs is not valid base64") from None


def _top_k(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong("top_k is not a number of at least 1")
    return value


def _wrong(message: str) -> RequestRefused:
    return RequestRefused(400, "bad-request", message)

"""The machine-readable formats: JSON, JSON Lines, CSV and NUL-separated paths."""

from __future__ import annotations

import csv
import io
import json
import os
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Protocol

from nsfwscan.report.record import SCHEMA_VERSION, Recorder
from nsfwscan.values.text import plain_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.system.json_lines import Json
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PATHS0 = "paths0"


class Reporter(Protocol):
    """Writes the results of one scan, one after the other, to a stream of bytes."""

    def add(self, result: ScanResult, /) -> None:
        """Write one result, or keep it until the end. Raises OSError as the stream does."""

    def act(self, act: Act, /) -> None:
        """Write what was done about a picture; all acts come after all results."""

    def show(self) -> None:
        """Let a person see the results so far, if the format is for people."""

    def end(self, summary: dict[str, Json], /) -> None:
        """Write what is left, also after an interrupted scan: the output is always complete."""


class JsonReporter:
    """One JSON document: `schema_version`, `results`, `acts` and `summary`."""

    def __init__(self, stream: BinaryIO, recorder: Recorder) -> None:
        self._stream = stream
        self._recorder = recorder
        self._acts: list[str] = []
        self._lead = f'{{"schema_version": {SCHEMA_VERSION}, "results": [\n'

    def add(self, result: ScanResult) -> None:
        """Write one element of the array."""
        self._stream.write((self._lead + _json(self._recorder.record(result))).encode())
        self._lead = ",\n"

    def act(self, act: Act) -> None:
        """Keep it for an array of its own."""
        self._acts.append(_json(self._recorder.act(act)))

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, summary: dict[str, Json]) -> None:
        """Close the arrays and the document."""
        lead = "\n" if self._lead == ",\n" else self._lead
        acts = ",\n".join(self._acts)
        acts = f'"acts": [\n{acts}\n], ' if acts else '"acts": [], '
        self._stream.write(f'{lead}], {acts}"summary": {_json(summary)}}}\n'.encode())


class JsonLinesReporter:
    """One JSON object a line, as soon as it is known."""

    def __init__(self, stream: BinaryIO, recorder: Recorder) -> None:
        self._stream = stream
        self._recorder = recorder

    def add(self, result: ScanResult) -> None:
        """Write one line."""
        self._stream.write(_json(self._recorder.record(result)).encode() + b"\n")
        self._stream.flush()

    def act(self, act: Act) -> None:
        """Write one line."""
        self._stream.write(_json(self._recorder.act(act)).encode() + b"\n")
        self._stream.flush()

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, _summary: dict[str, Json], /) -> None:
        """Write nothing: each line stands for itself."""


_COLUMNS = """
    path path_base64 status reason detail decision nsfw_score review_at flag_at model origin sha256
    format width height frames decided_by near_sha256 near_distance action outcome target
    partial
""".split()


class CsvReporter:
    """Comma-separated values with a header line, quoted as RFC 4180 says, in UTF-8."""

    def __init__(self, stream: BinaryIO, recorder: Recorder) -> None:
        self._stream = stream
        self._recorder = recorder
        self._write(_COLUMNS)

    def add(self, result: ScanResult) -> None:
        """Write one row."""
        self._add(self._recorder.record(result))

    def act(self, act: Act) -> None:
        """Write one row."""
        self._add(self._recorder.act(act))

    def _add(self, record: dict[str, Json]) -> None:
        thresholds, model, near = record["thresholds"], record["model"], record["near"]
        flat = record | (thresholds if isinstance(thresholds, dict) else {})
        flat["model"] = model["name"] if isinstance(model, dict) else None
        if isinstance(near, dict):
            flat |= {f"near_{field}": value for field, value in near.items()}
        self._write([flat.get(column) for column in _COLUMNS])

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, _summary: dict[str, Json], /) -> None:
        """Write nothing: a summary would be a row of another kind."""

    def _write(self, row: Sequence[Json]) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(row)
        self._stream.write(line.getvalue().encode())


class Paths0Reporter:
    """The paths alone, byte for byte, each ended by a NUL: for `xargs -0`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def add(self, result: ScanResult) -> None:
        """Write one path."""
        self._stream.write(os.fsencode(result.path) + b"\0")

    def act(self, act: Act, /) -> None:
        """Write nothing: a path would stand there twice."""

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, _summary: dict[str, Json], /) -> None:
        """Write nothing."""


def _json(value: Json | dict[str, Json]) -> str:
    return plain_json(json.dumps(value, ensure_ascii=False, allow_nan=False))

"""Comma-separated values: one row a result."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfwscan.report.record import Recorder
    from nsfwscan.report.summary import Summary
    from nsfwscan.system.json_lines import Json
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


_COLUMNS = """
    path path_base64 status reason detail decision nsfw_score review_at flag_at model origin sha256
    format width height frames decided_by near_sha256 near_distance action outcome target
    partial frame member page at_ms
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
        part = record["part"]
        flat = record | (thresholds if isinstance(thresholds, dict) else {})
        flat["model"] = model["name"] if isinstance(model, dict) else None
        if isinstance(part, dict):
            flat |= part
        if isinstance(near, dict):
            flat |= {f"near_{field}": value for field, value in near.items()}
        self._write([flat.get(column) for column in _COLUMNS])

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, _summary: Summary, /) -> None:
        """Write nothing: CSV has no place for a summary."""

    def _write(self, row: Sequence[Json]) -> None:
        line = io.StringIO()
        csv.writer(line).writerow(row)
        self._stream.write(line.getvalue().encode())

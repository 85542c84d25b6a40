"""The reporter for a format."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, assert_never

from nsfwscan.report.csv_rows import CsvReporter
from nsfwscan.report.formats import Format, Reporter
from nsfwscan.report.json_document import JsonReporter
from nsfwscan.report.json_lines import JsonLinesReporter
from nsfwscan.report.paths0 import Paths0Reporter
from nsfwscan.report.table import TableReporter

if TYPE_CHECKING:
    from nsfwscan.report.record import Recorder

__all__ = ["Reporter", "reporter_for"]


def reporter_for(form: Format, stream: BinaryIO, recorder: Recorder) -> Reporter:
    """Return what writes results in the format `form` to `stream`."""
    match form:
        case Format.TABLE:
            return TableReporter(stream)
        case Format.JSON:
            return JsonReporter(stream, recorder)
        case Format.JSONL:
            return JsonLinesReporter(stream, recorder)
        case Format.CSV:
            return CsvReporter(stream, recorder)
        case Format.PATHS0:
            return Paths0Reporter(stream)
        case _:
            assert_never(form)

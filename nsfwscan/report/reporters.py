"""Chooses the reporter for a format, and imports only that one."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, assert_never

from nsfwscan.report.formats import Format, Reporter

if TYPE_CHECKING:
    from nsfwscan.report.record import Recorder

__all__ = ["Reporter", "reporter_for"]


def reporter_for(form: Format, stream: BinaryIO, recorder: Recorder) -> Reporter:
    """Return the reporter that writes results in the format `form` to `stream`."""
    match form:
        case Format.TABLE:
            from nsfwscan.report.table import TableReporter

            return TableReporter(stream)
        case Format.JSON:
            from nsfwscan.report.json_document import JsonReporter

            return JsonReporter(stream, recorder)
        case Format.JSONL:
            from nsfwscan.report.json_lines import JsonLinesReporter

            return JsonLinesReporter(stream, recorder)
        case Format.CSV:
            from nsfwscan.report.csv_rows import CsvReporter

            return CsvReporter(stream, recorder)
        case Format.PATHS0:
            from nsfwscan.report.paths0 import Paths0Reporter

            return Paths0Reporter(stream)
        case _:
            assert_never(form)

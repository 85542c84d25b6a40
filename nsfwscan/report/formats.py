"""Output formats, and the protocol for writing one."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Protocol, assert_never

if TYPE_CHECKING:
    from nsfwscan.report.html.page import MakeThumbnails
    from nsfwscan.report.record import Recorder
    from nsfwscan.report.summary import Summary
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PATHS0 = "paths0"
    HTML = "html"


PURPOSES = {
    Format.TABLE: "for people",
    Format.JSON: "one document",
    Format.JSONL: "one object per line",
    Format.CSV: "for spreadsheets",
    Format.PATHS0: "paths only, each ending with a NUL byte, for `xargs -0`",
    Format.HTML: "a report to open in a browser; give --output as well",
}
"""What each is for, as the help of `--format` says it."""


class Reporter(Protocol):
    """Writes the results of one scan, one after the other, to a stream of bytes."""

    def add(self, result: ScanResult, /) -> None:
        """Write one result, or keep it until the end. Raises OSError as the stream does."""

    def act(self, act: Act, /) -> None:
        """Write one act. All acts come after all results."""

    def show(self) -> None:
        """Show the results so far, if the format is for people."""

    def end(self, summary: Summary, /) -> None:
        """Write the rest, also after an interrupted scan, so that the output is always complete."""


def reporter_for(
    form: Format,
    stream: BinaryIO,
    recorder: Recorder,
    thumbnails: MakeThumbnails | None = None,
) -> Reporter:
    """Return what writes results in the format `form` to `stream`.

    `thumbnails` makes those of a format that shows pictures; without it, there are none.
    """
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
        case Format.HTML:
            from nsfwscan.report.html.reporter import HtmlReporter

            return HtmlReporter(stream, recorder, thumbnails)
        case _:
            assert_never(form)

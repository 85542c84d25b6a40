"""JSON Lines: one object per result."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from nsfwscan.report.record import as_json

if TYPE_CHECKING:
    from nsfwscan.report.record import Recorder
    from nsfwscan.report.summary import Summary
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class JsonLinesReporter:
    """One JSON object per line, written as soon as the result is known."""

    def __init__(self, stream: BinaryIO, recorder: Recorder) -> None:
        self._stream = stream
        self._recorder = recorder

    def add(self, result: ScanResult) -> None:
        """Write one line."""
        self._stream.write(as_json(self._recorder.record(result)).encode() + b"\n")
        self._stream.flush()

    def act(self, act: Act) -> None:
        """Write one line."""
        self._stream.write(as_json(self._recorder.act(act)).encode() + b"\n")
        self._stream.flush()

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, _summary: Summary, /) -> None:
        """Write nothing: JSON Lines has no summary."""

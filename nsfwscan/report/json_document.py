"""One JSON document per scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from nsfwscan.report.record import SCHEMA_VERSION, as_json

if TYPE_CHECKING:
    from nsfwscan.report.record import Recorder
    from nsfwscan.report.summary import Summary
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class JsonReporter:
    """One JSON document: `schema_version`, `results`, `acts` and `summary`."""

    def __init__(self, stream: BinaryIO, recorder: Recorder) -> None:
        self._stream = stream
        self._recorder = recorder
        self._acts: list[str] = []
        self._lead = f'{{"schema_version": {SCHEMA_VERSION}, "results": [\n'

    def add(self, result: ScanResult) -> None:
        """Write one element of the array."""
        self._stream.write((self._lead + as_json(self._recorder.record(result))).encode())
        self._lead = ",\n"

    def act(self, act: Act) -> None:
        """Keep it for the array `acts`."""
        self._acts.append(as_json(self._recorder.act(act)))

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, summary: Summary) -> None:
        """Close the arrays and the document."""
        lead = "\n" if self._lead == ",\n" else self._lead
        acts = ",\n".join(self._acts)
        acts = f'"acts": [\n{acts}\n], ' if acts else '"acts": [], '
        self._stream.write(f'{lead}], {acts}"summary": {as_json(summary.record())}}}\n'.encode())

"""A scan's results as a report: `nsfwscan scan --format html`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, BinaryIO

from nsfwscan.report.html.columns import ReportRow, row_of
from nsfwscan.report.html.page import MakeThumbnails, Model, PageLook, Pictured, Report
from nsfwscan.values.actions import Outcome
from nsfwscan.values.results import Skipped
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from nsfwscan.report.record import Recorder
    from nsfwscan.report.summary import Summary
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class HtmlReporter:
    """Collects results and writes them as one page."""

    def __init__(
        self, stream: BinaryIO, recorder: Recorder, thumbnails: MakeThumbnails | None
    ) -> None:
        self._stream = stream
        self._recorder = recorder
        self._thumbnails = thumbnails
        self._rows: list[ReportRow] = []
        self._acts: dict[str, list[Act]] = {}

    def add(self, result: ScanResult) -> None:
        """Keep one result. The summary counts what was not opened."""
        if not isinstance(result, Skipped):
            self._rows.append(row_of(self._recorder.record(result), result.path))

    def act(self, act: Act) -> None:
        """Keep an act, to be shown with its picture."""
        self._acts.setdefault(act.path, []).append(act)

    def show(self) -> None:
        """Do nothing: nobody sees a page before it is complete."""

    def end(self, summary: Summary, /) -> None:
        """Write the page."""
        policy, manifest = summary.policy, summary.manifest
        model = Model(manifest.package, manifest.fingerprint, policy.review_at, policy.flag_at)
        pictured = Pictured.NONE if self._thumbnails is None else Pictured.SOME
        report = Report(
            [self._acted(row) for row in self._rows],
            (model,),
            summary,
            (),
            PageLook(pictured=pictured),
            time.time(),
        )
        self._stream.write(report.page(self._thumbnails or (lambda _: ())))

    def _acted(self, row: ReportRow) -> ReportRow:
        """Return a row with what was done about its picture, and where the picture is now."""
        acts = self._acts.get(row.paths[0])
        if not acts:
            return row
        moved = [one.target for one in acts if one.outcome is Outcome.DONE and one.target]
        said = [
            " ".join(filter(None, (one.action, one.outcome, one.target, one.detail)))
            for one in acts
        ]
        more = row.more | {"acts": readable("; ".join(said))}
        return row._replace(more=more, paths=(*row.paths, *moved))

"""The lines that a watcher writes for people."""

from __future__ import annotations

import io

from nsfwscan.cli.shared.outlet import Outlet
from nsfwscan.cli.watch_lines import ChangeLines, LineFormat
from nsfwscan.report.record import Recorder
from nsfwscan.report.selection import Only
from nsfwscan.values.changes import Change, Event
from nsfwscan.values.results import (
    Decision,
    ImageFacts,
    NearMatch,
    Origin,
    Ruling,
    Scanned,
    Scores,
    Verdict,
)


def line(result: Scanned, recorder: Recorder) -> str:
    stream = io.BytesIO()
    lines = ChangeLines(LineFormat.LINES, Outlet(stream), recorder, frozenset({Only.ALL}))
    lines.change(Change(Event.NEW, result.path, result=result))
    return stream.getvalue().decode()


def test_a_ruling_about_a_similar_picture_is_told_with_that_picture() -> None:
    near = NearMatch(b"\1" * 32, 2, "/other/picture.jpg")
    verdict = Verdict(Decision.NSFW, 0.1, 0.5, 0.8, Ruling.DENIED, near)
    result = Scanned(
        "/a.jpg",
        b"\0" * 32,
        ImageFacts("JPEG", 1, 1, 1),
        Scores((0.9, 0.1), 0.1),
        verdict,
        Origin.MODEL,
    )
    recorder = Recorder(None)  # type: ignore[arg-type]  # lines for people need no manifest
    said = line(result, recorder)
    assert "nsfw    0.100" in said
    assert said.endswith(
        "/a.jpg  (decided by a person, for a similar picture: /other/picture.jpg)\n"
    )

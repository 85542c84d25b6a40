"""Writes changes, one line each, as text or JSON."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from nsfwscan.report.selection import Only, wants
from nsfwscan.values.results import Decision, Failed, FailReason, Scanned, Skipped, SkipReason
from nsfwscan.values.text import plain_json, readable

if TYPE_CHECKING:
    from nsfwscan.cli.shared.outlet import Outlet
    from nsfwscan.report.record import Recorder
    from nsfwscan.values.actions import Act
    from nsfwscan.values.changes import Change
    from nsfwscan.values.results import ScanResult


class LineFormat(StrEnum):
    """The output format of changes."""

    LINES = "lines"
    JSONL = "jsonl"


DEFAULT_ONLY = {
    LineFormat.LINES: (Only.FLAGGED, Only.REVIEW, Only.FAILED),
    LineFormat.JSONL: (Only.ALL,),
}


_WHAT_WIDTH = max(len(one) for kind in (FailReason, SkipReason) for one in kind)
"""Width of the column with the decision and score, or the reason for no verdict."""


class ChangeLines:
    """Writes each change to an outlet as soon as it is known."""

    def __init__(
        self, form: LineFormat, outlet: Outlet, recorder: Recorder, only: frozenset[Only]
    ) -> None:
        self._form = form
        self._outlet = outlet
        self._recorder = recorder
        self._only = only

    def change(self, change: Change) -> None:
        """Write a change, if it is selected. Raises what the outlet raises."""
        if not self._wants(change):
            return
        match self._form:
            case LineFormat.LINES:
                line = _line(change)
            case LineFormat.JSONL:
                line = self._json(change)
            case _:
                assert_never(self._form)
        self._outlet.write(line.encode() + b"\n")

    def act(self, act: Act) -> None:
        """Write an action on a picture. Raises what the outlet raises."""
        match self._form:
            case LineFormat.LINES:
                line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {act.action:<10}  {act.outcome:<9}  "
                line += readable(act.path)
                if act.detail:
                    line += f"  ({readable(act.detail)})"
            case LineFormat.JSONL:
                record = {
                    "event": "acted",
                    **self._recorder.came_from(""),
                    **self._recorder.act(act),
                }
                line = plain_json(json.dumps(record, ensure_ascii=False, allow_nan=False))
            case _:
                assert_never(self._form)
        self._outlet.write(line.encode() + b"\n")

    def _wants(self, change: Change) -> bool:
        if change.result is not None:
            return wants(self._only, change.result)
        return Only.ALL in self._only or (
            (change.decision is Decision.NSFW and Only.FLAGGED in self._only)
            or (change.decision is Decision.REVIEW and Only.REVIEW in self._only)
        )

    def _json(self, change: Change) -> str:
        if change.result is None:
            record = self._recorder.gone(change.path, change.sha256, change.decision)
        else:
            record = self._recorder.record(change.result)
        event = {"event": change.event.value, **self._recorder.came_from(change.came_from)}
        return plain_json(json.dumps(event | record, ensure_ascii=False, allow_nan=False))


def _line(change: Change) -> str:
    result = change.result
    match result:
        case None:
            what = change.decision.value if change.decision else "-"
        case Scanned():
            # Cut, not rounded: 0.7999 is below 0.8 and must not look like 0.8.
            what = f"{result.verdict.decision.value:<6}  {result.verdict.score:.9f}"[:-6]
        case Failed() if result.decision is not None:
            what = f"{result.decision.value:<6}  -"
        case Failed() | Skipped():
            what = result.reason.value
        case _:
            assert_never(result)
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"{when}  {change.event.value:<7}  {what:<{_WHAT_WIDTH}}  "
    line += readable(change.path)
    if change.came_from:
        line += f"  (was {readable(change.came_from)})"
    line += _by_a_person(result)
    if isinstance(result, Failed | Skipped) and result.detail:
        line += f"  ({readable(result.detail)})"
    return line


def _by_a_person(result: ScanResult | None) -> str:
    """Return a remark if a person decided, with the picture that the ruling is about."""
    match result:
        case Scanned() if result.verdict.ruling is not None:
            near = result.verdict.near
            if near is None:
                return "  (decided by a person)"
            of = readable(near.path) or near.sha256.hex()[:12]
            return f"  (decided by a person, for a similar picture: {of})"
        case Failed() if result.ruling is not None:
            return "  (decided by a person)"
        case _:
            return ""

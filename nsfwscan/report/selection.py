"""Which results are written: what `--only` asks for, or the format's default."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from nsfwscan.report.formats import Format
from nsfwscan.values.results import Decision, Failed, Scanned, ScanResult, Skipped


class Only(StrEnum):
    """Which results are written."""

    FLAGGED = "flagged"
    REVIEW = "review"
    PARTIAL = "partial"
    FAILED = "failed"
    ALL = "all"


def default_only(form: Format) -> tuple[Only, ...]:
    """Return which results a format shows without `--only`."""
    match form:
        case Format.TABLE:
            return (Only.FLAGGED, Only.REVIEW, Only.PARTIAL, Only.FAILED)
        case Format.PATHS0:
            return (Only.FLAGGED,)
        case Format.JSON | Format.JSONL | Format.CSV | Format.HTML:
            return (Only.ALL,)
        case _:
            assert_never(form)


def wants(only: frozenset[Only], result: ScanResult) -> bool:
    """Return True if a result is among those selected."""
    if Only.ALL in only:
        return True
    match result:
        case Scanned():
            if result.is_partial and Only.PARTIAL in only:
                return True
            return _wants(only, result.verdict.decision)
        case Failed():
            # A ruling about content that cannot be read gives a decision like any other.
            if result.decision is None:
                return Only.FAILED in only
            return _wants(only, result.decision)
        case Skipped():
            return False
        case _:
            assert_never(result)


def _wants(only: frozenset[Only], decision: Decision) -> bool:
    match decision:
        case Decision.NSFW:
            return Only.FLAGGED in only
        case Decision.REVIEW:
            return Only.REVIEW in only
        case Decision.SAFE:
            return False
        case _:
            assert_never(decision)

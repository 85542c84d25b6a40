"""Counts: what a walk passed over, and the results of a scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from nsfwscan.values.kinds import BY_ENDING, Kind
from nsfwscan.values.results import (
    Decision,
    Failed,
    Origin,
    Ruling,
    Scanned,
    ScanResult,
    Skipped,
    SkipReason,
)


@dataclass(slots=True)
class WalkTally:
    """What a walk passed over without a result. Grows during the walk."""

    folders: int = 0
    hidden: int = 0
    excluded: int = 0
    not_included: int = 0
    """Files with a picture's extension that match no pattern of `WalkOptions.include`."""
    unreadable_folders: int = 0
    other_names: int = 0
    """Files without a picture's extension."""
    kinds: dict[Kind, int] = field(default_factory=dict)
    """Of these, the kinds that may show pictures, with their numbers."""

    def count_other(self, name: str) -> None:
        """Count a file without a picture's extension."""
        self.other_names += 1
        kind = BY_ENDING.get(name[name.rfind(".") :].lower())
        if kind is not None:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1


@dataclass(slots=True)
class ScanTally:
    """Counts of the results so far."""

    scored: int = 0
    """By the model, in this scan."""
    cached: int = 0
    duplicates: int = 0
    safe: int = 0
    review: int = 0
    nsfw: int = 0
    failed: int = 0
    """Could not be scored, and have no ruling."""
    skipped: int = 0
    skips: dict[SkipReason, int] = field(default_factory=dict)
    """Skipped paths by reason."""
    allowed: int = 0
    """Safe because of a ruling."""
    denied: int = 0
    """Nsfw because of a ruling."""
    partial: int = 0
    """Have a verdict, but only a part could be shown."""
    walk: WalkTally = field(default_factory=WalkTally)

    @property
    def results(self) -> int:
        """All results: pictures with and without a verdict, skipped paths, unreadable folders."""
        return self.pictures + self.failed + self.skipped

    @property
    def pictures(self) -> int:
        """All pictures with a verdict."""
        return self.safe + self.review + self.nsfw

    def count(self, result: ScanResult) -> None:
        """Count one result."""
        match result:
            case Skipped():
                self.skipped += 1
                self.skips[result.reason] = self.skips.get(result.reason, 0) + 1
            case Failed():
                if result.decision is None:
                    self.failed += 1
                else:
                    self._count_decision(result.decision)
                self._count_ruling(result.ruling)
            case Scanned():
                self.partial += result.is_partial
                self._count_origin(result.origin)
                self._count_decision(result.verdict.decision)
                self._count_ruling(result.verdict.ruling)
            case _:
                assert_never(result)

    def _count_ruling(self, ruling: Ruling | None) -> None:
        match ruling:
            case None:
                pass
            case Ruling.ALLOWED:
                self.allowed += 1
            case Ruling.DENIED:
                self.denied += 1
            case _:
                assert_never(ruling)

    def _count_origin(self, origin: Origin) -> None:
        match origin:
            case Origin.MODEL:
                self.scored += 1
            case Origin.CACHE:
                self.cached += 1
            case Origin.DUPLICATE:
                self.duplicates += 1
            case _:
                assert_never(origin)

    def _count_decision(self, decision: Decision) -> None:
        match decision:
            case Decision.SAFE:
                self.safe += 1
            case Decision.REVIEW:
                self.review += 1
            case Decision.NSFW:
                self.nsfw += 1
            case _:
                assert_never(decision)

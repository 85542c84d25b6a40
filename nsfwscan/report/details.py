"""Everything that is known about one picture, in words and as a record.

In: a result, the ruling that decided, and what the cache knows. Out: rows for a table, or the
result's record with more fields.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.judge.ruled import LATEST_S
from nsfwscan.report.table import cut
from nsfwscan.values.results import Failed, Scanned, ScanResult, Skipped
from nsfwscan.values.text import count, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsfwscan.cache.relatives import Lookalike
    from nsfwscan.judge.policy import Policy
    from nsfwscan.judge.ruled import Ruled
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.report.record import Recorder
    from nsfwscan.system.json_lines import Json

_MOST_NAMED = 10
"""Copies and look-alikes that the rows name; the record names all."""


@dataclass(frozen=True, slots=True)
class Details:
    """A result, and what the rulings and the cache know about its content."""

    result: ScanResult
    ruled: Ruled | None = None
    """The ruling that decided; None if the model did."""
    copies: Sequence[str] = ()
    """Paths of other files with the same content."""
    lookalikes: Sequence[Lookalike] = field(default=())

    def record(self, recorder: Recorder) -> dict[str, Json]:
        """Return the record that scans write, with the fields `ruling`, `copies`, `lookalikes`."""
        ruling: Json = None
        if self.ruled is not None:
            ruling = {
                "ruling": self.ruled.ruling.value,
                "at": self.ruled.at,
                "path": self.ruled.path,
                "sha256": self.ruled.sha256.hex(),
            }
        copies: list[Json] = [printable(path) for path in self.copies]
        alike: list[Json] = [
            {"path": printable(one.path), "sha256": one.sha256.hex(), "distance": one.distance}
            for one in self.lookalikes
        ]
        more: dict[str, Json] = {"ruling": ruling, "copies": copies, "lookalikes": alike}
        return recorder.record(self.result) | more

    def rows(self, manifest: ModelManifest, policy: Policy) -> Iterator[tuple[str, str]]:
        """Yield names and values; an empty name continues the value before it."""
        result = self.result
        yield "picture", str(result.place)
        match result:
            case Scanned():
                yield "verdict", f"{result.decision}, decided by {self._decider()}"
                yield "score", self._score(result, policy)
                yield "labels", _labels(result, manifest)
            case Failed() if result.decision is not None:
                yield "verdict", f"{result.decision}, decided by {self._decider()}"
                yield "score", f"none: {_why(result)}"
            case Failed() | Skipped():
                yield "verdict", f"none: {_why(result)}"
        yield "model", f"{manifest.package} ({manifest.fingerprint[:12]})"
        if isinstance(result, Scanned):
            yield from _file(result)
        if not isinstance(result, Skipped) and result.sha256 is not None:
            yield "SHA-256", result.sha256.hex()
        yield from _listed("copies", self.copies)
        alike = [f"{one.path} ({_differ(one.distance)})" for one in self.lookalikes]
        yield from _listed("look-alikes", alike)

    def _decider(self) -> str:
        ruled = self.ruled
        if ruled is None:
            return "the model"
        when = time.strftime("%Y-%m-%d", time.localtime(min(ruled.at, LATEST_S)))
        text = f"your ruling of {when} ({ruled.ruling})"
        if isinstance(self.result, Scanned) and self.result.verdict.near is not None:
            differ = _differ(self.result.verdict.near.distance)
            text += f" about a similar picture, {ruled.path} ({differ})"
        return text

    def _score(self, result: Scanned, policy: Policy) -> str:
        verdict = result.verdict
        text = f"{cut(verdict.score)} (review from {verdict.review_at:g}, nsfw from "
        text += f"{verdict.flag_at:g})"
        if verdict.ruling is not None:
            text += f"; without the ruling it would be {policy.decide(verdict.score)}"
        return text


def _labels(result: Scanned, manifest: ModelManifest) -> str:
    labels = zip(manifest.output.labels, result.scores.probabilities, strict=True)
    ranked = sorted(labels, key=lambda one: -one[1])
    return ", ".join(f"{label} {cut(score)}" for label, score in ranked)


def _file(result: Scanned) -> Iterator[tuple[str, str]]:
    facts = result.facts
    frames = f", {facts.frames:,} frames" if facts.frames > 1 else ""
    yield "file", f"{facts.format}, {facts.width} x {facts.height} pixels{frames}"
    if result.frame is not None:
        yield "frame", f"{result.frame + 1:,} of {facts.frames:,} has this score, the highest"
    if result.is_partial:
        yield "partial", facts.missing


def _why(result: Failed | Skipped) -> str:
    return f"{result.reason} ({result.detail})" if result.detail else result.reason.value


def _differ(bits: int) -> str:
    return f"{bits} of 64 bits differ"


def _listed(name: str, values: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, value in enumerate(values[:_MOST_NAMED]):
        yield "" if number else name, value
    if len(values) > _MOST_NAMED:
        yield "", f"and {count(len(values) - _MOST_NAMED, 'more', 'more')}; --format json names all"

"""One result as a record: the shape that JSON, JSON Lines and CSV output share."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, assert_never

from nsfwscan.values.results import Decision, Failed, Scanned, ScanResult, Skipped, Unscanned
from nsfwscan.values.text import plain_json, printable

if TYPE_CHECKING:
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.system.json_lines import Json
    from nsfwscan.values.actions import Act
    from nsfwscan.values.place import Part

SCHEMA_VERSION = 1
"""Incremented when a field changes its meaning or is removed; adding fields does not count."""

MODEL, PERSON = "model", "person"
"""Who decided. A ruling overrides the score beside it."""


@dataclass(frozen=True)
class Recorder:
    """Makes records of the results of one scan."""

    manifest: ModelManifest

    @cached_property
    def _fingerprint(self) -> str:
        """The model's; hashing its manifest takes a fifth of a millisecond."""
        return self.manifest.fingerprint

    def record(self, result: ScanResult) -> dict[str, Json]:
        """Return the record; every record has the same keys, with None if one does not apply.

        `path` is valid Unicode; a path that isn't valid UTF-8 is given in full in `path_base64`.
        """
        record = self._empty(result.path) | {"part": _part(result.part)}
        match result:
            case Scanned():
                record |= self._scanned(result)
            case Failed():
                record |= {
                    "status": "failed",
                    "reason": result.reason.value,
                    "detail": printable(result.detail) or None,
                    "sha256": result.sha256.hex() if result.sha256 else None,
                    "origin": result.origin.value,
                }
                if result.decision is not None:
                    record |= {"decision": result.decision.value, "decided_by": PERSON}
            case Skipped():
                record |= {
                    "status": "skipped",
                    "reason": result.reason.value,
                    "detail": printable(result.detail) or None,
                }
            case _:
                assert_never(result)
        return record

    def gone(self, path: str, sha256: bytes | None, decision: Decision | None) -> dict[str, Json]:
        """Return the record of a picture that is gone, with what was known about it."""
        return self._empty(path) | {
            "status": "gone",
            "sha256": sha256.hex() if sha256 else None,
            "decision": decision.value if decision else None,
        }

    def unscanned(self, file: Unscanned) -> dict[str, Json]:
        """Return the record of a file that the cache knows nothing of."""
        return self._empty(file.path) | {
            "status": "unscanned",
            "reason": file.why.value,
            "sha256": file.sha256.hex() if file.sha256 else None,
        }

    def came_from(self, path: str) -> dict[str, Json]:
        """Return the fields for a picture's earlier path; None in both if there is none."""
        text = printable(path)
        return {
            "from": text or None,
            "from_base64": None if text == path else _base64(path),
        }

    def act(self, act: Act) -> dict[str, Json]:
        """Return the record of an act on a picture: status `acted`."""
        return self._empty(act.path) | {
            "status": "acted",
            "detail": printable(act.detail) or None,
            "action": act.action.value,
            "outcome": act.outcome.value,
            "target": None if act.target is None else printable(act.target),
        }

    def _empty(self, path: str) -> dict[str, Json]:
        text = printable(path)
        return {
            "schema_version": SCHEMA_VERSION,
            "path": text,
            "path_base64": None if text == path else _base64(path),
            "part": None,
            "status": "",
            "reason": None,
            "detail": None,
            "sha256": None,
            "decision": None,
            "decided_by": None,
            "near": None,
            "nsfw_score": None,
            "labels": None,
            "thresholds": None,
            "model": {"name": self.manifest.package, "fingerprint": self._fingerprint},
            "origin": None,
            "format": None,
            "width": None,
            "height": None,
            "frames": None,
            "frame": None,
            "partial": None,
            "action": None,
            "outcome": None,
            "target": None,
        }

    def _scanned(self, result: Scanned) -> dict[str, Json]:
        labels: list[Json] = [
            {"label": label, "score": score}
            for label, score in zip(
                self.manifest.output.labels, result.scores.probabilities, strict=True
            )
        ]
        verdict = result.verdict
        near: Json = None
        if verdict.near is not None:
            near = {"sha256": verdict.near.sha256.hex(), "distance": verdict.near.distance}
        return {
            "status": "scanned",
            "sha256": result.sha256.hex(),
            "decision": verdict.decision.value,
            "decided_by": MODEL if verdict.ruling is None else PERSON,
            "near": near,
            "nsfw_score": verdict.score,
            "labels": labels,
            "thresholds": {"review_at": verdict.review_at, "flag_at": verdict.flag_at},
            "origin": result.origin.value,
            "format": result.facts.format,
            "width": result.facts.width,
            "height": result.facts.height,
            "frames": result.facts.frames,
            "frame": result.frame,
            "partial": result.is_partial,
            "detail": printable(result.facts.missing) or None,
        }


def _part(part: Part) -> Json:
    """Return the part of a file that a result is about; None for the whole file."""
    if not part:
        return None
    return part._asdict() | {"member": printable(part.member) or None}


def _base64(path: str) -> str:
    return base64.b64encode(path.encode("utf-8", "surrogateescape")).decode("ascii")


def as_json(value: Json | dict[str, Json]) -> str:
    """Return one line of JSON that cannot mislead a terminal."""
    return plain_json(json.dumps(value, ensure_ascii=False, allow_nan=False))

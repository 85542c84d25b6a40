"""The rows of a report as columns: one list for each field, short numbers, nothing twice.

In: records. Out: a JSON value that deflates to about 25 bytes a row. Rows are in the order of their
paths, so that a page sorts by path without comparing text. `report.js` reads what this writes.
"""

from __future__ import annotations

import math
import os
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from nsfwscan.report.record import PERSON
from nsfwscan.values.place import Part
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nsfwscan.system.json_lines import Json

SCALE = 1_000_000
"""Scores are whole numbers of millionths, cut and not rounded."""
NO_SCORE = -1
FLAGGED, REVIEW, SAFE, FAILED, UNSCANNED = "nrsfu"
"""A row's state: its decision, or why it has none."""
_STATES = {"nsfw": FLAGGED, "review": REVIEW, "safe": SAFE}
_DIGITS = 12
"""Hexadecimal digits of a checksum that are shown, as by other commands."""
_SPARSE = ("reason", "detail", "by", "near", "frames", "frame", "acts", "model", "thumb")
"""Columns of what few rows have: the rows' numbers, and a value for each."""

_FOLDER = attrgetter("folder")


class ReportRow(NamedTuple):
    """What a report keeps of one record."""

    paths: tuple[str, ...]
    """Where the file is or may be, to make a thumbnail of it. Never in a page."""
    folder: str
    name: str
    state: str
    score: int
    sha256: str
    format: str
    width: int
    height: int
    more: dict[str, Json]
    """Values of the sparse columns."""


def row_of(record: Mapping[str, Any], path: str, *, model: int = 0) -> ReportRow:
    """Return the row of the record of a file: status `scanned`, `failed` or `unscanned`.

    `model` is the number of the model that the score is from.
    """
    folder, name = os.path.split(readable(f"{record['path']}{_part(record['part'])}"))
    status, decision, score = record["status"], record["decision"], record["nsfw_score"]
    state = UNSCANNED if status == "unscanned" else _STATES.get(decision, FAILED)
    more: dict[str, Json] = {}
    for field in ("reason", "detail", "frame"):
        if record[field] is not None:
            more[field] = readable(value) if isinstance(value := record[field], str) else value
    if (record["frames"] or 1) > 1:
        more["frames"] = record["frames"]
    if record["decided_by"] == PERSON:
        more["by"] = record["decided_by"]
    if record["near"] is not None:
        more["near"] = record["near"]["sha256"][:_DIGITS]
    if model:
        more["model"] = model
    return ReportRow(
        (path,),
        folder,
        name,
        state,
        NO_SCORE if score is None else millionths(score),
        record["sha256"] or "",
        record["format"] or "",
        record["width"] or 0,
        record["height"] or 0,
        more,
    )


def millionths(score: float) -> int:
    """Return a score from 0 to 1 in millionths, cut and not rounded."""
    return math.floor(score * SCALE)


def arranged(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Return rows in the order of their paths, folder by folder."""
    return sorted(rows, key=lambda row: (row.folder.split(os.sep), row.name))


def without_paths(rows: Iterable[ReportRow]) -> Iterator[ReportRow]:
    """Replace everything by which a person or a program could find a picture again."""
    for number, (_, group) in enumerate(groupby(rows, _FOLDER), 1):
        for at, row in enumerate(group, 1):
            more = {key: one for key, one in row.more.items() if key not in _FINDING}
            if "detail" in row.more and "reason" not in row.more:
                more["detail"] = ""  # the picture is partial, which is no secret
            yield row._replace(folder=f"Folder {number}", name=f"Picture {at}", more=more)


_FINDING = {"detail", "near", "acts"}
"""Details are the words of systems and decoders, which may quote a path."""


def columns(rows: Sequence[ReportRow], *, checksums: bool = True) -> dict[str, Json]:
    """Return the columns of rows that are `arranged`."""
    formats = sorted({row.format for row in rows})
    numbers = {name: number for number, name in enumerate(formats)}
    folders = [(name, sum(1 for _ in group)) for name, group in groupby(rows, _FOLDER)]
    return {
        "count": len(rows),
        "folders": [name for name, _ in folders],
        "folderRows": [number for _, number in folders],
        "names": "\n".join(row.name for row in rows),
        "states": "".join(row.state for row in rows),
        "scores": [row.score for row in rows],
        "formats": list(formats),
        "format": [numbers[row.format] for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "sha256": "".join(row.sha256[:_DIGITS] or "-" * _DIGITS for row in rows)
        if checksums
        else "",
        "copies": _copies(rows),
        "sparse": {
            field: {
                "rows": [number for number, row in enumerate(rows) if field in row.more],
                "values": [row.more[field] for row in rows if field in row.more],
            }
            for field in _SPARSE
        },
    }


def _copies(rows: Sequence[ReportRow]) -> list[Json]:
    """Return the numbers of the rows that have the same content, for each such content."""
    found: dict[str, list[Json]] = {}
    for number, row in enumerate(rows):
        if row.sha256:
            found.setdefault(row.sha256, []).append(number)
    return [same for same in found.values() if len(same) > 1]


def _part(part: Mapping[str, Any] | None) -> str:
    return str(Part(part["member"] or "", part["page"], part["at_ms"])) if part else ""

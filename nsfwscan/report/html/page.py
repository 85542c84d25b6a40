"""The report: one file that a browser opens from the disk and that needs nothing else.

In: rows, the summary of a scan, and a function that makes thumbnails. Out: the bytes of the page.
"""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nsfwscan import _version
from nsfwscan.report.html.columns import (
    FLAGGED,
    REVIEW,
    SCALE,
    UNSCANNED,
    ReportRow,
    arranged,
    columns,
    millionths,
    without_paths,
)
from nsfwscan.report.summary import not_opened
from nsfwscan.values.results import FailReason
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsfwscan.media.decode.thumbnail import Thumbnail
    from nsfwscan.report.html.shell import Shell
    from nsfwscan.report.summary import Summary
    from nsfwscan.system.json_lines import Json

MOST_BYTES = 25_000_000
"""Browsers open larger files slowly, and mail refuses them."""
VERSION = 1
"""Of the data in the page; `report.js` refuses others."""
_DECODABLE = {FailReason.BAD_OUTPUT.value}
"""Reasons for which a picture has no verdict although it can be shown."""


class Pictured(StrEnum):
    """Which rows have a thumbnail."""

    SOME = "some"
    """Those flagged, to review, or shown although they have no verdict."""
    ALL = "all"
    NONE = "none"


class WantedThumbnail(NamedTuple):
    """A content to make a thumbnail of."""

    sha256: bytes
    paths: tuple[str, ...]
    """The files that had this content."""
    frame: int
    """The frame that was scored."""


class MakeThumbnails(Protocol):
    """Makes thumbnails, in the order of `wanted`; None for content that is gone or undecodable."""

    def __call__(self, wanted: Sequence[WantedThumbnail], /) -> Iterable[Thumbnail | None]:
        """Yield one for each of `wanted`."""


class Model(NamedTuple):
    """A model that rows have scores from."""

    name: str
    fingerprint: str
    review_at: float
    flag_at: float


@dataclass(frozen=True, slots=True)
class PageLook:
    """What a report shows of pictures."""

    paths: bool = True
    pictured: Pictured = Pictured.SOME
    clear: bool = False
    """Thumbnails are clear, and not pixelated."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report says."""

    rows: Sequence[ReportRow]
    models: Sequence[Model]
    """The first is the one that a scan would use now."""
    summary: Summary
    roots: Sequence[str]
    look: PageLook
    made_at: float
    """Seconds since the epoch."""
    away: str = ""
    """How many folders of earlier scans are not there, in words."""

    def page(self, make: MakeThumbnails) -> bytes:
        """Return the page."""
        rows = arranged(self.rows)
        pictures = [] if self.look.pictured is Pictured.NONE else _wanted(rows, self.look)
        strips = _Strips()
        for one, thumbnail in zip(pictures, make(pictures) if pictures else (), strict=True):
            if thumbnail is not None:
                strips.add(one.sha256.hex(), thumbnail)
        rows = [
            row._replace(more=row.more | {"thumb": strips.numbers[row.sha256]})
            if row.sha256 in strips.numbers
            else row
            for row in rows
        ]
        if not self.look.paths:
            rows = list(without_paths(rows))
        return "".join(_shell().render(**self._values(rows, strips))).encode()

    def _values(self, rows: Sequence[ReportRow], strips: _Strips) -> dict[str, object]:
        tally, shown = self.summary.tally, self.look.paths
        document: dict[str, Json] = {
            "version": VERSION,
            "scale": SCALE,
            "separator": os.sep,
            "models": [
                {
                    "name": one.name,
                    "fingerprint": one.fingerprint,
                    "reviewAt": millionths(one.review_at),
                    "flagAt": millionths(one.flag_at),
                }
                for one in self.models
            ],
            "clear": self.look.clear,
            "paths": shown,
            "thumbs": strips.document(),
            **columns(rows, checksums=shown),
        }
        compact = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        unscanned = sum(1 for row in rows if row.state == UNSCANNED)
        main = self.models[0]
        return {
            "version": _version.__version__,
            "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(self.made_at)),
            "roots": [readable(root) for root in self.roots] if shown else [],
            "model": f"{main.name} (review from {main.review_at:g}, nsfw from {main.flag_at:g})",
            "tiles": [
                ("n", "flagged", "nsfw", tally.nsfw),
                ("r", "to review", "review", tally.review),
                ("s", "safe", "safe", tally.safe),
                ("f", "no verdict", "failed", tally.failed),
                ("u", "not scanned yet", "quiet", unscanned),
            ],
            "interrupted": self.summary.interrupted,
            "not_opened": list(not_opened(tally)),
            "complete": bool(tally.walk.folders),
            "away": self.away,
            "left_out": tally.pictures + tally.failed + unscanned - len(rows),
            "data": base64.b64encode(zlib.compress(compact, 9)).decode(),
            "strip": strips.text(),
        }


def _shell() -> Shell:
    # Here, because Jinja2 takes 40 ms, which `--help` does not need.
    from nsfwscan.report.html.shell import BASE_STYLE, Shell

    return Shell("report.html", (BASE_STYLE, "report.css"), "report.js")


class _Strips:
    """Thumbnails, each as base64 of its own, so that a page takes one without decoding others."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """By the SHA-256 of the picture, in hexadecimal."""
        self._texts: list[str] = []
        self._types: list[Json] = []

    def add(self, sha256: str, thumbnail: Thumbnail) -> None:
        """Add the thumbnail of a content."""
        self.numbers[sha256] = len(self._texts)
        self._texts.append(base64.b64encode(thumbnail.data).decode())
        self._types.append(thumbnail.media_type)

    def document(self) -> dict[str, Json]:
        """Return where each thumbnail is in `text`."""
        types = sorted(set(map(str, self._types)))
        return {
            "types": list(types),
            "type": [types.index(str(one)) for one in self._types],
            "length": [len(one) for one in self._texts],
        }

    def text(self) -> str:
        """Return all thumbnails."""
        return "".join(self._texts)


def _wanted(rows: Iterable[ReportRow], look: PageLook) -> list[WantedThumbnail]:
    """Return the contents that get a thumbnail, each once."""
    paths: dict[str, list[str]] = {}
    frames: dict[str, int] = {}
    for row in rows:
        if row.sha256 and (look.pictured is Pictured.ALL or _needs_a_look(row)):
            paths.setdefault(row.sha256, []).extend(row.paths)
            frame = row.more.get("frame")
            frames[row.sha256] = frame if isinstance(frame, int) else 0
    return [
        WantedThumbnail(bytes.fromhex(one), tuple(at), frames[one]) for one, at in paths.items()
    ]


def _needs_a_look(row: ReportRow) -> bool:
    if row.state in {FLAGGED, REVIEW}:
        return row.score >= 0 or row.more.get("reason") in _DECODABLE
    return row.more.get("reason") in _DECODABLE

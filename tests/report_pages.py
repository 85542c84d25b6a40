"""Reports for tests: made of a few words, and opened again."""

from __future__ import annotations

import base64
import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tiny_model
from pictures import encode, photo

from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.thumbnail import Thumbnail
from nsfwscan.report.html.columns import ReportRow, millionths
from nsfwscan.report.html.page import Model, PageLook, Report, WantedThumbnail
from nsfwscan.report.summary import Summary
from nsfwscan.values.tally import ScanTally

REVIEW_AT, FLAG_AT = 0.5, 0.8
MANIFEST = tiny_model.manifest(b"any bytes will do")
MODELS = (
    Model("tiny-1", "a" * 64, REVIEW_AT, FLAG_AT),
    Model("other-2", "b" * 64, 0.2, 0.4),
)
POLICY = Policy(REVIEW_AT, FLAG_AT)


def row(
    path: str, score: float | None = 0.1, *, sha256: str = "", state: str = "", **more: Any
) -> ReportRow:
    """Return the row of a picture; without a score it has no verdict."""
    folder, _, name = path.rpartition("/")
    if not state:
        state = "f" if score is None else POLICY.decide(score).value[0]
    if score is None and "reason" not in more:
        more["reason"], more["detail"] = "truncated", "its end is missing"
    return ReportRow(
        (path,), folder, name, state, -1 if score is None else millionths(score),
        sha256 or random.Random(path).randbytes(32).hex(), "JPEG", 640, 480, more,
    )  # fmt: skip


def page(
    rows: Iterable[ReportRow], look: PageLook | None = None, *, models: Sequence[Model] = MODELS[:1]
) -> bytes:
    """Return the report of these rows."""
    rows, tally = list(rows), ScanTally()
    for one in rows:
        tally.nsfw += one.state == "n"
        tally.review += one.state == "r"
        tally.safe += one.state == "s"
        tally.failed += one.state == "f"
    summary = Summary(tally, MANIFEST, POLICY, 1.0, interrupted=False)
    report = Report(rows, models, summary, ["/pictures"], look or PageLook(), 1e9)
    return report.page(thumbnails)


def thumbnails(wanted: Sequence[WantedThumbnail]) -> Iterator[Thumbnail]:
    """Make a thumbnail of each content, all different."""
    for one in wanted:
        picture = photo(12, 9, seed=one.sha256[0])
        yield Thumbnail(encode(picture, "PNG"), "image/png", 12, 9)


def data_of(page: bytes) -> dict[str, Any]:
    """Return the data in a report."""
    packed = re.search(rb'id="data">([^<]*)<', page)
    assert packed is not None
    return json.loads(zlib.decompress(base64.b64decode(packed[1])))


def thumbnails_of(page: bytes) -> list[bytes]:
    """Return the thumbnails in a report, as files."""
    strip = re.search(rb'id="strip">([^<]*)<', page)
    assert strip is not None
    found, at = [], 0
    for length in data_of(page)["thumbs"]["length"]:
        found.append(base64.b64decode(strip[1][at : at + length], validate=True))
        at += length
    assert at == len(strip[1])
    return found

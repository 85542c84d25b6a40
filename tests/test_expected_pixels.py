"""One picture in many wrappings that viewers agree about, with the scores of what they show.

The files are kept beside the checkout, with the score of what viewers show in `EXPECTED.tsv`; the
test is skipped, visibly, where they are not. Files like them are generated in `wrappings`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from corpora import CORPORA

from benchmarks import accuracy
from nsfwscan.models import catalogue
from nsfwscan.models.store import ModelStore
from nsfwscan.values.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.model, pytest.mark.corpora]

_FOLDER = Path(CORPORA) / "pixels"
_TOLERANCE = 0.03
_TRANSFER_TOLERANCE = 0.15
"""Viewers map tones in different ways."""
_BY_TRANSFER = ("avif-pq2020.avif", "gama16-linear.png")
_WORST_OF_BOTH = 0.976


def _expected() -> list[tuple[str, float]]:
    table = _FOLDER / "EXPECTED.tsv"
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        (row["file"], _WORST_OF_BOTH if row["shown"] == "both" else float(row["shown"]))
        for row in rows
    ]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[accuracy.Scorer]:
    store = ModelStore(str(tmp_path_factory.mktemp("models")))
    package = store.pull(catalogue.load()["opennsfw"]).folder
    scorer = accuracy.Scorer(package, package)
    yield scorer
    scorer.close()


def test_the_files_score_as_what_viewers_show(scorer: accuracy.Scorer) -> None:
    expected = _expected()
    if not expected:
        pytest.skip(f"no corpora at {CORPORA}")
    off, refused = [], []
    for name, shown in expected:
        tolerance = _TRANSFER_TOLERANCE if name in _BY_TRANSFER else _TOLERANCE
        try:
            score = scorer.nsfwscan((_FOLDER / name).read_bytes())
        except DecodeError as error:
            refused.append(f"{name}: {error}")
            continue
        if abs(score - shown) > tolerance:
            off.append(f"{name}: {score:.3f} instead of {shown:.3f}")
    print(f"{len(expected)} files, {len(refused)} refused, {len(off)} wrong", *refused, sep="\n  ")
    assert not off

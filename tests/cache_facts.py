"""Invented facts for the cache's tests: file number n has one content and one outcome.

So any answer of the cache can be judged: it must be the fact, or it must be "not known".
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from nsfwscan.cache.cache import Cache
from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import FactRow, FileRow, Known, OutcomeRow
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.outcome import Outcome, Scored, Scorer, Unscorable
from nsfwscan.values.results import FailReason, ImageFacts, Scores

if TYPE_CHECKING:
    from collections.abc import Iterable

SCORER = Scorer("5c" * 32, 3)
BATCH = 16
A_FOLDER = 40


def path_of(n: int) -> str:
    return f"/pictures/album {n // A_FOLDER}/{n}.jpg"


def key_of(n: int) -> FileKey:
    return FileKey(1000 + n, 10**18 + n, 10**18 + 2 * n, 7_000_000 + n)


def sha256_of(n: int) -> bytes:
    return hashlib.sha256(b"content %d" % n).digest()


def outcome_of(n: int) -> Outcome:
    if n % 17 == 3:
        return Unscorable(FailReason.TRUNCATED, f"picture {n} ends early")
    if n % 29 == 5:
        return Unscorable(FailReason.UNRECOGNISED)
    unsafe = (n * 7919 % 1000) / 999
    facts = ImageFacts(("JPEG", "PNG", "WEBP")[n % 3], 100 + n, 200 + n, 1 + n % 2)
    frame = n % 3 if n >= A_FOLDER and facts.frames > 1 else None  # old ones did not say
    return Scored(facts, Scores((1 - unsafe, unsafe), unsafe), frame)


def fact_of(n: int) -> bytes:
    return sha256_of(n)[7::-1] if n % 5 else LIKENESS.absent


def file_row(n: int) -> FileRow:
    return FileRow(path_of(n), key_of(n), sha256_of(n))


def outcome_row(n: int) -> OutcomeRow:
    return OutcomeRow(sha256_of(n), SCORER, outcome_of(n))


def write_numbers(cache: Cache, numbers: Iterable[int]) -> None:
    numbers = list(numbers)
    cache.write(
        [file_row(n) for n in numbers],
        [outcome_row(n) for n in numbers],
        [FactRow(sha256_of(n), LIKENESS, fact_of(n)) for n in numbers],
    )


def fill(cache: Cache, count: int, *, snapshots: bool = True) -> None:
    """Write the numbers below `count` in batches, as a scan does."""
    for start in range(0, count, BATCH):
        write_numbers(cache, range(start, min(start + BATCH, count)))
    if snapshots:
        for folder in folders(count):
            cache.snapshot([folder], SCORER)


def folders(count: int) -> list[str]:
    return sorted({os.path.dirname(path_of(n)) for n in range(count)})


def check_known(name: str, known: Known) -> int:
    """Fail unless the answer is the fact; return the file's number."""
    n = int(name.removesuffix(".jpg"))
    assert (known.key, known.sha256) == (key_of(n), sha256_of(n))
    assert known.outcome is None or known.outcome == outcome_of(n)
    assert known.facts in ({}, {LIKENESS: fact_of(n)})
    return n


def check_view(view: FolderView) -> set[int]:
    """Fail unless every answer is the fact; return the numbers whose outcome is known."""
    scored = set()
    facts = view.column(LIKENESS)
    for index, name in enumerate(view.names):
        known = view[name]
        n = check_known(name, known)
        outcome = known.outcome
        unsafe = view.unsafe[index]
        assert facts[8 * index : 8 * index + 8] == known.facts.get(LIKENESS, bytes(8))
        assert unsafe == outcome.scores.unsafe if isinstance(outcome, Scored) else unsafe != unsafe
        if outcome is not None:
            scored.add(n)
    return scored


def known_numbers(cache: Cache, count: int) -> set[int]:
    """Fail unless every answer is the fact; return the numbers that are known by path."""
    return {n for folder in folders(count) for n in check_view(cache.folder(folder, SCORER))}


def known_contents(cache: Cache, count: int) -> set[int]:
    """Fail unless every answer is the fact; return the numbers that are known by content."""
    found = set()
    for n in range(count):
        assert cache.fact(sha256_of(n), LIKENESS) in {None, fact_of(n)}
        outcome = cache.outcome(sha256_of(n), SCORER)
        if outcome is not None:
            assert outcome == outcome_of(n)
            found.add(n)
    return found

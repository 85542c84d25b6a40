"""What people decided, as a scan applies it: always, at once, and without any scoring."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_fakes import NSFW, REVIEW, SAFE, FakePool

from nsfwscan.cache.cache import Cache
from nsfwscan.judge import Likeness, Ruled, Rulings
from nsfwscan.judge.policy import Policy
from nsfwscan.scanning.scanner import Scanner, ScanOptions
from nsfwscan.values import likeness
from nsfwscan.values.results import (
    Decision,
    Failed,
    FailReason,
    NearMatch,
    Origin,
    Ruling,
    Scanned,
    ScanResult,
)

LIKE = 0xF0F0_F0F0_F0F0_F0F0
COUNT_SAFE = ScanOptions(jobs=2, count_known_safe=True)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    scan_fakes.set_clock_ahead(monkeypatch)
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return two folders of safe pictures, one of others, and a broken picture."""
    for at in range(8):
        scan_fakes.write(tmp_path / "tree" / "ab"[at % 2] / f"{at}.jpg", SAFE + b"%d" % at)
    scan_fakes.write(tmp_path / "tree" / "c" / "nsfw.jpg", NSFW)
    scan_fakes.write(tmp_path / "tree" / "c" / "review.jpg", REVIEW)
    scan_fakes.write(tmp_path / "tree" / "c" / "broken.jpg", b"broken")
    return tmp_path / "tree"


def ruled(content: bytes, ruling: Ruling, bits: int | None = None, within: int = 6) -> Ruled:
    near = None if bits is None else Likeness(bits, within)
    return Ruled(hashlib.sha256(content).digest(), ruling, 1, "/somewhere", near)


def denied(*contents: bytes) -> Rulings:
    return Rulings([ruled(one, Ruling.DENIED) for one in contents])


LOADED: list[str] = []
"""What `no_model` cannot raise where anybody sees it: it is called in another thread."""


def no_model() -> Any:
    LOADED.append("the model was loaded")
    raise AssertionError


def scan(
    tree: Path, cache: Cache | None, rulings: Rulings, **options: Any
) -> tuple[Scanner, dict[str, ScanResult]]:
    """Scan, and return the results by the names of the files."""
    scanner = scan_fakes.scanner(cache, rulings=rulings, **options)
    found = {os.path.basename(one.path): one for one in scanner.scan([str(tree)])}
    assert LOADED == []
    return scanner, found


def judged(result: ScanResult) -> tuple[Decision, float, Ruling | None]:
    assert isinstance(result, Scanned)
    return result.verdict.decision, round(result.verdict.score, 2), result.verdict.ruling


def test_a_decision_holds_in_a_first_scan_and_in_every_later_one(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    rulings = Rulings([ruled(SAFE + b"3", Ruling.DENIED), ruled(NSFW, Ruling.ALLOWED)])
    for again in range(3):
        scanner, found = scan(tree, cache, rulings)
        assert judged(found["3.jpg"]) == (Decision.NSFW, 0.0, Ruling.DENIED)
        assert judged(found["nsfw.jpg"]) == (Decision.SAFE, 1.0, Ruling.ALLOWED)
        assert judged(found["1.jpg"]) == (Decision.SAFE, 0.0, None)
        tally = scanner.tally
        assert (tally.safe, tally.review, tally.nsfw) == (8, 1, 1)
        assert (tally.allowed, tally.denied, tally.failed) == (1, 1, 1)
        assert tally.scored == (0 if again else 10)


def test_new_decisions_cost_no_scoring_and_no_reading(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    scan(tree, cache, Rulings())
    decoded = len(pool.decoded)
    _, found = scan(tree, cache, denied(SAFE + b"3", REVIEW), load=no_model)
    assert judged(found["3.jpg"])[0] is judged(found["review.jpg"])[0] is Decision.NSFW
    assert len(pool.decoded) == decoded
    _, found = scan(tree, cache, Rulings(), load=no_model)
    assert judged(found["3.jpg"]) == (Decision.SAFE, 0.0, None), "taken back"


@pytest.mark.parametrize("ruling", Ruling)
def test_a_whole_unchanged_folder_of_safe_pictures_hides_no_decision(
    tree: Path, pool: FakePool, cache: Cache, ruling: Ruling
) -> None:
    scan(tree, cache, Rulings())
    scanner, found = scan(tree, cache, Rulings(), options=COUNT_SAFE)
    assert set(found) == {"nsfw.jpg", "review.jpg", "broken.jpg"}, "safe folders are only counted"
    scanner, found = scan(tree, cache, Rulings([ruled(SAFE + b"3", ruling)]), options=COUNT_SAFE)
    assert judged(found["3.jpg"]) == (ruling.decision, 0.0, ruling)
    assert "2.jpg" not in found, "the folder beside it is still only counted"
    tally = scanner.tally
    assert (tally.allowed, tally.denied) == ((1, 0) if ruling is Ruling.ALLOWED else (0, 1))
    assert tally.safe + tally.nsfw + tally.review == tally.pictures == 10


def test_a_decision_outlives_renames_moves_copies_and_another_policy(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    rulings = denied(SAFE + b"3")
    scan(tree, cache, rulings)
    os.rename(tree / "b" / "3.jpg", tree / "a" / "renamed.jpg")
    scan_fakes.write(tree / "d" / "copy.jpg", SAFE + b"3")
    _, found = scan(tree, cache, rulings, load=no_model, policy=Policy(1, 1))
    for name in ("renamed.jpg", "copy.jpg"):
        assert judged(found[name]) == (Decision.NSFW, 0.0, Ruling.DENIED)


@pytest.mark.parametrize("ruling", Ruling)
def test_content_that_cannot_be_decoded_is_decided_about_all_the_same(
    tree: Path, pool: FakePool, cache: Cache, ruling: Ruling
) -> None:
    rulings = Rulings([ruled(b"broken", ruling, LIKE)])
    for origin in (Origin.MODEL, Origin.CACHE):
        scanner, found = scan(tree, cache, rulings)
        broken = found["broken.jpg"]
        assert isinstance(broken, Failed)
        assert (broken.reason, broken.origin) == (FailReason.CORRUPT, origin)
        assert (broken.ruling, broken.decision) == (ruling, ruling.decision)
        assert scanner.tally.failed == 0
        assert scanner.tally.allowed + scanner.tally.denied == 1
        assert scanner.tally.nsfw == (2 if ruling is Ruling.DENIED else 1)
    _, found = scan(tree, cache, Rulings())
    broken = found["broken.jpg"]
    assert isinstance(broken, Failed)
    assert broken.decision is None, "without a person there is none"


def test_what_cannot_even_be_read_has_no_content_to_decide_about(
    tree: Path, pool: FakePool
) -> None:
    os.truncate(tree / "c" / "nsfw.jpg", 0)
    _, found = scan(tree, None, denied(b""))
    empty = found["nsfw.jpg"]
    assert isinstance(empty, Failed)
    assert (empty.reason, empty.decision) == (FailReason.EMPTY, None)


# Likenesses


def test_what_looks_like_it_is_decided_about_too_and_says_so(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    pool.likenesses = {
        SAFE + b"1": LIKE,
        SAFE + b"3": LIKE ^ 0b111,
        SAFE + b"5": LIKE ^ 0b1111_1111,
    }
    rulings = Rulings([ruled(SAFE + b"1", Ruling.DENIED, LIKE)])
    for _ in range(2):
        scanner, found = scan(tree, cache, rulings)
        assert judged(found["1.jpg"]) == (Decision.NSFW, 0.0, Ruling.DENIED)
        near = found["3.jpg"]
        assert judged(near) == (Decision.NSFW, 0.0, Ruling.DENIED)
        assert isinstance(near, Scanned)
        assert near.verdict.near == NearMatch(hashlib.sha256(SAFE + b"1").digest(), 3, "/somewhere")
        assert judged(found["5.jpg"])[2] is None, "too far"
        assert scanner.tally.denied == 2
    assert len(pool.decoded) == 11


def test_likenesses_are_kept_from_the_first_scan_so_that_nothing_is_read_for_them(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    pool.likenesses = {SAFE + b"3": LIKE}
    scan(tree, cache, Rulings())
    decoded = len(pool.decoded)
    rulings = Rulings([ruled(b"elsewhere", Ruling.DENIED, LIKE)])
    _, found = scan(tree, cache, rulings, load=no_model, options=COUNT_SAFE)
    assert judged(found["3.jpg"])[0] is Decision.NSFW
    assert "2.jpg" not in found, "the folder beside it is still only counted"
    assert len(pool.decoded) == decoded


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_library_from_before_is_read_once_and_nothing_is_scored_again(
    tree: Path, pool: FakePool, tmp_path: Path, snapshots: bool
) -> None:
    path = tmp_path / "old.sqlite3"
    pool.likenesses = {SAFE + b"3": LIKE}
    scan_fakes.write(tree / "a" / "moving.jpg", b"frames:\0\0")
    with Cache.open(str(path), warn=pytest.fail) as cache:
        scan(tree, cache, Rulings())
    forget_likenesses(path, snapshots=snapshots)
    rulings = Rulings([ruled(b"elsewhere", Ruling.DENIED, LIKE)])
    decoded = len(pool.decoded)
    with Cache.open(str(path), warn=pytest.fail) as cache:
        for reads in (11, 0, 0):
            del pool.decoded[:]
            scanner, found = scan(tree, cache, rulings, options=COUNT_SAFE, load=no_model)
            assert judged(found["3.jpg"]) == (Decision.NSFW, 0.0, Ruling.DENIED)
            assert len(pool.decoded) == reads
            assert scanner.tally.scored == 0
            assert scanner.tally.cached == scanner.tally.pictures == 11
        assert "2.jpg" not in found, "in the end the folder beside it is only counted again"
        assert "moving.jpg" not in found
    assert decoded == 12


def forget_likenesses(path: Path, *, snapshots: bool) -> None:
    """Make of a library what a version before likenesses would have left."""
    raw = sqlite3.connect(path)
    raw.execute("DELETE FROM fact")
    raw.execute("DELETE FROM snapshot")
    raw.commit()
    raw.close()
    if snapshots:
        with Cache.open(str(path), warn=pytest.fail) as cache:
            rows = [row for row in cache.export() if row.path is not None]
            assert rows[0].scorer is not None
            cache.snapshot({os.path.dirname(row.path or "") for row in rows}, rows[0].scorer)


def test_without_near_decisions_nothing_is_read_for_likenesses(
    tree: Path, pool: FakePool, tmp_path: Path
) -> None:
    path = tmp_path / "old.sqlite3"
    with Cache.open(str(path), warn=pytest.fail) as cache:
        scan(tree, cache, Rulings())
    forget_likenesses(path, snapshots=True)
    del pool.decoded[:]
    with Cache.open(str(path), warn=pytest.fail) as cache:
        scan(tree, cache, denied(SAFE + b"3"), load=no_model)
    assert not pool.decoded


def test_a_picture_that_will_not_decode_again_keeps_its_score_and_is_tried_once(
    tree: Path, pool: FakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.sqlite3"
    with Cache.open(str(path), warn=pytest.fail) as cache:
        scan(tree, cache, Rulings())
    forget_likenesses(path, snapshots=True)
    tries = []

    def refuse(data: bytes, geometry: object) -> Any:
        from nsfwscan.values.errors import DecodeError

        tries.append(data)
        raise DecodeError(FailReason.DECODER_TIMEOUT)

    monkeypatch.setattr(pool, "decode", refuse)
    rulings = Rulings([ruled(b"elsewhere", Ruling.DENIED, LIKE)])
    with Cache.open(str(path), warn=pytest.fail) as cache:
        for expected in (10, 10):
            _, found = scan(tree, cache, rulings, load=no_model)
            assert judged(found["3.jpg"]) == (Decision.SAFE, 0.0, None)
            assert len(tries) == expected


@pytest.mark.parametrize("kept", [True, False])
def test_copies_and_scans_without_a_library_compare_likenesses_too(
    tree: Path, pool: FakePool, cache: Cache, kept: bool
) -> None:
    for at in range(6):
        scan_fakes.write(tree / "copies" / f"copy {at}.jpg", SAFE + b"alike")
    pool.likenesses = {SAFE + b"alike": LIKE ^ 1}
    rulings = Rulings([ruled(b"elsewhere", Ruling.DENIED, LIKE)])
    for _ in range(2):
        _, found = scan(tree, cache if kept else None, rulings)
        for at in range(6):
            assert judged(found[f"copy {at}.jpg"])[2] is Ruling.DENIED


def test_a_library_that_cannot_be_written_compares_likenesses_all_the_same(
    tree: Path, pool: FakePool, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsfwscan.values.errors import CacheUnavailable

    def refuse(*_: object) -> None:
        raise CacheUnavailable("full", hint="")

    monkeypatch.setattr(cache, "write", refuse)
    pool.likenesses = {SAFE + b"3": LIKE ^ 1}
    rulings = Rulings([ruled(b"elsewhere", Ruling.ALLOWED, LIKE)])
    said: list[str] = []
    for _ in range(2):
        _, found = scan(tree, cache, rulings, warn=said.append)
        assert judged(found["3.jpg"])[2] is Ruling.ALLOWED
    assert len(said) == 2


def test_without_near_decisions_likenesses_do_not_pile_up(tree: Path, pool: FakePool) -> None:
    scanner, _ = scan(tree, None, denied(SAFE + b"3"))
    assert not scanner._cache._facts


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 7),
        st.tuples(st.sampled_from(Ruling), st.booleans()),
    ),
    st.lists(
        st.sampled_from([likeness.NONE, LIKE, LIKE ^ 1, LIKE ^ 0b111]), min_size=8, max_size=8
    ),
)
def test_a_quick_scan_counts_what_a_thorough_one_sees(
    decisions: dict[int, tuple[Ruling, bool]], alike: list[int]
) -> None:
    import tempfile

    with (
        tempfile.TemporaryDirectory() as scratch,
        pytest.MonkeyPatch.context() as patch,
        Cache.open(os.path.join(scratch, "library.sqlite3"), warn=pytest.fail) as cache,
    ):
        scan_fakes.set_clock_ahead(patch)
        pool = scan_fakes.install_pool(patch)
        tree = Path(scratch, "tree")
        for at in range(8):
            scan_fakes.write(tree / "abcd"[at % 4] / f"{at}.jpg", SAFE + b"%d" % at)
            pool.likenesses[SAFE + b"%d" % at] = alike[at]
        rulings = Rulings(
            ruled(
                SAFE + b"%d" % at,
                ruling,
                alike[at] if near and alike[at] != likeness.NONE else None,
                1,
            )
            for at, (ruling, near) in decisions.items()
        )
        scan(tree, cache, Rulings())
        thorough, all_found = scan(tree, cache, rulings)
        quick, found = scan(tree, cache, rulings, options=COUNT_SAFE)
        for counted in ("safe", "nsfw", "review", "allowed", "denied", "cached"):
            assert getattr(quick.tally, counted) == getattr(thorough.tally, counted)
        for name, result in all_found.items():
            assert isinstance(result, Scanned)
            if result.verdict.ruling is not None:
                assert found[name] == result

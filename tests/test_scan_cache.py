from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nsfwscan.cache.cache import Cache
from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import FileRow
from nsfwscan.scanning import scan_cache as module
from nsfwscan.scanning.scan_cache import _BATCH_ROWS, ScanCache
from nsfwscan.values.errors import CacheUnavailable
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.outcome import Scored, Scorer, Unscorable
from nsfwscan.values.results import FailReason, ImageFacts, Origin, Scores

SCORER = Scorer("5c" * 32, 3)
GOOD = Scored(ImageFacts("PNG", 8, 8, 1), Scores((0.75, 0.25), 0.25))
BAD = Unscorable(FailReason.TRUNCATED, "it ends early")
A, B = b"a" * 32, b"b" * 32
KEY = FileKey(1, 2, 3, 4)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as opened:
        yield opened


def remember(
    cache: Any, *, rescan: bool = False, retry_failed: bool = False, warn: Any = pytest.fail
) -> ScanCache:
    return ScanCache(cache, SCORER, rescan=rescan, retry_failed=retry_failed, warn=warn)


def test_the_first_claims_and_the_others_wait_for_it() -> None:
    memory = remember(None)
    first, second = memory.claim(A), memory.claim(A)
    assert (first.mine, first.origin) == (True, Origin.MODEL)
    assert (second.mine, second.origin) == (False, Origin.DUPLICATE)
    assert not second.outcome.done()
    memory.settle(A, GOOD)
    assert second.outcome.result(0) == GOOD
    third = memory.claim(A)
    assert (third.mine, third.origin, third.outcome.result(0)) == (False, Origin.DUPLICATE, GOOD)


def test_an_abandoned_claim_fails_those_who_wait_and_can_be_made_again() -> None:
    memory = remember(None)
    memory.claim(A)
    waiting = memory.claim(A)
    memory.abandon(A, ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        waiting.outcome.result(0)
    assert memory.claim(A).mine


def test_settling_twice_is_a_bug_that_shows(cache: Cache) -> None:
    memory = remember(cache)
    memory.claim(A)
    memory.settle(A, GOOD)
    memory.save()
    with pytest.raises(RuntimeError, match="twice"):
        memory.settle(A, GOOD)


@pytest.mark.parametrize("with_cache", [False, True])
def test_many_threads_score_each_content_once(with_cache: bool, cache: Cache) -> None:
    memory = remember(cache if with_cache else None)
    contents = [bytes([number]) * 32 for number in range(60)]
    scored: list[bytes] = []
    together = threading.Barrier(8)

    def lane(seed: int) -> int:
        together.wait(30)
        right = 0
        for at in range(len(contents)):
            sha256 = contents[(at * (2 * seed + 1) + seed) % len(contents)]
            claim = memory.claim(sha256)
            if claim.mine:
                scored.append(sha256)
                memory.locate(FileRow(f"/p/{sha256[0]}", KEY, sha256))
                memory.settle(sha256, Scored(GOOD.facts, Scores((0.0, 1.0), sha256[0] / 60)))
            if at % 7 == seed % 7:
                memory.save()
            outcome = claim.outcome.result(30)
            assert isinstance(outcome, Scored)
            right += outcome.scores.unsafe == sha256[0] / 60
        return right

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lane, range(8))) == [len(contents)] * 8
    assert sorted(scored) == contents
    memory.close()
    assert len(cache.folder("/p", SCORER)) == (60 if with_cache else 0)


def test_what_is_saved_is_recalled_in_this_scan_and_the_next(cache: Cache) -> None:
    memory = remember(cache)
    memory.claim(A)
    memory.settle(A, GOOD)
    memory.save()
    again = memory.claim(A)
    assert (again.origin, again.mine, again.outcome.result(0)) == (Origin.DUPLICATE, False, GOOD)
    later = remember(cache).claim(A)
    assert (later.origin, later.mine, later.outcome.result(0)) == (Origin.CACHE, False, GOOD)


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_a_rescan_takes_nothing_from_the_library_but_what_it_wrote(
    outcome: Any, cache: Cache
) -> None:
    before = remember(cache)
    before.claim(A)
    before.settle(A, outcome)
    before.locate(FileRow("/p/a", KEY, A))
    before.close()
    memory = remember(cache, rescan=True)
    assert len(memory.folder("/p")) == 0
    assert memory.claim(A).mine
    memory.settle(A, GOOD)
    memory.save()
    assert memory.claim(A).outcome.result(0) == GOOD
    memory.close()
    assert cache.folder("/p", SCORER)["a"].outcome == GOOD


def test_failures_are_remembered_and_tried_again_on_demand(cache: Cache) -> None:
    before = remember(cache)
    before.claim(A)
    before.settle(A, BAD)
    before.claim(B)
    before.settle(B, GOOD)
    before.save()
    assert remember(cache).claim(A).outcome.result(0) == BAD
    memory = remember(cache, retry_failed=True)
    assert memory.claim(A).mine
    assert not memory.claim(B).mine
    assert not memory.answers(BAD)
    assert memory.answers(GOOD)
    assert not memory.answers(None)
    memory.settle(A, BAD)
    memory.save()
    assert memory.claim(A).outcome.result(0) == BAD, "once a scan is often enough"


@pytest.mark.parametrize("reason", [FailReason.BAD_OUTPUT, FailReason.UNSUPPORTED])
def test_failures_of_this_installation_are_not_kept(reason: FailReason, cache: Cache) -> None:
    memory = remember(cache)
    memory.claim(A)
    memory.settle(A, Unscorable(reason))
    assert not memory.claim(A).mine
    memory.close()
    assert cache.outcome(A, SCORER) is None


def test_a_folder_in_which_something_was_found_out_loads_fast_next_time(cache: Cache) -> None:
    memory = remember(cache)
    memory.folder("/p")
    memory.locate(FileRow("/p/a", KEY, A))
    memory.claim(A)
    memory.settle(A, GOOD)
    memory.changed("/p")
    memory.close()
    assert cache.folder("/p", SCORER).stored


def test_a_folder_whose_scan_was_killed_gets_its_snapshot_from_the_next(cache: Cache) -> None:
    killed = remember(cache)
    killed.locate(FileRow("/p/a", KEY, A))
    killed.save()
    assert not cache.folder("/p", SCORER).stored
    memory = remember(cache)
    assert len(memory.folder("/p")) == 1
    memory.close()
    assert cache.folder("/p", SCORER).stored


def test_batches_are_saved_when_full_or_a_second_old(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    memory = remember(cache)

    def known() -> int:
        return len(cache.folder("/p", SCORER))

    for number in range(_BATCH_ROWS):
        memory.save_when_due()
        assert known() == 0
        memory.locate(FileRow(f"/p/{number}", KEY, A))
    memory.save_when_due()
    assert known() == _BATCH_ROWS
    memory.locate(FileRow("/p/later", KEY, A))
    now += 0.9
    memory.save_when_due()
    assert known() == _BATCH_ROWS
    now += 0.2
    memory.save_when_due()
    assert known() == _BATCH_ROWS + 1


class Failing:
    """A library that can do everything but what it is told not to."""

    def __init__(self, cache: Cache, *broken: str) -> None:
        self._cache = cache
        self._broken = broken
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)

        def fail(*_: object) -> None:
            raise CacheUnavailable(f"no {name}", hint="mend it")

        return fail if name in self._broken else getattr(self._cache, name)


@pytest.mark.parametrize(
    "broken",
    [
        ("folder",),
        ("outcome",),
        ("write",),
        ("snapshot",),
        ("write", "snapshot"),
        ("folder", "outcome", "write", "snapshot"),
    ],
    ids="+".join,
)
def test_a_cache_that_fails_costs_one_warning(broken: tuple[str, ...], cache: Cache) -> None:
    warnings: list[str] = []
    memory = remember(Failing(cache, *broken), warn=warnings.append)
    for round_ in range(3):
        memory.folder("/p")
        for number in range(4):
            sha256 = bytes([round_ * 4 + number]) * 32
            assert memory.claim(sha256).mine
            memory.settle(sha256, GOOD)
            memory.locate(FileRow(f"/p/{round_}{number}", KEY, sha256))
            assert memory.claim(sha256).outcome.result(0) == GOOD
        memory.changed("/p")
        memory.save()
    memory.close()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"no {broken[0]} (mend it)")
    assert warnings[0].endswith("its results will not be cached")


def test_a_library_given_up_while_others_wait_for_it_is_asked_no_more() -> None:
    began, go_on = threading.Event(), threading.Event()

    class Breaks:
        def folder(self, *_: object) -> FolderView:
            began.set()
            assert go_on.wait(10)
            raise CacheUnavailable("the disk is gone")

        def files(self, *_: object) -> FolderView:
            raise AssertionError("it was given up")

    warnings: list[str] = []
    memory = remember(Breaks(), warn=warnings.append)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(memory.folder, "pictures")
        assert began.wait(10)
        others = [pool.submit(memory.folder, "more"), pool.submit(memory.files, "more", ["a"])]
        time.sleep(0.05)  # they wait for the lock
        go_on.set()
        assert [len(one.result(10)) for one in (first, *others)] == [0, 0, 0]
    assert len(warnings) == 1


def test_a_cache_that_cannot_be_written_is_still_asked(cache: Cache) -> None:
    """A full disk must not cost the scores of a hundred thousand pictures."""
    before = remember(cache)
    before.claim(A)
    before.settle(A, GOOD)
    before.locate(FileRow("/p/a", KEY, A))
    before.close()
    warnings: list[str] = []
    failing = Failing(cache, "write")
    memory = remember(failing, warn=warnings.append)
    assert memory.claim(B).mine
    memory.settle(B, GOOD)
    memory.save()
    assert len(warnings) == 1
    assert memory.claim(A).outcome.result(0) == GOOD
    assert memory.folder("/p")["a"].outcome == GOOD
    memory.locate(FileRow("/p/b", KEY, B))
    memory.close()
    assert len(warnings) == 1
    assert failing.asked.count("write") == 1
    assert "snapshot" not in failing.asked


LASTING = {
    FailReason.UNRECOGNISED, FailReason.TRUNCATED, FailReason.CORRUPT, FailReason.TOO_MANY_PIXELS,
    FailReason.DECODER_CRASHED, FailReason.DECODER_TIMEOUT, FailReason.DECODER_MEMORY,
}  # fmt: skip
"""What the content itself may be the cause of."""


@pytest.mark.parametrize("transient", [False, True])
@pytest.mark.parametrize("reason", FailReason)
def test_only_a_failure_that_the_content_caused_is_remembered(
    reason: FailReason, transient: bool, cache: Cache
) -> None:
    memory = remember(cache)
    memory.claim(A)
    memory.settle(A, Unscorable(reason, "why", transient))
    assert not memory.claim(A).mine, "once a scan is often enough"
    memory.close()
    kept = cache.outcome(A, SCORER)
    assert kept == (Unscorable(reason, "why") if reason in LASTING and not transient else None)

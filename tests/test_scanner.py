from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hostile_decoders
import pictures
import pytest
import scan_fakes
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_fakes import MANIFEST, NSFW, POLICY, REVIEW, SAFE, FakeClassifier, FakePool

from nsfwscan.cache.cache import Cache
from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.media.discover import WalkOptions
from nsfwscan.scanning import scanner
from nsfwscan.scanning.examine import Content, identify
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.values.errors import ModelError, ModelUnusable, NsfwscanError, ResourcesExhausted
from nsfwscan.values.file_key import UNTRUSTED
from nsfwscan.values.outcome import Scored, Scorer
from nsfwscan.values.results import (
    Decision,
    Failed,
    FailReason,
    Origin,
    Scanned,
    ScanResult,
    Skipped,
    SkipReason,
)
from nsfwscan.values.tally import ScanTally

SCORER = Scorer(MANIFEST.fingerprint, 1)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder of pictures: safe, review, nsfw, broken, and one that is no picture."""
    tree = tmp_path / "tree"
    for at in range(6):
        content = (SAFE, REVIEW, NSFW)[at % 3] + b"%d" % at
        scan_fakes.write(tree / "ab"[at % 2] / f"{at}.jpg", content)
    scan_fakes.write(tree / "b" / "broken.jpg", b"broken")
    scan_fakes.write(tree / "b" / "notes.txt", b"text")
    return tree


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test writes count as settled."""
    scan_fakes.set_clock_ahead(monkeypatch)


def names(results: list[ScanResult]) -> list[str]:
    return [os.path.basename(result.path) for result in results]


def origins(results: list[ScanResult]) -> set[Origin]:
    return {one.origin for one in results if not isinstance(one, Skipped)}


def no_model() -> Any:
    pytest.fail("the model was loaded")


@contextmanager
def helped_by(work: Callable[[], None]) -> Iterator[None]:
    """Do `work` in another thread."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def open_when(gate: threading.Event, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    gate.set()


def nothing_runs() -> bool:
    return not [one for one in threading.enumerate() if one.name.startswith("nsfwscan")]


def test_results_come_in_discovery_order_whatever_finishes_first(
    tmp_path: Path, pool: FakePool
) -> None:
    for at in range(40):
        scan_fakes.write(tmp_path / f"{at:02d}.jpg", b"%02d" % at)
    gate = pool.gates[b"00"] = threading.Event()
    results = scan_fakes.scanner().scan([str(tmp_path)])
    with helped_by(lambda: open_when(gate, lambda: len(pool.decoded) == 39)):
        assert names(list(results)) == [f"{at:02d}.jpg" for at in range(40)]
    assert pool.decoded[-1] == b"00", "the others did not wait"


def test_a_slow_picture_holds_back_no_more_than_the_window(
    tmp_path: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "_WINDOW", 10)
    for at in range(50):
        scan_fakes.write(tmp_path / f"{at:02d}.jpg", b"%02d" % at)
    gate = pool.gates[b"00"] = threading.Event()
    decoded_meanwhile = []

    def look() -> None:
        open_when(threading.Event(), lambda: len(pool.decoded) == 10)
        time.sleep(0.2)
        decoded_meanwhile.append(len(pool.decoded))
        gate.set()

    with helped_by(look):
        assert len(list(scan_fakes.scanner().scan([str(tmp_path)]))) == 50
    assert decoded_meanwhile == [10]


def test_every_result_is_counted(tree: Path, pool: FakePool, cache: Cache) -> None:
    scan = scan_fakes.scanner(cache, options=ScanOptions(walk=WalkOptions(any_name=True)))
    results = list(scan.scan([str(tree)]))
    kinds = {os.path.basename(one.path): one for one in results}
    assert kinds["notes.txt"] == Skipped(str(tree / "b" / "notes.txt"), SkipReason.NOT_AN_IMAGE)
    tally = scan.tally
    assert (tally.scored, tally.safe, tally.review, tally.nsfw) == (6, 2, 2, 2)
    assert (tally.failed, tally.skipped) == (1, 1)


def test_a_failure_is_failed_and_never_safe(
    tree: Path, pool: FakePool, cache: Cache, settled: None
) -> None:
    for origin in (Origin.MODEL, Origin.CACHE):
        scan = scan_fakes.scanner(cache)
        failed = [one for one in scan.scan([str(tree)]) if isinstance(one, Failed)]
        (broken,) = failed
        assert (broken.reason, broken.origin) == (FailReason.CORRUPT, origin)
        assert broken.sha256 == hashlib.sha256(b"broken").digest()
        assert (scan.tally.failed, scan.tally.safe, scan.tally.pictures) == (1, 2, 6)


@pytest.mark.parametrize("reason", FailReason)
def test_every_reason_is_counted_as_failed(reason: FailReason) -> None:
    tally = ScanTally()
    tally.count(Failed("x", reason))
    assert (tally.failed, tally.pictures, tally.safe) == (1, 0, 0)


def test_copies_are_scored_once_and_labelled(tmp_path: Path, pool: FakePool) -> None:
    for at in range(12):
        scan_fakes.write(tmp_path / f"{at:02d}.jpg", NSFW + b"%d" % (at % 3))
    scan = scan_fakes.scanner()
    results = list(scan.scan([str(tmp_path)]))
    assert len(pool.decoded) == scan.tally.scored == 3
    assert (scan.tally.duplicates, scan.tally.nsfw) == (9, 12)
    assert origins(results) == {Origin.MODEL, Origin.DUPLICATE}


def test_copies_of_a_broken_picture_fail_too(tmp_path: Path, pool: FakePool) -> None:
    for at in range(4):
        scan_fakes.write(tmp_path / f"{at}.jpg", b"broken")
    scan = scan_fakes.scanner()
    assert all(isinstance(one, Failed) for one in scan.scan([str(tmp_path)]))
    assert (len(pool.decoded), scan.tally.failed) == (1, 4)


def test_a_file_named_twice_or_with_its_folder_gives_one_result(
    tree: Path, pool: FakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its folder is spelled, and whatever comes first."""
    (tmp_path / "link").symlink_to(tree / "a", target_is_directory=True)
    monkeypatch.chdir(tree / "a")
    file, folder = str(tree / "a" / "0.jpg"), str(tree / "a")
    names = sorted(os.listdir(folder))
    spellings = [file, "0.jpg", "./0.jpg", "../a/0.jpg", f"{tmp_path}/link/0.jpg"]
    for roots in (
        [file, file, folder],
        [*spellings, folder],
        [folder, *spellings],
        [str(tmp_path / "link"), *spellings, folder],
        [f"{folder}/", *spellings, "."],
    ):
        for listed in (0, len(roots) - 1, len(roots)):
            results = list(scan_fakes.scanner().scan(roots[:listed], roots[listed:]))
            found = [os.path.basename(one.path) for one in results]
            assert sorted(found) == names, roots


def test_hard_links_are_files_of_their_own(tree: Path, pool: FakePool) -> None:
    os.link(tree / "a" / "0.jpg", tree / "a" / "same.jpg")
    roots = [str(tree / "a" / "0.jpg"), str(tree / "a" / "same.jpg")]
    assert [one.path for one in scan_fakes.scanner().scan(roots)] == roots


def test_a_file_that_its_folder_passes_over_is_scanned_when_it_is_named(
    tree: Path, pool: FakePool
) -> None:
    hidden = scan_fakes.write(tree / "a" / ".hidden.jpg", b"\x05")
    link = tree / "a" / "link.jpg"
    link.symlink_to(scan_fakes.write(tree / "target", b"\x06"))
    for roots in ([tree / "a", hidden, link], [hidden, link, tree / "a"]):
        results = list(scan_fakes.scanner().scan(map(str, roots)))
        scanned = [one.path for one in results if isinstance(one, Scanned)]
        assert {str(hidden), str(link)} <= set(scanned)
        assert len(set(scanned)) == len(scanned)


def test_stop_from_another_thread_gives_what_was_begun_and_saves_it(
    tmp_path: Path, pool: FakePool, cache: Cache
) -> None:
    for at in range(50):
        scan_fakes.write(tmp_path / "tree" / f"{at:02d}.jpg", b"%02d" % at)
    scan = scan_fakes.scanner(cache, options=ScanOptions(jobs=1))
    gate = pool.gates[b"05"] = threading.Event()

    def stop() -> None:
        assert pool.waiting.wait(30)
        scan.stop()
        gate.set()

    with helped_by(stop):
        results = list(scan.scan([str(tmp_path / "tree")]))
    assert names(results) == [f"{at:02d}.jpg" for at in range(6)]
    assert nothing_runs()
    for at in range(6):
        assert cache.outcome(hashlib.sha256(b"%02d" % at).digest(), SCORER) is not None


def test_leaving_early_ends_everything_and_saves(tree: Path, pool: FakePool, cache: Cache) -> None:
    results = scan_fakes.scanner(cache).scan([str(tree)])
    first = next(results)
    assert isinstance(first, Scanned)
    results.close()
    assert nothing_runs()
    assert pool.closed == 1
    assert cache.outcome(first.sha256, SCORER) is not None


def test_a_scan_that_is_never_begun_leaves_nothing(pool: FakePool) -> None:
    results = scan_fakes.scanner().scan(["nowhere"])
    results.close()
    assert nothing_runs()
    assert pool.started == 0


def test_a_model_that_cannot_be_loaded_ends_the_scan_with_that_error(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    def load() -> Any:
        raise ModelUnusable("no such operator", hint="update")

    scan = scan_fakes.scanner(cache, load=load)
    with pytest.raises(ModelError, match="no such operator"):
        list(scan.scan([str(tree)]))
    assert nothing_runs()
    assert pool.closed == 1
    assert scan.tally.pictures == 0
    assert cache.stats().contents <= 1, "at most the broken one, which needs no model"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_a_refused_thread_or_memory_ends_the_scan_with_a_sentence(
    tree: Path, pool: FakePool, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    with pytest.raises(NsfwscanError, match="memory or threads"):
        list(scan_fakes.scanner(None).scan([str(tree)]))


def test_numbers_that_are_none_fail_the_picture_and_are_not_remembered(
    tree: Path, pool: FakePool, cache: Cache, settled: None
) -> None:
    class Nan(FakeClassifier):
        def read(self, *_: Any, **__: Any) -> Any:
            raise ModelUnusable("it returned nan")

    results = list(scan_fakes.scanner(cache, load=Nan).scan([str(tree / "a")]))
    assert {one.reason for one in results if isinstance(one, Failed)} == {FailReason.BAD_OUTPUT}
    assert cache.stats().contents == 0
    assert all(
        isinstance(one, Scanned) for one in scan_fakes.scanner(cache).scan([str(tree / "a")])
    )


def test_a_scan_starts_no_thread_where_there_is_no_memory_for_one(
    tree: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise MemoryError

    monkeypatch.setattr("nsfwscan.scanning.workers.require_room", none)
    with pytest.raises(ResourcesExhausted):
        list(scan_fakes.scanner().scan([str(tree)]))
    assert nothing_runs()
    assert pool.started == 0


def test_the_worst_frame_of_an_animation_counts(
    tmp_path: Path, pool: FakePool, cache: Cache, settled: None
) -> None:
    scan_fakes.write(tmp_path / "tree" / "a.gif", b"frames:\x00\x10\xf0\x20")
    for _ in range(2):
        (result,) = scan_fakes.scanner(cache).scan([str(tmp_path / "tree")])
        assert isinstance(result, Scanned)
        assert result.scores.unsafe == 0xF0 / 255
        assert result.verdict.decision is Decision.NSFW
        assert result.facts.frames == 4


def test_young_files_are_read_again_and_not_scored_again(
    tree: Path, pool: FakePool, cache: Cache
) -> None:
    list(scan_fakes.scanner(cache).scan([str(tree)]))
    assert cache.stats().files == 7, "a report knows of them"
    reads = CountedReads()
    results = list(scan_fakes.scanner(cache, load=no_model, read=reads).scan([str(tree)]))
    assert len(reads) == len(results) == 7
    assert origins(results) == {Origin.CACHE}


class CountedReads(list[str]):
    """Reads paths, and keeps them."""

    def __call__(self, source: str, **options: Any) -> Content:
        self.append(source)
        return identify(source, **options)


def test_a_file_from_the_future_is_read_once_and_again_after_any_change(
    tree: Path, pool: FakePool, cache: Cache, settled: None
) -> None:
    """A camera or another machine whose clock is wrong."""
    future = time.time_ns() + 10**15
    os.utime(tree / "a" / "0.jpg", ns=(future, future))
    list(scan_fakes.scanner(cache).scan([str(tree)]))
    reads = CountedReads()
    list(scan_fakes.scanner(cache, read=reads).scan([str(tree)]))
    assert reads == []
    picture = tree / "a" / "0.jpg"
    picture.write_bytes(picture.read_bytes())
    list(scan_fakes.scanner(cache, read=reads).scan([str(tree)]))
    assert reads == [str(picture)]
    os.utime(picture, ns=(future, future))  # the very times and size it had
    list(scan_fakes.scanner(cache, read=reads).scan([str(tree)]))
    assert reads == [str(picture)] * 2


@pytest.mark.usefixtures("settled")
def test_new_thresholds_load_no_model(tree: Path, pool: FakePool, cache: Cache) -> None:
    before = list(scan_fakes.scanner(cache).scan([str(tree)]))
    scan = scan_fakes.scanner(cache, load=no_model, policy=Policy(1, 1))
    after = list(scan.scan([str(tree)]))
    assert names(after) == names(before)
    assert (scan.tally.cached, scan.tally.safe, scan.tally.nsfw) == (6, 4, 2)
    assert pool.started == 1


@pytest.mark.usefixtures("settled", "pool")
def test_a_file_that_was_deleted_does_not_slow_its_folder_down(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        scan_fakes.write(tmp_path / "tree" / f"{name}.jpg", SAFE)
    options = ScanOptions(count_known_safe=True)
    list(scan_fakes.scanner(cache, options=options).scan([str(tmp_path / "tree")]))
    (tmp_path / "tree" / "b.jpg").unlink()
    scan = scan_fakes.scanner(cache, options=options)
    monkeypatch.setattr(scan, "_result", pytest.fail)  # one by one, as in a folder that changed
    assert list(scan.scan([str(tmp_path / "tree")])) == []
    assert (scan.tally.safe, scan.tally.cached) == (2, 2)


@pytest.mark.usefixtures("settled")
def test_whole_numbers_do_for_thresholds(tmp_path: Path, pool: FakePool, cache: Cache) -> None:
    scan_fakes.write(tmp_path / "tree" / "a.jpg", SAFE)
    options = ScanOptions(count_known_safe=True)
    for _ in range(2):
        scan = scan_fakes.scanner(cache, policy=Policy(1, 1), options=options)
        list(scan.scan([str(tmp_path / "tree")]))
    assert (scan.tally.safe, scan.tally.cached) == (1, 1)


def test_retry_failed_tries_the_broken_ones_only(
    tree: Path, pool: FakePool, cache: Cache, settled: None
) -> None:
    list(scan_fakes.scanner(cache).scan([str(tree)]))
    pool.decoded.clear()
    list(scan_fakes.scanner(cache, options=ScanOptions(retry_failed=True)).scan([str(tree)]))
    assert pool.decoded == [b"broken"]
    pool.decoded.clear()
    list(scan_fakes.scanner(cache, options=ScanOptions(rescan=True)).scan([str(tree)]))
    assert len(pool.decoded) == 7


def test_the_last_pictures_are_saved_while_they_come(
    tmp_path: Path, pool: FakePool, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all are submitted, no wait may be long enough to save by the way."""
    monkeypatch.setattr("nsfwscan.scanning.scan_cache._BATCH_ROWS", 10)
    for at in range(100):
        scan_fakes.write(tmp_path / "tree" / f"{at:02d}.jpg", b"%02d" % at)
    emitted = 0
    for emitted, result in enumerate(scan_fakes.scanner(cache).scan([str(tmp_path / "tree")]), 1):
        assert isinstance(result, Scanned)
        assert emitted - cache.stats().contents < 20
    assert emitted == 100


_file = st.sampled_from([SAFE, SAFE, SAFE, REVIEW, NSFW, b"broken"])
_folder = st.lists(_file, max_size=5)


@settings(max_examples=25, deadline=None)
@given(
    folders=st.lists(_folder, max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("edit delete add".split()))),
    thresholds=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_counting_known_safe_ones_gives_the_tally_of_a_whole_scan(
    folders: list[list[bytes]], changes: list[tuple[int, str]], thresholds: list[float]
) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as place,
        Cache.open(os.path.join(place, "library.sqlite3"), warn=pytest.fail) as cache,
    ):
        scan_fakes.install_pool(patch)
        scan_fakes.set_clock_ahead(patch)
        tree = Path(place) / "tree"
        tree.mkdir()
        for number, folder in enumerate(folders):
            for at, content in enumerate(folder):
                # The same contents in several folders, so that there are duplicates.
                scan_fakes.write(tree / str(number) / f"{at}.jpg", content + b"%d" % (at % 3))
        list(scan_fakes.scanner(cache).scan([str(tree)]))
        for which, change in changes:
            files = sorted(tree.rglob("*.jpg"))
            if not files:
                break
            file = files[which % len(files)]
            match change:
                case "edit":
                    file.write_bytes(NSFW + b"edited %d" % which)
                case "delete":
                    file.unlink()
                case _:
                    scan_fakes.write(file.with_name(f"new{which}.jpg"), SAFE + b"new")
        policy = Policy(*thresholds)
        counting = scan_fakes.scanner(
            cache, policy=policy, options=ScanOptions(count_known_safe=True)
        )
        given_ = list(counting.scan([str(tree)]))
        whole = scan_fakes.scanner(None, policy=policy)
        expected = list(whole.scan([str(tree)]))
        for field in ("pictures", "safe", "review", "nsfw", "failed", "skipped"):
            assert getattr(counting.tally, field) == getattr(whole.tally, field), field

        def loud(results: list[ScanResult]) -> list[tuple[str, object]]:
            return [
                (one.path, one.verdict if isinstance(one, Scanned) else one.reason)
                for one in results
                if not isinstance(one, Scanned) or one.verdict.decision is not Decision.SAFE
            ]

        assert loud(given_) == loud(expected), "what is not safe is always given"


def test_nothing_is_loaded_or_started_when_the_library_answers(
    tree: Path, pool: FakePool, cache: Cache, settled: None
) -> None:
    list(scan_fakes.scanner(cache).scan([str(tree)]))
    threads_before = threading.active_count()
    scan = scan_fakes.scanner(cache, load=no_model)
    for _ in scan.scan([str(tree)]):
        assert threading.active_count() == threads_before
    assert pool.started == 1
    assert scan.tally.cached == 6


def test_a_file_that_is_written_while_it_is_scanned_leaves_no_wrong_row(
    tmp_path: Path, pool: FakePool, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is real: what is written just now is never trusted, however it looked."""
    path = scan_fakes.write(tmp_path / "tree" / "a.jpg", bytes(1 << 16))
    ending = threading.Event()

    def overwrite() -> None:
        chance = random.Random(1)
        while not ending.is_set():
            with path.open("r+b", buffering=0) as file:
                value = chance.randrange(256)
                for _ in range(4):
                    file.write(bytes([value]) * (1 << 14))

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        for _ in range(30):
            list(scan_fakes.scanner(cache).scan([str(tmp_path / "tree")]))
    finally:
        ending.set()
        writer.join()
    known = cache.folder(str(tmp_path / "tree"), SCORER).get("a.jpg")
    assert known is None or known.key == UNTRUSTED
    (result,) = scan_fakes.scanner(cache).scan([str(tmp_path / "tree")])
    assert isinstance(result, Scanned)
    assert result.scores.unsafe == path.read_bytes()[0] / 255
    assert result.sha256 == hashlib.sha256(path.read_bytes()).digest()


_CULPRITS = {
    "segfault": FailReason.DECODER_CRASHED,
    "abort": FailReason.DECODER_CRASHED,
    "exit": FailReason.DECODER_CRASHED,
    "kill": FailReason.DECODER_CRASHED,
    "garbage": FailReason.DECODER_CRASHED,
    "half": FailReason.DECODER_CRASHED,
    "loop": FailReason.DECODER_TIMEOUT,
    "eat": FailReason.DECODER_MEMORY,
}
_MAY_COME_FROM_OUTSIDE = ("kill",)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no limit of memory")
def test_each_culprit_is_recorded_and_its_neighbours_are_scored(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes; only what decodes in them does what the picture says."""
    command = hostile_decoders.command(cpu_seconds=4)
    make_pool = partial(DecodePool, wall_seconds=60, command=command)
    tree = tmp_path / "tree"
    for at, word in enumerate(_CULPRITS):
        scan_fakes.write(tree / f"{at}-{word}.jpg", word.encode())
        for neighbour in ("before", "behind"):
            scan_fakes.write(
                tree / f"{at}.{neighbour}.jpg", NSFW + b"%d%s" % (at, neighbour.encode())
            )
    monkeypatch.setattr("nsfwscan.media.decode.pool.memory_may_be_short", lambda: False)
    before = _children()
    scan = scan_fakes.scanner(cache, make_pool=make_pool)
    results = {os.path.basename(one.path): one for one in scan.scan([str(tree)])}
    assert scan.tally.nsfw == scan.tally.scored == 2 * len(_CULPRITS)
    assert scan.tally.failed == len(_CULPRITS)
    for at, (word, reason) in enumerate(_CULPRITS.items()):
        culprit = results[f"{at}-{word}.jpg"]
        assert isinstance(culprit, Failed)
        assert culprit.reason is reason, word
        known = cache.outcome(hashlib.sha256(word.encode()).digest(), SCORER)
        assert (known is None) == (word in _MAY_COME_FROM_OUTSIDE), word
    assert nothing_runs()
    assert set(_children()) <= set(before)


def _children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def test_real_pictures_go_the_whole_way(tmp_path: Path, cache: Cache) -> None:
    """Only the model is a fake; the animation is real."""
    for name, content in pictures.seeds().items():
        scan_fakes.write(tmp_path / "tree" / f"{name}.jpg", content)
    scan_fakes.write(tmp_path / "tree" / "cut.jpg", pictures.seeds()["JPEG baseline"][:300])
    scan = scan_fakes.scanner(cache)
    results = list(scan.scan([str(tmp_path / "tree")]))
    (cut,) = [one for one in results if isinstance(one, Failed)]
    assert cut.path.endswith("cut.jpg")
    for one in results:
        if isinstance(one, Scanned):
            assert one.facts.format == os.path.basename(one.path).split()[0].removesuffix(".jpg")
            stored = cache.outcome(one.sha256, SCORER)
            assert stored == Scored(one.facts, one.scores, one.frame)
            assert one.verdict == POLICY.judge(one.scores)
    assert scan.tally.scored == len(pictures.seeds())

"""What people decided: which decision holds, and that none is lost without a word."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell import without_privileges
from sizes import trials

from nsfwscan.judge import NO_RULINGS, Judge, Likeness, Ruled, RulingBook, Rulings
from nsfwscan.judge import book as book_module
from nsfwscan.judge.neighbours import Neighbours
from nsfwscan.judge.policy import Policy
from nsfwscan.judge.ruled import LATEST_S, Entry, Forgotten, GivenUp, from_record, to_record
from nsfwscan.system import journal
from nsfwscan.values import likeness
from nsfwscan.values.errors import NsfwscanError, RulingsError
from nsfwscan.values.results import Decision, NearMatch, Ruling, Scores, Verdict

POLICY = Policy(0.5, 0.8)
LIKE = 0xF0F0_F0F0_F0F0_F0F0
"""A likeness like any other."""
MOST = likeness.MOST_WITHIN


def sha(number: int) -> bytes:
    return hashlib.sha256(b"content %d" % number).digest()


def ruled(
    number: int, ruling: Ruling, *, near: tuple[int, int] | None = None, at: int = 1
) -> Ruled:
    return Ruled(sha(number), ruling, at, f"/p/{number}.jpg", Likeness(*near) if near else None)


def verdict(unsafe: float = 0.6) -> Verdict:
    return POLICY.judge(Scores((1 - unsafe, unsafe), unsafe))


def flipped(bits: int, *positions: int) -> int:
    for position in positions:
        bits ^= 1 << position
    return bits


sound = (
    st.lists(st.booleans(), min_size=64, max_size=64)
    .map(lambda bits: sum(1 << at for at, bit in enumerate(bits) if bit))
    .filter(likeness.is_sound)
)
digests = st.integers(0, 5).map(sha)
likenesses = st.builds(Likeness, sound, st.integers(0, MOST))
times = st.integers(0, 2**40)
decided = st.builds(
    Ruled, digests, st.sampled_from(Ruling), times, st.text(max_size=20), st.none() | likenesses
)
entries = st.one_of(
    decided,
    st.builds(Forgotten, digests, times),
    st.builds(
        GivenUp,
        st.lists(st.integers(6, 9).map(lambda n: sha(n).hex()), max_size=2).map(tuple),
        times,
    ),
)


# Which decision holds


@pytest.mark.parametrize("score", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(
    ("ruling", "decision"), [(Ruling.ALLOWED, Decision.SAFE), (Ruling.DENIED, Decision.NSFW)]
)
def test_a_decision_goes_before_any_score_which_stays_beside_it(
    score: float, ruling: Ruling, decision: Decision
) -> None:
    before = verdict(score)
    after = Rulings([ruled(1, ruling)]).judge(before, sha(1), likeness.UNKNOWN)
    assert after == (decision, score, 0.5, 0.8, ruling, None)
    assert after.ruling is ruling
    assert Rulings([ruled(2, ruling)]).judge(before, sha(1), likeness.UNKNOWN) is before
    assert before.ruling is None


def test_the_content_itself_goes_before_what_looks_like_it() -> None:
    rulings = Rulings([ruled(1, Ruling.DENIED, near=(LIKE, 6)), ruled(2, Ruling.ALLOWED)])
    assert rulings.judge(verdict(), sha(2), LIKE)[4:] == (Ruling.ALLOWED, None)
    assert rulings.judge(verdict(), sha(3), LIKE)[4:] == (
        Ruling.DENIED,
        NearMatch(sha(1), 0, "/p/1.jpg"),
    )


def test_the_most_alike_goes_before_the_less_alike() -> None:
    other = flipped(LIKE, 0, 1, 2, 3)
    rulings = Rulings(
        [ruled(1, Ruling.DENIED, near=(LIKE, 6)), ruled(2, Ruling.ALLOWED, near=(other, 6))]
    )
    near_first, near_second = flipped(LIKE, 0), flipped(LIKE, 0, 1, 2)
    assert rulings.judge(verdict(), sha(3), near_first)[4:] == (
        Ruling.DENIED,
        (sha(1), 1, "/p/1.jpg"),
    )
    assert rulings.judge(verdict(), sha(3), near_second)[4:] == (
        Ruling.ALLOWED,
        (sha(2), 1, "/p/2.jpg"),
    )


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_as_much_alike_the_one_that_denies_holds(order: int) -> None:
    two = [ruled(1, Ruling.DENIED, near=(LIKE, 6)), ruled(2, Ruling.ALLOWED, near=(LIKE, 6), at=9)]
    found = Rulings(two[::order]).judge(verdict(), sha(3), flipped(LIKE, 5, 6))
    assert found[4:] == (Ruling.DENIED, NearMatch(sha(1), 2, "/p/1.jpg"))


@pytest.mark.parametrize("within", [0, 1, 6, MOST])
@pytest.mark.parametrize("count", [1, 30])
def test_near_ends_where_the_decision_says(within: int, count: int) -> None:
    choose = random.Random(within)
    far = [
        ruled(10 + n, Ruling.ALLOWED, near=(sum(1 << at for at in choose.sample(range(64), 32)), 0))
        for n in range(count - 1)
    ]
    rulings = Rulings([ruled(1, Ruling.DENIED, near=(LIKE, within)), *far])
    for _ in range(50):
        inside = flipped(LIKE, *choose.sample(range(64), within))
        outside = flipped(LIKE, *choose.sample(range(64), within + 1))
        assert rulings.judge(verdict(), sha(3), inside).near == (sha(1), within, "/p/1.jpg")
        assert rulings.judge(verdict(), sha(3), outside).ruling is None


@pytest.mark.parametrize("stand_in", [likeness.UNKNOWN, likeness.NONE])
def test_what_has_no_likeness_is_like_nothing(stand_in: int) -> None:
    rulings = Rulings([ruled(1, Ruling.DENIED, near=(LIKE, MOST))])
    assert rulings.judge(verdict(), sha(3), stand_in).ruling is None


@given(st.lists(decided, max_size=20), st.lists(sound, max_size=10), st.data())
def test_neighbours_are_those_that_a_comparison_with_all_finds(
    found: list[Ruled], others: list[int], data: st.DataObject
) -> None:
    near = [one for one in found if one.near is not None]
    neighbours = Neighbours(found)
    assert bool(neighbours) == bool(near)
    for one in near[:3]:
        assert one.near is not None
        positions = data.draw(st.lists(st.integers(0, 63), max_size=MOST + 2, unique=True))
        others.append(flipped(one.near.bits, *positions))
    for bits in others:
        distances = [
            (likeness.distance(one.near.bits, bits), one.ruling is Ruling.ALLOWED, -one.at)
            for one in near
            if one.near is not None
            and likeness.distance(one.near.bits, bits) <= one.near.within
            and likeness.is_comparable(bits)
        ]
        match = neighbours.nearest(bits)
        assert (match is None) == (not distances)
        if match is not None:
            best, away = match
            assert (away, best.ruling is Ruling.ALLOWED, -best.at) == min(distances)
    hit = [bits for bits in others if neighbours.nearest(bits) is not None]
    assert neighbours.touch(array("Q", others)) == bool(hit)


@given(st.lists(digests, max_size=6), st.lists(decided, max_size=6), st.data())
def test_a_folder_is_touched_if_any_of_its_pictures_could_be_decided_about(
    contents: list[bytes], found: list[Ruled], data: st.DataObject
) -> None:
    bits = [data.draw(st.sampled_from([likeness.UNKNOWN, likeness.NONE]) | sound) for _ in contents]
    rulings = Rulings(found)
    needed = any(
        rulings.judge(verdict(), sha256, one).ruling is not None
        or (one == likeness.UNKNOWN and rulings.compare_likeness)
        for sha256, one in zip(contents, bits, strict=True)
    )
    assert rulings.touch(b"".join(contents), array("Q", bits)) == needed


def test_of_a_picture_that_is_gone_the_ruling_comes_before_the_score() -> None:
    judge = Judge(Policy(0.5, 0.8), Rulings([ruled(1, Ruling.DENIED), ruled(2, Ruling.ALLOWED)]))
    assert judge.decision(sha(1), 0.1) is Decision.NSFW
    assert judge.decision(sha(1), math.nan) is Decision.NSFW
    assert judge.decision(sha(2), 0.9) is Decision.SAFE
    assert judge.decision(sha(3), 0.6) is Decision.REVIEW
    assert judge.decision(sha(3), math.nan) is None


def test_where_nobody_decided_nothing_is_compared() -> None:
    assert not NO_RULINGS.touch(sha(1), array("Q", [likeness.UNKNOWN]))
    assert not NO_RULINGS.compare_likeness
    assert len(NO_RULINGS) == 0


# Records


@given(entries)
def test_an_entry_reads_back_as_it_was(entry: Entry) -> None:
    assert from_record(json.loads(json.dumps(to_record(entry)))) == entry


GOOD = to_record(ruled(1, Ruling.DENIED, near=(LIKE, 6)))


@pytest.mark.parametrize(
    "change",
    [
        {"entry": "maybe"},
        {"entry": None},
        {"sha256": "00"},
        {"sha256": "G" * 64},
        {"sha256": None},
        {"at": "today"},
        {"at": -1},
        {"at": True},
        {"at": 2**63},
        {"path": None},
        {"near": []},
        {"near": {}},
        {"near": {"algorithm": "dhash", "likeness": f"{LIKE:016x}", "within": 6}},
        {"near": {"algorithm": likeness.ALGORITHM, "likeness": "0" * 16, "within": 6}},
        {"near": {"algorithm": likeness.ALGORITHM, "likeness": "f" * 16, "within": 6}},
        {"near": {"algorithm": likeness.ALGORITHM, "likeness": f"{LIKE:016x}", "within": 17}},
        {"near": {"algorithm": likeness.ALGORITHM, "likeness": f"{LIKE:016x}"}},
        {"entry": "given-up", "lines": "all"},
        {"entry": "given-up", "lines": ["1"]},
    ],
    ids=str,
)
def test_half_a_decision_is_none(change: dict[str, object]) -> None:
    assert from_record(GOOD)
    with pytest.raises(ValueError):
        from_record({**GOOD, **change})


# The book


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data" / "rulings.jsonl")


def held(rulings: Rulings) -> dict[bytes, Ruled]:
    return {one.sha256: one for one in rulings}


def test_before_the_first_decision_there_is_no_file(path: str) -> None:
    assert RulingBook(path).load() is NO_RULINGS
    RulingBook(path).add([])
    assert not os.path.exists(os.path.dirname(path))


@given(st.lists(st.lists(entries, max_size=4), max_size=8))
def test_the_last_decision_about_a_content_holds(batches: list[list[Entry]]) -> None:
    expected: dict[bytes, Ruled] = {}
    latest: dict[bytes, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rulings.jsonl")
        for batch in batches:
            RulingBook(path).add(batch)
            for entry in batch:
                if isinstance(entry, GivenUp):
                    continue
                at = max(entry.at, latest.get(entry.sha256, 0))  # never before what it follows
                if at <= LATEST_S:
                    latest[entry.sha256] = at
                expected.pop(entry.sha256, None)
                if isinstance(entry, Ruled):
                    expected[entry.sha256] = entry._replace(at=at)
            assert list(RulingBook(path).load()) == list(expected.values())
            assert RulingBook(path).read().given_up == 0


@given(st.lists(st.one_of(decided, st.builds(Forgotten, digests, times)), max_size=6), decided)
def test_of_a_decision_from_elsewhere_and_any_word_of_yours_the_later_holds(
    words: list[Entry], given: Ruled
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book = RulingBook(os.path.join(folder, "rulings.jsonl"))
        book.add(words)
        mine = [one.at for one in book.read().entries if not isinstance(one, GivenUp)
                and one.sha256 == given.sha256 and one.at <= LATEST_S]  # fmt: skip
        before = book.load().by_content(given.sha256)
        new = book.take_over([given, given._replace(at=max(given.at - 1, 0))])
        later = given.at > max(mine, default=-1)
        assert new == ([given] if later else [])
        assert book.load().by_content(given.sha256) == (given if later else before)


def test_what_was_taken_back_is_not_revived_even_after_the_clock_was_set_back(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RulingBook(path)
    decision = Ruled(sha(0), Ruling.DENIED, 2_000_000_000, "/a.jpg")
    book.add([decision])
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    book.forget([sha(0)])
    assert book.take_over([decision]) == []
    assert not book.load()


def test_nobody_else_decides_while_decisions_are_taken_over(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yours, which is later, comes in the very moment between reading and writing."""
    mine = Ruled(sha(0), Ruling.ALLOWED, 20, "/a.jpg")
    given = Ruled(sha(0), Ruling.DENIED, 10, "/a.jpg")
    real = book_module._latest
    threads = []

    def latest(records: list[dict[str, object]]) -> dict[str, int]:
        monkeypatch.setattr(book_module, "_latest", real)
        threads.append(threading.Thread(target=RulingBook(path).add, args=([mine],)))
        threads[0].start()
        time.sleep(0.1)
        return real(records)

    RulingBook(path).add([Forgotten(sha(1), 1)])
    monkeypatch.setattr(book_module, "_latest", latest)
    RulingBook(path).take_over([given])
    threads[0].join(30)
    assert RulingBook(path).load().by_content(sha(0)) == mine


def test_a_link_of_the_users_is_followed_and_stays(path: str, tmp_path: Path) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    target = tmp_path / "synced" / "rulings.jsonl"
    target.parent.mkdir()
    target.touch()
    os.symlink(target, path)
    book = RulingBook(path)
    book.add([Ruled(sha(0), Ruling.DENIED, 1, "/a.jpg"), Ruled(sha(1), Ruling.DENIED, 1, "/b.jpg")])
    book.forget([sha(1)])
    assert list(held(RulingBook(path).load())) == [sha(0)]
    assert b"/b.jpg" not in target.read_bytes()
    assert os.readlink(path) == str(target)
    target.rename(tmp_path / "unplugged")
    with pytest.raises(RulingsError, match="which cannot be reached"):
        book.load()
    with pytest.raises(RulingsError, match="which cannot be reached"):
        book.add([Ruled(sha(2), Ruling.DENIED, 1, "/c.jpg")])
    assert not target.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner there")
def test_a_file_of_another_user_is_not_trusted(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    RulingBook(path).add([Ruled(sha(0), Ruling.DENIED, 1, "/a.jpg")])
    owner = os.stat(path).st_uid or 4242
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    real = os.fstat

    def fstat(file: int) -> os.stat_result:
        found = list(real(file))
        found[4] = owner
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(RulingsError, match="belongs to another user"):
        RulingBook(path).load()


def test_of_a_missing_file_what_held_goes_on_to_hold_and_of_an_emptied_decision_nothing(
    path: str,
) -> None:
    assert RulingBook(path).read().missing
    book = RulingBook(path)
    book.add([Ruled(sha(0), Ruling.DENIED, 1, "/a.jpg")])
    assert not book.read().missing
    assert len(book.current(pytest.fail)) == 1
    os.rename(path, f"{path}.away")
    said: list[str] = []
    for _ in range(3):
        assert len(book.current(said.append)) == 1
    assert len(said) == 1
    assert "is gone" in said[0]
    os.rename(f"{path}.away", path)
    assert len(book.current(pytest.fail)) == 1
    book.forget([sha(0)])
    assert len(book.current(pytest.fail)) == 0


def test_what_is_taken_back_leaves_no_path_in_the_file(path: str) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED), ruled(2, Ruling.DENIED), ruled(2, Ruling.ALLOWED, at=2)])
    book.forget([sha(1)])
    assert [one.sha256 for one in book.load()] == [sha(2)]
    text = Path(path).read_text()
    assert "/p/1.jpg" not in text
    assert text.count("/p/2.jpg") == 1
    # That it was taken back stays: an import of older decisions must not revive it.
    assert sha(1).hex() in text
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_deciding_the_same_every_night_does_not_fill_the_disk(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "_SLACK", 10)
    book = RulingBook(path)
    for night in range(40):
        book.add([ruled(number, Ruling.DENIED, at=night) for number in range(5)])
        assert len(book.read().entries) <= 2 * 5 + 10
    assert [one.at for one in book.load()] == [39] * 5


def test_a_damaged_file_is_not_rewritten(path: str) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED), ruled(2, Ruling.DENIED)])
    first, rest = Path(path).read_bytes().split(b"\n", 1)
    Path(path).write_bytes(b"x" + first[1:] + b"\n" + rest)
    book.give_up(book.read().damaged)
    book.forget([sha(2)])
    assert Path(path).read_bytes().startswith(b"x")
    assert len(book.load()) == 0


def test_a_file_that_cannot_be_replaced_loses_no_decision(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED), ruled(2, Ruling.DENIED)])

    def full(*_given: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nsfwscan.system.journal.replace_file", full)
    book.forget([sha(1)])
    assert [one.sha256 for one in book.load()] == [sha(2)]


def test_who_waits_while_the_file_is_rewritten_writes_to_the_new_one(path: str) -> None:
    """Deciding in one thread, taking back in another: every decision is kept."""
    book = RulingBook(path)
    book.add([ruled(1000, Ruling.DENIED)])

    def decide() -> None:
        for number in range(100):
            RulingBook(path).add([ruled(number, Ruling.DENIED)])

    thread = threading.Thread(target=decide)
    thread.start()
    for _ in range(20):
        book.forget([sha(1000)])
    thread.join()
    assert {one.sha256 for one in book.load()} == {sha(number) for number in range(100)}


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
def test_the_file_is_for_its_owner_only(path: str) -> None:
    RulingBook(path).add([ruled(1, Ruling.DENIED)])
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


def test_no_single_flipped_bit_loses_a_decision_without_a_word(path: str) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED), ruled(2, Ruling.ALLOWED, near=(LIKE, 6))])
    book.add([ruled(3, Ruling.DENIED)])
    whole = Path(path).read_bytes()
    expected = held(book.load())
    choose, said = random.Random(1), list[str]()
    positions = range(8 * len(whole))
    for position in choose.sample(positions, trials(300, len(positions))):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        Path(path).write_bytes(damaged)
        try:
            found = held(RulingBook(path).load())
        except RulingsError as error:
            said.append(f"{error} {error.hint}")
        else:
            assert found == expected, position
    assert all("damaged in line" in one and "nsfwscan rulings repair" in one for one in said)
    assert len(said) > 250


@pytest.mark.parametrize("length", range(1, 40, 3))
def test_an_append_that_was_cut_off_was_never_promised(path: str, length: int) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED)])
    before = Path(path).read_bytes()
    book.add([ruled(2, Ruling.ALLOWED)])
    Path(path).write_bytes(Path(path).read_bytes()[: len(before) + length])
    assert held(book.load()) == {sha(1): ruled(1, Ruling.DENIED)}
    book.add([ruled(3, Ruling.DENIED)])
    assert set(held(book.load())) == {sha(1), sha(3)}


def test_damage_is_given_up_by_a_person_once_and_each_line_by_itself(path: str) -> None:
    book = RulingBook(path)
    book.add([ruled(number, Ruling.DENIED) for number in range(4)])
    lines = Path(path).read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"/p/1", b"/p/!")
    Path(path).write_bytes(b"".join(lines))
    (damaged,) = book.read().damaged
    assert (damaged.number, damaged.data) == (2, lines[1].rstrip())
    with pytest.raises(RulingsError, match="line 2"):
        book.load()
    book.give_up([damaged])
    assert set(held(book.load())) == {sha(0), sha(2), sha(3)}
    assert book.read()[1:3] == ([], 1)
    assert Path(path).read_bytes().startswith(b"".join(lines)), "nothing is rewritten"
    # Another line, and the same one damaged further, are other losses.
    for at, old, new in ((3, b"/p/3", b"/p/?"), (1, b"/p/!", b"/p/?")):
        again = Path(path).read_bytes().splitlines(keepends=True)
        again[at] = again[at].replace(old, new)
        Path(path).write_bytes(b"".join(again))
        with pytest.raises(RulingsError, match=f"line {at + 1}"):
            book.load()
        book.give_up(book.read().damaged)
    assert set(held(book.load())) == {sha(0), sha(2)}


def test_what_a_later_version_wrote_is_not_passed_over(path: str) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED)])
    journal.Journal(path).append({"entry": "denied-by-vote", "sha256": sha(2).hex(), "at": 1})
    with pytest.raises(RulingsError, match="denied-by-vote") as caught:
        book.load()
    assert "later version" in caught.value.hint


def test_a_file_that_cannot_be_read_ends_it(path: str) -> None:
    os.makedirs(path)
    with pytest.raises(RulingsError) as caught:
        RulingBook(path).load()
    assert path in str(caught.value)
    assert caught.value.hint


def test_a_file_that_is_forbidden_ends_it(path: str) -> None:
    RulingBook(path).add([ruled(1, Ruling.DENIED)])
    os.chmod(path, 0)
    script = (
        "import sys; from nsfwscan.judge import RulingBook\n"
        "try: RulingBook(sys.argv[1]).load()\n"
        "except Exception as error: print(type(error).__name__, error, error.hint)"
    )
    done = subprocess.run(
        [*without_privileges(), sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("RulingsError the rulings cannot be read")
    assert "could pass as safe" in done.stdout


def test_a_folder_that_is_write_protected_is_said_and_what_is_there_is_read(path: str) -> None:
    RulingBook(path).add([ruled(1, Ruling.DENIED)])
    os.chmod(path, 0o400)
    os.chmod(os.path.dirname(path), 0o500)
    script = (
        "import sys; from nsfwscan.judge import *; from nsfwscan.values.results import Ruling\n"
        "book = RulingBook(sys.argv[1]); print(len(book.load()))\n"
        "try: book.add([Ruled(bytes(32), Ruling.ALLOWED, 1, '')])\n"
        "except Exception as error: print(type(error).__name__, error, error.hint)\n"
        "print(len(book.load()))"
    )
    try:
        done = subprocess.run(
            [*without_privileges(), sys.executable, "-c", script, path],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        os.chmod(os.path.dirname(path), 0o700)
    first, refusal, last = done.stdout.splitlines()
    assert (first, last) == ("1", "1")
    assert refusal.startswith("RulingsError the rulings were not changed: ")


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_decides_nothing(
    path: str, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RulingBook(path)
    book.add([ruled(1, Ruling.DENIED)])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, fails, full)
        with pytest.raises(RulingsError, match="No space left"):
            book.add([ruled(number, Ruling.ALLOWED) for number in range(3)])
    assert held(book.load()) == {sha(1): ruled(1, Ruling.DENIED)}


_WRITER = """
import sys
from nsfwscan.values.results import Ruling
from nsfwscan.judge import Ruled, RulingBook
book, first = RulingBook(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 40):
    book.add([Ruled(bytes([number]) * 32, Ruling.DENIED, number, sys.argv[2])])
    assert {one.sha256[0] for one in book.load()} >= set(range(first, number + 1))
"""


def test_two_processes_decide_at_once_and_nothing_is_lost(path: str) -> None:
    RulingBook(path).add([ruled(1, Ruling.ALLOWED)])
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, str(first)]) for first in (0, 40, 80)
    ]
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    found = held(RulingBook(path).load())
    assert set(found) == {sha(1), *(bytes([number]) * 32 for number in range(120))}


def test_a_process_that_is_killed_leaves_what_it_was_told(path: str) -> None:
    """The writer reports each decision once it is kept; none that was reported may be missing."""
    script = _WRITER.replace("    assert", "    print(number, flush=True)\n    #")
    for _ in range(trials(3, 50)):
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)
        writer = subprocess.Popen(
            [sys.executable, "-c", script, path, "0"], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(5)]
        writer.kill()
        told += [int(line) for line in writer.stdout.read().splitlines()]
        writer.stdout.close()
        writer.wait()
        kept = {one.sha256[0] for one in RulingBook(path).load()}
        assert set(told) <= kept


def test_every_error_is_one_of_ours(path: str) -> None:
    assert issubclass(RulingsError, NsfwscanError)


@settings(max_examples=25)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rulings.jsonl")
        Path(path).write_bytes(data)
        refused = None
        try:
            found = len(RulingBook(path).load())
        except RulingsError as error:
            refused = error
        assert refused.hint if refused else found == 0


@pytest.mark.parametrize("how", ["away", "empty"])
def test_decisions_whose_file_is_gone_for_a_moment_go_on_to_hold_with_a_warning(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / "rulings.jsonl"
    book = RulingBook(str(path))
    said: list[str] = []
    book.add([Ruled(sha(1), Ruling.DENIED, 1, "/p/1.jpg")])
    assert len(book.current(said.append)) == 1
    kept = path.read_bytes()
    if how == "away":
        path.unlink()
    else:
        path.write_bytes(b"")
    assert [len(book.current(said.append)) for _ in range(3)] == [1] * 3
    (warning,) = said
    assert "is gone" in warning
    assert "in force" in warning
    path.write_bytes(kept)
    assert len(book.current(said.append)) == 1
    book.forget([sha(1)])  # taken back by a person: nothing holds, and that is no loss
    assert len(book.current(said.append)) == 0
    assert len(said) == 1


def test_rulings_about_a_few_contents_are_those_that_all_rulings_have(tmp_path: Path) -> None:
    book = RulingBook(str(tmp_path / "rulings.jsonl"))
    assert book.about([bytes(32)]) is NO_RULINGS
    contents = [bytes([one]) * 32 for one in range(5)]
    chance = random.Random(9)
    for at in range(60):
        sha256 = chance.choice(contents)
        if chance.randrange(4):
            book.add([Ruled(sha256, chance.choice(list(Ruling)), at, f"/{at}.jpg")])
        else:
            book.add([Forgotten(sha256, at)])
        every = RulingBook(book.path).load()
        for one in (contents, contents[:2], [bytes(32)]):
            found = book.about(one)
            assert [found.by_content(sha256) for sha256 in one] == [
                every.by_content(sha256) for sha256 in one
            ]
    data = Path(book.path).read_bytes()
    Path(book.path).write_bytes(data.replace(b"denied", b"dEnied", 1))
    with pytest.raises(RulingsError, match="is damaged in line"):
        book.about(contents)

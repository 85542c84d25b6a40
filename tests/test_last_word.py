"""The last word about a content: by time, over all quarantines and what people decided."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from quarantine_worker import actor, move_in, restore_all, scanned, vault_in

from nsfwscan.actions.quarantine.deletion import delete
from nsfwscan.actions.quarantine.last_word import (
    Said,
    Word,
    time_after,
    why_it_stays,
    word_of,
)
from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
from nsfwscan.actions.quarantine.restore import Restorer
from nsfwscan.judge import Ruled, RulingBook, Rulings
from nsfwscan.scanning.ruling_files import decide
from nsfwscan.values.actions import Act
from nsfwscan.values.results import Decision, NearMatch, Ruling

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths and modes")

SHA256 = hashlib.sha256(b"a picture").digest()
EARLY, LATE = 1_000_000_000, 4_000_000_000
"""Seconds since the epoch, long before and after this test."""


@pytest.fixture
def q(tmp_path: Path) -> Path:
    return tmp_path / "q"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a picture")
    return path


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        ([], False),
        ([(1, Said.RESTORED)], True),
        ([(1, Said.RESTORED), (2, Said.DENIED)], False),
        ([(2, Said.RESTORED), (1, Said.DENIED)], True),
        ([(1, Said.RESTORED), (2, Said.DELETED)], False),
        ([(1, Said.RESTORED), (2, Said.MOVED)], False),
        ([(1, Said.MOVED), (2, Said.RESTORED)], True),
        ([(1, Said.DENIED), (2, Said.ALLOWED)], True),
        ([(3, Said.RESTORED), (1, Said.DELETED), (2, Said.DENIED)], True),
        ([(2, Said.RESTORED), (2, Said.DELETED)], True),
    ],
)
def test_the_latest_word_holds(said: list[tuple[float, Said]], stays: bool) -> None:
    words = [Word(*one) for one in said]
    assert bool(why_it_stays(words)) == stays
    assert bool(why_it_stays(reversed(words))) == stays


@pytest.mark.parametrize("now", [100.0, 100.2, 100.9, 99.0, 101.0])
def test_what_is_restored_after_a_decision_is_later_even_in_the_same_second(now: float) -> None:
    denied = Ruled(SHA256, Ruling.DENIED, 100, "a.jpg")
    restored = Word(time_after(now, [word_of(denied)]), Said.RESTORED)
    assert why_it_stays([word_of(denied), restored])
    assert time_after(now, ()) == now


def test_what_is_denied_in_the_second_in_which_it_was_restored_may_be_moved() -> None:
    denied = Ruled(SHA256, Ruling.DENIED, 100, "a.jpg")
    assert not why_it_stays([Word(100.4, Said.RESTORED), word_of(denied)])


def act_on(q: Path, path: Path, *rulings: Ruled, near: bytes | None = None) -> Act:
    """Return what becomes of a picture that is denied by a decision, or by one about `near`."""
    result = scanned(path)
    match = None if near is None else NearMatch(near, 1, "b.jpg")
    verdict = result.verdict._replace(decision=Decision.NSFW, ruling=Ruling.DENIED, near=match)
    mover = actor(q, rulings=lambda: Rulings(rulings))
    mover.consider(replace(result, verdict=verdict))
    (act,) = mover.carry_out(lambda _question: False)
    return act


@pytest.mark.parametrize("near", [None, b"n" * 32])
def test_restored_after_it_was_denied_it_stays_and_denied_after_that_it_goes(
    q: Path, picture: Path, near: bytes | None
) -> None:
    denied = Ruled(SHA256 if near is None else near, Ruling.DENIED, EARLY, "a.jpg")
    assert act_on(q, picture, denied, near=near).outcome == "done"
    assert [one.moved.outcome for one in restore_all(q)] == ["done"]
    assert act_on(q, picture, denied, near=near).outcome == "left"
    again = denied._replace(at=LATE)
    assert act_on(q, picture, again, near=near).outcome == "done"


def test_restored_it_stays_although_the_clock_was_ahead_when_it_was_denied(
    q: Path, picture: Path
) -> None:
    denied = Ruled(SHA256, Ruling.DENIED, LATE, "a.jpg")
    assert act_on(q, picture, denied).outcome == "done"
    vault = vault_in(q)
    with vault.locked() as ledger:
        held = ledger.held
    list(Restorer(vault, Rulings([denied])).restore(held))
    assert act_on(q, picture, denied).outcome == "left"


@pytest.mark.parametrize("cut_short", [False, True])
def test_restored_it_stays_although_the_clock_was_ahead_when_a_copy_was_moved_elsewhere(
    q: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_short: bool
) -> None:
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(picture.read_bytes())
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: float(LATE))
        assert move_in(tmp_path / "another", [copy])[0].outcome == "done"
    assert move_in(q, [picture])[0].outcome == "done"
    vault, elsewhere = vault_in(q), vault_in(tmp_path / "another")
    said = LatestDecisions(lambda: [vault, elsewhere], pytest.fail)
    if cut_short:
        monkeypatch.setattr(vault, "sync", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(Restorer(vault, said=said).restore(vault.peek().held))
    else:
        list(Restorer(vault, said=said).restore(vault.peek().held))
    with vault_in(q).locked():
        pass
    assert picture.exists()
    words = [one.peek().words[SHA256.hex()] for one in (vault_in(q), elsewhere)]
    assert why_it_stays(words)


def test_deleted_it_may_be_moved_although_the_clock_was_ahead_when_it_was_restored_elsewhere(
    q: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(picture.read_bytes())
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: float(LATE))
        move_in(tmp_path / "another", [copy])
        restore_all(tmp_path / "another")
    assert move_in(q, [picture])[0].outcome == "left"
    assert move_in(q, [picture], again=True)[0].outcome == "done"
    vault, elsewhere = vault_in(q), vault_in(tmp_path / "another")
    assert vault.peek().words[SHA256.hex()].at > LATE, "moving it again was the later word"
    said = LatestDecisions(lambda: [vault, elsewhere], pytest.fail)
    assert [one.moved.outcome for one in delete(vault, vault.peek().held, said=said)] == ["done"]
    words = [one.peek().words[SHA256.hex()] for one in (vault_in(q), elsewhere)]
    assert not why_it_stays(words)


def test_denied_it_goes_although_the_clock_was_ahead_when_it_was_restored(
    q: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture.write_bytes(b"\xff\xd8\xff\xe0 as a JPEG begins")
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: float(LATE))
        move_in(q, [picture])
        restore_all(q)
    book = RulingBook(str(tmp_path / "rulings.jsonl"))
    said = LatestDecisions(lambda: [vault_in(q)], pytest.fail)
    for _ in range(2):
        new = decide(
            book, [str(picture)], Ruling.DENIED, within=None, restored_at=said.restored_at
        ).new
        assert [one.at for one in new] in ([LATE], [])
    (denied,) = book.load()
    assert act_on(q, picture, denied).outcome == "done"


def test_what_was_restored_from_one_quarantine_is_not_moved_to_another(
    q: Path, picture: Path, tmp_path: Path
) -> None:
    assert move_in(q, [picture])[0].outcome == "done"
    restore_all(q)
    (act,) = move_in(tmp_path / "another", [picture])
    assert (act.outcome, act.detail) == ("left", "it was restored from quarantine earlier")
    assert move_in(tmp_path / "another", [picture], again=True)[0].outcome == "done"


def test_what_was_deleted_after_it_was_restored_may_be_moved_when_it_comes_back(
    q: Path, picture: Path, tmp_path: Path
) -> None:
    move_in(q, [picture])
    restore_all(q)
    move_in(tmp_path / "another", [picture], again=True)
    vault = vault_in(tmp_path / "another")
    assert [one.moved.outcome for one in delete(vault, vault.peek().held)] == ["done"]
    picture.write_bytes(b"a picture")
    assert move_in(q, [picture])[0].outcome == "done"


def test_a_quarantine_that_cannot_be_read_is_named_once_and_stops_no_act(
    q: Path, picture: Path, tmp_path: Path
) -> None:
    other = tmp_path / "b.jpg"
    other.write_bytes(b"another")
    assert move_in(tmp_path / "another", [other])[0].outcome == "done"
    journal = tmp_path / "another" / ".nsfwscan-quarantine" / "journal.jsonl"
    journal.unlink()
    journal.mkdir()
    said: list[str] = []
    mover = actor(q, warn=said.append)
    for content in (b"1", b"2"):
        picture.write_bytes(content)
        mover.consider(scanned(picture))
        assert [act.outcome for act in mover.carry_out(lambda _question: False)] == ["done"]
    assert said == [f"{journal} is not a regular file"]

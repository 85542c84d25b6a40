"""Deciding, moving and undoing: what is stored, in which order, and what is refused."""

from __future__ import annotations

import os
import random
import shutil
import uuid
from pathlib import Path
from unittest import mock

import pytest
from review_world import BITS, World

from nsfwscan.actions import tag
from nsfwscan.actions.quarantine.entries import Reason
from nsfwscan.actions.quarantine.restore import Restorer
from nsfwscan.actions.verified_file import VerifiedFile
from nsfwscan.judge.ruled import Likeness, Ruled
from nsfwscan.review.collect import ReviewPicture
from nsfwscan.review.desk import Desk, Refusal, ReviewStep
from nsfwscan.review.moving import Move, Mover
from nsfwscan.review.review import Made, Review
from nsfwscan.review.wire import done
from nsfwscan.system import locations
from nsfwscan.values.errors import NsfwscanError, RulingsError
from nsfwscan.values.results import Ruling

SAFE, NOT_SAFE = Ruling.ALLOWED, Ruling.DENIED


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "pictures", home)


def reviewed(world: World) -> Review:
    """Return a review in which every picture counts as shown."""
    review = world.review()
    review.gallery._shown |= set(review.pictures.pictures) | set(review.pictures.companions)
    return review


def name() -> str:
    return uuid.uuid4().hex


def decide(desk: Desk, sha256: bytes, ruling: Ruling, also: tuple[bytes, ...] = ()) -> ReviewStep:
    return desk.decide(name(), sha256, ruling, also)


def journal() -> list[str]:
    return Path(locations.rulings_file()).read_text().splitlines()


def test_a_decision_is_one_entry_about_the_content_that_was_shown(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    world.picture("a.png")  # another picture takes its name before the key is pressed
    decide(desk, sha256, NOT_SAFE)
    (ruled,) = world.book.load()
    assert (ruled.sha256, ruled.ruling) == (sha256, NOT_SAFE)
    assert ruled.path == str(world.folder / "a.png")
    assert len(journal()) == 1


def test_look_alikes_are_decided_in_the_same_entry_or_not_at_all(world: World) -> None:
    whole, low = world.add("a.png", bits=BITS), world.add("b.png", 0.1, bits=BITS ^ 1)
    desk = reviewed(world).desk
    step = decide(desk, whole, NOT_SAFE, (low,))
    assert step.contents == [whole, low]
    assert world.ruled() == {whole.hex(): "denied", low.hex(): "denied"}
    desk.undo(name())
    assert world.ruled() == {}


def test_a_look_alike_that_a_person_ruled_on_keeps_its_ruling(world: World) -> None:
    whole, other = world.add("a.png", bits=BITS), world.add("b.png", bits=BITS ^ 1)
    desk = reviewed(world).desk
    decide(desk, other, SAFE)
    assert decide(desk, whole, NOT_SAFE, (other,)).contents == [whole]
    assert world.ruled() == {other.hex(): "allowed", whole.hex(): "denied"}


def test_everything_can_be_undone_to_the_first_step(world: World) -> None:
    digests = [world.add(f"{number}.png", bits=BITS ^ 1 << number) for number in range(6)]
    world.book.add([Ruled(digests[0], SAFE, 5, "before", Likeness(BITS, 3))])
    desk = reviewed(world).desk
    chance = random.Random(3)
    states = [(world.ruled(), sorted(os.listdir(world.folder)))]
    for number in range(40):
        sha256, also = chance.choice(digests), tuple(chance.sample(digests, 2))
        also = tuple(one for one in also if one != sha256)
        if number % 8 == 7:
            try:
                desk.quarantine(name(), sha256)
            except Refusal:  # it is in quarantine already
                continue
        else:
            decide(desk, sha256, chance.choice((SAFE, NOT_SAFE)), also)
        states.append((world.ruled(), sorted(os.listdir(world.folder))))
    assert len(desk.steps) == len(states) - 1 > 35
    while desk.steps:
        assert (world.ruled(), sorted(os.listdir(world.folder))) == states.pop()
        desk.undo(name())
    assert (world.ruled(), sorted(os.listdir(world.folder))) == states.pop()
    (first,) = world.book.load()
    assert (first.path, first.near) == ("before", Likeness(BITS, 3))
    assert desk.undo(name()) is None


def test_a_request_that_comes_twice_is_carried_out_once(world: World) -> None:
    first, second = world.add("a.png"), world.add("b.png")
    desk = reviewed(world).desk
    decide(desk, first, SAFE)
    again, undo = name(), name()
    assert desk.decide(again, second, SAFE) is desk.decide(again, second, SAFE)
    assert len(desk.steps) == 2
    assert desk.undo(undo) is desk.undo(undo)
    assert world.ruled() == {first.hex(): "allowed"}


@pytest.mark.parametrize(
    ("shown", "also", "why"),
    [
        ((), (), "has not been shown"),
        ((0,), (1,), "have not been shown"),
        ((0, 2), (2,), "do not look like"),
        ((0,), (3,), "do not look like"),
    ],
)
def test_nothing_is_decided_that_was_not_on_the_screen(
    world: World, shown: tuple[int, ...], also: tuple[int, ...], why: str
) -> None:
    digests = [world.add("a.png", bits=BITS), world.add("b.png", bits=BITS ^ 1)]
    digests += [world.add("c.png", bits=BITS ^ 0xFFFF0), bytes(32)]
    review = world.review()
    review.gallery._shown |= {digests[one] for one in shown}
    with pytest.raises(Refusal, match=why):
        decide(review.desk, digests[0], SAFE, tuple(digests[one] for one in also))
    with pytest.raises(Refusal, match="not part of the review"):
        decide(review.desk, bytes(32), SAFE)
    assert not os.path.exists(locations.rulings_file())


def test_a_decision_that_cannot_be_stored_is_no_decision(world: World) -> None:
    sha256 = world.add("a.png")
    review = reviewed(world)
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(RulingsError, match="No space left"),
    ):
        decide(review.desk, sha256, SAFE)
    assert world.ruled() == {}
    assert (review.desk.steps, review.made().failures) == ([], 1)
    decide(review.desk, sha256, SAFE)
    assert world.ruled() == {sha256.hex(): "allowed"}


# Quarantine


def test_quarantine_takes_every_copy_and_undo_brings_all_back(world: World) -> None:
    sha256 = world.add("a.png", seed=7)
    world.add("below/b.png", seed=7)
    times = [os.stat(world.folder / one).st_mtime_ns for one in ("a.png", "below/b.png")]
    review = reviewed(world)
    step = review.desk.quarantine(name(), sha256)
    assert (len(step.moves), step.problems) == (2, [])
    assert not list(world.folder.rglob("*.png"))
    assert review.made() == Made(0, 0, 2, 0, 0)
    undone = review.desk.undo(name())
    assert undone is step
    assert undone.problems == []
    back = [os.stat(world.folder / one).st_mtime_ns for one in ("a.png", "below/b.png")]
    assert back == times
    assert review.made() == Made(0, 0, 0, 1, 0)


def test_quarantine_leaves_another_picture_under_the_same_name(world: World) -> None:
    sha256 = world.add("a.png")
    world.add("b.png")
    desk = reviewed(world).desk
    world.picture("a.png")
    with pytest.raises(Refusal, match="its content has changed"):
        desk.quarantine(name(), sha256)
    assert sorted(os.listdir(world.folder)) == ["a.png", "b.png"]
    (world.folder / "a.png").unlink()
    with pytest.raises(Refusal, match=r"a\.png is gone"):
        desk.quarantine(name(), sha256)
    assert desk.steps == []


def test_quarantine_finds_a_picture_that_moved(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    shutil.move(world.folder / "a.png", world.folder / "moved.png")
    world.remember("moved.png")
    step = desk.quarantine(name(), sha256)
    assert [Path(move.path).name for move in step.moves] == ["moved.png"]


def test_quarantine_works_on_a_picture_that_was_allowed_before(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    decide(desk, sha256, SAFE)
    assert len(desk.quarantine(name(), sha256).moves) == 1


def test_an_undo_whose_name_is_taken_says_where_the_picture_is(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    desk.quarantine(name(), sha256)
    world.picture("a.png")
    step = desk.undo(name())
    assert step is not None
    assert len(step.problems) == 1
    assert "its name is taken" in step.problems[0]
    assert len(os.listdir(world.folder)) == 2


def test_an_undo_goes_past_a_picture_that_left_the_quarantine_otherwise(world: World) -> None:
    first, second = world.add("a.png"), world.add("b.png")
    desk = reviewed(world).desk
    decide(desk, first, SAFE)
    desk.quarantine(name(), second)
    (vault,) = world.quarantines.existing()
    list(Restorer(vault).restore(vault.peek().held))
    step = desk.undo(name())
    assert step is not None
    assert step.problems == ["1 file had left the quarantine before"]
    desk.undo(name())
    assert world.ruled() == {}


def test_an_undo_that_fails_can_be_tried_again(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    desk.quarantine(name(), sha256)
    away = world.folder.parent / "unplugged"
    shutil.move(world.folder.parent / "quarantine", away)
    with pytest.raises(NsfwscanError, match="is its disk plugged in"):
        desk.undo(name())
    shutil.move(away, world.folder.parent / "quarantine")
    assert desk.undo(name()) is not None
    assert (world.folder / "a.png").exists()


def test_a_denial_after_a_restore_counts_as_the_later_word(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    decide(desk, sha256, NOT_SAFE)
    desk.quarantine(name(), sha256)
    desk.undo(name())
    before = len(journal())
    decide(desk, sha256, NOT_SAFE)  # denied before the restore, so it is said again
    assert len(journal()) == before + 1


def test_safe_removes_the_tags_of_this_picture_and_of_no_other(world: World) -> None:
    kept, replaced = world.add("kept.png"), world.add("replaced.png")
    desk = reviewed(world).desk
    other = world.picture("replaced.png")
    sidecars = []
    for picture, sha256 in (("kept.png", kept), ("replaced.png", other)):
        path = str(world.folder / picture)
        with VerifiedFile(path, sha256) as file:
            _, target, _ = tag.write_sidecar(file, Reason("nsfw", 0.9, "tiny"))
        sidecars.append(target)
    for sha256 in (kept, replaced):
        decide(desk, sha256, SAFE)
    assert [os.path.exists(one) for one in sidecars] == [False, True]


def test_what_failed_counts_until_it_is_done(world: World) -> None:
    sha256 = world.add("a.png")
    desk = reviewed(world).desk
    full = mock.patch.object(type(world.book), "add", side_effect=RulingsError("full"))
    with full, pytest.raises(RulingsError):
        decide(desk, sha256, SAFE)
    assert desk.failures == 1
    decide(desk, sha256, SAFE)
    assert desk.failures == 0
    with full, pytest.raises(RulingsError):
        desk.undo(name())
    assert desk.failures == 1
    desk.undo(name())
    assert desk.failures == 0


def test_a_copy_that_stays_is_a_failure_and_still_to_be_handled(world: World) -> None:
    sha256 = world.add("a.png", seed=1)
    world.add("copy.png", seed=1)
    review = reviewed(world)
    rename = os.rename
    stuck = str(world.folder / "copy.png")

    def move(mover: Mover, picture: ReviewPicture) -> tuple[list[Move], list[str]]:
        rename(stuck, f"{stuck}-aside")
        try:
            moves, _ = whole(mover, picture)
        finally:
            rename(f"{stuck}-aside", stuck)
        return moves, [f"{stuck} was not moved: its folder is read-only"]

    whole = Mover.move
    with mock.patch.object(Mover, "move", move):
        step = review.desk.quarantine(name(), sha256)
    assert done(review, step)["quarantined"] == {sha256.hex(): False}
    assert (review.desk.failures, review.in_quarantine(), review.open_number()) == (1, [], 1)
    review.desk.quarantine(name(), sha256)
    assert (review.desk.failures, review.in_quarantine()) == (0, [sha256])


def test_a_picture_that_came_back_from_quarantine_is_to_be_handled_again(world: World) -> None:
    sha256 = world.add("a.png", seed=1)
    review = reviewed(world)
    review.desk.quarantine(name(), sha256)
    assert (review.in_quarantine(), review.open_number()) == ([sha256], 0)
    world.picture("a.png", seed=2)  # another picture, which is not it
    assert (review.in_quarantine(), review.open_number()) == ([sha256], 0)
    held = review._lookup.in_quarantine()[sha256][0]
    shutil.copy(held, world.folder / "a.png")
    assert (review.in_quarantine(), review.open_number()) == ([], 1)


# The end


def test_the_summary_counts_each_picture_once_and_nothing_undone(world: World) -> None:
    first, second, third = (world.add(f"{one}.png") for one in "abc")
    review = reviewed(world)
    decide(review.desk, first, SAFE)
    decide(review.desk, first, NOT_SAFE)
    decide(review.desk, second, SAFE)
    decide(review.desk, third, SAFE)
    review.desk.undo(name())
    assert review.made() == Made(allowed=1, denied=1, quarantined=0, undone=1, failures=0)


def test_what_was_undone_leaves_no_path_behind(world: World) -> None:
    sha256 = world.add("secret name.png")
    desk = reviewed(world).desk
    decide(desk, sha256, SAFE)
    desk.undo(name())
    desk.close()
    assert not any("secret name" in line for line in journal())

"""Which pictures a review goes through, what belongs together, and where a picture is now."""

from __future__ import annotations

import random
import shutil
import time
from array import array
from pathlib import Path

import pytest
from review_world import BITS, POLICY, World

from nsfwscan.judge.ruled import Likeness, Ruled
from nsfwscan.review.alike import Alike
from nsfwscan.review.collect import OtherModel, ReviewSet
from nsfwscan.review.lookup import Gone, Lookup
from nsfwscan.values import likeness
from nsfwscan.values.outcome import Scorer
from nsfwscan.values.results import Decision, Ruling

NEAR = BITS ^ 0b111
FAR = BITS ^ 0xFFFF_0000_0000


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "pictures", home)


def names(found: ReviewSet) -> list[str]:
    return [Path(one.places[0]).name for one in found.pictures.values()]


def test_flagged_and_borderline_pictures_come_with_the_highest_score_first(world: World) -> None:
    for name, score in (("a", 0.5), ("b", 0.1), ("c", 0.95), ("d", 0.8), ("e", 0.4999)):
        world.add(f"{name}.png", score)
    world.add("broken.png", None)
    found = world.review().pictures
    assert names(found) == ["c.png", "d.png", "a.png"]
    decisions = [one.decision for one in found.pictures.values()]
    assert decisions == [Decision.NSFW, Decision.NSFW, Decision.REVIEW]
    assert (found.scored, found.without_verdict) == (5, 1)


def test_only_the_named_folders_count(world: World) -> None:
    world.add("here/a.png")
    world.add("here/below/b.png")
    world.add("here too/c.png")
    found = world.review(None, world.folder / "here", world.folder / "here" / "below").pictures
    assert sorted(names(found)) == ["a.png", "b.png"]
    assert found.scored == 2


def test_without_a_folder_everything_in_the_cache_counts(world: World) -> None:
    world.add("a.png")
    world.add("below/b.png")
    folders = [str(world.folder), str(world.folder / "below")]
    assert world.cache.folders_below("") == world.cache.folders_below("/") == folders


def test_copies_are_one_picture_at_all_their_places(world: World) -> None:
    world.add("a.png", seed=7)
    world.add("elsewhere/b.png", seed=7)
    (one,) = world.review().pictures.pictures.values()
    assert [Path(path).name for path in one.places] == ["a.png", "b.png"]


def test_pictures_that_look_alike_belong_together_also_below_the_thresholds(world: World) -> None:
    whole = world.add("whole.png", 0.9, bits=BITS)
    smaller = world.add("smaller.png", 0.1, bits=NEAR)
    world.add("other.png", 0.1, bits=FAR)
    flagged = world.add("flagged.png", 0.85, bits=BITS ^ 1 << 63)
    found = world.review().pictures
    alike = [one.sha256 for one in found.pictures[whole].alike]
    assert alike == [flagged, smaller]  # the most similar first
    assert list(found.companions) == [smaller]
    assert found.companions[smaller].places == [str(world.folder / "smaller.png")]


@pytest.mark.parametrize("bits", [likeness.NONE, likeness.UNKNOWN])
def test_pictures_without_a_likeness_look_like_none(world: World, bits: int) -> None:
    world.add("a.png", bits=bits)
    world.add("b.png", bits=bits)
    assert [one.alike for one in world.review().pictures.pictures.values()] == [[], []]


def test_pictures_with_a_ruling_can_be_gone_through_again(world: World) -> None:
    safe = world.add("safe.png", 0.1)
    flagged = world.add("flagged.png", 0.9)
    world.add("untouched.png", 0.1)
    world.book.add([Ruled(safe, Ruling.DENIED, 5, "x"), Ruled(flagged, Ruling.ALLOWED, 5, "x")])
    found = world.review().pictures
    assert set(found.pictures) == {safe, flagged}
    assert found.pictures[safe].decision is Decision.SAFE  # what would hold after an undo


def test_a_ruling_about_a_look_alike_is_named_as_what_decided(world: World) -> None:
    sha256 = world.add("a.png", 0.1, bits=NEAR)
    about = Ruled(bytes(32), Ruling.DENIED, 5, "/the/other.png", Likeness(BITS, 6))
    world.book.add([about])
    one = world.review().pictures.pictures[sha256]
    assert (one.decision, one.near) == (Decision.NSFW, "/the/other.png")


def test_pictures_on_which_models_disagree_are_borderline(world: World) -> None:
    scorer = Scorer("f" * 64, world.scorer.decoder)
    world.others.append(OtherModel("second-1", scorer, POLICY))
    mine, theirs = world.add("mine.png", 0.9), world.add("theirs.png", 0.1)
    both = world.add("both.png", 0.9)
    world.add("neither.png", 0.1)
    for name, score in (("mine", 0.2), ("theirs", 0.9), ("both", 0.6), ("neither", 0.2)):
        world.remember(f"{name}.png", score=score, scorer=scorer)
    found = world.review().pictures.pictures
    assert {one for one in found if found[one].is_disputed} == {mine, theirs}
    assert set(found) == {mine, theirs, both}
    (said,) = found[theirs].others
    assert (said.model, said.score, said.decision) == ("second-1", 0.9, Decision.NSFW)


def test_a_burst_of_a_thousand_alike_is_no_work_for_minutes(world: World) -> None:
    names = [f"{index}.png" for index in range(1000)]
    digests = [world.picture(name) for name in names]
    world.remember(*names, bits=BITS)
    before = time.process_time()
    found = world.review().pictures.pictures
    assert time.process_time() - before < 20  # comparing each with each took a minute
    for one in found.values():
        assert one.more_alike + len(one.alike) == 999
        assert {other.sha256 for other in one.alike} < {*digests} - {one.sha256}


def test_looking_alike_is_what_the_distance_says() -> None:
    chance = random.Random(5)
    known = [chance.getrandbits(64) for _ in range(60)]
    asked = array("Q", (one ^ _flips(chance, chance.randrange(12)) for one in known * 5))
    for within in (0, 1, 6, 12):
        alike = Alike(known, within)
        touched = dict(alike.touched(asked))
        for index, bits in enumerate(asked):
            near = {other for _, other in alike.near(bits)}
            wanted = {one for one in known if likeness.distance(one, bits) <= within}
            assert near == wanted
            assert index in touched or not wanted


def _flips(chance: random.Random, number: int) -> int:
    return sum(1 << bit for bit in chance.sample(range(64), number))


# Where a picture is now


@pytest.fixture
def lookup(world: World) -> Lookup:
    return Lookup(world.cache, world.quarantines)


def test_a_picture_is_found_at_another_of_its_places(world: World, lookup: Lookup) -> None:
    sha256 = world.add("a.png", seed=7)
    world.add("b.png", seed=7)
    one = world.review().pictures.pictures[sha256]
    (world.folder / "a.png").unlink()
    assert lookup.find(one).path == str(world.folder / "b.png")


def test_a_picture_that_moved_is_found_where_a_later_scan_saw_it(
    world: World, lookup: Lookup
) -> None:
    sha256 = world.add("a.png")
    one = world.review().pictures.pictures[sha256]
    shutil.move(world.folder / "a.png", world.folder / "moved.png")
    with pytest.raises(Gone, match=r"a\.png was moved, renamed or deleted"):
        lookup.find(one)
    world.remember("moved.png")
    assert lookup.find(one).path == str(world.folder / "moved.png")
    assert world.cache.places_of(sha256) == [
        str(world.folder / "a.png"),
        str(world.folder / "moved.png"),
    ]


def test_another_picture_under_the_same_name_is_never_taken_for_it(
    world: World, lookup: Lookup
) -> None:
    sha256 = world.add("a.png")
    one = world.review().pictures.pictures[sha256]
    world.picture("a.png")
    with pytest.raises(Gone, match=r"a\.png now holds another picture"):
        lookup.find(one)

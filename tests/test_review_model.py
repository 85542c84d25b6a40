"""A review against a model of it: random deeds, undone in any depth, while files come and go.

`TESTS_AT_FULL_SIZE=1 pytest tests/test_review_model.py` makes more and longer reviews.
"""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from pathlib import Path

import pytest
from review_world import World
from sizes import trials

from nsfwscan.judge.ruled import Ruled
from nsfwscan.review.desk import Refusal
from nsfwscan.review.review import Review
from nsfwscan.values.results import Ruling

RULINGS = (Ruling.ALLOWED, Ruling.DENIED)


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "pictures", home)


class Model:
    """What must hold: rulings by content, contents by path, and contents in quarantine."""

    def __init__(self, world: World, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = world
        self.digests = world.many(6)
        for index in range(2):
            world.add(f"copy{index}.png", 0.9, seed=index + 1)
        self.rulings: dict[bytes, Ruling] = {}
        self.held: list[bytes] = []
        self.steps: list[tuple[bytes, Ruling | None, dict[str, bytes]]] = []
        self.review: Review
        self.start()

    def start(self) -> None:
        """Begin a review, also after one that was killed: nothing but its steps is lost."""
        self.review = self.world.review()
        self.review.gallery._shown |= set(self.review.pictures.pictures)
        self.steps = []

    def disk(self) -> dict[str, bytes]:
        """Return the contents of the folder by name."""
        return {
            one.name: hashlib.sha256(one.read_bytes()).digest()
            for one in self.world.folder.iterdir()
            if one.suffix == ".png"
        }

    def decide(self) -> None:
        sha256, ruling = self.chance.choice(self.digests), self.chance.choice(RULINGS)
        step = self.review.desk.decide(uuid.uuid4().hex, sha256, ruling)
        assert step.before or self.rulings.get(sha256) == ruling  # it held already
        self.steps.append((sha256, self.rulings.get(sha256), {}))
        self.rulings[sha256] = ruling

    def rule_elsewhere(self) -> None:
        """Another process rules; its word holds until a step about the content is undone."""
        sha256, ruling = self.chance.choice(self.digests), self.chance.choice(RULINGS)
        self.world.book.add([Ruled(sha256, ruling, 1 << 31, "elsewhere")])
        self.rulings[sha256] = ruling

    def quarantine(self) -> None:
        sha256, before = self.chance.choice(self.digests), self.disk()
        mine = {name: sha256 for name in self.known_places(sha256) if before.get(name) == sha256}
        try:
            step = self.review.desk.quarantine(uuid.uuid4().hex, sha256)
        except Refusal:
            assert not mine
            assert self.disk() == before
            return
        assert {os.path.basename(move.path) for move in step.moves} == set(mine)
        assert self.disk() == {name: one for name, one in before.items() if name not in mine}
        self.held += mine.values()
        self.steps.append((sha256, None, mine))

    def undo(self) -> None:
        before = self.disk()
        step = self.review.desk.undo(uuid.uuid4().hex)
        if not self.steps:
            assert step is None
            return
        sha256, ruling, moved = self.steps.pop()
        assert step is not None
        assert step.sha256 == sha256
        if moved:
            for one in moved.values():
                self.held.remove(one)
            after = self.disk()
            assert {name: after[name] for name in before} == before  # nothing was overwritten
            back = [one for name, one in after.items() if name not in before]
            assert sorted(back) == sorted(moved.values())
        elif not step.before:
            pass  # it changed nothing, and nor does the undo
        elif ruling is None:
            self.rulings.pop(sha256, None)
        else:
            self.rulings[sha256] = ruling

    def replace(self) -> None:
        """Another picture takes a name, or a copy of one of these does."""
        name = self.chance.choice(["p0.png", "p1.png", "p2.png", "copy0.png"])
        self.world.picture(name, seed=self.chance.choice([1, 2, 3, 90, 91]))

    def delete(self) -> None:
        for name in self.chance.sample(sorted(self.disk()), 1):
            (self.world.folder / name).unlink()

    def check(self) -> None:
        ruled = {one.sha256: one.ruling for one in self.world.book.load()}
        assert ruled == self.rulings
        assert self.review.desk.rulings() == self.rulings
        held = {sha256: len(some) for sha256, some in self.review._lookup.in_quarantine().items()}
        assert held == {one: self.held.count(one) for one in self.held}
        disk = self.disk()
        assert set(self.review.in_quarantine()) == {
            one
            for one in self.held
            if all(disk.get(name) != one for name in self.known_places(one))
        }

    def known_places(self, sha256: bytes) -> list[str]:
        """Return the names at which a scan saw the picture: nothing looks for it elsewhere."""
        picture = self.review.pictures.find(sha256)
        assert picture is not None
        return [os.path.basename(path) for path in picture.places]


@pytest.mark.parametrize("seed", range(trials(4, 60)))
def test_rulings_and_files_are_what_the_deeds_make_them(world: World, seed: int) -> None:
    model = Model(world, seed)
    deeds = [model.decide] * 4 + [model.quarantine] * 2 + [model.undo] * 4
    deeds += [model.replace, model.delete, model.rule_elsewhere, model.start]
    for _ in range(trials(40, 150)):
        if len(model.disk()) < 2:
            break
        model.chance.choice(deeds)()
        model.check()

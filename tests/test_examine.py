from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from scan_fakes import MANIFEST, FakeClassifier, FakePool

from nsfwscan.models.classifier import Classifier
from nsfwscan.scanning.examine import (
    ALL,
    FACTS,
    Content,
    Finding,
    Source,
    Wanted,
    examine,
    identify,
)
from nsfwscan.values import likeness
from nsfwscan.values.errors import DecodeError, ModelUnusable
from nsfwscan.values.facts import KINDS, LIKENESS
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.outcome import Reading, Scored, Unscorable
from nsfwscan.values.results import FailReason, Scores

PICTURE = b"\x33 a picture"
THUMBNAIL = Geometry(Resize.STRETCH, 16, 16, Resample.BILINEAR, 16, 16)


def found(
    source: Source,
    wanted: Wanted = ALL,
    *,
    pool: FakePool | None = None,
    classifier: Callable[[], Classifier] = FakeClassifier,
) -> Finding:
    pool = pool or FakePool()
    pool.running = True
    geometry = MANIFEST.input.geometry
    return examine(source, wanted, decode=pool.decode, geometry=geometry, classifier=classifier)


def not_asked() -> Classifier:
    pytest.fail("the model was asked for")


def test_a_path_its_bytes_and_its_content_give_the_same_outcome(tmp_path: Path) -> None:
    path = scan_fakes.write(tmp_path / "a.jpg", PICTURE)
    by_path, by_bytes = found(str(path)), found(PICTURE)
    assert by_path._replace(key=None) == by_bytes
    assert found(identify(str(path))) == by_path
    assert by_path.key == FileKey.of(path.stat())
    assert by_path.sha256 == hashlib.sha256(PICTURE).digest()
    assert by_path.outcome == by_path.expect_outcome()
    assert isinstance(by_path.outcome, Scored)
    assert by_path.outcome.scores.unsafe == 0x33 / 255
    assert by_path.outcome.frame is None


def test_a_path_that_cannot_be_read_has_no_finding(tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as caught:
        found(str(tmp_path / "gone.jpg"), classifier=not_asked)
    assert caught.value.reason is FailReason.VANISHED


def test_facts_alone_need_no_model() -> None:
    pool = FakePool()
    pool.likenesses[PICTURE] = 0xF0F0_F0F0_F0F0_F0F0
    finding = found(PICTURE, FACTS, pool=pool, classifier=not_asked)
    assert (finding.outcome, finding.reading) == (None, None)
    assert likeness.unpack(finding.facts[LIKENESS]) == 0xF0F0_F0F0_F0F0_F0F0
    with pytest.raises(RuntimeError):
        finding.expect_outcome()


def test_a_picture_that_does_not_decode_has_no_facts_for_good_unless_the_cause_may_pass() -> None:
    class Short(FakePool):
        def decode(self, data: bytes, geometry: Geometry) -> Any:
            raise DecodeError(FailReason.DECODER_MEMORY, transient=True)

    broken = found(b"broken", FACTS, classifier=not_asked)
    assert broken.outcome == Unscorable(FailReason.CORRUPT, "as the test wants it")
    assert broken.facts == {kind: kind.absent for kind in KINDS}
    transient = found(b"broken", FACTS, pool=Short(), classifier=not_asked)
    assert transient.outcome == Unscorable(FailReason.DECODER_MEMORY, "", True)
    assert transient.facts == {}
    assert found(b"broken", classifier=not_asked).facts == {}


def test_the_least_safe_frame_of_an_animation_is_named() -> None:
    outcome = found(b"frames:\x10\xf0\x20").outcome
    assert isinstance(outcome, Scored)
    assert (outcome.scores.unsafe, outcome.frame) == (0xF0 / 255, 1)


def test_the_picture_in_another_geometry_is_given_and_the_score_stays_as_it_is() -> None:
    finding = found(PICTURE, Wanted(pixels=THUMBNAIL))
    assert finding.decoded is not None
    assert len(finding.decoded.pixels) == 16 * 16 * 3
    assert finding.outcome == found(PICTURE).outcome


def test_embedding_and_attention_are_passed_on_when_they_are_wanted() -> None:
    class Knows(FakeClassifier):
        def read(self, pixels: bytes, views: int, **wanted: bool) -> Reading:
            extras = [b"x" if one else None for one in wanted.values()]
            return Reading(Scores((0.5, 0.5), 0.5), 0, *extras)

    plain, rich = (
        found(PICTURE, wanted, classifier=Knows).reading
        for wanted in (ALL, Wanted(embedding=True, attention=True))
    )
    assert plain == Reading(Scores((0.5, 0.5), 0.5))
    assert rich == Reading(Scores((0.5, 0.5), 0.5), 0, b"x", b"x")


def test_a_model_that_answers_with_nonsense_fails_the_picture_alone() -> None:
    class Nan(FakeClassifier):
        def read(self, *_: Any, **__: Any) -> Reading:
            raise ModelUnusable("returned nan")

    def unloadable() -> Classifier:
        raise ModelUnusable("no such operator")

    finding = found(PICTURE, classifier=Nan)
    assert finding.outcome == Unscorable(FailReason.BAD_OUTPUT, "returned nan")
    assert finding.reading is None
    with pytest.raises(ModelUnusable, match="no such operator"):
        found(PICTURE, classifier=unloadable)


def test_content_is_not_read_again() -> None:
    content = Content(PICTURE, b"\x11" * 32)
    assert identify(content) is content
    assert found(content).sha256 == b"\x11" * 32

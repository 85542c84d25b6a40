"""Which labels count as unsafe: what is known, what the user says, and nothing else."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import small_vits
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks import vit_fixture
from nsfwscan.models import catalogue
from nsfwscan.models.classifier import to_scores
from nsfwscan.models.package import open_package
from nsfwscan.values.errors import ModelTampered, UsageError
from quantize.__main__ import main
from quantize.checkpoint import open_checkpoint
from quantize.labels import choose, families


@pytest.mark.parametrize("family", families(), ids=lambda one: "-".join(one.labels))
def test_a_known_family_is_recognised_in_any_order_case_and_spacing(family) -> None:
    for labels in itertools.islice(itertools.permutations(family.labels), 24):
        spelt = [one.upper().replace(" ", "_") if at % 2 else one for at, one in enumerate(labels)]
        choice = choose(spelt, ())
        kept = {one for one, plain in zip(spelt, labels, strict=True) if plain in family.unsafe}
        assert set(choice.unsafe) == kept
        assert family.source in choice.reason
        assert family.why in choice.reason


def test_each_family_has_a_source_and_says_why_a_label_is_debatable() -> None:
    seen = set()
    for family in families():
        assert tuple(sorted(family.labels)) not in seen
        seen.add(tuple(sorted(family.labels)))
        assert family.source
        assert 0 < len(family.unsafe) < len(family.labels)
        assert set(family.unsafe) < set(family.labels)
        assert set(family.debatable) < set(family.unsafe)
        assert bool(family.debatable) == bool(family.why)


def test_the_families_agree_with_the_catalogue() -> None:
    for entry in catalogue.load().values():
        assert choose(entry.output.labels, ()).unsafe == entry.output.unsafe_labels, entry.name


WORDS = sorted({word for family in families() for word in family.labels} | {"gore", "LABEL_0"})


@given(st.lists(st.sampled_from(WORDS), min_size=2, max_size=6, unique=True))
def test_words_that_are_known_but_not_together_are_refused(labels: list[str]) -> None:
    assume(sorted(labels) not in [sorted(family.labels) for family in families()])
    with pytest.raises(UsageError, match="which of the labels") as caught:
        choose(labels, ())
    assert "--unsafe-label" in caught.value.hint


@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True), st.data())
def test_the_users_word_holds_for_any_labels(labels: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=9))
    if set(wanted) == set(labels):
        with pytest.raises(UsageError, match="all of them"):
            choose(labels, wanted)
    else:
        assert set(choose(labels, wanted).unsafe) == set(wanted)


def test_the_user_may_spell_a_label_in_another_way_if_it_is_clear_which() -> None:
    assert choose(("Safe Content", "Unsafe Content"), ("unsafe-content",)).unsafe == (
        "Unsafe Content",
    )
    for labels in (("nsfw", "NSFW", "x"), ("a", "b")):
        with pytest.raises(UsageError, match="which is not one of them"):
            choose(labels, ("Nsfw",))


def test_numbered_labels_send_the_user_to_the_models_card() -> None:
    with pytest.raises(UsageError) as caught:
        choose(("LABEL_0", "LABEL_1"), ())
    assert "card" in caught.value.hint


def test_the_build_says_which_labels_count_and_what_is_debatable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ("drawings", "hentai", "neutral", "porn", "sexy")
    folder, output = tmp_path / "checkpoint", tmp_path / "package"
    vit_fixture.make(str(folder), size="mini", patch=8, image=32, labels=labels)
    assert main([str(folder), "-o", str(output), "--recipe", "float"]) == 0
    said = capsys.readouterr().err
    assert "unsafe: hentai, porn, sexy; safe: drawings, neutral" in said
    assert "GantMan" in said
    assert "--unsafe-label hentai --unsafe-label porn" in said
    assert open_package(str(output)).manifest.output.unsafe_labels == ("hentai", "porn", "sexy")


def test_the_catalogue_is_not_overruled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["falconsai", "-o", str(tmp_path / "package"), "--unsafe-label", "normal"]
    assert main(arguments) == 2
    assert "--unsafe-label cannot be used with falconsai" in capsys.readouterr().err


ODD_MAPS = {
    "no labels": (None, "does not name at least two labels"),
    "one label": ({"0": "nsfw"}, "does not name at least two labels"),
    "a list": (["normal", "nsfw"], "does not name at least two labels"),
    "counted from one": ({"1": "normal", "2": "nsfw"}, "'2' but not '0'"),
    "a gap": ({"0": "normal", "2": "nsfw"}, "'2' but not '1'"),
    "leading zeros": ({"00": "normal", "01": "nsfw"}, "not '0'"),
    "words for numbers": ({"normal": "0", "nsfw": "1"}, "not '0'"),
    "one label twice": ({"0": "nsfw", "1": "nsfw"}, "'nsfw' to two classes"),
    "a number": ({"0": "normal", "1": 1}, "1, which is not printable text"),
    "null": ({"0": "normal", "1": None}, "None, which is not printable text"),
    "blanks": ({"0": "normal", "1": " "}, "not printable text"),
    "an escape sequence": ({"0": "normal", "1": "nsfw\x1b[31m"}, "not printable text"),
    "LABEL_0": ({"0": "LABEL_0", "1": "LABEL_1"}, "which of the labels LABEL_0, LABEL_1"),
}


@pytest.mark.parametrize("case", ODD_MAPS)
def test_an_odd_map_of_labels_is_refused_with_the_reason(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given_map, reason = ODD_MAPS[case]
    folder = small_vits.transformers(tmp_path / "checkpoint")
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), "id2label": given_map, "label2id": None}
    path.write_text(json.dumps(config))
    assert main([str(folder), "-o", str(tmp_path / "package")]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert "\x1b" not in said
    assert not (tmp_path / "package").exists()


def test_a_map_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    folder = small_vits.transformers(tmp_path / "checkpoint")
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"0": "normal"', '"0": "nsfw", "0": "normal"'))
    assert path.read_text() != text
    with pytest.raises(ModelTampered, match="appears twice"):
        open_checkpoint(str(folder))


def test_the_two_maps_have_to_agree(tmp_path: Path) -> None:
    folder = small_vits.transformers(tmp_path / "checkpoint")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for good in ({"normal": "0", "nsfw": "1"}, {"normal": 0, "nsfw": 1}, None):
        path.write_text(json.dumps({**config, "label2id": good}))
        open_checkpoint(str(folder))
    for bad in ({"normal": 1, "nsfw": 0}, {"nsfw": 1}, [0, 1], {"a": 0, "b": 1}):
        path.write_text(json.dumps({**config, "label2id": bad}))
        with pytest.raises(ModelTampered, match="label2id and id2label do not agree"):
            open_checkpoint(str(folder))


def test_labels_that_do_not_exclude_each_other_get_a_sigmoid_each(tmp_path: Path) -> None:
    folder, output = small_vits.transformers(tmp_path / "checkpoint"), tmp_path / "package"
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    assert main([str(folder), "-o", str(output), "--recipe", "float"]) == 0
    manifest = open_package(str(output)).manifest
    assert to_scores([3.0, 0.0], manifest).unsafe == pytest.approx(0.5)
    path.write_text(json.dumps({**config, "problem_type": "single_label_classification"}))
    assert main([str(folder), "-o", str(tmp_path / "other"), "--recipe", "float"]) == 0
    manifest = open_package(str(tmp_path / "other")).manifest
    assert to_scores([3.0, 0.0], manifest).unsafe == pytest.approx(0.0474, abs=1e-4)


def test_of_unsafe_labels_that_do_not_exclude_each_other_the_likeliest_counts(
    tmp_path: Path,
) -> None:
    labels = ("drawings", "hentai", "neutral", "porn", "sexy")
    folder, output = tmp_path / "checkpoint", tmp_path / "package"
    vit_fixture.make(str(folder), size="mini", patch=8, image=32, labels=labels)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    assert main([str(folder), "-o", str(output), "--recipe", "float"]) == 0
    manifest = open_package(str(output)).manifest
    assert to_scores([9.0, 0.0, 9.0, 1.0, 0.0], manifest).unsafe == pytest.approx(0.7311, abs=1e-4)

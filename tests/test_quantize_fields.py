"""Each field of a checkpoint's files is honoured, known to be harmless, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_vits
from hypothesis import given, settings
from hypothesis import strategies as st

from nsfwscan.models.manifest import OutputKind
from nsfwscan.values.errors import ModelTampered, ModelUnusable
from quantize.checkpoint import Checkpoint, describe, open_checkpoint
from quantize.config import harmless


class Place:
    """A JSON object of a checkpoint, in which fields can be changed."""

    def __init__(self, folder: Path, file: str, inner: str = "") -> None:
        self.folder = folder
        self._path = folder / file
        self._inner = inner
        self._good = json.loads(self._path.read_text())

    @property
    def good(self) -> dict[str, Any]:
        return self._good[self._inner] if self._inner else self._good

    def opened_with(self, fields: Mapping[str, Any]) -> Checkpoint:
        changed = {**self.good, **fields}
        document = {**self._good, self._inner: changed} if self._inner else changed
        self._path.write_text(json.dumps(document))
        try:
            return open_checkpoint(str(self.folder))
        finally:
            self._path.write_text(json.dumps(self._good))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    folder = tmp_path_factory.mktemp("checkpoints")
    one, other = small_vits.transformers(folder / "one"), small_vits.timm(folder / "other")
    return {
        "transformers": Place(one, "config.json"),
        "preprocessor": Place(one, "preprocessor_config.json"),
        "timm": Place(other, "config.json"),
        "timm_pretrained": Place(other, "config.json", "pretrained_cfg"),
    }


KINDS = ("transformers", "preprocessor", "timm", "timm_pretrained")
HANDLED = {  # these have a test of their own
    *("problem_type", "function_to_apply", "default_to_square", "model_args", "label_names"),
    *("feature_extractor_type", "num_labels", "_num_labels", "architecture", "crop_mode"),
}
OFF = {
    "transformers": ("quantization_config", "pruned_heads"),
    "preprocessor": ("do_center_crop", "do_pad", "do_flip_channel_order", "do_grayscale"),
    "timm_pretrained": ("label_offset", "state_dict"),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)  # files are written
@given(
    name=st.text(max_size=20) | st.from_regex(r"(do|use|num)_[a-z]{3,9}", fullmatch=True),
    value=st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
)
def test_any_field_that_is_not_known_is_refused_by_name(
    places: dict[str, Place], kind: str, name: str, value: object
) -> None:
    place = places[kind]
    known = {*place.good, *harmless(kind), *HANDLED, *OFF.get(kind, ())}
    if name in known:
        return
    with pytest.raises(ModelUnusable) as caught:
        place.opened_with({name: value})
    assert repr(name[:80]) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)  # files are written
@given(value=JSON, data=st.data())
def test_any_value_of_a_field_is_taken_or_refused_with_a_sentence(
    places: dict[str, Place], kind: str, value: object, data: st.DataObject
) -> None:
    place = places[kind]
    known = sorted({*place.good, *harmless(kind), *HANDLED, *OFF.get(kind, ())})
    name = data.draw(st.sampled_from(known))
    refused = ""
    try:
        place.opened_with({name: value})
    except (ModelTampered, ModelUnusable) as error:
        refused = str(error)
    assert refused == "" or str(place.folder) in refused
    assert refused.isprintable()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("transformers", "use_mean_pooling", True),
        ("transformers", "auto_map", {"AutoModel": "code.Model"}),
        ("transformers", "num_register_tokens", 4),
        ("transformers", "layerscale_value", 0.1),
        ("transformers", "quantization_config", {"bits": 4}),
        ("transformers", "pruned_heads", {"0": [1]}),
        ("transformers", "architectures", ["ViTForMaskedImageModeling"]),
        ("transformers", "num_labels", 3),
        ("transformers", "hidden_act", "gelu_new"),
        ("transformers", "problem_type", "regression"),
        ("transformers", "problem_type", ["multi_label_classification"]),
        ("transformers", "function_to_apply", "sigmoid"),
        ("transformers", "function_to_apply", "none"),
        ("preprocessor", "do_flip_channel_order", True),
        ("preprocessor", "do_pad", True),
        ("preprocessor", "do_center_crop", True),
        ("preprocessor", "do_grayscale", True),
        ("preprocessor", "crop_pct", 0.9),
        ("preprocessor", "offset", True),
        ("preprocessor", "rescale_offset", True),
        ("preprocessor", "include_top", True),
        ("preprocessor", "default_to_square", False),
        ("preprocessor", "resample", 1),
        ("preprocessor", "do_normalize", False),
        ("preprocessor", "image_processor_type", "ConvNextImageProcessor"),
        ("preprocessor", "image_processor_type", "BitImageProcessor"),
        ("preprocessor", "image_processor_type", ["ViTImageProcessor"]),
        ("preprocessor", "feature_extractor_type", "DeiTFeatureExtractor"),
        ("timm", "global_pool", "avg"),
        ("timm", "model_args", {"class_token": False}),
        ("timm", "model_args", {"num_classes": 3}),
        ("timm_pretrained", "crop_mode", "border"),
        ("timm_pretrained", "label_offset", 1),
        ("timm_pretrained", "interpolation", "lanczos"),
    ],
)
def test_what_would_change_the_scores_is_refused_by_name(
    places: dict[str, Place], kind: str, name: str, value: object
) -> None:
    with pytest.raises(ModelUnusable) as caught:
        places[kind].opened_with({name: value})
    assert name in str(caught.value)


def test_a_number_of_labels_of_its_own_has_to_be_right(places: dict[str, Place]) -> None:
    places["transformers"].opened_with({"num_labels": 2, "_num_labels": 2})
    with pytest.raises(ModelTampered, match="do not agree"):
        places["transformers"].opened_with({"label2id": {"normal": 0}})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [None, True, -3, "x", [1], {"a": 1}])
def test_a_harmless_field_changes_nothing(
    places: dict[str, Place], kind: str, value: object
) -> None:
    place = places[kind]
    assert place.opened_with(dict.fromkeys(harmless(kind), value)) == place.opened_with({})


@pytest.mark.parametrize("kind", sorted(OFF))
@pytest.mark.parametrize("value", [None, False])
def test_a_switch_that_is_off_changes_nothing(
    places: dict[str, Place], kind: str, value: object
) -> None:
    place = places[kind]
    assert place.opened_with(dict.fromkeys(OFF[kind], value)) == place.opened_with({})


def test_a_field_that_repeats_what_holds_anyway_is_taken(places: dict[str, Place]) -> None:
    config, preprocessor = places["transformers"], places["preprocessor"]
    plain = config.opened_with({})
    for fields in (
        {"problem_type": None, "function_to_apply": "softmax"},
        {"problem_type": "single_label_classification"},
        {"function_to_apply": None},
    ):
        assert config.opened_with(fields) == plain
    for fields in (
        {"default_to_square": None},
        {"default_to_square": True},
        {"size": 32},
        {"size": {"height": 32, "width": 32, "shortest_edge": None}},
        {"image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor"},
        {"image_processor_type": "ViTImageProcessorFast", "crop_size": None, "device": None},
    ):
        assert preprocessor.opened_with(fields) == plain
    both = {"problem_type": "multi_label_classification", "function_to_apply": "sigmoid"}
    assert config.opened_with(both) != plain


def test_a_file_as_the_library_writes_it_in_full_is_taken(places: dict[str, Place]) -> None:
    """The main model's published configuration has these fields besides the ones in the fixture."""
    places["transformers"].opened_with(
        {
            "_name_or_path": "google/vit-base-patch16-224-in21k",
            "attention_probs_dropout_prob": 0.0,
            "encoder_stride": 16,
            "hidden_dropout_prob": 0.0,
            "initializer_range": 0.02,
            "label2id": {"normal": "0", "nsfw": "1"},
            "problem_type": "single_label_classification",
            "torch_dtype": "float32",
            "transformers_version": "4.31.0",
        }
    )


def test_without_its_share_of_the_crop_a_timm_checkpoint_does_not_say_enough(
    places: dict[str, Place],
) -> None:
    place = places["timm_pretrained"]
    assert place.opened_with({}).meaning.preprocessing is not None
    del place.good["crop_pct"]
    assert place.opened_with({}).meaning.preprocessing is None


def test_a_field_that_stands_twice_is_refused(tmp_path: Path) -> None:
    folder = small_vits.transformers(tmp_path / "checkpoint")
    for name in ("config.json", "preprocessor_config.json"):
        path = folder / name
        text = path.read_text()
        path.write_text(text[: text.rindex("}")] + ', "do_resize": 1, "do_resize": 2}')
        with pytest.raises(ModelTampered, match="appears twice"):
            open_checkpoint(str(folder))
        path.write_text(text)


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    folder = small_vits.transformers(tmp_path / "checkpoint")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelUnusable, match="adapter"):
        open_checkpoint(str(folder))


def test_without_the_file_nothing_says_how_pictures_are_prepared(tmp_path: Path) -> None:
    folder = small_vits.transformers(tmp_path / "checkpoint")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelTampered, match=r"preprocessor_config\.json") as caught:
        open_checkpoint(str(folder))
    assert "describes the preprocessing" in caught.value.hint


def test_of_another_architecture_the_input_and_output_are_checked_all_the_same(
    tmp_path: Path,
) -> None:
    folder = small_vits.transformers(tmp_path / "checkpoint")
    path = folder / "config.json"
    swin = {**json.loads(path.read_text()), "model_type": "swin", "depths": [2, 2]}
    path.write_text(json.dumps(swin))
    assert describe(str(folder)).kind is OutputKind.LOGITS
    path.write_text(json.dumps({**swin, "problem_type": "multi_label_classification"}))
    assert describe(str(folder)).kind is OutputKind.INDEPENDENT_LOGITS
    for field in ({"auto_map": {"a": "b"}}, {"quantization_config": {"bits": 4}}):
        path.write_text(json.dumps({**swin, **field}))
        with pytest.raises(ModelUnusable, match=next(iter(field))):
            describe(str(folder))
    path.write_text(json.dumps(swin))
    preprocessor = folder / "preprocessor_config.json"
    said = json.loads(preprocessor.read_text())
    preprocessor.write_text(json.dumps({**said, "do_grayscale": True}))
    with pytest.raises(ModelUnusable, match="do_grayscale"):
        describe(str(folder))

"""Manifests: every field is checked, and the fingerprint covers what moves a score."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_packages import describe

from nsfwscan.models import catalogue, manifest
from nsfwscan.models.manifest import MODEL_NAME, Artefact, DType, ModelManifest, Probe
from nsfwscan.values.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

Document = dict[str, Any]


def sample() -> ModelManifest:
    files = {MODEL_NAME: describe(b"graph"), "LICENSE": describe(b"text")}
    base = catalogue.load()["freepik"].manifest(files)
    return dataclasses.replace(
        base, agreement={"max": 0.01}, probes=(Probe("disc", 0.25),), notes="a note"
    )


def document() -> Document:
    """Return the sample as a person would write it, without the checksum."""
    loaded: Document = json.loads(sample().dump())
    del loaded["checksum"]
    return loaded


def parse(changed: Document) -> ModelManifest:
    return manifest.parse(json.dumps(changed))


def test_what_is_dumped_reads_back_equal() -> None:
    assert manifest.parse(sample().dump()) == sample()
    assert parse(document()) == sample()


def test_every_required_field_is_missed_by_name() -> None:
    optional = {"external_data", "agreement", "probes", "notes"}
    for name in set(document()) - optional:
        changed = document()
        del changed[name]
        with pytest.raises(ManifestError, match=f"'{name}'"):
            parse(changed)
    for name in ("name", "dtype", "layout", "geometry", "scale", "mean", "std", "channel_order"):
        changed = document()
        del changed["input"][name]
        with pytest.raises(ManifestError, match=f"input lacks the field '{name}'"):
            parse(changed)


def put(*path: Any) -> Callable[[Document], None]:
    """Return a change of one field: the keys to it, then the value."""
    *keys, last, value = path

    def change(changed: Any) -> None:
        for key in keys:
            changed = changed[key]
        changed[last] = value

    return change


WRONG: dict[str, tuple[Callable[[Document], None], str]] = {
    "schema of later": (put("schema", "nsfwscan-model/2"), "schema"),
    "unknown field": (put("colour", "red"), "unknown field 'colour'"),
    "unknown field below": (put("input", "gamma", 2), "unknown field 'gamma'"),
    "name with a slash": (put("name", "a/b"), "name is"),
    "name with dots": (put("name", ".."), "name is"),
    "empty title": (put("title", ""), "title is"),
    "title with an escape": (put("title", "\x1b[2J"), "printable"),
    "title with a surrogate": (put("title", "\ud800"), "printable"),
    "label with a line end": (put("output", "labels", 0, "a\nb"), "printable"),
    "path out of the package": (
        put("files", "../x", {"sha256": "0" * 64, "bytes": 1}),
        "file name",
    ),
    "absolute path": (put("files", "/etc/passwd", {"sha256": "0" * 64, "bytes": 1}), "file name"),
    "backslash": (put("files", "a\\b", {"sha256": "0" * 64, "bytes": 1}), "file name"),
    "hidden file": (put("files", ".bashrc", {"sha256": "0" * 64, "bytes": 1}), "file name"),
    "the manifest itself": (
        put("files", "manifest.json", {"sha256": "0" * 64, "bytes": 1}),
        "file name",
    ),
    "no graph": (put("files", {}), "does not list model.onnx"),
    "short hash": (put("files", MODEL_NAME, "sha256", "0" * 63), "sha256"),
    "upper case hash": (put("files", MODEL_NAME, "sha256", "A" * 64), "sha256"),
    "no bytes": (put("files", MODEL_NAME, "bytes", 0), "bytes"),
    "bytes as text": (put("files", MODEL_NAME, "bytes", "5"), "bytes"),
    "bytes as truth": (put("files", MODEL_NAME, "bytes", True), "bytes"),
    "huge bytes": (put("files", MODEL_NAME, "bytes", 10**30), "bytes"),
    "unknown dtype": (put("input", "dtype", "float16"), "one of float32, uint8"),
    "dtype as a list": (put("input", "dtype", []), "one of float32, uint8"),
    "scaled uint8": (put("input", "dtype", "uint8"), "raw pixels"),
    "zero std": (put("input", "std", [0, 1, 1]), "std"),
    "two means": (put("input", "mean", [0, 1]), "three numbers"),
    "infinite mean": (put("input", "mean", [1e999, 0, 0]), "JSON"),
    "crop too large": (put("input", "geometry", "crop_width", 500), "crop is larger"),
    "edge too large": (put("input", "geometry", "resize_width", 5000), "resize_width"),
    "edge as float": (put("input", "geometry", "crop_width", 224.0), "crop_width"),
    "one label": (put("output", "labels", ["nsfw"]), "two different labels"),
    "double label": (put("output", "labels", ["a", "a"]), "two different labels"),
    "no unsafe label": (put("output", "unsafe_labels", []), "but not all"),
    "all labels unsafe": (
        put("output", "unsafe_labels", ["neutral", "low", "medium", "high"]),
        "but not all",
    ),
    "unknown unsafe label": (put("output", "unsafe_labels", ["worst"]), "but not all"),
    "thresholds crossed": (put("thresholds", "review_at", 0.999), "above flag_at"),
    "threshold too high": (put("thresholds", "flag_at", 1.1), "flag_at"),
    "unknown external data": (put("external_data", "w.bin"), "not in files"),
    "external data is the graph": (put("external_data", MODEL_NAME), "itself"),
    "probes as a table": (put("probes", {}), "a list"),
    "probe above one": (put("probes", 0, "unsafe", 1.5), "unsafe"),
    "agreement as text": (put("agreement", "max", "good"), "a number"),
    "files as a list": (put("files", []), "table"),
    "wrong checksum": (put("checksum", "0" * 64), "checksum"),
    "null": (put("title", None), "lacks the field 'title'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_refused_by_name(case: str) -> None:
    change, message = WRONG[case]
    changed = document()
    change(changed)
    with pytest.raises(ManifestError, match=message):
        parse(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"schema": NaN}',
        '{"schema": 1, "schema": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        b"\xff\xfe",
        b"\x00" * 100,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_manifest_at_all_is_refused(text: str | bytes) -> None:
    with pytest.raises(ManifestError):
        manifest.parse(text)


def test_one_changed_digit_breaks_the_checksum() -> None:
    text = sample().dump()
    with pytest.raises(ManifestError, match="checksum"):
        manifest.parse(text.replace("0.40821073", "0.40821072"))
    with pytest.raises(ManifestError, match="checksum"):
        manifest.parse(text.replace("0.992", "0.982"))


def test_layout_of_the_text_does_not_matter() -> None:
    loaded = json.loads(sample().dump())
    assert manifest.parse(json.dumps(dict(reversed(loaded.items())))) == sample()


def test_the_fingerprint_covers_what_moves_a_score() -> None:
    base = sample()
    geometry = dataclasses.replace(base.input.geometry, crop_width=400)
    moved = [
        dataclasses.replace(base, files={**base.files, MODEL_NAME: describe(b"other")}),
        dataclasses.replace(base, input=dataclasses.replace(base.input, geometry=geometry)),
        dataclasses.replace(base, input=dataclasses.replace(base.input, scale=1.0)),
        dataclasses.replace(base, input=dataclasses.replace(base.input, dtype=DType.UINT8)),
        dataclasses.replace(base, output=dataclasses.replace(base.output, unsafe_labels=("high",))),
        dataclasses.replace(
            base,
            files={**base.files, "w.bin": describe(b"weights")},
            external_data="w.bin",
        ),
    ]
    assert len({one.fingerprint for one in [base, *moved]}) == 1 + len(moved)


def test_the_fingerprint_leaves_out_what_does_not() -> None:
    base = sample()
    same = [
        dataclasses.replace(base, name="other", version="9", title="Other", notes=""),
        dataclasses.replace(base, files={**base.files, "LICENSE": Artefact("0" * 64, 7)}),
        dataclasses.replace(
            base, thresholds=dataclasses.replace(base.thresholds, review_at=0.1), probes=()
        ),
    ]
    assert {one.fingerprint for one in same} == {base.fingerprint}
    assert {one.checksum for one in same}.isdisjoint({base.checksum})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
PLACES = [
    *((name,) for name in document()),
    *(("input", name) for name in document()["input"]),
    *(("input", "geometry", name) for name in document()["input"]["geometry"]),
    *(("output", name) for name in document()["output"]),
    *(("thresholds", name) for name in document()["thresholds"]),
    ("files", MODEL_NAME),
    ("probes", 0),
]


@given(place=st.sampled_from(PLACES), value=JSON)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_place_is_accepted_or_refused_cleanly(
    place: tuple[Any, ...], value: object
) -> None:
    changed = document()
    put(*place, value)(changed)
    try:
        read = parse(changed)
    except ManifestError:
        return
    assert manifest.parse(read.dump()) == read
    read.dump().encode()

"""The catalogue: its data is complete, consistent and says what is known of the models."""

from __future__ import annotations

import importlib.resources
import re

import pytest
from tiny_packages import describe

from nsfwscan.models import catalogue, manifest
from nsfwscan.models.catalogue import HubSource, WheelSource
from nsfwscan.models.manifest import MODEL_NAME

ENTRIES = list(catalogue.load().values())
NAMES = [one.name for one in ENTRIES]


def test_the_models_stand_in_the_order_of_preference() -> None:
    assert NAMES == ["falconsai", "adamcodd", "marqo", "freepik", "opennsfw"]
    assert [name for name in NAMES if name in catalogue.AUTO_ORDER] == list(catalogue.AUTO_ORDER)


def test_the_first_choices_can_be_pulled() -> None:
    assert isinstance(catalogue.load()[catalogue.FIRST_CHOICE].origin, HubSource)
    assert isinstance(catalogue.load()[catalogue.WITHOUT_HUB].origin, WheelSource)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_entry_makes_a_manifest_that_reads_back(entry: catalogue.CatalogueEntry) -> None:
    made = entry.manifest({MODEL_NAME: describe(b"graph")})
    assert manifest.parse(made.dump()) == made
    assert made.package == entry.package


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_file_is_pinned(entry: catalogue.CatalogueEntry) -> None:
    for source in (entry.origin, entry.checkpoint):
        match source:
            case HubSource(repo, revision, files):
                assert re.fullmatch(r"[\w.-]+/[\w.-]+", repo)
                assert re.fullmatch(r"[0-9a-f]{40}", revision)
                assert files
                for file in files:
                    assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
                    assert not file.path.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))
                    assert ".." not in file.path
            case WheelSource():
                assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
                assert re.fullmatch(r"[0-9a-f]{64}", source.member_sha256)
            case None:
                pass
    assert entry.origin or entry.checkpoint


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_graph_that_runs_becomes_model_onnx(entry: catalogue.CatalogueEntry) -> None:
    match entry.origin:
        case HubSource(files=files):
            assert [file.name for file in files] == [MODEL_NAME]
        case WheelSource(name=name):
            assert name == MODEL_NAME
        case None:
            assert {"model.safetensors"} <= {one.name for one in entry.checkpoint.files}  # type: ignore[union-attr] # the test above


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_threshold_names_its_source(entry: catalogue.CatalogueEntry) -> None:
    thresholds = entry.thresholds
    assert f"{thresholds.review_at:g}" in thresholds.source
    assert f"{thresholds.flag_at:g}" in thresholds.source
    assert 0 < thresholds.review_at < thresholds.flag_at < 1


@pytest.mark.parametrize(
    ("name", "holder", "phrase"),
    [
        ("falconsai", "Falcons.ai", "Apache License"),
        ("adamcodd", "AdamCodd", "Apache License"),
        ("marqo", "Marqo", "Apache License"),
        ("freepik", "Freepik", "MIT License"),
        ("opennsfw", "Copyright 2016, Yahoo Inc.", "Redistribution and use in source and binary"),
        ("opennsfw", "Copyright (c) 2017 Sector Labs", "Permission is hereby granted"),
    ],
)
def test_every_licence_is_a_whole_text(name: str, holder: str, phrase: str) -> None:
    text = catalogue.load()[name].licence_text()
    assert holder in text
    assert phrase in text
    assert "WARRANT" in text


def test_no_licence_text_is_left_over() -> None:
    folder = importlib.resources.files("nsfwscan.models") / "licences"
    used = {text for one in ENTRIES for text in one.licence_texts}
    assert {path.name for path in folder.iterdir()} == used


def test_the_labels_are_the_publishers() -> None:
    labels = {name: one.output.labels for name, one in catalogue.load().items()}
    assert labels == {
        "falconsai": ("normal", "nsfw"),
        "adamcodd": ("sfw", "nsfw"),
        "marqo": ("NSFW", "SFW"),
        "freepik": ("neutral", "low", "medium", "high"),
        "opennsfw": ("sfw", "nsfw"),
    }


def test_the_catalogue_names_no_server() -> None:
    text = (importlib.resources.files("nsfwscan.models") / "catalogue.toml").read_text("utf-8")
    assert "://" not in text

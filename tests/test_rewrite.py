"""Published graphs that run in another form: the same bits, or not at all."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import published_vits
import pytest
from onnxruntime.quantization import QuantType
from published_vits import SMALL

from benchmarks.exported_vit import Exported, export
from nsfwscan.models import classifier, runtime, speed
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.manifest import MODEL_NAME, WeightForm, parse
from nsfwscan.models.package import InstalledModel, as_published, open_package
from nsfwscan.models.provider import Provider
from nsfwscan.models.rewrite import derive
from nsfwscan.models.staging import LOCK
from nsfwscan.models.store import ModelStore
from nsfwscan.system.locks import open_lock
from nsfwscan.values.errors import ModelError, ModelTampered, ModelUnusable

WAYS = {
    "modern": SMALL,
    "older": replace(SMALL, modern=False),
    "by channel": replace(SMALL, per_channel=True),
    "float patches": replace(SMALL, convolution=False),
    "int8": replace(SMALL, weights=QuantType.QInt8, convolution=False),
    "one block": replace(SMALL, layers=1),
    "larger": replace(SMALL, image=64, heads=4, seed=7),
}
MUTATED = 200 if os.environ.get("TESTS_AT_FULL_SIZE") else 60


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("published")
    return {name: _exported(way, folder / "graph.onnx") for name, way in WAYS.items()}


def _exported(way: Exported, path: Path) -> bytes:
    export(way, str(path))
    return path.read_bytes()


@pytest.fixture(autouse=True)
def fresh_probe() -> Iterator[None]:
    runtime.exact_int8.cache_clear()
    yield
    runtime.exact_int8.cache_clear()


def installed(folder: Path, data: bytes, image: int = 48) -> tuple[ModelStore, InstalledModel]:
    """Return a store with this graph as it was pulled by a version that did not rewrite."""
    package = published_vits.manifest(data, image).package
    published_vits.package(folder / "models" / package, data, image)
    store = ModelStore(str(folder / "models"))
    return store, store.find("falconsai")


def load(model: InstalledModel) -> OrtClassifier:
    return OrtClassifier(model, threads=1, provider=Provider.CPU, warn=pytest.fail)


def scores(model: InstalledModel, count: int = 6) -> list[Any]:
    """Return the scores of pictures that were not used to compare the graphs."""
    loaded, edge = load(model), model.manifest.input.geometry.crop_width
    pixels = np.random.default_rng(99).integers(0, 256, (count, edge, edge, 3), np.uint8)
    pixels[0] = 0
    pixels[1, : edge // 2] = 255
    return loaded.classify(pixels.tobytes(), count)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_the_rewritten_graph_gives_the_published_scores_bit_for_bit(
    way: str,
    exact: bool,
    graphs: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if exact and not runtime.exact_int8():
        pytest.skip("this processor has no exact products of int8 weights")
    for module in (derive, classifier):
        monkeypatch.setattr(module, "exact_int8", lambda: exact)
    store, old = installed(tmp_path, graphs[way], WAYS[way].image)
    new = store.prepared(old)
    rewriting = new.manifest.rewriting
    assert rewriting is not None
    assert rewriting.problem == ""
    assert rewriting.form == (WeightForm.INT8 if exact else WeightForm.UINT8)
    assert load(new).form == rewriting.form
    assert scores(new) == scores(old)
    assert new.manifest.fingerprint == old.manifest.fingerprint, "what was scored stays scored"
    new.verify()
    assert (Path(new.folder) / MODEL_NAME).read_bytes() == graphs[way]


def test_the_rewritten_graph_also_gives_embedding_and_attention(
    graphs: dict[str, bytes], tmp_path: Path
) -> None:
    store, old = installed(tmp_path, graphs["modern"])
    assert load(old).read(bytes(48 * 48 * 3), 1, embedding=True).embedding is None
    reading = load(store.prepared(old)).read(bytes(48 * 48 * 3), 1, embedding=True, attention=True)
    assert reading.embedding is not None
    assert len(reading.embedding) == 4 * 64
    assert reading.attention is not None
    attention = np.frombuffer(reading.attention, "<f4").reshape(2, 10)
    assert np.allclose(attention.sum(axis=1), 1, atol=1e-5)


def test_it_is_done_once_and_the_same_each_time(graphs: dict[str, bytes], tmp_path: Path) -> None:
    said: list[str] = []
    store, old = installed(tmp_path / "a", graphs["modern"])
    store.say = said.append
    new = store.prepared(old)
    assert said == ["Preparing falconsai for this processor, once."]
    assert store.prepared(store.find("falconsai")).manifest == new.manifest
    assert len(said) == 1
    other, again = installed(tmp_path / "b", graphs["modern"])
    assert other.prepared(again).manifest == new.manifest, "equal files give equal checksums"


def test_a_manifest_with_a_rewriting_reads_back(graphs: dict[str, bytes], tmp_path: Path) -> None:
    store, old = installed(tmp_path, graphs["modern"])
    manifest = store.prepared(old).manifest
    assert parse(manifest.dump()) == manifest
    assert manifest.as_published == old.manifest
    for wrong in (
        '"graph": "fast.onnx"',
        '"form": "int8"' if runtime.exact_int8() else '"form": "uint8"',
        '"name": "dynamic-vit/1"',
    ):
        name = wrong.split('"')[1]
        text = manifest.dump().replace(wrong, f'"{name}": "other"')
        with pytest.raises(ModelError):
            parse(text)


def test_a_processor_that_would_saturate_gets_the_other_form(
    graphs: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not runtime.exact_int8():
        pytest.skip("this processor has no exact products of int8 weights")
    store, old = installed(tmp_path, graphs["modern"])
    new = store.prepared(old)
    for module in (derive, classifier):
        monkeypatch.setattr(module, "exact_int8", lambda: False)
    moved = load(new)  # the home folder of another computer
    assert moved.form == "", "the published graph runs until the package is prepared again"
    ready = store.prepared(new)
    assert ready.manifest.rewriting is not None
    assert ready.manifest.rewriting.form == WeightForm.UINT8
    assert scores(ready) == scores(old)


def test_a_processors_products_are_measured() -> None:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        features = set(file.read().split())
    if "avx512_vnni" in features or "avx_vnni" in features:
        assert runtime.exact_int8()
    elif "avx2" in features:
        assert not runtime.exact_int8()


@pytest.mark.parametrize("way", ["modern", "older"])
def test_a_changed_graph_runs_as_it_is_or_with_its_own_scores(
    way: str, graphs: dict[str, bytes], tmp_path: Path
) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(MUTATED):
        data = published_vits.change(graphs[way], _Mutation(seed))
        store, old = installed(tmp_path / f"{way}-{seed}", data)
        new = store.prepared(old)
        assert new.manifest.rewriting is not None
        rewritten = bool(new.manifest.rewriting.graph)
        assert rewritten or new.manifest.rewriting.problem
        try:
            wanted: object = scores(old, 4)
        except ModelUnusable as error:
            wanted = str(error)
        try:
            found: object = scores(new, 4)
        except ModelUnusable as error:
            found = str(error)
        assert found == wanted, (seed, new.manifest.rewriting)
        outcomes["rewritten" if rewritten else "as it is"] += 1
        outcomes["unusable"] += isinstance(wanted, str)
    assert outcomes["rewritten"] > MUTATED // 20, outcomes
    assert outcomes["as it is"] > MUTATED // 4, outcomes


class _Mutation:
    """One change of a graph, such as damage, an attack or another exporter would make."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, model: Any) -> None:
        kinds = (self._number, self._attribute, self._operator, self._wire, self._drop, self._swap)
        self._random.choice(kinds)(model.graph)

    def _number(self, graph: Any) -> None:
        """Change a byte of a constant."""
        tensor = self._random.choice([one for one in graph.initializer if one.raw_data])
        data = bytearray(tensor.raw_data)
        data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        tensor.raw_data = bytes(data)

    def _attribute(self, graph: Any) -> None:
        node = self._random.choice([one for one in graph.node if one.attribute])
        attribute = self._random.choice(node.attribute)
        if attribute.type == onnx.AttributeProto.INT:
            attribute.i += self._random.choice((-1, 1, 2))
        elif attribute.type == onnx.AttributeProto.FLOAT:
            attribute.f *= self._random.choice((0.5, 2, 1e9))
        elif attribute.ints:
            at = self._random.randrange(len(attribute.ints))
            attribute.ints[at] = self._random.randrange(4)

    def _operator(self, graph: Any) -> None:
        node = self._random.choice(graph.node)
        same = [["Add", "Mul", "Sub", "Div"], ["Softmax", "LogSoftmax"], ["Erf", "Tanh", "Sqrt"]]
        others = next((one for one in same if node.op_type in one), ["Identity", "Neg"])
        node.op_type = self._random.choice(others)

    def _wire(self, graph: Any) -> None:
        """Connect an input to another value that was computed before."""
        at = self._random.randrange(1, len(graph.node))
        node = graph.node[at]
        before = [name for one in graph.node[:at] for name in one.output]
        before += [one.name for one in graph.initializer]
        if node.input:
            node.input[self._random.randrange(len(node.input))] = self._random.choice(before)

    def _drop(self, graph: Any) -> None:
        node = self._random.choice([one for one in graph.node if one.input])
        for other in graph.node:
            for at, name in enumerate(other.input):
                if name in node.output:
                    other.input[at] = node.input[0]

    def _swap(self, graph: Any) -> None:
        node = self._random.choice([one for one in graph.node if len(one.input) > 1])
        node.input[0], node.input[1] = node.input[1], node.input[0]


def test_what_was_not_quantized_dynamically_is_no_case_for_this(tmp_path: Path) -> None:
    data = published_vits.identity(48)
    store, old = installed(tmp_path, data)
    new = store.prepared(old)
    assert new.manifest.rewriting is not None
    assert (new.manifest.rewriting.graph, new.manifest.rewriting.problem) == ("", "")
    assert speed.measure(new).faster == "", "nobody is told about what does not concern the model"
    assert scores(new) == scores(old)
    assert store.prepared(new).manifest == new.manifest, "it is not tried again"


def test_what_is_not_recognised_runs_as_it_is_and_says_why(
    graphs: dict[str, bytes], tmp_path: Path
) -> None:
    def other(model: Any) -> None:
        next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "LogSoftmax"

    store, old = installed(tmp_path, published_vits.change(graphs["modern"], other))
    new = store.prepared(old)
    assert new.manifest.rewriting is not None
    assert "comes from LogSoftmax" in new.manifest.rewriting.problem
    assert "could not be made faster" in speed.measure(new).faster
    assert scores(new) == scores(old)


def test_a_name_that_is_not_text_is_no_crash(graphs: dict[str, bytes], tmp_path: Path) -> None:
    data = graphs["modern"].replace(b"pixel_values", b"pixel_\xff\xfe\xfdues")
    with pytest.raises(ModelUnusable, match="not text"):
        onnx_file.parse(data, "it")
    store, old = installed(tmp_path, data)
    new = store.prepared(old)
    assert new.manifest.rewriting is not None
    assert "not text" in new.manifest.rewriting.problem


def test_a_damaged_rewriting_is_refused(graphs: dict[str, bytes], tmp_path: Path) -> None:
    store, old = installed(tmp_path, graphs["modern"])
    new = store.prepared(old)
    weights = Path(new.folder) / "fast.bin"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelTampered):
        load(store.find("falconsai"))


def test_a_rewriting_that_was_brought_along_is_not_trusted(
    graphs: dict[str, bytes], tmp_path: Path
) -> None:
    """It would have the fingerprint of the published model, and any weights."""
    store, old = installed(tmp_path, graphs["modern"])
    brought = Path(store.prepared(old).folder)
    assert store.find(str(brought)).manifest.rewriting is None
    other = ModelStore(str(tmp_path / "other"))
    added = other.add(str(brought))
    assert added.manifest.rewriting is None
    assert sorted(os.listdir(added.folder)) == ["LICENSE", "manifest.json", MODEL_NAME]


def test_a_store_that_is_in_use_is_left_alone(graphs: dict[str, bytes], tmp_path: Path) -> None:
    store, old = installed(tmp_path, graphs["modern"])
    lock = open_lock(os.path.join(store.folder, LOCK))
    assert lock.take()
    try:
        assert store.prepared(old) == old
    finally:
        lock.release()
    assert store.prepared(old).manifest.rewriting is not None


def test_a_full_disk_leaves_the_package_as_it_was(
    graphs: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, old = installed(tmp_path, graphs["modern"])

    def full(*_given: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(derive.onnx_file, "write", full)
        assert store.prepared(old) == old
    store.find("falconsai").verify()
    assert sorted(os.listdir(old.folder)) == ["LICENSE", "manifest.json", MODEL_NAME]


def test_a_package_elsewhere_is_not_changed(graphs: dict[str, bytes], tmp_path: Path) -> None:
    _, old = installed(tmp_path, graphs["modern"])
    assert ModelStore(str(tmp_path / "other")).prepared(old) == old


def test_pulling_again_keeps_what_was_built(graphs: dict[str, bytes], tmp_path: Path) -> None:
    store, old = installed(tmp_path / "a", graphs["modern"])
    new = store.prepared(old)
    _, same = installed(tmp_path / "b", graphs["modern"])
    assert store.add(same.folder).manifest == new.manifest


def test_as_published_is_without_what_was_built(graphs: dict[str, bytes], tmp_path: Path) -> None:
    store, old = installed(tmp_path, graphs["modern"])
    new = store.prepared(old)
    assert as_published(new).manifest == old.manifest
    assert open_package(new.folder) == new
    assert replace(old.manifest, rewriting=None) == old.manifest

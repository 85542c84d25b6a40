"""The owner of onnxruntime, with graphs of a few nodes.

Every graph here has one job: mean colour in, two numbers out, in whatever form the manifest says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nsfwscan.models import runtime as module
from nsfwscan.models.classifier import (
    OrtClassifier,
    available_providers,
    to_scores,
)
from nsfwscan.models.manifest import (
    Artefact,
    ChannelOrder,
    DType,
    Layout,
    ModelManifest,
    OutputKind,
    Reduction,
)
from nsfwscan.models.package import InstalledModel
from nsfwscan.models.provider import Provider
from nsfwscan.values.errors import ModelTampered, ModelUnusable
from nsfwscan.values.outcome import Reading

EDGE = 4
_RED, _BLUE = (255, 0, 0), (0, 0, 255)
_GEOMETRY = dataclasses.replace(
    tiny_model.manifest(b"").input.geometry,
    resize_width=EDGE,
    resize_height=EDGE,
    crop_width=EDGE,
    crop_height=EDGE,
)
_RED_IS_UNSAFE = [[0, 4], [0, 0], [0, -4]]


def graph(
    *,
    layout: Layout = Layout.NHWC,
    dtype: DType = DType.FLOAT32,
    weights: list[list[float]] = _RED_IS_UNSAFE,
    bias: list[float] | None = None,
    last: str = "Identity",
    name: str = "pixels",
    output: str = "numbers",
    channels: int = 3,
) -> onnx.ModelProto:
    """Build: mean over the picture, (N, 3) times (3, labels), plus a bias, then `last`."""
    nhwc = layout is Layout.NHWC
    labels = len(weights[0])
    shape: list[Any] = ["N", EDGE, EDGE, channels] if nhwc else ["N", channels, EDGE, EDGE]
    kind = TensorProto.FLOAT if dtype is DType.FLOAT32 else TensorProto.UINT8
    flat = [float(one) for row in weights for one in row]
    tensors = [
        helper.make_tensor("weights", TensorProto.FLOAT, [3, labels], flat),
        helper.make_tensor("bias", TensorProto.FLOAT, [labels], bias or [0.0] * labels),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if nhwc else [2, 3]),
    ]
    nodes = [
        helper.make_node("Cast", [name], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node(last, ["sum"], [output]),
    ]
    whole = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", labels])],
        tensors,
    )
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def describe(
    *,
    layout: Layout = Layout.NHWC,
    dtype: DType = DType.FLOAT32,
    order: ChannelOrder = ChannelOrder.RGB,
    kind: OutputKind = OutputKind.LOGITS,
    reduction: Reduction = Reduction.SUM,
    labels: tuple[str, ...] = ("safe", "unsafe"),
    unsafe: tuple[str, ...] = ("unsafe",),
    external_data: str = "",
) -> ModelManifest:
    """Describe a graph that takes 0 to 1, or raw bytes, and returns `numbers`."""
    start = tiny_model.manifest(b"")
    scale = 1 / 255 if dtype is DType.FLOAT32 else 1.0
    return dataclasses.replace(
        start,
        external_data=external_data,
        input=dataclasses.replace(
            start.input,
            layout=layout,
            dtype=dtype,
            channel_order=order,
            geometry=_GEOMETRY,
            scale=scale,
        ),
        output=dataclasses.replace(
            start.output,
            name="numbers",
            kind=kind,
            reduction=reduction,
            labels=labels,
            unsafe_labels=unsafe,
        ),
    )


def install(folder: Path, data: bytes, manifest: ModelManifest, **more: bytes) -> InstalledModel:
    """Write a package's files; `more` are those besides the graph, with `_` for the dot."""
    files = {"model.onnx": data, **{name.replace("_", "."): one for name, one in more.items()}}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    artefacts = {
        name: Artefact(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in files.items()
    }
    return InstalledModel(str(folder), dataclasses.replace(manifest, files=artefacts))


def load(
    folder: Path,
    model: onnx.ModelProto,
    manifest: ModelManifest,
    *,
    provider: Provider = Provider.AUTO,
    warn: Callable[[str], None] = pytest.fail,
) -> OrtClassifier:
    installed = install(folder, model.SerializeToString(), manifest)
    return OrtClassifier(installed, threads=1, provider=provider, warn=warn)


def pixels(*colours: tuple[int, int, int]) -> bytes:
    return b"".join(bytes(colour) * (EDGE * EDGE) for colour in colours)


def softmax_of(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("order", ChannelOrder)
def test_pixels_are_handed_over_as_the_manifest_says(
    layout: Layout, dtype: DType, order: ChannelOrder, tmp_path: Path
) -> None:
    size = 1 if dtype is DType.FLOAT32 else 255
    weights = [[one / size for one in row] for row in _RED_IS_UNSAFE]
    if order is ChannelOrder.BGR:
        weights.reverse()
    model = graph(layout=layout, dtype=dtype, weights=weights)
    loaded = load(tmp_path, model, describe(layout=layout, dtype=dtype, order=order))
    red, blue = loaded.classify(pixels(_RED, _BLUE), 2)
    assert red.unsafe == pytest.approx(softmax_of(4), abs=1e-6)
    assert blue.unsafe == pytest.approx(softmax_of(-4), abs=1e-6)
    assert red.probabilities == pytest.approx((1 - red.unsafe, red.unsafe))
    assert loaded.manifest.output.labels == ("safe", "unsafe")


def test_axes_are_not_mixed_up(tmp_path: Path) -> None:
    """A picture that is wider than high, whose left half is red: only the axes tell."""
    manifest = describe(layout=Layout.NCHW)
    geometry = dataclasses.replace(_GEOMETRY, resize_width=8, crop_width=8)
    manifest = dataclasses.replace(
        manifest, input=dataclasses.replace(manifest.input, geometry=geometry)
    )
    start = helper.make_tensor("start", TensorProto.INT64, [3], [0, 0, 0])
    end = helper.make_tensor("end", TensorProto.INT64, [3], [1, 4, 4])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    both = helper.make_tensor("both", TensorProto.INT64, [2], [2, 3])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1, 1], [0.0])
    nodes = [
        helper.make_node("Slice", ["pixels", "start", "end", "axes"], ["left"]),
        helper.make_node("ReduceMean", ["left", "both"], ["red"], keepdims=0),
        helper.make_node("Concat", ["zero", "red"], ["numbers"], axis=1),
    ]
    whole = helper.make_graph(
        nodes,
        "left",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, EDGE, 8])],
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [1, 2])],
        [start, end, axes, both, zero],
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    loaded = load(tmp_path, model, manifest)
    row = bytes(_RED) * 4 + bytes(_BLUE) * 4
    (scores,) = loaded.classify(row * EDGE, 1)
    assert scores.unsafe == pytest.approx(softmax_of(1), abs=1e-6)


def test_mean_and_deviation_are_those_of_each_channel(tmp_path: Path) -> None:
    manifest = describe()
    spec = dataclasses.replace(manifest.input, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    loaded = load(tmp_path, graph(weights=[[0, 1]] * 3), dataclasses.replace(manifest, input=spec))
    (scores,) = loaded.classify(pixels((255, 0, 51)), 1)
    expected = (1 - 0.5) / 0.5 + (0 - 0.25) / 0.25 + 0.2 / 2
    assert scores.unsafe == pytest.approx(softmax_of(expected), abs=1e-6)


def test_a_score_does_not_depend_on_the_company(tmp_path: Path) -> None:
    loaded = load(tmp_path, graph(), describe())
    colours = [(at * 9 % 256, at * 5 % 256, at * 3 % 256) for at in range(30)]
    together = loaded.classify(pixels(*colours), len(colours))
    alone = [loaded.classify(pixels(colour), 1)[0] for colour in colours]
    assert together == alone


def test_the_reading_is_of_the_least_safe_view(tmp_path: Path) -> None:
    loaded = load(tmp_path, graph(), describe())
    reading = loaded.read(pixels(_BLUE, _RED, _BLUE), 3)
    (scores,) = loaded.classify(pixels(_RED), 1)
    assert reading == Reading(scores, view=1, outputs=reading.outputs)
    assert to_scores(reading.outputs, loaded.manifest) == scores
    assert loaded.read(pixels(_RED, _RED), 2).view == 0


def test_embedding_and_attention_come_with_the_view_that_counts(tmp_path: Path) -> None:
    """Here the embedding is the mean colour, and the attention that in another shape."""
    model = graph()
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 3, 1])
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Identity", ["colour"], ["embedding"]))
    model.graph.node.append(helper.make_node("Reshape", ["colour", "shape"], ["attention"]))
    for name, axes in (("embedding", [1, 3]), ("attention", [1, 3, 1])):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))
    manifest = describe()
    output = dataclasses.replace(manifest.output, embedding="embedding", cls_attention="attention")
    loaded = load(tmp_path, model, dataclasses.replace(manifest, output=output))
    both = loaded.read(pixels(_BLUE, _RED), 2, embedding=True, attention=True)
    assert both.embedding == both.attention == np.asarray([1, 0, 0], "<f4").tobytes()
    assert loaded.read(pixels(_RED), 1, attention=True).embedding is None
    assert loaded.read(pixels(_RED), 1) == both._replace(view=0, embedding=None, attention=None)


def test_a_model_without_an_embedding_gives_none(tmp_path: Path) -> None:
    loaded = load(tmp_path, graph(), describe())
    reading = loaded.read(pixels(_RED), 1, embedding=True, attention=True)
    assert (reading.embedding, reading.attention) == (None, None)


def test_many_threads_get_the_same_scores_bit_for_bit(tmp_path: Path) -> None:
    loaded = load(tmp_path, graph(), describe())
    colours = [(at, 255 - at, at // 2) for at in range(0, 256, 4)]
    expected = [loaded.classify(pixels(colour), 1) for colour in colours]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(5):
            found = threads.map(lambda colour: loaded.classify(pixels(colour), 1), colours)
            assert list(found) == expected


# What numbers mean.


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_logits_become_probabilities_that_add_up_to_one(row: list[float]) -> None:
    manifest = describe(labels=("a", "b", "c"), unsafe=("a", "c"))
    scores = to_scores(row, manifest)
    assert math.fsum(scores.probabilities) == pytest.approx(1)
    assert scores.unsafe == pytest.approx(scores.probabilities[0] + scores.probabilities[2])
    assert 0 <= scores.unsafe <= 1
    assert scores.probabilities[row.index(max(row))] == max(scores.probabilities)


@given(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3))
def test_independent_logits_become_a_sigmoid_each(row: list[float]) -> None:
    manifest = describe(
        labels=("a", "b", "c"),
        unsafe=("b", "c"),
        kind=OutputKind.INDEPENDENT_LOGITS,
        reduction=Reduction.MAX,
    )
    scores = to_scores(row, manifest)
    for value, probability in zip(row, scores.probabilities, strict=True):
        expected = 0.0 if value < -700 else softmax_of(value)
        assert probability == pytest.approx(expected, abs=1e-12)
    assert scores.unsafe == max(scores.probabilities[1:])


def test_probabilities_are_taken_as_they_are_and_kept_in_range() -> None:
    manifest = describe(kind=OutputKind.PROBABILITIES)
    assert to_scores([0.25, 0.75], manifest).probabilities == (0.25, 0.75)
    slightly_off = to_scores([-1e-7, 1 + 1e-7], manifest)
    assert slightly_off == ((0.0, 1.0), 1.0)


@pytest.mark.parametrize("row", [[0.5, 0.6], [-0.2, 1.2], [3.0, 4.0], [0.0, 0.0]])
def test_what_does_not_add_up_is_no_probabilities(row: list[float]) -> None:
    with pytest.raises(ModelUnusable, match="are not probabilities") as caught:
        to_scores(row, describe(kind=OutputKind.PROBABILITIES))
    assert "logits" in caught.value.hint


@pytest.mark.parametrize("kind", OutputKind)
@pytest.mark.parametrize(
    "row", [[math.nan, 0.0], [0.0, math.inf], [-math.inf, 0.0], [1.0], [0.5, 0.25, 0.25], []]
)
def test_numbers_that_are_none_or_too_few_are_refused(kind: OutputKind, row: list[float]) -> None:
    with pytest.raises(ModelUnusable, match="for 2 labels"):
        to_scores(row, describe(kind=kind))


# Graphs that are not what their manifests say: found when the model is loaded.


@pytest.mark.parametrize(
    ("model", "manifest", "named"),
    [
        (graph(name="image"), describe(), r"takes \['image'\].*'pixels'"),
        (graph(dtype=DType.UINT8), describe(), r"takes tensor\(uint8\).*float32"),
        (graph(), describe(dtype=DType.UINT8), r"takes tensor\(float\).*uint8"),
        (graph(layout=Layout.NCHW), describe(), r"takes the shape .*\(N, 4, 4, 3\)"),
        (graph(), describe(layout=Layout.NCHW), r"takes the shape .*\(N, 3, 4, 4\)"),
        (graph(output="other"), describe(), r"returns \['other'\].*'numbers'"),
        (graph(weights=[[0, 1, 2]] * 3), describe(), "returns the shape .*2 labels"),
    ],
    ids=["name", "float wanted", "uint8 wanted", "NHWC wanted", "NCHW wanted", "output", "labels"],
)
def test_a_graph_unlike_its_manifest_is_refused_with_the_difference(
    model: onnx.ModelProto, manifest: ModelManifest, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnusable, match=named) as caught:
        load(tmp_path, model, manifest)
    assert "package" in caught.value.hint


def test_outputs_beside_the_scores_must_be_there_when_the_manifest_names_them(
    tmp_path: Path,
) -> None:
    manifest = describe()
    for field in ("embedding", "cls_attention"):
        output = dataclasses.replace(manifest.output, **{field: "extra"})
        with pytest.raises(ModelUnusable, match="'extra'"):
            load(tmp_path, graph(), dataclasses.replace(manifest, output=output))


def test_a_graph_that_returns_texts_is_refused(tmp_path: Path) -> None:
    words = helper.make_tensor("words", TensorProto.STRING, [1, 2], [b"safe", b"unsafe"])
    whole = helper.make_graph(
        [
            helper.make_node("Shape", ["pixels"], ["unused"]),
            helper.make_node("Identity", ["words"], ["numbers"]),
        ],
        "words",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", EDGE, EDGE, 3])],
        [helper.make_tensor_value_info("numbers", TensorProto.STRING, [1, 2])],
        [words],
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ModelUnusable, match=r"returns tensor\(string\)"):
        load(tmp_path, model, describe())


@pytest.mark.parametrize(
    ("model", "kind", "named"),
    [
        (graph(bias=[-1.0, 0.0], last="Log"), OutputKind.LOGITS, "nan"),
        (graph(bias=[0.0, -1.0], last="Sqrt"), OutputKind.LOGITS, "nan"),
        (graph(weights=[[0, 0]] * 3, last="Reciprocal"), OutputKind.LOGITS, "inf"),
        (graph(bias=[3.0, 4.0]), OutputKind.PROBABILITIES, "are not probabilities"),
    ],
)
def test_a_graph_that_returns_nonsense_is_refused_when_it_is_loaded(
    model: onnx.ModelProto, kind: OutputKind, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnusable, match=named):
        load(tmp_path, model, describe(kind=kind))


def test_a_graph_that_fails_for_some_pictures_says_so_for_those(tmp_path: Path) -> None:
    """Grey, which is tried when the model is loaded, is fine."""
    loaded = load(tmp_path, graph(bias=[0.0, 1.0], last="Sqrt"), describe())
    assert loaded.classify(pixels(_RED), 1)
    with pytest.raises(ModelUnusable, match="nan"):
        loaded.classify(pixels(_BLUE), 1)


def test_pixels_of_another_size_are_a_bug_that_shows(tmp_path: Path) -> None:
    loaded = load(tmp_path, graph(), describe())
    with pytest.raises(ValueError, match="reshape"):
        loaded.classify(pixels(_RED)[:-3], 1)


# Bytes that are no graph, or not the right one.


@pytest.mark.parametrize("data", [b"garbage", os.urandom(5000), b"\x08\x07"])
def test_bytes_that_are_no_graph_are_refused(
    data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelUnusable, match=r"onnxruntime .* refuses the graph"):
        OrtClassifier(install(tmp_path, data, describe()), threads=1, warn=pytest.fail)
    assert capfd.readouterr() == ("", ""), "data goes to standard output, and nothing else"


def test_tampered_bytes_never_reach_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install(tmp_path, graph().SerializeToString(), describe())
    data = bytearray((tmp_path / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    monkeypatch.setattr(
        module.onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it got them")
    )
    with pytest.raises(ModelTampered):
        OrtClassifier(installed, threads=1, warn=pytest.fail)


# Weights in a file of their own.


def with_weights_outside(folder: Path, *, named: bool = True) -> InstalledModel:
    """Write a package whose weights are in `weights.bin`, whether its manifest names it or not."""
    model = graph()
    (weights,) = [one for one in model.graph.initializer if one.name == "weights"]
    raw = np.array(_RED_IS_UNSAFE, np.float32).tobytes()
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(len(raw)))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    manifest = describe(external_data="weights.bin" if named else "")
    return install(folder, model.SerializeToString(), manifest, weights_bin=raw)


def test_weights_in_a_file_of_their_own_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package").mkdir()
    model = with_weights_outside(tmp_path / "package")
    monkeypatch.chdir("/")
    absolute = OrtClassifier(model, threads=1, warn=pytest.fail)
    monkeypatch.chdir(tmp_path)
    relative = OrtClassifier(
        dataclasses.replace(model, folder="package"), threads=1, warn=pytest.fail
    )
    for loaded in (absolute, relative):
        (scores,) = loaded.classify(pixels(_RED), 1)
        assert scores.unsafe == pytest.approx(softmax_of(4), abs=1e-6)


def _swap(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def _shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _link(file: Path) -> None:
    os.link(file, file.with_name("second.bin"))


def _symlink(file: Path) -> None:
    file.rename(file.with_name("real.bin"))
    file.symlink_to("real.bin")


@pytest.mark.parametrize("change", [_swap, _shorten, _link, _symlink, Path.unlink])
def test_weights_that_are_not_those_of_the_manifest_never_reach_onnxruntime(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_weights_outside(tmp_path)
    change(tmp_path / "weights.bin")
    monkeypatch.setattr(
        module.onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it got them")
    )
    with pytest.raises(ModelTampered, match=r"weights\.bin"):
        OrtClassifier(model, threads=1, warn=pytest.fail)


def test_weights_that_no_manifest_names_are_not_read_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_weights_outside(tmp_path, named=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnusable, match="refuses the graph"):
        OrtClassifier(model, threads=1, warn=pytest.fail)


# Providers.


def test_the_cpu_is_always_there_and_comes_last() -> None:
    assert available_providers()[-1] is Provider.CPU
    assert Provider.AUTO not in available_providers()


@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.DIRECTML])
def test_a_provider_that_is_not_there_is_refused(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    with pytest.raises(ModelUnusable, match=f"does not support {provider}") as caught:
        load(tmp_path, graph(), describe(), provider=provider)
    assert "it supports cpu" in caught.value.hint


class FakeRuntime:
    """An onnxruntime that believes in a graphics card, and fails with it in one of two ways."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, silently: bool) -> None:
        self.asked: list[list[str]] = []
        self._silently = silently
        self._real = onnxruntime.InferenceSession
        monkeypatch.setattr(
            module.onnxruntime,
            "get_available_providers",
            lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        )
        monkeypatch.setattr(module.onnxruntime, "InferenceSession", self.session)

    def session(self, data: bytes, options: Any, *, providers: list[str], **more: Any) -> Any:
        self.asked.append(providers)
        assert more == {"enable_fallback": 0}, "its own fallback prints on standard output"
        if "CUDAExecutionProvider" in providers and not self._silently:
            raise RuntimeError("CUDA driver version is insufficient")
        return self._real(data, options, providers=["CPUExecutionProvider"], **more)


@pytest.mark.parametrize("silently", [False, True])
def test_auto_falls_back_to_the_cpu_and_says_so(
    silently: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRuntime(monkeypatch, silently=silently)
    warnings: list[str] = []
    loaded = load(tmp_path, graph(), describe(), warn=warnings.append)
    assert loaded.provider is Provider.CPU
    assert fake.asked[-1] == ["CPUExecutionProvider"]
    (warning,) = warnings
    assert warning.startswith("cuda cannot run this model (")
    assert warning.endswith("; using the CPU")
    assert loaded.classify(pixels(_RED), 1)


@pytest.mark.parametrize("silently", [False, True])
def test_a_provider_that_was_asked_for_is_not_replaced(
    silently: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeRuntime(monkeypatch, silently=silently)
    with pytest.raises(ModelUnusable, match=r"cuda|insufficient"):
        load(tmp_path, graph(), describe(), provider=Provider.CUDA)


def test_a_folder_whose_name_is_no_text_holds_a_model_all_the_same(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere names are texts")
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    folder.mkdir()
    assert load(folder, graph(), describe()).classify(pixels(_RED), 1)
    with pytest.raises(ModelUnusable):
        OrtClassifier(with_weights_outside(folder), threads=1, warn=pytest.fail)

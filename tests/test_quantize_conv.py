"""Convolutional networks in INT8: the same scores within a limit, from the same integers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_nets
from PIL import Image

from nsfwscan.models.classifier import OrtClassifier, to_input
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.graphs.graph import Array, Graph, Node, Value
from nsfwscan.models.manifest import DType
from nsfwscan.models.package import open_package
from nsfwscan.models.rewrite import conv_nodes, convolutions, evening, rounding
from nsfwscan.models.rewrite.plan import ConvPlan, Span, parse_plan
from nsfwscan.models.runtime import OrtGraph, Runnable
from nsfwscan.values.errors import ModelUnusable
from quantize import second_order
from quantize.__main__ import main

NETS: dict[str, tuple[Callable[[], Graph], Mapping[str, Any]]] = {
    "residual": (small_nets.residual, small_nets.BGR),
    "mobile": (small_nets.mobile, small_nets.RGB),
}


@pytest.fixture(params=list(NETS))
def net(request: pytest.FixtureRequest) -> tuple[Graph, Mapping[str, Any]]:
    build, given = NETS[request.param]
    return build(), given


def session(graph: Graph, *, final: bool = False) -> OrtGraph:
    return OrtGraph(Runnable(onnx_file.to_bytes(graph), final=final), threads=1)


def plan_of(graph: Graph, given: Mapping[str, Any], **options: Any) -> ConvPlan:
    """Measure the ranges of every value that a plan needs."""
    names = conv_nodes.observed(graph)
    unknown = np.dtype(np.float32)
    watched = session(replace(graph, outputs=tuple(Value(one, unknown, None) for one in names)))
    feeds = [to_input(one, small_nets.spec(given)) for one in small_nets.pictures(12)]
    seen = [watched.run(names, {graph.inputs[0].name: feed}) for feed in feeds]
    spans = {}
    for at, name in enumerate(names):
        values = np.concatenate([one[at] for one in seen])
        span = Span(float(values.min()), float(values.max()))
        means = np.rint(16 * values.mean(axis=(0, 2, 3)) / span.scale).astype(int)
        spans[name] = span._replace(means=tuple(means.tolist()))
    return ConvPlan(spans, **options)


def both(graph: Graph, given: Mapping[str, Any], converted: Graph) -> tuple[Array, Array]:
    """Return the scores of other pictures by the float graph and by the converted one."""
    spec = small_nets.spec(given)
    before, after = session(graph), session(converted, final=True)
    shown = small_nets.pictures(16, seed=8)
    name = graph.inputs[0].name
    one = [before.run(["outputs"], {name: to_input(each, spec)})[0][0, 1] for each in shown]
    two = [after.run(["outputs"], {"pixels": each[np.newaxis]})[0][0, 1] for each in shown]
    return np.array(one), np.array(two)


def rounded_farther(graph: Graph, bits: int) -> dict[str, bytes]:
    """Say of each weight but those of the first convolution how it is rounded: a byte for eight."""
    _first, *others = (node for node in graph.nodes if node.op == "Conv")
    sizes = {node.outputs[0]: graph.weights[node.inputs[1]].size for node in others}
    return {name: bytes([bits] * ((size + 7) // 8)) for name, size in sizes.items()}


@pytest.mark.parametrize("form", ["float sums", "integer sums"])
def test_scores_stay_close_to_those_of_the_float_network(
    net: tuple[Graph, Mapping[str, Any]], form: str
) -> None:
    graph, given = net
    integers = conv_nodes.sums(graph) if form == "integer sums" else []
    plan = plan_of(graph, given, integer_sums=frozenset(integers))
    converted = convolutions.convert(graph, small_nets.spec(given), plan)
    one, two = both(graph, given, converted)
    assert np.ptp(one) > 0.2  # otherwise nothing could differ
    limit = 0.2 if integers else 0.06  # of two sums only, with random weights
    assert np.abs(one - two).max() < limit
    assert np.abs(one - two).mean() < limit / 2
    assert not any(node.op == "Conv" for node in converted.nodes)


def test_what_stays_in_float_is_closer(net: tuple[Graph, Mapping[str, Any]]) -> None:
    graph, given = net
    spec = small_nets.spec(given)
    everything = frozenset(conv_nodes.convolutions(graph))
    for kept in ({conv_nodes.products(graph)[0]}, everything):
        plan = plan_of(graph, given, keep_float=frozenset(kept))
        one, two = both(graph, given, convolutions.convert(graph, spec, plan))
        limit = 1e-5 if kept == everything else 0.06
        assert np.abs(one - two).max() < limit


def test_the_first_convolution_may_stay_in_float(net: tuple[Graph, Mapping[str, Any]]) -> None:
    graph, given = net
    first = conv_nodes.convolutions(graph)[0]
    plan = plan_of(graph, given, keep_float=frozenset([first]))
    converted = convolutions.convert(graph, small_nets.spec(given), plan)
    assert [node.op for node in converted.nodes].count("Conv") == 1
    one, two = both(graph, given, converted)
    assert np.abs(one - two).max() < 0.06


def test_a_network_with_evened_channels_is_the_same_network(
    net: tuple[Graph, Mapping[str, Any]],
) -> None:
    graph, given = net
    choose = np.random.default_rng(4)
    sizes = {
        name: choose.integers(16, evening.WHOLE, len(graph.weights[group.makers[0].inputs[1]]))
        for name, group in evening.channel_groups(graph).items()
    }
    assert sizes
    changed = evening.evened(graph, sizes)
    feeds = [to_input(one, small_nets.spec(given)) for one in small_nets.pictures(6, seed=9)]
    name = graph.inputs[0].name
    one, two = (
        np.array([session(each).run(["outputs"], {name: feed})[0] for feed in feeds])
        for each in (graph, changed)
    )
    assert np.abs(one - two).max() < 1e-4
    values = {one for group in evening.channel_groups(graph).values() for one in group.values}
    assert not values & {graph.inputs[0].name, "outputs"}


@pytest.mark.parametrize("wrong", ["another group", "too few", "zero"])
def test_sizes_that_do_not_fit_are_refused(wrong: str) -> None:
    graph, given = small_nets.residual(), small_nets.BGR
    name, group = next(iter(evening.channel_groups(graph).items()))
    sizes = [evening.WHOLE] * len(graph.weights[group.makers[0].inputs[1]])
    given_sizes = {
        "another group": {"no such value": sizes},
        "too few": {name: sizes[:-1]},
        "zero": {name: [0, *sizes[1:]]},
    }
    plan = plan_of(graph, given, sizes=given_sizes[wrong])
    with pytest.raises(ModelUnusable, match="the plan does not fit the graph"):
        convolutions.convert(graph, small_nets.spec(given), plan)


@pytest.mark.parametrize("bits", [None, 0, 0b10110010, 0xFF])
def test_no_two_products_overflow_16_bits(
    net: tuple[Graph, Mapping[str, Any]], bits: int | None
) -> None:
    """However weights are rounded."""
    graph, given = net
    farther = {} if bits is None else rounded_farther(graph, bits)
    plan = plan_of(graph, given, farther=farther)
    converted = convolutions.convert(graph, small_nets.spec(given), plan)
    found = 0
    for name, value in converted.weights.items():
        if value.dtype != np.int8 or value.ndim < 2:
            continue
        found += 1
        columns = (value if value.ndim == 2 else conv_nodes.as_sums(value)).astype(np.int64)
        pairs = np.zeros((len(columns) + 1 >> 1, 2, columns.shape[1]), np.int64)
        pairs.reshape(-1, columns.shape[1])[: len(columns)] = columns
        positive = np.maximum(pairs, 0).sum(axis=1) * 255
        negative = np.minimum(pairs, 0).sum(axis=1) * 255
        assert positive.max() <= 32767, name
        assert negative.min() >= -32768, name
    assert found == len(conv_nodes.convolutions(graph))


def test_each_weight_is_rounded_to_the_neighbour_that_its_bit_says() -> None:
    kernel = np.array([0.4, 0.6, -0.4, -0.6, 2.0, 1.5, -1.2, 0, 3.7], np.float32).reshape(
        1, 1, 3, 3
    )
    one = np.ones(1, np.float32)
    near = [0, 1, 0, -1, 2, 2, -1, 0, 4]
    far = [1, 0, -1, 0, 3, 1, -2, 1, 3]
    for bits, wanted in (((0, 0), near), ((0xFF, 0xFF), far), ((0b11000000, 0x80), None)):
        found = rounding.round_chosen(kernel, one, bytes(bits)).reshape(-1).tolist()
        assert found == (wanted or [*far[:2], *near[2:8], far[8]])
    for wrong in (b"", b"1", b"123"):
        with pytest.raises(ValueError, match="9 weights"):
            rounding.round_chosen(kernel, one, wrong)


def test_rounding_by_second_moments_changes_a_sum_less_than_rounding_to_the_nearest() -> None:
    choose = np.random.default_rng(3)
    node = Node("Conv", ("x", "w"), ("y",), {"pads": (1, 1, 1, 1)})
    weight = choose.normal(0, 1, (16, 12, 3, 3)).astype(np.float32)
    mixed = choose.normal(0, 1, (12, 3))

    def shown(count: int) -> list[Array]:
        """Values whose channels depend on three numbers, as those of networks depend on few."""
        few = choose.normal(1, 1, (count, 3, 10, 10))
        values = np.maximum(np.einsum("cf,nfyx->ncyx", mixed, few), 0)
        return list(values[:, np.newaxis].astype(np.float32))

    moments = second_order.Moments(node, weight)
    for value in shown(80):
        moments.add(value, choose)
    scale = rounding.spread_scale(conv_nodes.as_sums(weight)) * np.float32(8)
    farther = second_order.choose_rounding(weight, scale, moments.matrix())
    others = np.concatenate(shown(40))
    others = np.lib.stride_tricks.sliding_window_view(others, (3, 3), axis=(2, 3))
    errors = []
    for rounded in (
        rounding.round_nearest(weight, scale),
        rounding.round_chosen(weight, scale, farther),
    ):
        assert np.abs(rounded - weight / scale[:, None, None, None]).max() < 1
        lost = rounded * scale[:, None, None, None] - weight
        change = np.einsum("oiyx,niabyx->noab", lost, others)
        change -= change.mean(axis=(0, 2, 3), keepdims=True)  # the plan's means make up for it
        errors.append(float(np.sqrt((change**2).mean())))
    assert errors[1] < 0.6 * errors[0]


def test_rounding_spreads_its_errors_over_a_plane() -> None:
    kernel = np.random.default_rng(0).normal(0, 1, (8, 3, 7, 7)).astype(np.float32)
    least = rounding.spread_scale(conv_nodes.as_sums(kernel))
    rounded, scale = rounding.round_spread(kernel, least)
    assert (scale >= least).all()
    steps = kernel / scale[:, None, None, None]
    spread = rounded.sum(axis=(2, 3)) - steps.sum(axis=(2, 3))
    nearest = rounding.round_nearest(kernel, scale).sum(axis=(2, 3)) - steps.sum(axis=(2, 3))
    assert np.abs(spread).max() < 0.35
    assert np.abs(nearest).max() > 1


def test_a_channel_of_zeros_with_a_large_bias_is_converted() -> None:
    graph, given = small_nets.residual(), small_nets.BGR
    weights = dict(graph.weights)
    weights["block0.b.w"] = weights["block0.b.w"].copy()
    weights["block0.b.w"][0] = 1e-38
    weights["block0.b.bias"] = weights["block0.b.bias"].copy()
    weights["block0.b.bias"][0] = 3.0
    graph = replace(graph, weights=weights)
    plan = plan_of(graph, given)
    one, two = both(graph, given, convolutions.convert(graph, small_nets.spec(given), plan))
    assert np.abs(one - two).max() < 0.06


def test_a_conversion_gives_equal_bytes_from_a_plan_that_was_written() -> None:
    graph, given = small_nets.residual(), small_nets.BGR
    kept = frozenset({"block0.skip"})
    plan = plan_of(
        graph,
        given,
        keep_float=kept,
        stretch={"block1.b": 1.05},
        farther=rounded_farther(graph, 0b01100001),
    )
    again = parse_plan(plan.dump())
    assert again == plan
    spec = small_nets.spec(given)
    made = [onnx_file.to_bytes(convolutions.convert(graph, spec, one)) for one in (plan, again)]
    assert made[0] == made[1]
    plain = convolutions.convert(graph, spec, replace(plan, stretch={}))
    assert onnx_file.to_bytes(plain) != made[0]


def test_a_plan_for_another_network_is_refused() -> None:
    plan = plan_of(small_nets.residual(), small_nets.BGR)
    spec = small_nets.spec(small_nets.RGB)
    with pytest.raises(ModelUnusable, match="plan does not fit"):
        convolutions.convert(small_nets.mobile(), spec, plan)
    with pytest.raises(ValueError, match="not static-conv"):
        parse_plan(plan.dump().replace("static-conv/3", "static-conv/0"))


def test_a_network_without_convolutions_is_refused() -> None:
    graph = small_nets.residual()
    nodes = tuple(node for node in graph.nodes if node.op != "Conv")
    with pytest.raises(ModelUnusable, match="no convolutions"):
        convolutions.convert(
            replace(graph, nodes=nodes), small_nets.spec(small_nets.BGR), ConvPlan({})
        )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for at, pixels in enumerate(small_nets.pictures(20, seed=5)):
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{at:02d}.png")
    return folder


@pytest.mark.parametrize("recipe", ["conv-float-sums", "conv-even-float-first"])
def test_a_float_package_is_built_installed_and_scanned_as_int8(
    recipe: str,
    tmp_path: Path,
    photographs: Path,
    nsfwscan: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = small_nets.write_package(tmp_path / "given", small_nets.residual(), small_nets.BGR)
    target = tmp_path / "built"
    held_out = tmp_path / "other"
    held_out.mkdir()
    for at, pixels in enumerate(small_nets.pictures(6, seed=11)):
        Image.fromarray(pixels).save(held_out / f"{at}.png")
    arguments = [str(given), "-o", str(target), "--pictures", str(photographs)]
    arguments += ["--held-out", str(held_out), "--recipe", recipe, "--accept-worse"]
    assert main(arguments) == 0, capsys.readouterr().err
    built = open_package(str(target))
    assert built.manifest.package == "small-1-int8"
    assert built.manifest.input.dtype is DType.UINT8
    assert built.manifest.recipe == recipe
    assert built.manifest.agreement["pictures"] == 6
    assert built.manifest.agreement["max_difference"] < 0.06
    assert built.manifest.fingerprint != open_package(str(given)).manifest.fingerprint
    parse_plan((target / "plan.json").read_text())
    one, two = (
        OrtClassifier(open_package(str(folder)), threads=1, warn=print)
        for folder in (given, target)
    )
    for pixels in small_nets.pictures(4, seed=12):
        (before,), (after,) = (each.classify(pixels.tobytes(), 1) for each in (one, two))
        assert abs(before.unsafe - after.unsafe) < 0.06
    assert nsfwscan("models", "add", str(target)).returncode == 0
    found = nsfwscan("scan", str(photographs), "--model", "small", "--format", "json")
    assert b"small-1-int8" in found.stdout + found.stderr
    assert found.returncode in {0, 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no pictures", "needs pictures for calibration"),
        ("no such recipe", "unknown recipe 'static'"),
        ("built already", "has been built already"),
        ("an option of checkpoints", "--licence is for checkpoints"),
    ],
)
def test_what_cannot_be_built_is_said_and_leaves_nothing(
    change: str,
    said: str,
    tmp_path: Path,
    photographs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = small_nets.write_package(tmp_path / "given", small_nets.residual(), small_nets.BGR)
    arguments = [str(given), "-o", str(tmp_path / "built")]
    if change != "no pictures":
        arguments += ["--pictures", str(photographs)]
    if change == "no such recipe":
        arguments += ["--recipe", "static"]
    if change == "an option of checkpoints":
        arguments += ["--licence", "MIT"]
    if change == "built already":
        document = json.loads((given / "manifest.json").read_text())
        del document["checksum"]
        (given / "manifest.json").write_text(json.dumps({**document, "recipe": "built"}))
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["given"]

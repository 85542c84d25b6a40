from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_vits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.vit_saturation import with_unsigned_weights
from quantize import int8, recipes
from quantize.calibrate import calibrate
from quantize.recipes import Recipe, Scales, WeightRange
from quantize.session import OrtSession


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (8, 3), elements=st.floats(-100, 100, width=32)))
def test_no_pair_of_products_overflows_sixteen_bits(weight: np.ndarray) -> None:
    """What `vpmaddubsw` computes on processors without VNNI."""
    for kind in (WeightRange.PAIRS, WeightRange.SEVEN_BIT):
        rounded, _ = int8.round_weights(weight, kind)
        pairs = rounded.astype(np.int64).reshape(4, 2, 3)
        # Any two uint8 activations: each weight's worst is 0 or 255.
        highest = np.maximum(pairs, 0).sum(axis=1) * 255
        lowest = np.minimum(pairs, 0).sum(axis=1) * 255
        assert highest.max() <= 32767
        assert lowest.min() >= -32768


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (8, 3), elements=st.floats(-100, 100, width=32)))
def test_rounding_moves_a_weight_by_half_a_step_at_most(weight: np.ndarray) -> None:
    for kind in WeightRange:
        rounded, scale = int8.round_weights(weight, kind)
        assert (np.abs(rounded * scale - weight) <= 0.5001 * scale + 1e-30).all()


def test_full_range_weights_would_overflow() -> None:
    """The reason for the two other ranges."""
    rounded, _ = int8.round_weights(np.ones((2, 1), np.float32), WeightRange.FULL)
    assert 255 * int(rounded.sum()) > 32767


@pytest.mark.parametrize(
    "recipe",
    [one for one in recipes.load().recipes if one.candidate and one.scales is Scales.STATIC],
    ids=lambda one: one.name,
)
def test_no_product_saturates_on_this_processor(recipe: Recipe, tmp_path: Path) -> None:
    """Worth most on a processor without VNNI, where the fast kernel could."""
    found, graph = small_vits.graph(small_vits.transformers(tmp_path / "checkpoint"))
    stack = small_vits.pixels(found.shape.image, 8)
    graph = int8.smooth(graph, recipe.smoothing)
    made = int8.quantize(graph, recipe, calibrate(graph, list(stack))[recipe.clip])
    fast, careful = (
        small_vits.session(one, tmp_path / f"g{at}").run(stack, ["logits"])[0]
        for at, one in enumerate((made, with_unsigned_weights(made)))
    )
    assert np.array_equal(fast, careful)


def test_a_pair_of_ordinary_weights_keeps_more_than_seven_bits() -> None:
    weight = np.random.default_rng(0).standard_normal((768, 64)).astype(np.float32)
    _, pairs = int8.round_weights(weight, WeightRange.PAIRS)
    _, seven = int8.round_weights(weight, WeightRange.SEVEN_BIT)
    _, full = int8.round_weights(weight, WeightRange.FULL)
    assert pairs.mean() < 0.75 * seven.mean()
    assert pairs.mean() < 1.45 * full.mean()


@pytest.mark.parametrize("make", small_vits.MAKERS)
def test_smoothing_changes_no_score(make: Callable[[Path], Path], tmp_path: Path) -> None:
    found, graph = small_vits.graph(make(tmp_path / "checkpoint"))
    smoothed = int8.smooth(graph, 0.5)
    changed = [n for n, w in graph.weights.items() if not np.array_equal(w, smoothed.weights[n])]
    assert len([name for name in changed if name.endswith(".gain")]) >= found.shape.layers
    stack = small_vits.pixels(found.shape.image, 4)
    runs: list[OrtSession] = [
        small_vits.session(one, tmp_path / f"g{at}") for at, one in enumerate((graph, smoothed))
    ]
    one, other = (running.run(stack, ["logits"])[0] for running in runs)
    assert np.abs(one - other).max() < 1e-4

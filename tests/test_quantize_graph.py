from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_vits

from quantize import int8, recipes
from quantize.calibrate import calibrate
from quantize.recipes import Recipe, Scales

OUTPUTS = ("logits", "embedding", "cls_attention")


@pytest.mark.parametrize("make", small_vits.MAKERS)
def test_the_graph_computes_what_the_paper_describes(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    found, graph = small_vits.graph(make(tmp_path / "checkpoint"))
    running = small_vits.session(graph, tmp_path / "graph")
    stack = small_vits.pixels(found.shape.image, 6)
    weights = found.weights()
    for one in stack:
        wanted = small_vits.by_the_book(found.shape, weights, one)
        for name, value in zip(OUTPUTS, running.run(one[None], OUTPUTS), strict=True):
            assert np.abs(value[0] - wanted[name]).max() < 1e-4, name


@pytest.mark.parametrize("make", small_vits.MAKERS)
def test_introspection_returns_every_block(make: Callable[[Path], Path], tmp_path: Path) -> None:
    found, graph = small_vits.graph(make(tmp_path / "checkpoint"), introspect=True)
    names = [value.name for value in graph.outputs]
    assert len(names) == 3 + 2 * found.shape.layers
    (one,) = small_vits.pixels(found.shape.image, 1)
    values = small_vits.session(graph, tmp_path / "graph").run(one[None], names)
    weights = found.weights()
    wanted = small_vits.by_the_book(found.shape, weights, one)
    for name, value in zip(names, values, strict=True):
        assert np.abs(value[0] - wanted[name]).max() < 1e-4, name


@pytest.mark.parametrize("recipe", recipes.load().recipes, ids=lambda one: one.name)
def test_a_score_does_not_depend_on_company_or_threads(recipe: Recipe, tmp_path: Path) -> None:
    """Batches of 1 to 16, every position, 1 and 2 threads: the same bits."""
    found, graph = small_vits.graph(small_vits.transformers(tmp_path / "checkpoint"))
    stack = small_vits.pixels(found.shape.image, 16)
    if recipe.scales is not Scales.NONE:
        graph = int8.smooth(graph, recipe.smoothing) if recipe.smoothing else graph
        graph = int8.quantize(graph, recipe, calibrate(graph, list(stack))[recipe.clip])
    alone = None
    for threads in (1, 2):
        running = small_vits.session(graph, tmp_path / f"graph{threads}", threads)
        if alone is None:
            alone = [running.run(one[None], OUTPUTS) for one in stack]
        for count in range(1, 17):
            # A rotation puts each picture at another place.
            order = np.roll(np.arange(16), -count)[:count]
            together = running.run(stack[order], OUTPUTS)
            for place, picture in enumerate(order):
                for whole, single in zip(together, alone[picture], strict=True):
                    assert np.array_equal(whole[place], single[0]), (threads, count, place)

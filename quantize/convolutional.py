"""Searches for the plan by which a convolutional network is converted to INT8.

In: a package whose graph is float, and pictures. Out: the candidates, as in `search`, each with the
plan that it was built by. The graphs are built by `nsfwscan.models.rewrite.convolutions`, which
also builds them where a model is installed.

The search takes the steps that a recipe asks for. Channels are evened out. It is chosen how each
weight is rounded (`second_order`). Ranges are measured, at several clips, and the best is
kept. Then, one at a time, the convolution of one pixel whose float form lowers the error most stays
in float. At last single numbers of the plan, by which weights are stretched and ranges widened, are
changed at random, and each change that lowers the error is kept: rounding errors of layers that
follow each other may then cancel out. Errors are measured on the calibration pictures; the gate, on
others.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from nsfwscan.models.classifier import OrtClassifier, to_input
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.graphs.graph import Array, Value
from nsfwscan.models.manifest import MODEL_NAME
from nsfwscan.models.provider import Provider
from nsfwscan.models.rewrite import conv_nodes, convolutions
from nsfwscan.models.rewrite.evening import WHOLE, channel_groups, evened
from nsfwscan.models.rewrite.plan import ConvPlan, Span
from nsfwscan.system import cores
from nsfwscan.values.errors import UsageError
from quantize import second_order, verify
from quantize.search import Candidate, TrialOutcome
from quantize.session import OrtSession, on_all_cores, race

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nsfwscan.models.graphs.graph import Graph, Node
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.models.package import InstalledModel
    from quantize.pictures import CalibrationPicture
    from quantize.recipes import ConvRecipe, Recipes
    from quantize.search import Evidence

PLAN_NAME = "plan.json"
"""The plan, beside the graph that was built by it."""

_CLIPS = (0.0, 0.001, 0.003, 0.01)
"""Percent of an activation's values that are cut off at either end, for each picture; first 0."""
_LEAST = WHOLE // 4
"""Smaller channels than this are evened out as if they were so large.

Weights of the largest would otherwise fill the range of int8 alone.
"""
_ROOMS = (0.8, 0.9, 1.0, 1.2, 1.4)
_SUM_ROOMS = (0.8, 1.0, 1.2)
"""How much wider ranges are than measured, once channels are evened out; those of sums.

The largest values of all pictures are rare: to cut them off may cost less than larger steps.
"""
_STRETCHES = (1.0, 1.02, 1.04, 1.07, 1.1)
_WIDTHS = (0.8, 0.9, 1.0, 1.1, 1.25)
_ROUNDS = 15
_STRIDE = 7
_TUNING = 400
"""Calibration pictures on which errors are measured: those with the highest scores."""
_SEED = 1


_Seen = TypeVar("_Seen")


class _PlanError(NamedTuple):
    plan: ConvPlan
    error: float


class ConvSearch:
    """Builds and compares plans for one network."""

    def __init__(
        self,
        package: InstalledModel,
        manifest: ModelManifest,
        evidence: Evidence,
        scratch: str,
        say: Callable[[str], None],
    ) -> None:
        """`package` has the float graph; `manifest` describes the converted one."""
        data = package.read_artefact(MODEL_NAME)
        self._graph = onnx_file.parse(data, MODEL_NAME)
        self._float = package
        self._manifest = manifest
        self._evidence = evidence
        self._scratch = scratch
        self._say = say
        self._products = conv_nodes.products(self._graph)
        classifier = OrtClassifier(package, threads=1, provider=Provider.CPU, warn=say)
        self._classifier = classifier
        scores = np.array(self._reference(evidence.calibration))
        # A score near zero hardly moves, whatever a plan does.
        telling = np.argsort(-scores, kind="stable")[:_TUNING]
        self._tuning = [evidence.calibration[one] for one in telling]
        self._wanted = scores[telling]
        self._even: Mapping[str, Sequence[int]] = {}
        self._spans: dict[bool, dict[float, Mapping[str, Span]]] = {}
        self._unrefined: dict[ConvRecipe, _PlanError] = {}

    def run(self, recipes: Recipes, forced: str | None) -> TrialOutcome:
        """Build the candidates and choose the fastest that passes the gate, or build `forced`.

        Raises `UsageError` if there is no such recipe or there are no calibration pictures.
        """
        wanted = [one for one in recipes.convolutions if forced in (None, one.name)]
        if not wanted:
            known = ", ".join(one.name for one in recipes.convolutions)
            raise UsageError(f"unknown recipe {forced!r}", hint=f"the recipes are {known}")
        if not self._evidence.calibration:
            raise UsageError(
                "a convolutional network needs pictures for calibration",
                hint="name a folder of ordinary pictures with --pictures",
            )
        held_out = self._evidence.held_out
        reference = tuple(self._reference(held_out))
        candidates = []
        for recipe in wanted:
            plan = self._plan(recipe)
            folder = self._write(recipe.name, plan)
            scores = tuple(self._scores(OrtSession(folder), held_out))
            found = verify.agreement(held_out, reference, scores, self._manifest.thresholds)
            missed = tuple(found.shortcomings(recipes.conv_gate))
            self._say(f"{recipe.name}: scores move by at most {found.max_difference:.4f}")
            candidates.append(Candidate(recipe, folder, found, scores, missed, float("nan")))
        if forced is None:
            candidates = self._timed(candidates)
        passing = [one for one in candidates if not one.shortcomings] or candidates
        chosen = min(passing, key=lambda one: (bool(one.shortcomings), one.milliseconds))
        return TrialOutcome(chosen, tuple(candidates), reference)

    def _plan(self, recipe: ConvRecipe) -> ConvPlan:
        # Recipes that differ in their trials only begin with the same plan.
        same = replace(recipe, name="", trials=0)
        if same not in self._unrefined:
            self._unrefined[same] = self._measured(recipe)
        best = self._refined(self._unrefined[same], recipe.trials)
        if recipe.trials:
            self._say(f"{recipe.name}: error {best.error:.4f} after {recipe.trials} trials")
        return best.plan

    def _measured(self, recipe: ConvRecipe) -> _PlanError:
        """Return the best plan by measured ranges and layers in float."""
        rooms = list(itertools.product(_ROOMS, _SUM_ROOMS)) if recipe.even else [(1.0, 1.0)]
        plans = [
            self._plan_at(recipe, clip, *room)
            for clip in (_CLIPS[:1] if recipe.even else _CLIPS)
            for room in rooms
        ]
        if recipe.second_order:
            farther = self._rounding(plans[0])
            plans = [replace(one, farther=farther) for one in plans]
        best = min(map(self._scored, plans), key=lambda one: one.error)
        self._say(f"{recipe.name}: error {best.error:.4f} with everything in INT8")
        for _ in range(recipe.most_float):
            trials = [
                self._scored(replace(best.plan, keep_float=best.plan.keep_float | {name}))
                for name in self._products
                if name not in best.plan.keep_float
            ]
            found = min(trials, key=lambda one: one.error, default=best)
            if found.error > recipe.worth * best.error:
                break
            (added,) = found.plan.keep_float - best.plan.keep_float
            best = found
            self._say(f"{recipe.name}: error {best.error:.4f} with {added} in float")
        return best

    def _plan_at(self, recipe: ConvRecipe, clip: float, room: float, sum_room: float) -> ConvPlan:
        sums = conv_nodes.sums(self._graph)
        spans = {
            name: one.widened(sum_room if name in sums else room)
            for name, one in self._span(clip, recipe.even).items()
        }
        kept: frozenset[str] = frozenset()
        if recipe.first_float:
            first = next(iter(conv_nodes.convolutions(self._graph)))
            users = conv_nodes.Users(self._graph)
            node = next(one for one in self._graph.nodes if first in one.outputs)
            result = users.after_relu(node)
            pooled = [result, *(o for u in users.users(result) for o in u.outputs)]
            kept = frozenset(
                one.outputs[0]
                for one in self._graph.nodes
                if one.op == "Conv" and one.inputs[0] in pooled
            )
            kept |= {first}
        return ConvPlan(
            spans,
            keep_float=kept,
            integer_sums=frozenset(sums[: recipe.integer_sums]),
            sizes=self._even if recipe.even else {},
        )

    def _refined(self, best: _PlanError, trials: int) -> _PlanError:
        choose = random.Random(_SEED)  # noqa: S311 - not for secrets
        layers = conv_nodes.convolutions(self._graph)
        measured = best.plan.spans
        for _ in range(trials):
            plan, name = best.plan, choose.choice(layers + sorted(measured))
            if name in layers and not plan.farther and choose.random() < 0.5:
                stretch = {**plan.stretch, name: choose.choice(_STRETCHES)}
                plan = replace(plan, stretch=stretch)
            elif name in measured:
                spans = {**plan.spans, name: measured[name].widened(choose.choice(_WIDTHS))}
                plan = replace(plan, spans=spans)
            if plan != best.plan:
                best = min(best, self._scored(plan), key=lambda one: one.error)
        return best

    def _scored(self, plan: ConvPlan) -> _PlanError:
        session = OrtSession(self._write("trial", plan))
        scores = np.array(self._scores(session, self._tuning))
        # Between the mean, which large errors hardly move, and the largest, which is one picture's.
        return _PlanError(plan, float(np.mean(np.abs(scores - self._wanted) ** 3) ** (1 / 3)))

    def _write(self, name: str, plan: ConvPlan) -> str:
        folder = os.path.join(self._scratch, name)
        os.makedirs(folder, exist_ok=True)
        made = convolutions.convert(self._graph, self._float.manifest.input, plan)
        with open(os.path.join(folder, MODEL_NAME), "wb") as stream:
            stream.write(onnx_file.to_bytes(made))
        with open(os.path.join(folder, PLAN_NAME), "w", encoding="utf-8", newline="\n") as text:
            text.write(plan.dump())
        return folder

    def _scores(self, session: OrtSession, pictures: Sequence[CalibrationPicture]) -> list[float]:
        return verify.unsafe_scores(session, pictures, self._manifest)

    def _reference(self, pictures: Sequence[CalibrationPicture]) -> list[float]:
        def score(picture: CalibrationPicture) -> float:
            (scores,) = self._classifier.classify(picture.pixels.tobytes(), 1)
            return scores.unsafe

        return on_all_cores(score, pictures)

    def _timed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        sessions = {one.recipe.name: OrtSession(one.folder) for one in candidates}
        pixels = self._evidence.held_out[0].pixels[np.newaxis]
        taken = race(sessions, pixels, [self._manifest.output.name], rounds=_ROUNDS)
        return [replace(one, milliseconds=1000 * taken[one.recipe.name]) for one in candidates]

    # Calibration

    def _span(self, clip: float, even: bool = False) -> Mapping[str, Span]:
        if even not in self._spans:
            if even:
                self._even = self._sizes()
            self._spans[even] = self._calibrated(evened(self._graph, self._even))
        return self._spans[even][clip]

    def _sizes(self) -> dict[str, list[int]]:
        """Return the sizes of the channels that are to be evened out: the largest values."""
        groups = {
            name: tuple(dict.fromkeys(node.inputs[0] for node in group.takers))
            for name, group in channel_groups(self._graph).items()
            if name != conv_nodes.convolutions(self._graph)[0]  # `first_float` is for it
        }
        names = sorted({one for taken in groups.values() for one in taken})
        peaks = self._watched(self._graph, names, lambda value: value.max(axis=(0, 2, 3)))
        most = {name: np.max([one[at] for one in peaks], axis=0) for at, name in enumerate(names)}
        sizes = {}
        for name, taken in groups.items():
            shares = [most[one] / max(float(most[one].max()), 1e-12) for one in taken]
            steps = np.rint(WHOLE * np.max(shares, axis=0)).astype(int)
            sizes[name] = np.maximum(steps, _LEAST).tolist()
        return sizes

    def _rounding(self, plan: ConvPlan) -> dict[str, bytes]:
        """Choose how weights are rounded, by what convolutions take on calibration pictures."""
        graph = evened(self._graph, plan.sizes)
        moments: dict[str, second_order.Moments] = {}
        taken: dict[str, list[str]] = {}
        for node in graph.nodes:
            if node.outputs[0] in conv_nodes.convolutions(graph) and second_order.applies(node):
                weight = graph.weights[node.inputs[1]]
                moments[node.outputs[0]] = second_order.Moments(node, weight)
                taken.setdefault(node.inputs[0], []).append(node.outputs[0])
        choose = np.random.default_rng(_SEED)
        with self._observer(graph, list(taken), cores.available()) as observe:
            for picture in self._evidence.calibration:
                for name, value in zip(taken, observe(picture), strict=True):
                    for one in taken[name]:
                        moments[one].add(value, choose)
        farther: dict[str, bytes] = {}

        def rounder(node: Node, weight: Array, scale: Array) -> bytes:
            name = node.outputs[0]
            if name not in moments:
                return bytes((weight.size + 7) // 8)
            farther[name] = second_order.choose_rounding(weight, scale, moments[name].matrix())
            return farther[name]

        convolutions.convert(self._graph, self._float.manifest.input, plan, rounder)
        return farther

    def _watched(
        self, graph: Graph, names: Sequence[str], look: Callable[[Array], _Seen]
    ) -> list[list[_Seen]]:
        """Return what `look` returns for values of the float graph on each calibration picture."""
        with self._observer(graph, names, 1) as observe:

            def seen(picture: CalibrationPicture) -> list[_Seen]:
                return [look(one) for one in observe(picture)]

            return on_all_cores(seen, self._evidence.calibration)

    @contextlib.contextmanager
    def _observer(
        self, graph: Graph, names: Sequence[str], threads: int
    ) -> Iterator[Callable[[CalibrationPicture], list[Array]]]:
        """Return a function that returns values of the float graph for a picture."""
        outputs = tuple(Value(name, np.dtype(np.float32), None) for name in names)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            onnx_file.write(replace(graph, outputs=outputs).pruned(), folder)
            session = OrtSession(folder, threads=threads)
            spec = self._float.manifest.input
            yield lambda picture: session.run(to_input(picture.pixels, spec), names)

    def _calibrated(self, graph: Graph) -> dict[float, Mapping[str, Span]]:
        """Return the spans at each clip: the widest of all pictures."""
        names = conv_nodes.observed(graph)
        inputs = {node.inputs[0] for node in graph.nodes if node.op == "Conv"}
        seen = self._watched(graph, names, _look)
        planes = [number for number, one in enumerate(seen[0]) if len(one.means)]
        found: dict[float, Mapping[str, Span]] = {}
        for at, clip in enumerate(_CLIPS):
            spans = {}
            for number in planes:
                name = names[number]
                low = min(float(one[number].lows[at]) for one in seen)
                high = max(float(one[number].highs[at]) for one in seen)
                span = Span(low, high)
                if name in inputs:
                    mean = np.mean([one[number].means for one in seen], axis=0)
                    steps = np.rint(16 * mean / float(span.scale)).astype(int).tolist()
                    span = span._replace(means=tuple(steps))
                spans[name] = span
            found[clip] = spans
        return found


class _ActivationRange(NamedTuple):
    """An activation on one picture: its range at each clip, and its mean for each channel.

    What is not of a plane, such as tokens, has no means.
    """

    lows: Array
    highs: Array
    means: Array


def _look(value: Array) -> _ActivationRange:
    means = value.mean(axis=(0, 2, 3)) if value.ndim == 4 else np.zeros(0)
    # Sorting all values would take most of the time.
    some = np.sort(value.reshape(-1)[::_STRIDE])
    cut = [round(clip / 100 * (len(some) - 1)) for clip in _CLIPS]
    lows, highs = some[cut], some[[-1 - one for one in cut]]
    lows[0], highs[0] = value.min(), value.max()
    return _ActivationRange(lows, highs, means)

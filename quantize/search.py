"""Chooses the recipe: all are built, timed side by side and compared with the float model."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.models.graphs import onnx_file
from nsfwscan.values.errors import ModelUnusable, UsageError
from quantize import int8, verify
from quantize.calibrate import calibrate
from quantize.recipes import Clip, ConvRecipe, Recipe, Recipes, Scales
from quantize.session import OrtSession, race
from quantize.vit_graph import LOGITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nsfwscan.models.graphs.graph import Graph
    from nsfwscan.models.manifest import ModelManifest
    from quantize.int8 import Range
    from quantize.pictures import CalibrationPicture
    from quantize.verify import Agreement

_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Evidence:
    """The pictures for calibration and comparison."""

    calibration: Sequence[CalibrationPicture]
    """Empty if the user gave none: then recipes with fixed scales cannot be built."""
    held_out: Sequence[CalibrationPicture]
    """Pictures not used for calibration."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One recipe, built and measured."""

    recipe: Recipe | ConvRecipe
    folder: str
    """Contains `model.onnx` and its weights."""
    agreement: Agreement
    scores: tuple[float, ...]
    """On the held-out pictures."""
    shortcomings: tuple[str, ...]
    """How it fails the gate; empty if it passes."""
    milliseconds: float
    """Best time for one picture on one thread; NaN if not timed."""


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """The result of the search."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    reference: tuple[float, ...]
    """The float model's scores of the held-out pictures."""


def search(
    graph: Graph,
    manifest: ModelManifest,
    evidence: Evidence,
    recipes: Recipes,
    forced: str | None,
    scratch: str,
    say: Callable[[str], None],
) -> TrialOutcome:
    """Build the candidates below `scratch` and choose the fastest that passes the gate.

    `forced` names one recipe to build instead, without timing. Raises `UsageError` if it does not
    exist or cannot be built.
    """
    bench = _Bench(graph, manifest, evidence, recipes, scratch, say)
    wanted = _wanted(recipes, forced, bool(evidence.calibration))
    candidates = [bench.build(recipe) for recipe in wanted]
    if forced is not None:
        return TrialOutcome(candidates[0], tuple(candidates), bench.reference)
    candidates = bench.time(candidates)
    passing = [one for one in candidates if not one.shortcomings and one.recipe.candidate]
    # The float model agrees with itself, so at least one candidate passes.
    chosen = min(passing, key=lambda one: one.milliseconds)
    return TrialOutcome(chosen, tuple(candidates), bench.reference)


def _wanted(recipes: Recipes, forced: str | None, calibrated: bool) -> list[Recipe]:
    if forced is None:
        return [
            one
            for one in recipes.recipes
            if one.candidate and (calibrated or one.scales is not Scales.STATIC)
        ]
    known = {one.name: one for one in recipes.recipes}
    if forced not in known:
        raise UsageError(f"unknown recipe {forced!r}", hint=f"the recipes are {', '.join(known)}")
    if known[forced].scales is Scales.STATIC and not calibrated:
        raise UsageError(
            f"the recipe {forced} needs pictures for calibration",
            hint="name a folder of ordinary pictures with --pictures, or use --recipe dynamic",
        )
    return [known[forced]]


class _Smoothed(NamedTuple):
    """What the recipes of one smoothing strength share."""

    graph: Graph
    ranges: Mapping[Clip, Mapping[str, Range]]
    rounded: int8.Rounded


class _Bench:
    """Builds candidates, and shares their common parts."""

    def __init__(
        self,
        graph: Graph,
        manifest: ModelManifest,
        evidence: Evidence,
        recipes: Recipes,
        scratch: str,
        say: Callable[[str], None],
    ) -> None:
        self._graph = graph
        self._manifest = manifest
        self._evidence = evidence
        self._gate = recipes.gate
        self._scratch = scratch
        self._say = say
        self._smoothed: dict[float, _Smoothed] = {}
        self._float = self._write("float", graph)
        self.reference = tuple(self._score(self._float))

    def build(self, recipe: Recipe) -> Candidate:
        folder = self._float
        if recipe.scales is not Scales.NONE:
            base = self._smooth(recipe)
            ranges = base.ranges.get(recipe.clip, {})
            made = int8.quantize(base.graph, recipe, ranges, base.rounded)
            folder = self._write(recipe.name, made)
        scores = self.reference if folder == self._float else tuple(self._score(folder))
        found = verify.agreement(
            self._evidence.held_out, self.reference, scores, self._manifest.thresholds
        )
        missed = tuple(found.shortcomings(self._gate))
        self._say(
            f"{recipe.name}: scores move by at most {found.max_difference:.4f}"
            + (f"; fails the gate: {missed[0]}" if missed else "")
        )
        return Candidate(recipe, folder, found, scores, missed, float("nan"))

    def time(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Time all candidates side by side, one picture at a time on one thread."""
        sessions = {one.recipe.name: OrtSession(one.folder) for one in candidates}
        pixels = self._evidence.held_out[0].pixels[np.newaxis]
        taken = race(sessions, pixels, [LOGITS], rounds=_ROUNDS)
        return [replace(one, milliseconds=1000 * taken[one.recipe.name]) for one in candidates]

    def _smooth(self, recipe: Recipe) -> _Smoothed:
        strength = recipe.smoothing
        if strength not in self._smoothed:
            graph = int8.smooth(self._graph, strength) if strength else self._graph
            pictures = [one.pixels for one in self._evidence.calibration]
            ranges = calibrate(graph, pictures) if pictures else {}
            self._smoothed[strength] = _Smoothed(graph, ranges, int8.Rounded())
        return self._smoothed[strength]

    def _score(self, folder: str) -> list[float]:
        return verify.unsafe_scores(OrtSession(folder), self._evidence.held_out, self._manifest)

    def _write(self, name: str, graph: Graph) -> str:
        folder = os.path.join(self._scratch, name)
        os.mkdir(folder)
        try:
            onnx_file.write(graph, folder)
        except OSError as error:
            raise ModelUnusable(f"{folder} cannot be written: {error.strerror}") from error
        return folder

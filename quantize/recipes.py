"""Quantization recipes: data, read from `recipes.toml`."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nsfwscan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class Scales(StrEnum):
    """Where the scales of the activations come from."""

    NONE = "none"
    """Nowhere: the model stays in float."""
    STATIC = "static"
    """From calibration pictures."""
    DYNAMIC = "dynamic"
    """From each picture itself, while it is scored."""


class WeightRange(StrEnum):
    """What int8 weights may reach."""

    FULL = "full"
    """127. Products saturate on processors without VNNI."""
    SEVEN_BIT = "seven-bit"
    """64: two neighbours never saturate."""
    PAIRS = "pairs"
    """127, and 128 for the sum of two neighbours of the same sign: they never saturate."""


class Clip(StrEnum):
    """What counts as the range of an activation."""

    MIN_MAX = "min-max"
    """Everything that was seen."""
    PERCENTILE = "percentile"
    """All but 0.01 % at either end of each picture."""


class Attention(StrEnum):
    """Which products of two activations are done in integers."""

    FLOAT = "float"
    SCORES = "scores"
    """Queries by keys."""
    INT8 = "int8"
    """Also probabilities by values."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to quantize."""

    name: str
    scales: Scales
    weights: WeightRange = WeightRange.PAIRS
    clip: Clip = Clip.MIN_MAX
    attention: Attention = Attention.FLOAT
    smoothing: float = 0.0
    """Share of an outlier that moves from activations into weights; 0 leaves all as it is."""
    keep_float: tuple[str, ...] = ()
    """Patterns of the names of products that stay in float."""
    candidate: bool = True
    """Whether the search may choose it; the others are for comparison."""


@dataclass(frozen=True, slots=True)
class Gate:
    """How far INT8 may be from float on held-out pictures."""

    max_difference: float
    """Of the unsafe probability, on any picture."""
    mean_difference: float
    equal_decisions: float
    """Smallest share of pictures with the same decision at the thresholds."""


@dataclass(frozen=True, slots=True)
class Recipes:
    """All of `recipes.toml`."""

    gate: Gate
    recipes: tuple[Recipe, ...]


@functools.cache
def load() -> Recipes:
    """Read `recipes.toml`."""
    text = (importlib.resources.files(__package__) / "recipes.toml").read_text("utf-8")
    return read(tomllib.loads(text))


def read(document: dict[str, Any]) -> Recipes:
    """Read all of a `recipes.toml`. Raises `UsageError`, as `recipe` does, for all that is odd."""
    _check_fields(document, {"gate", "recipe"}, {"gate", "recipe"}, "recipes.toml")
    figures = {field.name for field in fields(Gate)}
    _check_fields(document["gate"], figures, figures, "recipes.toml: the gate")
    return Recipes(Gate(**document["gate"]), tuple(recipe(table) for table in document["recipe"]))


def recipe(table: dict[str, Any]) -> Recipe:
    """Read one recipe. Raises `UsageError` for a field that is missing, unknown or not understood.

    Passed over in silence, a misspelt field would mean its default.
    """
    where = f"recipes.toml: the recipe {table.get('name')}"
    known = {field.name for field in fields(Recipe)}
    _check_fields(table, known, {"name", "scales"}, where)
    kinds: dict[str, Callable[[Any], Any]] = {
        "scales": Scales,
        "weights": WeightRange,
        "clip": Clip,
        "attention": Attention,
        "keep_float": tuple,
    }
    try:
        understood = {name: kind(table[name]) for name, kind in kinds.items() if name in table}
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    return Recipe(**{**table, **understood})


def _check_fields(table: dict[str, Any], known: set[str], needed: set[str], where: str) -> None:
    """Raise `UsageError` for a field that is missing or unknown."""
    if strangers := set(table) - known:
        raise UsageError(f"{where} has the unknown field {min(strangers)!r}")
    if missing := needed - set(table):
        raise UsageError(f"{where} has no {min(missing)}")

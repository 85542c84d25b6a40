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
    """None: the model stays in float."""
    STATIC = "static"
    """From calibration pictures."""
    DYNAMIC = "dynamic"
    """From each picture while it is scored."""


class WeightRange(StrEnum):
    """The limit of int8 weights."""

    FULL = "full"
    """127. Products saturate on processors without VNNI."""
    SEVEN_BIT = "seven-bit"
    """64: two adjacent products never saturate."""
    PAIRS = "pairs"
    """127, and 128 for the sum of two neighbours of the same sign: products never saturate."""


class Clip(StrEnum):
    """What counts as the range of an activation."""

    MIN_MAX = "min-max"
    """All values."""
    PERCENTILE = "percentile"
    """All values but 0.01 % at either end, for each picture."""


class Attention(StrEnum):
    """Which products of two activations are computed in integers."""

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
    """Share of an outlier that is moved from activations into weights; 0 for none."""
    keep_float: tuple[str, ...] = ()
    """Patterns for the names of products that stay in float."""
    candidate: bool = True
    """Whether the search may choose it. The others are for comparison."""


@dataclass(frozen=True, slots=True)
class ConvRecipe:
    """One way to quantize a convolutional network; see `quantize.convolutional`."""

    name: str
    integer_sums: int
    """So many sums of a residual stream, from the pixels on, are integers; the others are float."""
    first_float: bool = False
    """Whether the first convolution, and those that take what it returns, stay in float."""
    even: bool = False
    """Whether channels are evened out first; see `nsfwscan.models.rewrite.evening`."""
    most_float: int = 0
    """At most this many convolutions stay in float."""
    worth: float = 1.0
    """One stays in float only if the error is then lower than this share of what it was."""
    second_order: bool = False
    """Whether it is chosen for each weight to which neighbour it is rounded; see `second_order`."""
    trials: int = 0
    """Random changes to try at the end."""
    candidate: bool = True


@dataclass(frozen=True, slots=True)
class Gate:
    """How much INT8 may differ from float on held-out pictures."""

    max_difference: float
    """In unsafe probability, on any picture."""
    mean_difference: float
    equal_decisions: float
    """Smallest share of pictures with the same decision at the thresholds."""


@dataclass(frozen=True, slots=True)
class Recipes:
    """All of `recipes.toml`."""

    gate: Gate
    recipes: tuple[Recipe, ...]
    conv_gate: Gate
    """For convolutional networks."""
    convolutions: tuple[ConvRecipe, ...]


@functools.cache
def load() -> Recipes:
    """Read `recipes.toml`."""
    text = (importlib.resources.files(__package__) / "recipes.toml").read_text("utf-8")
    return read(tomllib.loads(text))


def read(document: dict[str, Any]) -> Recipes:
    """Parse a `recipes.toml`. Raises `UsageError`, as `recipe` does."""
    parts = {"gate", "recipe", "conv_gate", "conv_recipe"}
    _check_fields(document, parts, parts, "recipes.toml")
    figures = {field.name for field in fields(Gate)}
    for name in ("gate", "conv_gate"):
        _check_fields(document[name], figures, figures, f"recipes.toml: the {name}")
    known = {field.name for field in fields(ConvRecipe)}
    for table in document["conv_recipe"]:
        where = f"recipes.toml: the conv_recipe {table.get('name')}"
        _check_fields(table, known, {"name", "integer_sums"}, where)
    return Recipes(
        Gate(**document["gate"]),
        tuple(recipe(table) for table in document["recipe"]),
        Gate(**document["conv_gate"]),
        tuple(ConvRecipe(**table) for table in document["conv_recipe"]),
    )


def recipe(table: dict[str, Any]) -> Recipe:
    """Read one recipe. Raises `UsageError` for a field that is missing, unknown or invalid.

    A misspelt field that was ignored would get its default.
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
        raise UsageError(f"{where} has an unknown field {min(strangers)!r}")
    if missing := needed - set(table):
        raise UsageError(f"{where} has no {min(missing)}")

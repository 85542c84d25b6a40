"""A plan: how one convolutional network is converted to INT8, as data that `quantize` found."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATIC_CONV = "static-conv/3"
"""The name of this way of rewriting. A new number for every change that changes a graph."""
STEPS = 255


class Span(NamedTuple):
    """What an activation was on the calibration pictures."""

    low: float
    high: float
    means: tuple[int, ...] = ()
    """Of each channel, in sixteenths of a step; a step is a 255th of `high - low`."""

    @property
    def scale(self) -> np.float32:
        """Return the size of one step."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        return np.float32(max((high - low) / STEPS, 1e-12))

    @property
    def zero(self) -> np.uint8:
        """Return the integer that stands for zero."""
        return np.uint8(min(max(round(-min(self.low, 0.0) / float(self.scale)), 0), STEPS))

    def widened(self, factor: float) -> Span:
        """Return a span that is wider by `factor`, with the same means."""
        steps = tuple(round(one / factor) for one in self.means)
        return Span(self.low * factor, self.high * factor, steps)


@dataclass(frozen=True, slots=True)
class ConvPlan:
    """How one network is converted: the result of a calibration and a search, as data."""

    spans: Mapping[str, Span]
    """By the name of the value in the float graph."""
    keep_float: frozenset[str] = frozenset()
    """Convolutions that stay in float, by the name of what they return."""
    integer_sums: frozenset[str] = frozenset()
    """Sums of a residual stream that are rounded to integers, by name. The others are float."""
    stretch: Mapping[str, float] = field(default_factory=dict)
    """By how much the scales of a convolution's weights are enlarged; 1 for those not named."""
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Of channels that are evened out first; see `evening`. Spans are of what results."""
    farther: Mapping[str, bytes] = field(default_factory=dict)
    """Which weights of a convolution are rounded to the farther of their two neighbours.

    A bit for each weight, in their order, eight in a byte. Others are rounded to the nearest.
    """

    def dump(self) -> str:
        """Return the plan as JSON, from which `parse_plan` returns an equal one."""
        document = {
            "way": STATIC_CONV,
            "integer_sums": sorted(self.integer_sums),
            "keep_float": sorted(self.keep_float),
            "stretch": dict(sorted(self.stretch.items())),
            "sizes": {name: list(one) for name, one in sorted(self.sizes.items())},
            "farther": {
                name: base64.b64encode(one).decode() for name, one in sorted(self.farther.items())
            },
            "spans": {
                name: [one.low, one.high, list(one.means)]
                for name, one in sorted(self.spans.items())
            },
        }
        lines = json.dumps(document, separators=(",", ":"))
        return lines.replace('],"', '],\n"').replace(',"spans":{', ',\n"spans":{\n') + "\n"


def parse_plan(text: str) -> ConvPlan:
    """Read a plan that `ConvPlan.dump` wrote. Raises ValueError, KeyError or TypeError."""
    document: dict[str, Any] = json.loads(text)
    if document["way"] != STATIC_CONV:
        raise ValueError(f"the plan is for {document['way']!r}, not {STATIC_CONV}")
    return ConvPlan(
        spans={
            name: Span(low, high, tuple(means))
            for name, (low, high, means) in document["spans"].items()
        },
        keep_float=frozenset(document["keep_float"]),
        integer_sums=frozenset(document["integer_sums"]),
        stretch=document["stretch"],
        sizes=document["sizes"],
        farther={
            name: base64.b64decode(one, validate=True) for name, one in document["farther"].items()
        },
    )

"""The ranges of a network's activations, from pictures."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from quantize import int8, onnx_file
from quantize.graph import Array, Graph, Value
from quantize.int8 import Range
from quantize.recipes import Clip
from quantize.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PERCENT = 0.01
"""Cut off at either end for `Clip.PERCENTILE`."""


def calibrate(graph: Graph, pictures: Sequence[Array]) -> Mapping[Clip, Mapping[str, Range]]:
    """Run the float `graph` on (H, W, 3) uint8 `pictures` and return what each activation spans.

    The percentile range of a set is the widest of its pictures'; outliers that most pictures have
    are no accident.
    """
    names = int8.observed(graph)
    unknown = np.dtype(np.float32)
    watched = replace(graph, outputs=tuple(Value(name, unknown, None) for name in names)).pruned()
    ranges: dict[Clip, dict[str, Range]] = {clip: {} for clip in Clip}
    with tempfile.TemporaryDirectory() as folder:
        onnx_file.write(watched, folder)
        session = Session(folder)
        for picture in pictures:
            for name, value in zip(names, session.run(picture[np.newaxis], names), strict=True):
                # A fixed stride keeps this a small part of the run; the sort is what costs.
                some = value.reshape(-1)[::7]
                low, high = np.percentile(some, [_PERCENT, 100 - _PERCENT])
                _widen(ranges[Clip.PERCENTILE], name, float(low), float(high))
                _widen(ranges[Clip.MIN_MAX], name, float(value.min()), float(value.max()))
        del session  # it maps a file of the folder, which Windows could not delete
    return ranges


def _widen(ranges: dict[str, Range], name: str, low: float, high: float) -> None:
    known = ranges.get(name, Range(low, high))
    ranges[name] = Range(min(low, known.low), max(high, known.high))

"""Measures the ranges of a network's activations on pictures."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.graphs.graph import Array, Graph, Value
from quantize import int8
from quantize.int8 import Range
from quantize.recipes import Clip
from quantize.session import OrtSession, on_all_cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PERCENT = 0.01
"""Share cut off at either end by `Clip.PERCENTILE`."""


def calibrate(graph: Graph, pictures: Sequence[Array]) -> Mapping[Clip, Mapping[str, Range]]:
    """Run the float `graph` on (H, W, 3) uint8 `pictures` and return each activation's range.

    The percentile range of a set is the widest of its pictures', because outliers that most
    pictures have are not noise.
    """
    names = int8.observed(graph)
    unknown = np.dtype(np.float32)
    watched = replace(graph, outputs=tuple(Value(name, unknown, None) for name in names)).pruned()
    with tempfile.TemporaryDirectory() as folder:
        each = _watch(watched, names, folder, pictures)
    return {
        clip: {
            name: Range(
                min(one[at][clip].low for one in each), max(one[at][clip].high for one in each)
            )
            for at, name in enumerate(names)
        }
        for clip in Clip
    }


def _watch(
    graph: Graph, names: Sequence[str], folder: str, pictures: Sequence[Array]
) -> list[list[Mapping[Clip, Range]]]:
    """Return the range of each activation, for each picture.

    This is a separate function so that the session ends before the folder is deleted: it maps a
    file there, which Windows could not delete.
    """
    onnx_file.write(graph, folder)
    session = OrtSession(folder)

    def spans(picture: Array) -> list[Mapping[Clip, Range]]:
        return [_span(value) for value in session.run(picture[np.newaxis], names)]

    return on_all_cores(spans, pictures)


def _span(value: Array) -> Mapping[Clip, Range]:
    # A fixed stride, because sorting all values would take most of the time.
    some = value.reshape(-1)[::7]
    low, high = np.percentile(some, [_PERCENT, 100 - _PERCENT])
    return {
        Clip.PERCENTILE: Range(float(low), float(high)),
        Clip.MIN_MAX: Range(float(value.min()), float(value.max())),
    }

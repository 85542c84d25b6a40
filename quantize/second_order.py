"""Chooses for each weight of a convolution to which of its two neighbours it is rounded.

Rounding to the nearest is best for a weight alone, not for a sum over all inputs: the errors of
inputs that are large together should cancel out. So weights are rounded one after the other, and
what the rounding of one changes in the result is taken up by those that follow, as the second
moments of the inputs say (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", 2022). Then single weights are turned to their other neighbour while that
lowers the error. Unlike there, no weight moves further than to a neighbour: a plan holds no more
than a bit for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nsfwscan.models.rewrite import conv_nodes, rounding

if TYPE_CHECKING:
    from nsfwscan.models.graphs.graph import Array, Node

_POSITIONS = 36
"""So many random patches are taken of each picture."""
_BATCH = 64
"""Pictures whose patches are multiplied at a time."""
_COHERENT = 0.5
"""How much the error of a picture's mean counts, beside that of its patches.

Errors of single patches average out where a network pools; those of the mean do not.
"""
_DAMPING = 0.01
"""Of the mean variance, added to each: inputs that never differed on few pictures may on others."""
_PASSES = 3


def applies(node: Node) -> bool:
    """Return True for a convolution whose inputs `Moments` can take note of."""
    dilations = node.attributes.get("dilations", (1, 1))
    return conv_nodes.groups_of(node) == 1 and conv_nodes.pair(dilations) == (1, 1)


class Moments:
    """The second moments of what a convolution takes, from patches of its size."""

    def __init__(self, node: Node, weight: Array) -> None:
        """`node` is a convolution of one group without dilation, whose weights are `weight`."""
        self._kernel: tuple[int, int] = weight.shape[2:]
        top, left, bottom, right = conv_nodes.four(node.attributes.get("pads", (0, 0, 0, 0)))
        self._pads = ((0, 0), (top, bottom), (left, right))
        size = int(np.prod(weight.shape[1:]))
        self._products = np.zeros((size, size), np.float32)
        self._sum = np.zeros(size, np.float32)
        self._count = 0
        self._waiting: list[Array] = []
        self._means: list[Array] = []

    def add(self, value: Array, choose: np.random.Generator) -> None:
        """Take note of a (1, channels, height, width) value."""
        plane = np.pad(value[0], self._pads)
        windows = sliding_window_view(plane, self._kernel, axis=(1, 2))
        at = [choose.integers(0, edge, _POSITIONS) for edge in windows.shape[1:3]]
        taken = windows[:, at[0], at[1]].transpose(1, 0, 2, 3).reshape(_POSITIONS, -1)
        self._waiting.append(taken)
        self._means.append(np.repeat(value[0].mean(axis=(1, 2)), np.prod(self._kernel)))
        if len(self._waiting) == _BATCH:
            self._multiply()

    def _multiply(self) -> None:
        taken = np.concatenate(self._waiting)
        self._products += taken.T @ taken
        self._sum += taken.sum(axis=0)
        self._count += len(taken)
        self._waiting.clear()

    def matrix(self) -> Array:
        """Return how much errors of two weights count together: (inputs, inputs) float64."""
        if self._waiting:
            self._multiply()
        mean = self._sum.astype(np.float64) / self._count
        patches = self._products.astype(np.float64) / self._count - np.outer(mean, mean)
        means = np.array(self._means, np.float64)
        means -= means.mean(axis=0)
        counted = (1 - _COHERENT) * patches + _COHERENT * (means.T @ means / len(means))
        damping = max(_DAMPING * float(np.mean(np.diag(counted))), 1e-12)
        matrix: Array = counted + damping * np.eye(len(counted))
        return matrix


def choose_rounding(weight: Array, scale: Array, matrix: Array) -> bytes:
    """Return which weights are rounded to the farther neighbour, for `rounding.round_chosen`.

    `weight` is (out, in, height, width), `scale` (out,), `matrix` what `Moments.matrix` returns.
    """
    steps = (weight / scale[:, None, None, None]).reshape(len(weight), -1).astype(np.float64)
    order = np.argsort(-np.diag(matrix), kind="stable")  # what counts most is rounded first
    counted, exact = matrix[order][:, order], steps[:, order]
    factor = np.linalg.cholesky(np.linalg.inv(counted)).T
    limit = float(rounding.MAX_INT8)
    low, high = np.maximum(np.floor(exact), -limit), np.minimum(np.ceil(exact), limit)
    wanted, chosen = exact.copy(), np.zeros_like(exact)
    for at in range(exact.shape[1]):
        chosen[:, at] = np.clip(np.rint(wanted[:, at]), low[:, at], high[:, at])
        lost = (wanted[:, at] - chosen[:, at]) / factor[at, at]
        wanted[:, at + 1 :] -= np.outer(lost, factor[at, at + 1 :])
    slope = (chosen - exact) @ counted
    for _ in range(_PASSES):
        for at in range(exact.shape[1]):
            other = low[:, at] + high[:, at] - chosen[:, at]
            move = other - chosen[:, at]
            gain = 2 * move * slope[:, at] + move * move * counted[at, at]
            turned = np.flatnonzero(gain < -1e-9)
            chosen[turned, at] = other[turned]
            slope[turned] += np.outer(move[turned], counted[at])
    found = np.empty(steps.shape, bool)
    # As float32, in which `round_chosen` divides.
    single = np.rint((weight / scale[:, None, None, None]).reshape(len(weight), -1))
    found[:, order] = chosen != single[:, order]
    return np.packbits(found.reshape(-1)).tobytes()

"""Rounds weights to int8 so that processors without VNNI compute the same products.

They multiply with `vpmaddubsw`, which adds two adjacent products of uint8 activations and int8
weights in a signed 16-bit number, and saturates. So no two neighbours along the axis that a product
sums over may add up to more than `MAX_PAIR`.

Only sums of integers and operations on single IEEE 754 numbers are used: the integers are the same
on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from nsfwscan.models.graphs.graph import Array

MAX_INT8 = 127
MAX_PAIR = 128
"""255 * 128 = 32,640 fits in 16 bits; 255 * 129 does not."""

_SCALES = 64
_CARRIED = 2
"""By how much two weights may exceed a pair that are not rounded to the nearest number."""


def pair_scale(weight: Array, limit: float = MAX_PAIR) -> Array:
    """Return the smallest float32 scale for each column of (in, out) float32 weights.

    No two neighbours of the same sign then add up to more than `limit` when rounded. Columns of
    zeros, or of numbers too small to divide by, get 1.
    """
    largest = np.abs(weight).max(axis=0)
    second = weight[1::2]
    first = weight[0::2][: len(second)]
    sums = np.where((first > 0) == (second > 0), np.abs(first + second), 0)
    most = sums.max(axis=0, initial=0)
    # Plus a little, because both might be rounded up.
    scale = np.maximum(largest / MAX_INT8, most / (limit - 1e-3))
    rounded: Array = np.where(scale > 1e-30, scale, 1.0).astype(np.float32)
    return rounded


def round_nearest(kernel: Array, scale: Array) -> Array:
    """Round (out, in, height, width) weights to int8, by one scale for each output."""
    steps = kernel / scale[:, None, None, None]
    rounded: Array = np.clip(np.rint(steps), -MAX_INT8, MAX_INT8).astype(np.int8)
    return rounded


def round_chosen(kernel: Array, scale: Array, farther: bytes) -> Array:
    """Round like `round_nearest`, but some weights to the farther of their two neighbours.

    `farther` has a bit for each weight, eight in a byte. `scale` must be at least `spread_scale`'s.
    Raises ValueError if there are not as many bits as weights.
    """
    if len(farther) != (kernel.size + 7) // 8:
        raise ValueError(f"{len(farther)} bytes say how {kernel.size} weights are rounded")
    bits = np.unpackbits(np.frombuffer(farther, np.uint8), count=kernel.size)
    steps = kernel / scale[:, None, None, None]
    nearest = np.rint(steps)
    other = nearest + np.where(steps >= nearest, 1, -1)
    chosen = np.where(bits.reshape(kernel.shape) == 1, other, nearest)
    rounded: Array = np.clip(chosen, -MAX_INT8, MAX_INT8).astype(np.int8)
    return rounded


class Spread(NamedTuple):
    """A kernel rounded by `round_spread`."""

    rounded: Array
    scale: Array


def round_spread(kernel: Array, least: Array) -> Spread:
    """Round like `round_nearest`, but carry each rounding error over to the next weight.

    It goes to and fro over the rows of each plane of a kernel. What is carried at the end is by how
    much the plane's sum is wrong, and so what a smooth area of a picture gives. Of some scales for
    each output, all at least `least`, which must be `spread_scale`'s, the one is kept at which the
    most that a plane carries is least.
    """
    best = Spread(np.zeros(kernel.shape, np.int8), least)
    most = np.full(len(kernel), np.inf, np.float32)
    for number in range(_SCALES):
        scale = least * np.float32(1 + number / 512)
        rounded, carried = _carry(kernel / scale[:, None, None, None])
        wrong = np.abs(carried).max(axis=1)
        better = wrong < most
        most = np.where(better, wrong, most)
        best = Spread(
            np.where(better[:, None, None, None], rounded, best.rounded),
            np.where(better, scale, best.scale),
        )
    return best


def _carry(steps: Array) -> tuple[Array, Array]:
    """Round weights one after the other; return them, and what each plane carries at the end."""
    rounded = np.zeros(steps.shape, np.int8)
    carried = np.zeros(steps.shape[:2], np.float32)
    height, width = steps.shape[2:]
    for y in range(height):
        for x in range(width) if y % 2 == 0 else range(width - 1, -1, -1):
            wanted = steps[:, :, y, x] + carried
            nearest = np.clip(np.rint(wanted), -MAX_INT8, MAX_INT8)
            rounded[:, :, y, x] = nearest
            carried = wanted - nearest
    return rounded, carried


def spread_scale(weight: Array) -> Array:
    """Return `pair_scale` with room for weights that are not rounded to the nearest number."""
    return pair_scale(weight, MAX_PAIR - _CARRIED)


def shift(kernel: Array, rounded: Array, scale: Array, means: Array) -> Array:
    """Return by how much rounding lowers each output on average, float64 in steps of `scale`.

    `means` has the mean of each input, in sixteenths of a step: (groups, in) integers for a
    (out, in, height, width) kernel.
    """
    lost = np.rint((kernel / scale[:, None, None, None] - rounded) * np.float32(1 << 16))
    planes = lost.astype(np.int64).sum(axis=(2, 3))  # integers: the order of adding is no matter
    by_output = np.repeat(means.astype(np.int64), len(kernel) // len(means), axis=0)
    steps: Array = (planes * by_output).sum(axis=1).astype(np.float64) / (1 << 20)
    return steps

"""Evens out the channels of what convolutions return, so that one step of uint8 suits them all.

A channel whose values are small next to another's would have few of the 256 steps. Between
convolutions, with only ReLU, MaxPool and sums in between, a channel can be enlarged for nothing:
the convolutions before are divided by its size, those after it multiplied. In float the network
stays the same (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.models.rewrite.conv_nodes import groups_of, is_convertible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsfwscan.models.graphs.graph import Array, Graph, Node

WHOLE = 256
"""The size of a group's largest channel."""


class ChannelGroup(NamedTuple):
    """Values that have the same channels, between convolutions."""

    values: tuple[str, ...]
    makers: tuple[Node, ...]
    """The convolutions that return one of them."""
    takers: tuple[Node, ...]
    """The convolutions that take one of them."""


def channel_groups(graph: Graph) -> dict[str, ChannelGroup]:
    """Return the groups whose channels can be evened out, by the name of their first value."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for node in graph.nodes:
        if _joins(node, graph):
            for name in node.inputs:
                root[find(node.outputs[0])] = find(name)
    barred = {find(value.name) for value in (*graph.inputs, *graph.outputs)}
    makers: dict[str, list[Node]] = {}
    takers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if _joins(node, graph):
            continue
        conv = is_convertible(node, graph.weights)
        if conv:
            makers.setdefault(find(node.outputs[0]), []).append(node)
        else:
            barred |= {find(name) for name in (*node.inputs, *node.outputs)}
        if conv and groups_of(node) == 1:
            takers.setdefault(find(node.inputs[0]), []).append(node)
        elif conv:
            barred.add(find(node.inputs[0]))
    groups = {}
    for name, before in makers.items():
        if name in takers and name not in barred:
            values = tuple(one for one in root if find(one) == name)
            groups[before[0].outputs[0]] = ChannelGroup(values, tuple(before), tuple(takers[name]))
    return groups


def _joins(node: Node, graph: Graph) -> bool:
    """Return True if what a node returns has the channels, and their sizes, of what it takes."""
    alone = len(node.outputs) == 1 and not node.domain
    if node.op == "Add":
        return alone and not any(name in graph.weights for name in node.inputs)
    return alone and node.op in {"Relu", "MaxPool"}


def evened(graph: Graph, sizes: Mapping[str, Sequence[int]]) -> Graph:
    """Return the same network with channels divided by their sizes, in `WHOLE`ths.

    `sizes` is by the names of `channel_groups`. Raises KeyError for a group that is not one,
    ValueError for sizes that do not fit.
    """
    groups = channel_groups(graph)
    weights = dict(graph.weights)
    for name, given in sizes.items():
        factor = np.asarray(given, np.float32) / np.float32(WHOLE)
        if not (factor > 0).all():
            raise ValueError(f"a size of {name} is not positive")
        for node in groups[name].makers:
            # Weights that convolutions share would be scaled twice.
            kernel, *bias = node.inputs[1:]
            weights[kernel] = _scaled(weights[kernel], 1 / factor[:, None, None, None])
            for one in filter(None, bias):
                weights[one] = _scaled(weights[one], 1 / factor)
        for node in groups[name].takers:
            kernel = node.inputs[1]
            weights[kernel] = _scaled(weights[kernel], factor[None, :, None, None])
    return replace(graph, weights=weights)


def _scaled(weight: Array, factor: Array) -> Array:
    if weight.shape != np.broadcast_shapes(weight.shape, factor.shape):
        raise ValueError(f"sizes of shape {factor.shape} for weights of {weight.shape}")
    scaled: Array = weight * factor
    return scaled

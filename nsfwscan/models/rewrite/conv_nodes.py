"""The convolutions of a float graph, and who uses what they return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.models.graphs.graph import Array, Attribute, Graph, Node, Value


def convolutions(graph: Graph) -> list[str]:
    """Return the names of what the convolutions return that can be converted."""
    return [node.outputs[0] for node in graph.nodes if is_convertible(node, graph.weights)]


def products(graph: Graph) -> list[str]:
    """Return those of `convolutions` that are matrix products: of one pixel, without padding."""
    weights = graph.weights
    return [
        node.outputs[0]
        for node in graph.nodes
        if is_convertible(node, weights) and is_product(node, weights[node.inputs[1]])
    ]


def sums(graph: Graph) -> list[str]:
    """Return the names of the sums of two values, after a ReLU if there is one, in order."""
    net = Users(graph)
    adds = (node for node in graph.nodes if node.op == "Add")
    return [
        net.after_relu(node)
        for node in adds
        if not any(one in graph.weights for one in node.inputs)
    ]


def observed(graph: Graph) -> list[str]:
    """Return the names of the values whose `Span` a plan must have."""
    net = Users(graph)
    names: set[str] = set()
    for node in graph.nodes:
        if is_convertible(node, graph.weights):
            names |= {node.inputs[0], net.after_relu(node)}
    added = set(sums(graph))
    for node in graph.nodes:
        if node.op == "Add" and net.after_relu(node) in added:
            names.update(node.inputs)
    return sorted(names | added)


def is_convertible(node: Node, weights: Mapping[str, Array]) -> bool:
    """Return True for a 2D convolution with constant weights and explicit padding."""
    if node.op != "Conv" or node.domain or node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    return all(name in weights for name in node.inputs[1:]) and weights[node.inputs[1]].ndim == 4


class Users:
    """Who uses what in a graph."""

    def __init__(self, graph: Graph) -> None:
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in filter(None, node.inputs):
                self._users.setdefault(name, []).append(node)
        self._returned = {value.name for value in graph.outputs}

    def users(self, name: str) -> list[Node]:
        """Return the nodes that take the value `name`."""
        return self._users.get(name, [])

    def relu(self, node: Node) -> Node | None:
        """Return the ReLU that alone uses what a node returns."""
        users = self.users(node.outputs[0])
        alone = len(users) == 1 and node.outputs[0] not in self._returned
        return users[0] if alone and users[0].op == "Relu" else None

    def after_relu(self, node: Node) -> str:
        """Return the name of what a node returns, after its ReLU if it has one."""
        return (self.relu(node) or node).outputs[0]


def as_sums(weight: Array) -> Array:
    """Return (in, out) weights, in the order in which onnxruntime adds their products."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))


def as_columns(weight: Array) -> Array:
    """Return the weights of a convolution of one pixel as (in, out)."""
    return np.ascontiguousarray(weight[:, :, 0, 0].T)


def conv_attributes(node: Node, weight: Array) -> dict[str, Attribute]:
    """Return all attributes of a convolution, also those left to their defaults."""
    given = node.attributes
    return {
        "kernel_shape": weight.shape[2:],
        "strides": given.get("strides", (1, 1)),
        "pads": given.get("pads", (0, 0, 0, 0)),
        "dilations": given.get("dilations", (1, 1)),
        "group": groups_of(node),
    }


def groups_of(node: Node) -> int:
    """Return the number of groups of a convolution."""
    return int(node.attributes.get("group", 1))  # type: ignore[arg-type]


def is_product(node: Node, weight: Array) -> bool:
    """Return True for a convolution of one pixel: a matrix product."""
    unpadded = not any(four(node.attributes.get("pads", (0, 0, 0, 0))))
    return weight.shape[2:] == (1, 1) and groups_of(node) == 1 and unpadded


def pair(value: object) -> tuple[int, int]:
    """Return an attribute that has two whole numbers."""
    one, other = (int(number) for number in value)  # type: ignore[attr-defined]
    return one, other


def four(value: object) -> tuple[int, int, int, int]:
    """Return an attribute that has four whole numbers."""
    top, left, bottom, right = (int(number) for number in value)  # type: ignore[attr-defined]
    return top, left, bottom, right


def one_picture(value: Value) -> tuple[int | str, ...] | None:
    """Return the shape of a value for a batch of one."""
    return None if value.shape is None else (1, *value.shape[1:])

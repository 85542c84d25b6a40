"""A graph of operators as plain values: front ends build it, and the INT8 step rewrites it.

It consists of tuples and numpy arrays, without ONNX types. `onnx_file` converts it to a file and
back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

Array: TypeAlias = NDArray[Any]
Attribute: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...] | Array
Dimension: TypeAlias = int | str
"""A fixed length, or the name of a free dimension such as the batch."""

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators, which every onnxruntime wheel has."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the graph."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dimension, ...] | None
    """None if unknown, which is allowed for outputs only."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. An empty input name stands for an omitted optional input."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = ""
    name: str = ""
    subgraph: Graph | None = None
    """The body of a `Scan`."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order in which they can run, and their constants."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, Array]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    def pruned(self) -> Graph:
        """Return the graph without nodes and constants that no output needs."""
        needed = {value.name for value in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            if needed.isdisjoint(node.outputs):
                continue
            kept.append(node)
            needed.update(filter(None, node.inputs))
            if node.subgraph is not None:
                for inner in node.subgraph.nodes:
                    needed.update(inner.inputs)
        weights = {name: value for name, value in self.weights.items() if name in needed}
        return replace(self, nodes=tuple(reversed(kept)), weights=weights)


class Builder:
    """Collects nodes and constants of a graph, in the order in which they run."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}

    def constant(self, name: str, value: Array) -> str:
        """Add a constant and return its name. An equal constant may be added again."""
        known = self.weights.setdefault(name, value)
        if known is not value and not np.array_equal(known, value):
            raise ValueError(f"two constants are called {name}")
        return name

    def shape(self, *dimensions: int) -> str:
        """Add the shape constant of a `Reshape`: 0 keeps a dimension, -1 infers it."""
        words = "_".join(str(one).replace("-", "m") for one in dimensions)
        return self.constant(f"shape_{words}", np.asarray(dimensions, np.int64))

    def node(
        self,
        op: str,
        inputs: tuple[str, ...],
        output: str,
        attributes: Mapping[str, Attribute] | None = None,
        domain: str = "",
    ) -> str:
        """Add a node with one output, after which it is named, and return that name."""
        self.nodes.append(Node(op, inputs, (output,), attributes or {}, domain, output))
        return output

    def several(
        self, op: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Add a node with several outputs, and return their names."""
        self.nodes.append(Node(op, inputs, outputs, name=outputs[0]))
        return outputs

    def reshape(self, value: str, output: str, *dimensions: int) -> str:
        """Add a `Reshape` to `dimensions`; see `shape`."""
        return self.node("Reshape", (value, self.shape(*dimensions)), output)

    def transpose(self, value: str, output: str, *order: int) -> str:
        """Add a `Transpose`."""
        return self.node("Transpose", (value,), output, {"perm": order})

    def graph(self, inputs: tuple[Value, ...], outputs: tuple[Value, ...]) -> Graph:
        """Return the collected graph."""
        return Graph(tuple(self.nodes), self.weights, inputs, outputs)

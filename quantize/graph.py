"""A graph of operators as plain values: what the front ends make and the INT8 step rewrites.

It holds numpy arrays and no ONNX type, so that a pass over it is a pass over tuples. `onnx_file`
turns it into a file and back.
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
"""A fixed length, or the name of a free one such as the batch."""

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators, which every onnxruntime wheel carries."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the graph."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dimension, ...] | None
    """None when it is not known, which only an output may be."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. An empty input name is an optional input that is left out."""

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
    """Nodes in an order in which they can run, and the constants they use."""

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
    """Collects nodes and constants while a graph is written down in the order it runs."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}

    def constant(self, name: str, value: Array) -> str:
        """Add a constant and return its name. The same name may be added again, unchanged."""
        known = self.weights.setdefault(name, value)
        if known is not value and not np.array_equal(known, value):
            raise ValueError(f"two constants are called {name}")
        return name

    def shape(self, *dimensions: int) -> str:
        """Add the constant of a `Reshape`: 0 keeps a dimension, -1 takes what is left."""
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
        """Add a node with one output, which names it, and return that name."""
        self.nodes.append(Node(op, inputs, (output,), attributes or {}, domain, output))
        return output

    def reshape(self, value: str, output: str, *dimensions: int) -> str:
        """Add a `Reshape` to `dimensions`; see `shape`."""
        return self.node("Reshape", (value, self.shape(*dimensions)), output)

    def transpose(self, value: str, output: str, *order: int) -> str:
        """Add a `Transpose`."""
        return self.node("Transpose", (value,), output, {"perm": order})

    def graph(self, inputs: tuple[Value, ...], outputs: tuple[Value, ...]) -> Graph:
        """Return what was collected."""
        return Graph(tuple(self.nodes), self.weights, inputs, outputs)

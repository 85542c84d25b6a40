"""Graphs as ONNX files."""

from __future__ import annotations

import math
import os
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from nsfwscan.models.graphs.graph import MICROSOFT, Array, Attribute, Graph, Node, Value
from nsfwscan.models.graphs.messages import Model
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelUnusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WEIGHTS_NAME = "weights.bin"
"""The file with the weights, beside the graph."""

# The highest that onnxruntime 1.22, the oldest supported version, can read.
_OPSET = 20
_IR_VERSION = 10

_INLINE_BYTES = 1024
"""Smaller constants stay in the graph, because onnxruntime needs shapes while it loads."""

_ALIGNMENT = 4096
"""A mapped tensor must begin on a page."""

_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
}
"""TensorProto.DataType, as far as graphs here use it."""
_NUMBER_OF = {dtype: number for number, dtype in _DTYPES.items()}


class _AttributeKind(IntEnum):
    """AttributeProto.AttributeType."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7


_EXTERNAL = 1  # TensorProto.DataLocation


def write(
    graph: Graph, folder: str, *, name: str = "model.onnx", weights_name: str = WEIGHTS_NAME
) -> None:
    """Write the graph `name` and its weights into `folder`: equal graphs give equal bytes."""
    model = _model(graph)
    with open(os.path.join(folder, weights_name), "wb") as stream:
        for key, value in graph.weights.items():
            tensor = model.graph.initializer.add()
            if value.nbytes < _INLINE_BYTES:
                _fill(tensor, key, value)
            else:
                _fill_outside(tensor, key, value, stream, weights_name)
    with open(os.path.join(folder, name), "wb") as stream:
        stream.write(model.SerializeToString(deterministic=True))


def to_bytes(graph: Graph) -> bytes:
    """Return a graph as one ONNX file, including weights. Only for graphs far below 2 GB."""
    model = _model(graph)
    for name, value in graph.weights.items():
        _fill(model.graph.initializer.add(), name, value)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def read(path: str) -> Graph:
    """Read an ONNX file. Raises `ModelUnusable` if it is not one, as `parse` does."""
    try:
        with open_bytes(path) as stream:
            data = stream.read()
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror or error}") from error
    return parse(data, path)


def parse(data: bytes, where: str) -> Graph:
    """Read a graph from the bytes of an ONNX file, called `where` in errors.

    Constants become weights. Raises `ModelUnusable` for damaged bytes, and for what a `Graph`
    cannot hold: external or sparse weights, subgraphs, functions, and types without numbers.
    """
    try:
        model = Model.FromString(data)
    except DecodeError as error:
        raise ModelUnusable(f"{where} is not an ONNX file: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise ModelUnusable(f"{where} is not an ONNX file: it has no graph")
    if model.functions or model.graph.sparse_initializer:
        raise ModelUnusable(f"{where} has functions or sparse weights")
    message = model.graph
    if not all(isinstance(one, str) for one in _names(message)):  # protobuf gives bytes instead
        raise ModelUnusable(f"{where} has a name that is not text")
    weights = {one.name: _array(one, where) for one in message.initializer}
    nodes = []
    for node in message.node:
        attributes = {one.name: _attribute(one, where) for one in node.attribute}
        if node.op_type == "Constant" and len(attributes) == 1 and node.output:
            weights[node.output[0]] = np.asarray(next(iter(attributes.values())))
            continue
        nodes.append(
            Node(
                node.op_type,
                tuple(node.input),
                tuple(node.output),
                attributes,
                "" if node.domain == "ai.onnx" else node.domain,
                node.name or next(iter(node.output), ""),
            )
        )
    inputs = [_value(one, where) for one in message.input if one.name not in weights]
    outputs = [_value(one, where) for one in message.output]
    return Graph(tuple(nodes), weights, tuple(inputs), tuple(outputs))


def _names(message: Any) -> Iterator[object]:
    """Yield every name in a graph."""
    for node in message.node:
        yield from (*node.input, *node.output, node.name, node.op_type, node.domain)
        yield from (one.name for one in node.attribute)
    yield from (one.name for one in message.initializer)
    for value in (*message.input, *message.output):
        yield value.name
        yield from (one.dim_param for one in value.type.tensor_type.shape.dim)


def _model(graph: Graph) -> Any:
    """Return the message of a graph, without its weights."""
    model = Model(ir_version=_IR_VERSION, producer_name="nsfwscan quantize")
    model.opset_import.add(domain="", version=_OPSET)
    model.opset_import.add(domain=MICROSOFT, version=1)
    _fill_graph(model.graph, graph)
    return model


def _fill_graph(message: Any, graph: Graph) -> None:
    message.name = "model"
    for node in graph.nodes:
        made = message.node.add(
            input=node.inputs,
            output=node.outputs,
            name=node.name,
            op_type=node.op,
            domain=node.domain,
        )
        for key in sorted(node.attributes):
            _fill_attribute(made.attribute.add(name=key), node.attributes[key])
        if node.subgraph is not None:
            body = made.attribute.add(name="body", type=_AttributeKind.GRAPH)
            _fill_graph(body.g, node.subgraph)
            for name, value in node.subgraph.weights.items():
                _fill(body.g.initializer.add(), name, value)
    _fill_values(message.input, graph.inputs)
    _fill_values(message.output, graph.outputs)


def _fill_values(messages: Any, values: Iterable[Value]) -> None:
    for one in values:
        kind = messages.add(name=one.name).type.tensor_type
        kind.elem_type = _NUMBER_OF[one.dtype]
        if one.shape is None:
            continue
        kind.shape.SetInParent()
        for length in one.shape:
            dimension = kind.shape.dim.add()
            if isinstance(length, int):
                dimension.dim_value = length
            else:
                dimension.dim_param = length


def _fill_attribute(message: Any, value: Attribute) -> None:
    match value:
        case np.ndarray():
            message.type = _AttributeKind.TENSOR
            _fill(message.t, "", value)
        case str():
            message.type, message.s = _AttributeKind.STRING, value.encode()
        case int():
            message.type, message.i = _AttributeKind.INT, value
        case float():
            message.type, message.f = _AttributeKind.FLOAT, value
        case _ if all(isinstance(one, int) for one in value):
            message.type = _AttributeKind.INTS
            message.ints.extend(value)
        case _:
            message.type = _AttributeKind.FLOATS
            message.floats.extend(value)


def _fill(tensor: Any, name: str, value: Array) -> None:
    _describe(tensor, name, value)
    tensor.raw_data = _little(value).tobytes()


def _fill_outside(tensor: Any, name: str, value: Array, stream: Any, location: str) -> None:
    """Append the value to the weights file, and refer to it."""
    _describe(tensor, name, value)
    tensor.data_location = _EXTERNAL
    stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
    where = {"location": location, "offset": str(stream.tell()), "length": str(value.nbytes)}
    for key, text in where.items():
        tensor.external_data.add(key=key, value=text)
    stream.write(_little(value).data)


def _describe(tensor: Any, name: str, value: Array) -> None:
    tensor.dims.extend(value.shape)
    tensor.data_type = _NUMBER_OF[value.dtype]
    if name:
        tensor.name = name


def _little(value: Array) -> Array:
    return np.asarray(value, order="C").astype(value.dtype.newbyteorder("<"), copy=False)


def _attribute(message: Any, where: str) -> Attribute:
    match message.type:
        case _AttributeKind.FLOAT:
            return float(message.f)
        case _AttributeKind.INT:
            return int(message.i)
        case _AttributeKind.STRING:
            return str(message.s.decode("utf-8", "replace"))
        case _AttributeKind.TENSOR:
            return _array(message.t, where)
        case _AttributeKind.FLOATS:
            return tuple(message.floats)
        case _AttributeKind.INTS:
            return tuple(message.ints)
        case _:
            raise ModelUnusable(f"{where} has an attribute {message.name} of an unknown kind")


def _array(tensor: Any, where: str) -> Array:
    """Return a tensor's numbers. Raises `ModelUnusable` if their count is not that of its shape."""
    dtype, shape = _DTYPES.get(tensor.data_type), tuple(tensor.dims)
    if dtype is None or tensor.data_location == _EXTERNAL or any(one < 0 for one in shape):
        raise ModelUnusable(
            f"{where} has a tensor {tensor.name!r} of a type or in a place that is not supported"
        )
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != math.prod(shape) * dtype.itemsize:
            raise _incomplete(tensor, where)
        raw: Array = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
        return raw.astype(dtype).reshape(shape)
    numbers: Any = tensor.int32_data
    if dtype == np.float32:
        numbers = tensor.float_data
    elif dtype == np.int64:
        numbers = tensor.int64_data
    elif dtype == np.float64:
        numbers = tensor.double_data
    elif dtype == np.float16 or dtype.itemsize > 4 or dtype == np.uint32:
        numbers = ()
    if len(numbers) != math.prod(shape):
        raise _incomplete(tensor, where)
    array: Array = np.asarray(numbers).astype(dtype).reshape(shape)
    return array


def _incomplete(tensor: Any, where: str) -> ModelUnusable:
    return ModelUnusable(f"{where} has a tensor {tensor.name!r} that does not fill its shape")


def _value(message: Any, where: str) -> Value:
    kind = message.type.tensor_type
    dtype = _DTYPES.get(kind.elem_type)
    if dtype is None:
        raise ModelUnusable(f"{where} has a value {message.name!r} of an unknown type")
    shape = tuple(one.dim_param or one.dim_value for one in kind.shape.dim)
    return Value(message.name, dtype, shape)

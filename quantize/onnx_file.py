"""Graphs as ONNX files. The only module that imports onnx."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nsfwscan.models.manifest import MODEL_NAME
from nsfwscan.values.errors import ModelUnusable
from quantize.graph import MICROSOFT, Array, Attribute, Graph, Node, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

WEIGHTS_NAME = "weights.bin"
"""The file with the weights, beside `model.onnx`."""

# The highest that onnxruntime 1.22, the oldest supported version, can read.
_OPSET = 20
_IR_VERSION = 10

_INLINE_BYTES = 1024
"""Smaller constants stay in the graph, because onnxruntime needs shapes while it loads."""

_ALIGNMENT = 4096
"""A mapped tensor must begin on a page."""


def write(graph: Graph, folder: str, *, weights_name: str = WEIGHTS_NAME) -> None:
    """Write `model.onnx` and its weights file into `folder`: equal graphs give equal bytes."""
    tensors = []
    with open(os.path.join(folder, weights_name), "wb") as stream:
        for name, value in graph.weights.items():
            tensors.append(_tensor(name, value, stream, weights_name))
    model = _model(graph, tensors)
    with open(os.path.join(folder, MODEL_NAME), "wb") as stream:
        stream.write(model.SerializeToString(deterministic=True))


def to_bytes(graph: Graph) -> bytes:
    """Return a graph as one ONNX file, including weights. Only for graphs far below 2 GB."""
    tensors = [
        numpy_helper.from_array(np.asarray(v, order="C"), n) for n, v in graph.weights.items()
    ]
    data: bytes = _model(graph, tensors).SerializeToString(deterministic=True)
    return data


def read(path: str) -> Graph:
    """Read an ONNX file. Raises `ModelUnusable` if it is not one."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, onnx and the file system share no base class
        raise ModelUnusable(f"{path} is not an ONNX file: {error}") from error
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            (attribute,) = node.attribute
            value = helper.get_attribute_value(attribute)
            array = numpy_helper.to_array(value) if attribute.name == "value" else np.asarray(value)
            weights[node.output[0]] = array
            continue
        attributes = {one.name: _from_attribute(one) for one in node.attribute}
        nodes.append(
            Node(
                node.op_type,
                tuple(node.input),
                tuple(node.output),
                attributes,
                "" if node.domain == "ai.onnx" else node.domain,
                node.name or node.output[0],
            )
        )
    inputs = [_from_value(one) for one in model.graph.input if one.name not in weights]
    outputs = [_from_value(one) for one in model.graph.output]
    return Graph(tuple(nodes), weights, tuple(inputs), tuple(outputs))


def _model(graph: Graph, tensors: list[TensorProto]) -> Any:
    model = helper.make_model(
        _graph(graph, tensors),
        producer_name="nsfwscan quantize",
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)],
    )
    model.ir_version = _IR_VERSION
    return model


def _graph(graph: Graph, tensors: list[TensorProto]) -> Any:
    nodes = []
    for node in graph.nodes:
        made = helper.make_node(
            node.op, node.inputs, node.outputs, name=node.name, domain=node.domain
        )
        for key in sorted(node.attributes):
            made.attribute.append(_to_attribute(key, node.attributes[key]))
        if node.subgraph is not None:
            body = [numpy_helper.from_array(v, n) for n, v in node.subgraph.weights.items()]
            made.attribute.append(helper.make_attribute("body", _graph(node.subgraph, body)))
        nodes.append(made)
    return helper.make_graph(
        nodes, "model", _values(graph.inputs), _values(graph.outputs), initializer=tensors
    )


def _values(values: Iterable[Value]) -> list[Any]:
    return [
        helper.make_tensor_value_info(
            one.name, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape
        )
        for one in values
    ]


def _to_attribute(key: str, value: Attribute) -> Any:
    if isinstance(value, np.ndarray):
        return helper.make_attribute(key, numpy_helper.from_array(value))
    return helper.make_attribute(key, value)


def _from_attribute(attribute: Any) -> Attribute:
    value = helper.get_attribute_value(attribute)
    if attribute.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if attribute.type == onnx.AttributeProto.STRING:
        return str(value.decode())
    if attribute.type in (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT):
        number: int | float = value
        return number
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return tuple(value)
    raise ModelUnusable(f"the exported graph has an attribute {attribute.name} of an unknown kind")


def _from_value(value: Any) -> Value:
    kind = value.type.tensor_type
    shape = tuple(one.dim_param or one.dim_value for one in kind.shape.dim)
    return Value(value.name, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)


def _tensor(name: str, value: Array, stream: Any, location: str) -> TensorProto:
    if value.nbytes < _INLINE_BYTES:
        return numpy_helper.from_array(np.asarray(value, order="C"), name)
    stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    where = {"location": location, "offset": str(stream.tell()), "length": str(value.nbytes)}
    for key, text in where.items():
        tensor.external_data.add(key=key, value=text)
    little = np.asarray(value, order="C").astype(value.dtype.newbyteorder("<"), copy=False)
    stream.write(little.data)
    return tensor

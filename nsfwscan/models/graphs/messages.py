"""The messages of ONNX files, for protobuf.

onnxruntime needs protobuf, so every installation has it; the onnx package would add 60 MB to read
and write the few messages that a graph consists of. Numbers and types are those of `onnx.proto`
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, IR version 10). Fields that are not
listed, such as documentation, are skipped.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "nsfwscan.onnx"

# message: (field, number, type); `*` marks a repeated field, `=` one whose numbers are packed.
_MESSAGES = {
    "Model": (
        ("ir_version", 1, "int64"),
        ("producer_name", 2, "string"),
        ("graph", 7, "Graph"),
        ("opset_import", 8, "*OperatorSet"),
        ("functions", 25, "*bytes"),
    ),
    "OperatorSet": (("domain", 1, "string"), ("version", 2, "int64")),
    "Graph": (
        ("node", 1, "*Node"),
        ("name", 2, "string"),
        ("initializer", 5, "*Tensor"),
        ("input", 11, "*ValueInfo"),
        ("output", 12, "*ValueInfo"),
        ("sparse_initializer", 15, "*bytes"),
    ),
    "Node": (
        ("input", 1, "*string"),
        ("output", 2, "*string"),
        ("name", 3, "string"),
        ("op_type", 4, "string"),
        ("attribute", 5, "*Attribute"),
        ("domain", 7, "string"),
    ),
    "Attribute": (
        ("name", 1, "string"),
        ("f", 2, "float"),
        ("i", 3, "int64"),
        ("s", 4, "bytes"),
        ("t", 5, "Tensor"),
        ("g", 6, "Graph"),
        ("floats", 7, "*float"),
        ("ints", 8, "*int64"),
        ("strings", 9, "*bytes"),
        ("type", 20, "int32"),
    ),
    "Tensor": (
        ("dims", 1, "*int64"),
        ("data_type", 2, "int32"),
        ("float_data", 4, "=float"),
        ("int32_data", 5, "=int32"),
        ("int64_data", 7, "=int64"),
        ("name", 8, "string"),
        ("raw_data", 9, "bytes"),
        ("double_data", 10, "=double"),
        ("external_data", 13, "*Entry"),
        ("data_location", 14, "int32"),
    ),
    "Entry": (("key", 1, "string"), ("value", 2, "string")),
    "ValueInfo": (("name", 1, "string"), ("type", 2, "Type")),
    "Type": (("tensor_type", 1, "TensorType"),),
    "TensorType": (("elem_type", 1, "int32"), ("shape", 2, "Shape")),
    "Shape": (("dim", 1, "*Dimension"),),
    "Dimension": (("dim_value", 1, "int64"), ("dim_param", 2, "string")),
}


def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="nsfwscan/onnx.proto", package=_PACKAGE)
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            word = kind.lstrip("*=")
            made = message.field.add(name=field, number=number)
            made.label = field_type.LABEL_OPTIONAL if word == kind else field_type.LABEL_REPEATED
            made.options.packed = kind.startswith("=")
            if word in _MESSAGES:
                made.type, made.type_name = field_type.TYPE_MESSAGE, f".{_PACKAGE}.{word}"
            else:
                made.type = getattr(field_type, f"TYPE_{word.upper()}")
            if not made.options.packed:
                made.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


Model = _model_class()
"""The class of ONNX's `ModelProto`."""

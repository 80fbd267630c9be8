"""Checks of a model's files before use: a graph and weights must run no code and access no other files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from shelfwise.retrieval.errors import ModelDamagedError, ModelMismatchError

# A graph is data, but the format allows access to the outside: tensors in other files or at memory addresses, operators
# from libraries, operators that call Python or load a compiled program. No model needs them.

STANDARD_DOMAINS = ("", "ai.onnx")
MICROSOFT_OPERATORS = ("MatMulIntegerToFloat", "MultiHeadAttention")
"""The runtime's own operators (com.microsoft) in our exports; others call Python or load code."""
_ENDLESS = ("Loop", "Scan")
"""Standard operators that are in none of our exports, and that a scorer with a deadline cannot stop."""
_MICROSOFT = "com.microsoft"
_PACKAGE = "shelfwise.onnx"
ONNX_FIELDS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "ModelProto": {
        "graph": (7, "GraphProto"),
        "training_info": (20, "TrainingInfoProto*"),
        "functions": (25, "FunctionProto*"),
    },
    "TrainingInfoProto": {"initialization": (1, "GraphProto"), "algorithm": (2, "GraphProto")},
    "FunctionProto": {
        "name": (1, "string"),
        "node": (7, "NodeProto*"),
        "domain": (10, "string"),
        "attribute_proto": (11, "AttributeProto*"),
    },
    "GraphProto": {
        "node": (1, "NodeProto*"),
        "initializer": (5, "TensorProto*"),
        "input": (11, "ValueInfoProto*"),
        "sparse_initializer": (15, "SparseTensorProto*"),
    },
    "NodeProto": {"op_type": (4, "string"), "attribute": (5, "AttributeProto*"), "domain": (7, "string")},
    "AttributeProto": {
        "t": (5, "TensorProto"),
        "g": (6, "GraphProto"),
        "tensors": (10, "TensorProto*"),
        "graphs": (11, "GraphProto*"),
        "sparse_tensor": (22, "SparseTensorProto"),
        "sparse_tensors": (23, "SparseTensorProto*"),
    },
    "SparseTensorProto": {"values": (1, "TensorProto"), "indices": (2, "TensorProto")},
    "TensorProto": {
        "name": (8, "string"),
        "external_data": (13, "StringStringEntryProto*"),
        "data_location": (14, "int32"),
    },
    "StringStringEntryProto": {"key": (1, "string"), "value": (2, "string")},
    "ValueInfoProto": {"name": (1, "string"), "type": (2, "TypeProto")},
    "TypeProto": {"tensor_type": (1, "Tensor")},
    "Tensor": {"shape": (2, "TensorShapeProto")},
    "TensorShapeProto": {"dim": (1, "Dimension*")},
    "Dimension": {"dim_value": (1, "int64")},
}
"""Numbers and types of the fields that a check reads, as in the format's onnx.proto; `*` marks a repeated one. The
package onnx is for training: serving does without it."""
_RETRAIN = "train the ranker again: shelfwise train ranker"


def check_weights(path: Path, cure: str = _RETRAIN) -> None:
    """Raises ModelDamagedError unless the file has safetensors format."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise ModelDamagedError(f"{path} is not a safetensors file ({error}); {cure}") from error


def check_graph(path: Path, columns: Mapping[str, int] | None = None, cure: str = _RETRAIN) -> None:
    """Checks a graph without running it.

    `columns` are the lengths of its inputs' last axes, by name. Raises ModelDamagedError for a file that is not an ONNX
    graph or takes inputs of other lengths, ModelMismatchError for one that accesses the outside or may not end; both
    have the `cure`.
    """
    from google.protobuf.message import DecodeError

    try:
        model = _model_type()()
        model.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelDamagedError(f"{path} is not an ONNX graph ({error}); {cure}") from error
    if not model.graph.node:
        raise ModelDamagedError(f"{path} has an ONNX graph without operators; {cure}")
    own = {(function.domain, function.name) for function in model.functions}
    for message in _messages(model):
        if message.DESCRIPTOR.name == "NodeProto":
            _check_operator(path, message.domain, message.op_type, own, cure)
        elif message.DESCRIPTOR.name == "TensorProto":
            _check_tensor(path, message, cure)
    _check_columns(path, model.graph, columns or {}, cure)


@cache
def _model_type() -> Any:  # noqa: ANN401 - the class of a message is made at run time
    """The class of the message ModelProto with the fields of `ONNX_FIELDS`; other fields are skipped."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="onnx_fields.proto", package=_PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in ONNX_FIELDS.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            if (named := kind.rstrip("*")) in ONNX_FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{named}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{named.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ModelProto"))


def _messages(message: Any) -> Iterator[Any]:  # noqa: ANN401 - the format's messages have no common type
    """A message and all messages in it: operators and tensors are in graphs, branches, functions, attributes,
    others."""
    from google.protobuf.message import Message

    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                yield from _messages(each)


def _check_operator(path: Path, domain: str, operator: str, own: Collection[tuple[str, str]], cure: str) -> None:
    if (domain, operator) in own:
        return
    is_standard = domain in STANDARD_DOMAINS and operator not in _ENDLESS
    if not is_standard and not (domain == _MICROSOFT and operator in MICROSOFT_OPERATORS):
        known = f"the standard ones but {' and '.join(_ENDLESS)}, and {', '.join(MICROSOFT_OPERATORS)} of {_MICROSOFT}"
        wanted = f"{operator!r} of {domain or 'the standard domain'!r}"
        raise ModelMismatchError(f"{path} needs the operator {wanted}; allowed are {known}: {cure}")


def _check_tensor(path: Path, tensor: Any, cure: str) -> None:  # noqa: ANN401 - as above
    if tensor.external_data or tensor.data_location:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        named = ", ".join(map(repr, places)) or "a place that it does not name"
        message = f"{path} reads the tensor {tensor.name!r} from {named}; a graph must contain its tensors: {cure}"
        raise ModelMismatchError(message)


def _check_columns(path: Path, graph: Any, columns: Mapping[str, int], cure: str) -> None:  # noqa: ANN401 - as above
    for value in graph.input:
        axes = value.type.tensor_type.shape.dim
        # 0 is an axis of any length. A graph need not take all inputs.
        length = axes[-1].dim_value if axes else 0
        wanted = columns.get(value.name, length)
        if length not in (0, wanted):
            message = f"{path} expects {value.name} of {length} columns, but its spec has {wanted}; {cure}"
            raise ModelDamagedError(message)

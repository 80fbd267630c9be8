"""Checks of a model's files before use: a graph and weights must run no code and access no other files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelDamagedError(f"{path} is not an ONNX graph ({error}); {cure}") from error
    if not model.graph.node:
        raise ModelDamagedError(f"{path} has an ONNX graph without operators; {cure}")
    own = {(function.domain, function.name) for function in model.functions}
    for message in _messages(model):
        if isinstance(message, onnx.NodeProto):
            _check_operator(path, message.domain, message.op_type, own, cure)
        elif isinstance(message, onnx.TensorProto):
            _check_tensor(path, message, cure)
    _check_columns(path, model.graph, columns or {}, cure)


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

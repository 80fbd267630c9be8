"""Quantises an ONNX graph to int8 so that each text's vector stays a pure function of the text.

ONNX Runtime's own dynamic quantiser takes one activation scale for a whole batch, so a product's vector would depend on
the products beside it. Here every token (row) of an activation has its own scale, every column of a weight matrix too:
x W = diag(s) (q_x q_W) diag(t), with s = max|row of x|, the vector-wise quantisation of Dettmers et al. 2022,
LLM.int8(), section 3.1. It is nearer to float32, and texts of the same length may run together,
where one scale a tensor would allow only one text at a time.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

_MICROSOFT = "com.microsoft"
_LEVELS = 127
_SMALLEST = 1e-9
"""A row of zeros has no scale of its own; anything positive serves."""
_TABLE_ROWS = 1_000
"""Lookup tables with at least so many rows (the vocabulary) are stored as int8, one scale a row."""


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with its constant weight matrices and its vocabulary in int8; everything else stays float32."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Quantiser(result.graph).run()
    if _MICROSOFT not in {opset.domain for opset in result.opset_import}:
        result.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return result


class _Quantiser:
    """Rewrites one graph in place, node by node."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._new: dict[str, onnx.TensorProto] = {}
        self._nodes: list[NodeProto] = []
        self._rows: dict[str, tuple[str, str]] = {}

    def run(self) -> None:
        """Replaces the nodes, then drops the constants that none of them reads any more."""
        for node in list(self._graph.node):
            if node.op_type == "MatMul" and self._is_matrix(node.input[1]):
                self._matmul(node)
            elif node.op_type == "Gather" and self._is_table(node):
                self._gather(node)
            else:
                self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        kept = [t for t in (*self._constants.values(), *self._new.values()) if t.name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(kept)

    def _is_matrix(self, name: str) -> bool:
        tensor = self._constants.get(name)
        return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT

    def _is_table(self, node: NodeProto) -> bool:
        by_row = all(helper.get_attribute_value(attribute) == 0 for attribute in node.attribute)
        return by_row and self._is_matrix(node.input[0]) and self._constants[node.input[0]].dims[0] >= _TABLE_ROWS

    def _matmul(self, node: NodeProto) -> None:
        values, scales = _int8(numpy_helper.to_array(self._constants[node.input[1]]), axis=0)
        name, output = node.input[1], node.output[0]
        rows, row_scale = self._quantised_rows(node.input[0])
        inputs = [
            rows,
            self._constant(f"{name}_int8", values),
            self._constant("row_step", np.array(1 / _LEVELS, np.float32)),
            self._constant(f"{name}_scale", scales[0]),
            self._constant("row_zero", np.array(128, np.uint8)),
        ]
        self._add("MatMulIntegerToFloat", inputs, f"{output}_unscaled", domain=_MICROSOFT)
        self._add("Mul", [f"{output}_unscaled", row_scale], output)

    def _quantised_rows(self, name: str) -> tuple[str, str]:
        """Names of an activation's rows in uint8 around 128, and of their scales; made once for all who read it."""
        if name not in self._rows:
            axes = self._constant("last_axis", np.array([-1], np.int64))
            magnitude = self._add("Abs", [name], f"{name}_magnitude")
            largest = self._add("ReduceMax", [magnitude, axes], f"{name}_largest")
            smallest = self._constant("smallest_scale", np.array(_SMALLEST, np.float32))
            scale = self._add("Max", [largest, smallest], f"{name}_scale")
            scaled = self._add("Div", [name, scale], f"{name}_scaled")
            step = self._constant("row_step", np.array(1 / _LEVELS, np.float32))
            zero = self._constant("row_zero", np.array(128, np.uint8))
            self._rows[name] = self._add("QuantizeLinear", [scaled, step, zero], f"{name}_uint8"), scale
        return self._rows[name]

    def _gather(self, node: NodeProto) -> None:
        table, ids = node.input
        values, scales = _int8(numpy_helper.to_array(self._constants[table]), axis=1)
        output = node.output[0]
        row = self._add("Gather", [self._constant(f"{table}_int8", values), ids], f"{output}_int8")
        scale = self._add("Gather", [self._constant(f"{table}_scale", scales), ids], f"{output}_scale")
        wide = self._add("Cast", [row], f"{output}_wide")
        self._add("Mul", [wide, scale], output)

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self._new:
            self._new[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _add(self, operator: str, inputs: list[str], output: str, *, domain: str = "") -> str:
        node = helper.make_node(operator, inputs, [output], domain=domain)
        if operator == "Cast":
            node.attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
        self._nodes.append(node)
        return output


def _int8(matrix: NDArray[np.float32], *, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Values in int8 and their scales: `axis` 0 gives one a column, (1, columns), and 1 one a row, (rows, 1)."""
    scales = np.maximum(np.abs(matrix).max(axis=axis, keepdims=True), _SMALLEST) / _LEVELS
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)

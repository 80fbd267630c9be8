"""Export of a sentence-transformers model to ONNX, in float32 or int8, with its tokenizer.

The graph takes token ids and returns unit vectors and states of the tokens. Quantisation to int8 keeps each text's
vector independent of other texts. ONNX Runtime's own dynamic quantiser uses one activation scale for a whole batch;
here every token (row) of an activation and every column of a weight matrix has its own scale, x W = diag(s) (q_x q_W)
diag(t) with s = max|row of x|: the vector-wise quantisation of Dettmers et al. 2022, LLM.int8(), section 3.1.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnx_ir.passes.common import ShapeInferencePass
from onnxscript.optimizer import optimize
from onnxscript.rewriter.ort_fusions.mha import fuse_mha1, fuse_mha2
from onnxscript.rewriter.ort_fusions.mha_bias import fuse_mha_bias
from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa

from shelfwise.retrieval.encoders.base import Runtime
from shelfwise.retrieval.encoders.folder import MODEL_FILE, TOKENIZER_FILE, EncoderSpec, write_spec
from shelfwise.retrieval.encoders.onnx import WEIGHTS_FILE
from shelfwise.retrieval.encoders.tokenizer import write_pieces
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import EncoderUnavailableError
from shelfwise.retrieval.store.files import atomic_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Precision = Literal["fp32", "int8"]
OPSET = 20
_MIN_SPLIT = 1_024
"""The size in bytes from which a tensor is stored outside the graph."""
_LOGGERS = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")


def export_onnx(
    source: ModelSource, folder: Path, precision: Precision, *, dimension: int | None = None
) -> EncoderSpec:
    """Exports a model to `folder`, atomically: model.onnx and its weights, tokenizer.json and encoder.json.

    The graph takes `input_ids` (batch, tokens) int64 without padding and returns `vectors` (batch, dimension) float32
    and `states` (batch, tokens, at most 128) float32, projected, each of length 1. Without padding no attention mask is
    needed, and a vector does not depend on other texts' lengths. `dimension` cuts vectors to their first columns.
    Raises EncoderUnavailableError for a model that cannot be loaded or exported, SettingError for too many dimensions.
    """
    from shelfwise.retrieval.encoders.torch import load_model, model_length, model_spec, token_projection

    model = load_model(source, device="cpu")
    runtime: Runtime = "onnx-int8" if precision == "int8" else "onnx-fp32"
    spec = model_spec(source, model, runtime, dimension, OPSET)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise EncoderUnavailableError(f"{source.name} has no fast tokenizer, which ONNX runtimes need; use torch")
    outputs = _Outputs(model, token_projection(model, source.folder))
    graph = export_graph(outputs, ["input_ids"], ["vectors", "states"], model_length(model), source.name)
    with atomic_folder(folder) as scratch:
        path, made = scratch / MODEL_FILE, quantise_graph(graph) if precision == "int8" else graph
        onnx.save(made, path, save_as_external_data=True, location=WEIGHTS_FILE, size_threshold=_MIN_SPLIT)
        if (weights := path.with_name(WEIGHTS_FILE)).exists():
            weights.chmod(path.stat().st_mode)
        tokenizer.save(str(scratch / TOKENIZER_FILE))
        write_pieces(scratch)
        write_spec(spec, scratch)
    return spec


class _Outputs(torch.nn.Module):
    """Maps token ids to unit vectors and to projected states of the tokens."""

    projection: torch.Tensor

    def __init__(self, model: SentenceTransformer, projection: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("projection", torch.from_numpy(projection))
        first, *rest = model
        body: Any = first.auto_model
        self.body = body
        self.rest = torch.nn.ModuleList(rest)
        self.columns = model.truncate_dim

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.body(input_ids=input_ids, attention_mask=None).last_hidden_state
        features = {"token_embeddings": tokens, "attention_mask": torch.ones_like(input_ids)}
        for module in self.rest:
            if getattr(module, "pooling_mode", "") == "mean":
                # A matrix product: ONNX Runtime's sums add up in a different order for one text than for many.
                ones = torch.ones_like(input_ids, dtype=tokens.dtype).unsqueeze(1)
                features["sentence_embedding"] = torch.bmm(ones, tokens).squeeze(1) / input_ids.shape[1]
            else:
                features = module(features)
        unit = torch.nn.functional.normalize
        return unit(features["sentence_embedding"][:, : self.columns], dim=-1), unit(tokens @ self.projection, dim=-1)


def export_graph(
    module: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str], longest: int, name: str
) -> onnx.ModelProto:
    """The float32 graph of a module over token ids, attention fused into ONNX Runtime's operator where possible.

    Each input is (batch, tokens) int64, the first the ids; `longest` is the most tokens, `name` the model's name for
    messages. Raises EncoderUnavailableError if the export fails.
    """
    size = {0: torch.export.Dim("batch", min=1, max=4_096), 1: torch.export.Dim("tokens", min=2, max=longest)}
    examples = tuple(torch.full((2, 16), 0 if place else 5, dtype=torch.long) for place in range(len(inputs)))
    try:
        with quiet(), torch.inference_mode():
            program = torch.onnx.export(
                module.eval(),
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(size for _ in inputs),
                verbose=False,
                optimize=False,  # _fused does it, with the same result
            )
            if program is None:
                raise EncoderUnavailableError(f"{name} cannot be exported to ONNX; run it with runtime torch")
            return ir.to_proto(_fused(program.model))
    except (RuntimeError, AttributeError, TypeError, torch.onnx.OnnxExporterError) as error:
        message = f"{name} cannot be exported to ONNX ({str(error)[:300]}); run it with runtime torch"
        raise EncoderUnavailableError(message) from error


def _fused(model: ir.Model) -> ir.Model:
    """Fuses scaled dot-product attention into one MultiHeadAttention node per layer.

    SkipLayerNormalization takes four times as long on a CPU as the nodes that it replaces; BiasGelu gains nothing.
    """
    ShapeInferencePass()(model)
    optimize(model)
    fuse_sdpa(model, apply_shape_inference=True)
    if fuse_mha1(model) + fuse_mha2(model):
        fuse_mha_bias(model)
    optimize(model)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporter's prints, warnings and logs below errors."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


_MICROSOFT = "com.microsoft"
_LEVELS = 127
_SMALLEST = 1e-9
"""The scale of a row of zeros, for which any positive value works."""
_TABLE_ROWS = 1_000
"""Lookup tables with at least this many rows (the vocabulary) are stored as int8, with one scale per row."""


def quantise_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with constant weight matrices and the vocabulary in int8, the rest in float32."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Quantiser(result.graph).run()
    if _MICROSOFT not in {opset.domain for opset in result.opset_import}:
        result.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return result


class _Quantiser:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._new: dict[str, onnx.TensorProto] = {}
        self._nodes: list[NodeProto] = []
        self._rows: dict[str, tuple[str, str]] = {}

    def run(self) -> None:
        """Replaces the nodes, then drops the constants that are no longer used."""
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
        """The names of an activation's rows as uint8 around 128 and of their scales, created once."""
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
    """Values in int8 and their scales: `axis` 0 gives one per column, (1, columns), and 1 one per row, (rows, 1)."""
    largest = np.maximum(matrix.max(axis=axis, keepdims=True), -matrix.min(axis=axis, keepdims=True))
    scales = np.maximum(largest, _SMALLEST) / _LEVELS
    values = np.empty(matrix.shape, np.int8)
    for rows in np.array_split(np.arange(len(matrix)), -(-len(matrix) // _TABLE_ROWS)):
        part = slice(rows[0], rows[-1] + 1)
        values[part] = np.rint(matrix[part] / (scales[part] if axis else scales))
    return values, scales.astype(np.float32)

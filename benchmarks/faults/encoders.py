"""Very small encoders that are real: a graph for ONNX Runtime and a tokenizer, made in a moment and without torch."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from retrieval.encoder_folder import FORMAT, MODEL_FILE, TOKENIZER_FILE, EncoderSpec, identity_of, write_spec

_UNKNOWN = "?"
_LETTERS = _UNKNOWN + string.ascii_lowercase + string.ascii_uppercase + string.digits
_MAX_LENGTH = 128
_IR_VERSION, _OPSET = 10, 20


def write_encoder(folder: Path, name: str, dimension: int) -> Path:
    """Writes an encoder that takes a text for the mean of its letters; other names give other vectors."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(list(name.encode()))
    table = rng.standard_normal((len(_LETTERS), dimension)).astype(np.float32)
    onnx.save(_graph(table), folder / MODEL_FILE)
    _tokenizer().save(str(folder / TOKENIZER_FILE))
    identity = identity_of(name, table.tobytes().hex(), "onnx-fp32", _MAX_LENGTH)
    write_spec(EncoderSpec(FORMAT, identity, name, "onnx-fp32", dimension, _MAX_LENGTH), folder)
    return folder


def _tokenizer() -> Tokenizer:
    vocabulary = {letter: number for number, letter in enumerate(_LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return tokenizer


def _graph(table: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> onnx.ModelProto:
    """Ids (batch, tokens) to the means of their rows of the table (batch, dimension)."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["letters"]),
        helper.make_node("ReduceMean", ["letters", "axes"], ["vectors"], keepdims=0),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], np.int64), "axes")]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", table.shape[1]])
    graph = helper.make_graph(nodes, "letters", [ids], [vectors], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)

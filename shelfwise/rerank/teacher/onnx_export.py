"""Exports a cross-encoder as one ONNX graph from token ids to logits, together with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from sentence_transformers import CrossEncoder

from shelfwise.rerank.teacher.cross_encoder import (
    TeacherSpec,
    fast_tokenizer,
    load_cross_encoder,
    model_length,
    reads_type_ids,
    spec_of,
    write_spec,
)
from shelfwise.retrieval.encoders.base import Runtime
from shelfwise.retrieval.encoders.folder import MODEL_FILE, TOKENIZER_FILE
from shelfwise.retrieval.encoders.onnx_export import OPSET, Precision, export_graph, quantise_graph
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.store.files import atomic_folder


def export_teacher(source: ModelSource, folder: Path, precision: Precision, *, max_length: int) -> TeacherSpec:
    """Writes `folder`, completely or not at all: model.onnx, tokenizer.json and teacher.json, all that scoring needs.

    The graph takes `input_ids` and, if the model reads them, `token_type_ids`, both (batch, tokens) int64 without
    padding, and returns `scores` (batch, 1) float32. Raises EncoderUnavailableError for a model that cannot be loaded
    or exported.
    """
    model = load_cross_encoder(source, device="cpu")
    runtime: Runtime = "onnx-int8" if precision == "int8" else "onnx-fp32"
    spec = spec_of(source, model, runtime, max_length, OPSET)
    tokenizer = fast_tokenizer(model, source.name)
    graph = _exported(model, source.name)
    with atomic_folder(folder) as scratch:
        onnx.save(quantise_graph(graph) if precision == "int8" else graph, scratch / MODEL_FILE)
        tokenizer.save(str(scratch / TOKENIZER_FILE))
        write_spec(spec, scratch)
    return spec


class _Scores(torch.nn.Module):
    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.body, *rest = model
        self.rest = torch.nn.ModuleList(rest)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        features: dict[str, Any] = {"input_ids": input_ids, "attention_mask": None}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        features = self.body(features)
        features["attention_mask"] = torch.ones_like(input_ids)
        for module in self.rest:
            features = module(features)
        scores: torch.Tensor = features["scores"]
        return scores


def _exported(model: CrossEncoder, name: str) -> onnx.ModelProto:
    inputs = ["input_ids", "token_type_ids"] if reads_type_ids(model) else ["input_ids"]
    # The example has 16 tokens, and the longest must be longer.
    return export_graph(_Scores(model), inputs, ["scores"], max(model_length(model), 17), name)

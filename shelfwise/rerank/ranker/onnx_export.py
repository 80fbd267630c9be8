"""Writes a trained network as one ONNX graph, in float32 or with int8 matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from shelfwise.rerank.ranker.network import Inputs, NetworkShape, RankerNetwork
from shelfwise.rerank.ranker.onnx import OUTPUT
from shelfwise.retrieval.encoders.onnx_export import OPSET, quantise_graph, quiet
from shelfwise.retrieval.errors import RANKER, ModelError

_HISTORY = Inputs._fields.index("candidate_vectors")
"""The first input that only a network with a history reads."""


def export_network(network: RankerNetwork, path: Path, precision: str = "fp32") -> None:
    """Writes the graph to `path`. It takes the arrays of `shelfwise.rerank.ranker.features.RankerInputs` that the
    network reads, and returns scores (B, c, 3). Operators are those in `shelfwise.rerank.model_store`. Raises
    ModelError like `export_module`.
    """
    count = len(Inputs._fields) if network.history is not None else _HISTORY
    lists, candidates, history = (
        torch.export.Dim(name, min=1, max=4_096) for name in ("lists", "candidates", "history")
    )
    words, tokens = (torch.export.Dim(name, min=1, max=512) for name in ("words", "tokens"))
    axes = (
        {0: lists, 1: words},
        {0: lists, 1: words},
        {0: lists, 1: words},
        {0: lists, 1: candidates, 2: tokens},
        {0: lists, 1: candidates, 2: tokens},
        {0: lists, 1: candidates},
        {0: lists, 1: candidates},
        {0: lists, 1: history},
        {0: lists, 1: history},
        {0: lists, 1: history},
    )
    module = network if count > _HISTORY else _WithoutHistory(network)
    examples, names = tuple(example_inputs(network.shape))[:count], Inputs._fields[:count]
    graph = export_module(module, examples, names, (OUTPUT,), {"arrays": axes[:count]}, path)
    onnx.save(quantise_graph(graph) if precision == "int8" else graph, path)


def export_module(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, Any] | tuple[Any, ...],
    path: Path,
    family: str = RANKER,
) -> onnx.ModelProto:
    """The graph of a module; `axes` have dynamic length. Raises ModelError if PyTorch's exporter returns no graph."""
    with quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module.eval(),
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=axes,
            verbose=False,
        )
    if program is None:
        raise ModelError(f"{path} cannot be exported: PyTorch's exporter returned no graph", family)
    graph = program.model_proto
    # The exporter records source lines with their paths on this machine.
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in graph.graph.value_info:
        del value.metadata_props[:]
    return graph


class _WithoutHistory(nn.Module):
    """A network without the inputs of a history."""

    def __init__(self, network: RankerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arrays: Tensor) -> Tensor:
        """Scores of the arrays before those of a history."""
        scores: Tensor = self.network(*arrays, *arrays[:1] * (len(Inputs._fields) - _HISTORY))
        return scores


def example_inputs(shape: NetworkShape) -> Inputs:
    """Inputs of the right shapes."""
    b, c, q, t, h, d, v = 2, 3, 4, 5, 6, shape.state_dimension, shape.vector_dimension
    return Inputs(
        torch.ones(b, q, dtype=torch.int64),
        torch.ones(b, q, d),
        torch.ones(b, q),
        torch.ones(b, c, t, dtype=torch.int64),
        torch.ones(b, c, t, d, dtype=torch.int8),
        torch.ones(b, c, shape.features),
        torch.ones(b, c, v),
        torch.ones(b, h, v),
        torch.ones(b, h, dtype=torch.int64),
        torch.ones(b, h),
    )

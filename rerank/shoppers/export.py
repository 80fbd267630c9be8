"""Writes a trained tower's network as one ONNX graph in float32: windows of 50 acts in, a shopper's two vectors out."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from rerank.ranker.inputs import MOST_ACTS
from rerank.shoppers.network import ShopperNetwork
from rerank.shoppers.onnx_encoder import INPUTS, OUTPUTS
from retrieval.errors import ShopperTowerError
from retrieval.onnx_export import OPSET, quiet


def export_tower(network: ShopperNetwork, path: Path) -> None:
    """Writes the graph to `path`; raises ShopperTowerError where PyTorch's exporter gives none.

    `rerank.ranker.model_files` says which operators it may have.
    """
    shape = network.shape
    count = torch.export.Dim("shoppers", min=1, max=4_096)
    examples = (
        torch.ones(2, MOST_ACTS, shape.dimension),
        torch.ones(2, MOST_ACTS, shape.width),
        torch.ones(2, MOST_ACTS, dtype=torch.int64),
        torch.ones(2, MOST_ACTS, dtype=torch.int64),
    )
    with quiet(), torch.inference_mode():
        program = torch.onnx.export(
            _Newest(network).eval(),
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=tuple({0: count} for _ in INPUTS),
            verbose=False,
        )
    if program is None:
        raise ShopperTowerError(f"{path} cannot be made: PyTorch's exporter gave no graph of the network")
    graph = program.model_proto
    # The exporter notes of each node the lines of source files, and where they are on this machine.
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in graph.graph.value_info:
        del value.metadata_props[:]
    onnx.save(graph, path)


class _Newest(nn.Module):
    """What is served of a network: what it says after the last act."""

    def __init__(self, network: ShopperNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, vectors: Tensor, own: Tensor, kinds: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.newest(vectors, own, kinds, gaps)

"""Small rankers that can serve: a linear graph over features, its weights, spec and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE, Build, Encoding, ModelStore
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import RANKERS, AddedRanker, RankerSpec, RankerStore, StoredRanker
from shelfwise.retrieval.store.files import seal_folder
from tests.versions import DIMENSION

ENCODING = Encoding("encoder-1", DIMENSION)
"""The encoding of the versions of tests.versions."""
SPEC = RankerSpec(
    encoder="encoder-1",
    state_dimension=8,
    vector_dimension=DIMENSION,
    features=FEATURES,
    layers=0,
    precision="fp32",
    mix=0.5,
    event_weights=(1.0, 2.0, 4.0),
    calibration=(1.5, -0.5),
    trained_on={"sessions": 2_000, "seed": 7},
)
REPORT = ModelReport(
    created="2026-11-10T03:12:00+00:00",
    measured_on="sessions from 2026-11-01",
    measures={"nDCG@10": 0.43, "MRR": 0.5},
    against="merged order",
)


def few_rankers(root: Path, keep: int) -> RankerStore:
    """The rankers of an index directory of which so many are kept."""
    return ModelStore(root, replace(RANKERS, keep=keep))


def linear_graph(seed: int = 0, features: int = len(FEATURES)) -> onnx.ModelProto:
    """A graph from features (B, c, F) to scores (B, c, 3)."""
    weights = np.random.default_rng(seed).standard_normal((features, 3)).astype(np.float32)
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["lists", "candidates", features])
    made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["lists", "candidates", 3])
    node = helper.make_node("MatMul", ["features", "weights"], ["scores"])
    graph = helper.make_graph([node], "ranker", [taken], [made], [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def building(seed: int = 0, graph: onnx.ModelProto | None = None) -> Build:
    """A function that writes a ranker's two model files into a folder."""

    def build(folder: Path) -> None:
        onnx.save(graph or linear_graph(seed), folder / MODEL_FILE)
        save_file({"weights": np.full((2, 2), seed, np.float32)}, folder / WEIGHTS_FILE)

    return build


def add_ranker(
    store: RankerStore, seed: int = 0, *, spec: RankerSpec = SPEC, reasons: Sequence[str] = ()
) -> AddedRanker:
    """Adds a linear ranker, which serves without reasons against it."""
    return store.add(building(seed), spec, msgspec.structs.replace(REPORT, rejection_reasons=tuple(reasons)))


def rewrite(path: Path, **values: object) -> None:
    """Changes values in a JSON file of a ranker, and its checksum."""
    document = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(document | values))
    seal_folder(path.parent, {})


def opened_export(folder: Path) -> OnnxRanker:
    """The exported network in a folder as a ranker whose scores are those of clicks."""
    spec = msgspec.structs.replace(SPEC, mix=0.0, event_weights=(1.0, 0.0, 0.0))
    return OnnxRanker(StoredRanker("ranker-0001", folder, spec, REPORT))

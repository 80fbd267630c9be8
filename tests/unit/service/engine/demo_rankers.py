"""Rankers of the demo index with a known order: a weighted sum of named features, or a graph that fails."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.network import EVENTS, NetworkShape, RankerNetwork
from shelfwise.rerank.ranker.onnx_export import export_network
from shelfwise.rerank.ranker.spec import RankerSpec, ranker_store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Snapshot
from tests.catalogs import ids
from tests.rankers import REPORT, SPEC, building, linear_graph


def spec_for(snapshot: Snapshot, **values: object) -> RankerSpec:
    """The spec of a ranker for this index, whose score is the network's score of clicks."""
    assert snapshot.states is not None
    fitting = {
        "encoder": snapshot.manifest.encoder,
        "vector_dimension": snapshot.manifest.dimension,
        "state_dimension": snapshot.states.dimension,
        "mix": 0.0,
        "event_weights": (1.0, 0.0, 0.0),
    }
    return msgspec.structs.replace(SPEC, **(fitting | values))


def attending_shape(spec: RankerSpec) -> NetworkShape:
    """The shape of a small network with cross-attention; one for all tests, as its first export takes seconds."""
    return NetworkShape(spec.state_dimension, spec.vector_dimension, len(FEATURES), feed_forward=16, history=0)


def attending_graph(snapshot: Snapshot) -> onnx.ModelProto:
    """A small network with cross-attention and random weights."""
    torch.manual_seed(3)
    return exported(RankerNetwork(attending_shape(spec_for(snapshot))))


def exported(network: RankerNetwork) -> onnx.ModelProto:
    with TemporaryDirectory() as folder:
        export_network(network.eval(), Path(folder, MODEL_FILE))
        return onnx.load(Path(folder, MODEL_FILE))


def by_event(**weights: dict[str, float]) -> onnx.ModelProto:
    """A graph that sums features with these weights for each kind of event."""
    table = np.zeros((len(FEATURES), len(EVENTS)), np.float32)
    for event, features in weights.items():
        for name, weight in features.items():
            table[FEATURES.index(name), EVENTS.index(event)] = weight
    graph = linear_graph()
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(table, "weights"))
    return graph


def weighted_graph(**weights: float) -> onnx.ModelProto:
    """A graph that sums features with these weights for every kind of event."""
    return by_event(**dict.fromkeys(EVENTS, weights))


def failing(candidates: int = 7) -> onnx.ModelProto:
    """A graph that can be opened, but only runs on one list of `candidates` candidates."""
    graph = weighted_graph(cosine=1.0)
    graph.graph.node[0].output[0] = "all"
    shape = numpy_helper.from_array(np.array([1, candidates, 3], np.int64), "shape")
    graph.graph.initializer.append(shape)
    graph.graph.node.append(helper.make_node("Reshape", ["all", "shape"], ["scores"]))
    return graph


def publish(root: Path, spec: RankerSpec, graph: onnx.ModelProto) -> str:
    """Publishes a serving ranker; returns its name."""
    added = ranker_store(root).add(building(1, graph), spec, REPORT)
    assert added.serves
    return added.model.name


def order(engine: SearchEngine, query: str = "steel pan", **options: object) -> list[str]:
    """The first hits of the ranker that is published now."""
    engine.reload_if_changed()
    page = engine.search(query, size=30, **options)  # type: ignore[arg-type]
    assert page.degraded == ()
    return ids(page)

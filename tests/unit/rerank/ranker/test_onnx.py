"""The exported ranker on ONNX Runtime."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.features import FEATURES, MERGED
from shelfwise.rerank.ranker.network import Inputs
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import RankerSpec, StoredRanker
from shelfwise.retrieval.errors import ModelDamagedError, ModelError
from tests.rankers import REPORT, SPEC, building, linear_graph, opened_export
from tests.unit.rerank.ranker.conftest import Exported
from tests.unit.rerank.ranker.random_candidates import candidates, near, scored, some_of


def opened(folder: Path, graph: onnx.ModelProto | None = None, spec: RankerSpec = SPEC) -> OnnxRanker:
    building(5, graph)(folder)
    return OnnxRanker(StoredRanker("ranker-0007", folder, spec, REPORT))


def reshaping(*axes: int) -> onnx.ModelProto:
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["lists", "candidates", 3])
    made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    node = helper.make_node("Reshape", ["features", "axes"], ["scores"])
    shape = numpy_helper.from_array(np.array(axes, np.int64), "axes")
    graph = helper.make_graph([node], "ranker", [taken], [made], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


THREE = msgspec.structs.replace(SPEC, features=("cosine", "words", "merged"))


def test_score_is_weighted_events_plus_merged_score(tmp_path: Path) -> None:
    ranker, whole = opened(tmp_path), candidates(6)
    weights = numpy_helper.to_array(linear_graph(5).graph.initializer[0]).astype(np.float64)
    clicks, carts, purchases = (whole.features.astype(np.float64) @ weights).T
    expected = 1 * clicks + 2 * carts + 4 * purchases + 0.5 * whole.features[:, MERGED]
    np.testing.assert_allclose(ranker.score([whole])[0], expected, rtol=1e-5, atol=1e-5)


def test_features_follow_the_order_of_the_spec(tmp_path: Path) -> None:
    names = tuple(reversed(FEATURES[2:]))
    (tmp_path / "some").mkdir()
    (tmp_path / "all").mkdir()
    graph = linear_graph(5, len(names))
    some = opened(tmp_path / "some", graph, msgspec.structs.replace(SPEC, features=names))
    wide = linear_graph(5)
    weights = np.zeros((len(FEATURES), 3), np.float32)
    for place, name in enumerate(names):
        weights[FEATURES.index(name)] = numpy_helper.to_array(graph.graph.initializer[0])[place]
    wide.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    lists = [candidates(5)]
    np.testing.assert_allclose(some.score(lists)[0], opened(tmp_path / "all", wide).score(lists)[0], atol=1e-5)


@pytest.mark.parametrize("axes", [(2, 2), (1, -1, 5), (7,), (1, 3, -1)], ids=["few", "no multiple", "many", "scores"])
def test_failing_graph_raises(tmp_path: Path, axes: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="ranker-0007 failed on its candidates"):
        opened(tmp_path, reshaping(*axes), THREE).score([candidates(2)])


def test_nan_score_raises(tmp_path: Path) -> None:
    whole = candidates(4)
    features = whole.features.copy()
    features[2, 3] = np.inf
    with pytest.raises(ModelError, match=r"ranker-0007 returned the score -?(nan|inf)"):
        opened(tmp_path).score([dataclasses.replace(whole, features=features)])


def test_invalid_graph_file_is_damaged(tmp_path: Path) -> None:
    ranker = opened(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"no graph")
    with pytest.raises(ModelDamagedError, match=r"model\.onnx cannot be run .*; train the ranker again"):
        OnnxRanker(StoredRanker(ranker.name, tmp_path, SPEC, REPORT))


@pytest.mark.parametrize(("kind", "name"), [("input", "prices"), ("output", "logits")])
def test_unrelated_graph_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    graph = linear_graph()
    getattr(graph.graph, kind)[0].name = name
    getattr(graph.graph.node[0], kind)[0] = name
    with pytest.raises(ModelDamagedError, match="no ranker's graph"):
        opened(tmp_path, graph)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 1, 1, 0)],
        [(100, 7, 32, 4)],
        [(3, 32, 2, 0), (9, 1, 8, 6), (1, 5, 1, 1)],
        [(4, 0, 3, 0)],
        [(4, 3, 0, 2), (2, 0, 0, 0)],
        [(5, 10_000, 4, 50)],
    ],
    ids=["one", "a hundred", "three lists", "no query tokens", "no states", "ten thousand words"],
)
def test_graph_and_network_give_the_same_scores(exported: Exported, shapes: list[tuple[int, int, int, int]]) -> None:
    lists = [candidates(*each) for each in shapes]
    ranker = opened_export(exported.folder)
    for found, expected in zip(ranker.score(lists), scored(exported.network, *lists), strict=True):
        assert near(found, expected[:, 0])


def test_graph_score_does_not_depend_on_other_candidates(exported: Exported) -> None:
    ranker, whole = opened_export(exported.folder), candidates(30, words=4, tokens=12, events=3)
    (expected,) = ranker.score([whole])
    assert expected.std() > 0.05
    others = [candidates(50, words=9, tokens=20, events=8, seed=1), candidates(1)]
    assert near(ranker.score([others[0], whole, others[1]])[1], expected)
    assert near(ranker.score([some_of(whole, [29, 3, 7])])[0], expected[[29, 3, 7]])


def test_graph_inputs_equal_network_inputs(exported: Exported) -> None:
    graph = onnx.load(exported.folder / MODEL_FILE).graph
    reads_history = exported.network.history is not None
    unread = () if reads_history else Inputs._fields[6:]
    assert [given.name for given in graph.input] == [name for name in Inputs._fields if name not in unread]
    ranker = opened_export(exported.folder)
    assert ranker.reads_history is reads_history
    assert ranker.reads_states

"""The exported graph: the same scores as the network, in every shape, and nothing in it that it does not read."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from rerank.ranker.network import Inputs, save_network
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.onnx_export import export_network
from rerank.ranker.spec import StoredRanker, write_ranker
from tests.rankers import REPORT, SPEC
from tests.unit.rerank.ranker.conftest import Exported
from tests.unit.rerank.ranker.random_candidates import candidates, near, network, scored, some_of
from tests.versions import DIMENSION

CLICKS = msgspec.structs.replace(SPEC, mix=0.0, event_weights=(1.0, 0.0, 0.0))


def opened(folder: Path) -> OnnxRanker:
    return OnnxRanker(StoredRanker("ranker-0001", folder, CLICKS, REPORT))


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
    ranker = opened(exported.folder)
    for found, expected in zip(ranker.score(lists), scored(exported.network, *lists), strict=True):
        assert near(found, expected[:, 0])


def test_the_graph_scores_a_candidate_the_same_in_every_company(exported: Exported) -> None:
    ranker, whole = opened(exported.folder), candidates(30, words=4, tokens=12, events=3)
    (expected,) = ranker.score([whole])
    assert expected.std() > 0.05
    others = [candidates(50, words=9, tokens=20, events=8, seed=1), candidates(1)]
    assert near(ranker.score([others[0], whole, others[1]])[1], expected)
    assert near(ranker.score([some_of(whole, [29, 3, 7])])[0], expected[[29, 3, 7]])


def test_the_graph_takes_what_the_network_reads(exported: Exported) -> None:
    graph = onnx.load(exported.folder / MODEL_FILE).graph
    reads_history = exported.network.history is not None
    unread = () if reads_history else Inputs._fields[6:]
    assert [given.name for given in graph.input] == [name for name in Inputs._fields if name not in unread]
    ranker = opened(exported.folder)
    assert ranker.reads_history is reads_history
    assert ranker.reads_states


def test_an_export_is_a_ranker_that_can_be_stored(exported: Exported, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "made"))
    save_network(exported.network, folder / WEIGHTS_FILE)
    layers = exported.network.shape.layers
    assert write_ranker(folder, msgspec.structs.replace(CLICKS, layers=layers), REPORT).vector_dimension == DIMENSION


def test_in_int8_it_is_smaller_and_nearly_the_same(tmp_path: Path) -> None:
    by, lists = network(1, history=0), [candidates(40, words=6, tokens=9), candidates(3, words=2)]
    export_network(by, tmp_path / MODEL_FILE, "int8")
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / MODEL_FILE).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    for found, expected in zip(opened(tmp_path).score(lists), scored(by, *lists), strict=True):
        assert np.abs(found - expected[:, 0]).max() < 0.05 * expected[:, 0].std() + 0.02


def test_a_graph_names_no_file_of_the_machine_that_made_it(exported: Exported) -> None:
    assert b".py" not in (exported.folder / MODEL_FILE).read_bytes()

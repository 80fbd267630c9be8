"""The ranker network and its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.explanation import Factor, QueryWords, contributions, neutral_features, term_matches
from shelfwise.rerank.ranker.features import FEATURES, HAS_STATES, MERGED, Candidates, History
from shelfwise.rerank.ranker.network import Inputs, RankerNetwork, load_network, save_network
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import RankerSpec, StoredRanker
from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.errors import ModelDamagedError, ModelError, ModelMismatchError
from shelfwise.retrieval.index.token_states import SCALE, ProductTokens
from shelfwise.retrieval.text.highlight import TokenWords
from tests.rankers import REPORT, SPEC, building, linear_graph, opened_export
from tests.unit.rerank.ranker.conftest import Exported
from tests.unit.rerank.ranker.random_candidates import (
    STATE_DIMENSION,
    candidates,
    near,
    network,
    scored,
    shape,
    tensors,
)
from tests.versions import DIMENSION

LAYERS = pytest.mark.parametrize("layers", [0, 1])


def without_states(whole: Candidates) -> Candidates:
    nothing = ProductTokens.none(len(whole.features), STATE_DIMENSION)
    features = whole.features.copy()
    features[:, HAS_STATES] = 0
    return dataclasses.replace(whole, products=nothing, features=features)


@LAYERS
def test_scores_do_not_depend_on_longer_lists_in_the_batch(layers: int) -> None:
    by = network(layers)
    lists = [
        candidates(7, words=3, tokens=4, events=2),
        candidates(1, words=1, tokens=1),
        candidates(19, words=9, tokens=11, events=5),
        candidates(4, words=0),
    ]
    for together, each in zip(scored(by, *lists), lists, strict=True):
        (alone,) = scored(by, each)
        assert near(together, alone)
        assert np.isfinite(alone).all()


def test_similarities_match_their_definitions() -> None:
    by, whole = network(0), candidates(9, words=4, tokens=6)
    torch.nn.init.eye_(by.query_map.weight)
    inputs = tensors(whole)
    with torch.inference_mode():
        found = by.similarities(inputs, by.match(inputs))[0].numpy()
    for number in range(9):
        ids = whole.products.ids[number]
        ids, states = ids[ids >= 0], whole.products.states[number, ids >= 0] / SCALE
        cosines = [max([0.0, *(float(word @ state) for state in states)]) for word in whole.query.states]
        covered = [float(word in ids) for word in whole.query.ids]
        named = [float(token in whole.query.ids) for token in ids]
        assert found[number, 2:] == pytest.approx(
            [sum(cosines) / 4, sum(covered) / 4, min(cosines), sum(named) / max(len(named), 1)], abs=1e-4
        )


@LAYERS
def test_products_without_states_are_scored_by_their_features(layers: int) -> None:
    by, with_states = network(layers), candidates(20, words=4)
    whole = without_states(with_states)
    (found,) = scored(by, whole)
    assert np.isfinite(found).all()
    assert found.std(axis=0).min() > 0.05
    (beside,) = scored(by, with_states)
    is_lost = ~with_states.products.has_any
    assert is_lost.any()
    assert near(found[is_lost], beside[is_lost])


@LAYERS
def test_a_history_without_events_changes_nothing(layers: int) -> None:
    by, whole = network(layers), candidates(6, events=3)
    nothing = dataclasses.replace(whole, history=History.none(DIMENSION))
    (with_events,), (without) = scored(by, whole), scored(by, nothing)[0]
    assert not near(with_events, without)
    by.history = None
    np.testing.assert_array_equal(scored(by, nothing)[0], without)


def test_history_distinguishes_candidates_kinds_and_times() -> None:
    by, whole = network(0), candidates(6, events=1)
    events = whole.history
    (before,) = scored(by, whole)
    for other in (
        dataclasses.replace(events, vectors=-events.vectors),
        dataclasses.replace(events, kinds=(events.kinds + 1) % 4),
        dataclasses.replace(events, gaps=events.gaps + 100),
    ):
        assert not near(scored(by, dataclasses.replace(whole, history=other))[0], before)


@LAYERS
def test_an_untrained_history_adds_nothing(layers: int) -> None:
    torch.manual_seed(1)
    by, whole = RankerNetwork(shape(layers)), candidates(6, events=4)
    without = dataclasses.replace(whole, history=History.none(DIMENSION))
    np.testing.assert_array_equal(scored(by, whole)[0], scored(by, without)[0])


@LAYERS
def test_constant_training_feature_is_ignored(layers: int) -> None:
    by, whole = network(layers), candidates(6)
    column = FEATURES.index("popularity")
    seen = candidates(50, seed=1).features
    seen[:, column] = 2.5
    by.fit_scale(torch.from_numpy(seen))
    later = whole.features.copy()
    later[:, column] = np.linspace(0, 30, 6)
    (before,), (after,) = scored(by, whole), scored(by, dataclasses.replace(whole, features=later))
    np.testing.assert_allclose(after, before, atol=1e-3)
    varied = whole.features.copy()
    varied[:, column + 1] += 2
    assert not np.allclose(scored(by, dataclasses.replace(whole, features=varied))[0], before, atol=1e-3)


@pytest.mark.parametrize(("layers", "history"), [(0, 0), (1, 6)])
def test_network_round_trips_with_sizes_scale_and_scores(tmp_path: Path, layers: int, history: int) -> None:
    made, lists = network(layers, history=history), [candidates(9, events=2), candidates(2)]
    save_network(made, tmp_path / "weights")
    found = load_network(tmp_path / "weights")
    assert found.shape == made.shape
    assert not found.training
    for one, other in zip(scored(found, *lists), scored(made, *lists), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x80\x04cos\nsystem\n."])
def test_damaged_file_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(ModelDamagedError, match=r"weights cannot be read .*; train the ranker again"):
        load_network(tmp_path / "weights")
    with pytest.raises(ModelDamagedError, match="missing cannot be read"):
        load_network(tmp_path / "missing")


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    made = network(0)
    made.shape = shape(1)
    save_network(made, tmp_path / "weights")
    with pytest.raises(ModelMismatchError, match="has weights of a different network"):
        load_network(tmp_path / "weights")


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


def test_graph_inputs_equal_network_inputs(exported: Exported) -> None:
    graph = onnx.load(exported.folder / MODEL_FILE).graph
    reads_history = exported.network.history is not None
    unread = () if reads_history else Inputs._fields[6:]
    assert [given.name for given in graph.input] == [name for name in Inputs._fields if name not in unread]
    ranker = opened_export(exported.folder)
    assert ranker.reads_history is reads_history
    assert ranker.reads_states


OF_THE_QUERY = ("words",)  # features that are the same for all candidates of a query
NEUTRAL = tuple(place / 10 - 0.5 for place in range(len(FEATURES)))
EXPLAINED_SPEC = msgspec.structs.replace(SPEC, neutral=NEUTRAL)
WEIGHTS = np.array(SPEC.event_weights)


def linear(folder: Path, spec: RankerSpec) -> OnnxRanker:
    building(5, linear_graph(5, len(spec.features)))(folder)
    return OnnxRanker(StoredRanker("ranker-0007", folder, spec, REPORT))


def explaining_ranker(exported: Exported) -> OnnxRanker:
    return OnnxRanker(StoredRanker("ranker-0007", exported.folder, EXPLAINED_SPEC, REPORT))


def changed(whole: Candidates, **columns: float) -> Candidates:
    features = whole.features.copy()
    for name, value in columns.items():
        features[:, FEATURES.index(name)] = value
    return dataclasses.replace(whole, features=features)


def without_query_tokens(whole: Candidates) -> Candidates:
    ids, states = np.full_like(whole.products.ids, -1), np.zeros_like(whole.products.states)
    return dataclasses.replace(changed(whole, has_states=0), products=ProductTokens(ids, states))


def test_every_feature_is_in_one_group() -> None:
    result = [name for factor in Factor for name in factor.value]
    assert sorted((*result, *OF_THE_QUERY)) == sorted(FEATURES)


def test_contributions_equal_rescoring(exported: Exported) -> None:
    whole = candidates(9)
    found = contributions(explaining_ranker(exported), whole)
    usual = dict(zip(FEATURES, NEUTRAL, strict=True))
    assert set(found) == set(Factor) - {Factor.HISTORY}

    def scores(each: Candidates) -> NDArray[np.float64]:
        return np.asarray(scored(exported.network, each)[0] @ WEIGHTS + SPEC.mix * each.features[:, MERGED])

    for factor in found:
        others = without_query_tokens(whole)
        if factor is not Factor.WORDS:
            others = changed(whole, **{name: usual[name] for name in factor.value})
        np.testing.assert_allclose(found[factor], scores(whole) - scores(others), atol=1e-4)
    assert all(np.abs(each).max() > 1e-3 for each in found.values())


def test_history_is_explained_if_the_ranker_reads_it(exported: Exported) -> None:
    ranker = explaining_ranker(exported)
    whole = candidates(6, events=3)
    found = contributions(ranker, whole)
    assert (Factor.HISTORY in found) == ranker.reads_history
    if ranker.reads_history:
        without, with_it = ranker.score([dataclasses.replace(whole, history=History.none(DIMENSION)), whole])
        np.testing.assert_allclose(found[Factor.HISTORY], with_it - without, atol=1e-5)


def test_ranker_without_means_is_explained_against_0(tmp_path: Path) -> None:
    assert not neutral_features(SPEC).any()
    whole = candidates(3)
    found = contributions(linear(tmp_path, SPEC), whole)
    assert (found[Factor.PRICE] != 0).all()
    again = contributions(linear(tmp_path, SPEC), changed(whole, price_gap=0, has_price=0))
    np.testing.assert_allclose(again[Factor.PRICE], 0, atol=1e-6)


def query(words: tuple[str, ...], word_of: list[int], states: list[list[float]], idf: list[float]) -> QueryWords:
    return QueryWords(product(words, word_of), unit_rows(np.array(states, np.float32)), np.array(idf, np.float32))


def product(words: tuple[str, ...], word_of: list[int]) -> TokenWords:
    return TokenWords(words, np.array(word_of, np.int64))


def stored(states: list[list[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.rint(unit_rows(np.array(states, np.float32)) * SCALE).astype(np.int8)


def test_words_match_their_nearest_and_rare_words_come_first() -> None:
    asked = query(("for", "drill"), [0, 1], [[1, 0, 0], [0, 1, 0]], [1, 6])
    found = term_matches(asked, product(("saw", "screwdriver"), [0, 1]), stored([[1, 0, 0.2], [0, 3, 4]]))
    met = [(each.query_word, each.product_word, each.exact) for each in found]
    assert met == [("drill", "screwdriver", False), ("for", "saw", False)]
    assert abs(found[0].similarity - 3 / 5) < 0.01


def test_without_words_there_are_no_matches() -> None:
    nothing = query((), [-1], [[1, 0]], [1])
    assert term_matches(nothing, product(("saw",), [0]), stored([[1, 0]])) == ()
    asked = query(("drill",), [0], [[1, 0]], [1])
    assert term_matches(asked, product((), [-1]), stored([[1, 0]])) == ()
    assert term_matches(asked, product((), []), np.empty((0, 2), np.int8)) == ()

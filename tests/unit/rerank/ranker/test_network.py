"""The ranker network and its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from shelfwise.rerank.ranker.features import FEATURES, HAS_STATES, Candidates, History
from shelfwise.rerank.ranker.network import RankerNetwork, load_network, save_network
from shelfwise.retrieval.errors import ModelDamagedError, ModelMismatchError
from shelfwise.retrieval.index.token_states import SCALE, ProductTokens
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

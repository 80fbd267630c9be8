"""Training on clicks: position correction, killed runs, and training from an existing network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from rerank.ranker.network import RankerNetwork
from rerank.training.click_training import (
    ClickMethod,
    ClickOptions,
    Validation,
    adopt_features,
    new_network,
    train_on_clicks,
)
from rerank.training.datasets import ListData, full_batches
from rerank.training.evaluation import scores_of
from rerank.training.trainer import LoopOptions
from retrieval.errors import TrainingError
from tests.progress import KilledError, killed_at
from tests.unit.rerank.training.clicked_shop import Shop, click_data, learned_lists, shop
from tests.unit.rerank.training.teacher_lists import SHAPE

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = ClickOptions(loop=LoopOptions(epochs=8, learning_rate=5e-3, warm_up=5, patience=9))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def events(made: Shop) -> pl.DataFrame:
    return made.events(6_000)


def validation(made: Shop) -> Validation:
    data = made.data
    gains = made.relevance.astype(np.float32)
    return Validation(ListData(data.lists, data.queries, data.states, gains), np.arange(len(data.lists)))


def start(made: Shop) -> RankerNetwork:
    return new_network(SHAPE, made.data.lists.features, seed=0)


def reached(made: Shop, network: RankerNetwork) -> float:
    return made.ndcg(scores_of(network, full_batches(made.data, np.arange(len(made.data.lists)))))


def test_every_position_correction_beats_naive_training(made: Shop, events: pl.DataFrame, tmp_path: Path) -> None:
    data = click_data(made, learned_lists(made, events))

    def trained(way: ClickMethod) -> float:
        network, _ = train_on_clicks(start(made), data, validation(made), way, OPTIONS, tmp_path / way)
        return reached(made, network)

    naive = trained("naive")
    assert reached(made, start(made)) < naive
    for way in ("debiased", "propensity", "tower"):
        assert 1 - trained(way) < 0.7 * (1 - naive), way


def test_killed_run_gives_the_same_result(made: Shop, events: pl.DataFrame, tmp_path: Path) -> None:
    data = click_data(made, learned_lists(made, events))
    one, curve = train_on_clicks(start(made), data, validation(made), "tower", OPTIONS, tmp_path / "whole")
    with pytest.raises(KilledError):
        train_on_clicks(start(made), data, validation(made), "tower", OPTIONS, tmp_path / "killed", killed_at(13))
    other, again = train_on_clicks(start(made), data, validation(made), "tower", OPTIONS, tmp_path / "killed")
    assert again == curve
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_initial_network_is_not_modified(made: Shop, events: pl.DataFrame, tmp_path: Path) -> None:
    data, network = click_data(made, learned_lists(made, events)), start(made)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train_on_clicks(network, data, validation(made), "debiased", ClickOptions(loop=LoopOptions(epochs=1)), tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_newly_varying_feature_does_not_change_scores(made: Shop) -> None:
    features = made.data.lists.features
    constant = features.copy()
    constant[:, [3, 5]] = 0.0
    network = new_network(SHAPE, constant, seed=0)
    assert network.constant_features.nonzero()[:, 0].tolist() == [3, 5]
    varies = features.copy()
    varies[:, 5] = 0.0
    data = made.data
    known = scores_of(network, full_batches(data, np.arange(5)))
    centre = network.centre.clone()
    assert adopt_features(network, varies) == (3,)
    assert np.allclose(scores_of(network, full_batches(data, np.arange(5))), known, atol=1e-3)
    assert network.centre[3].item() == pytest.approx(float(features[:, 3].mean()), abs=1e-5)
    assert torch.equal(torch.cat([network.centre[:3], network.centre[4:]]), torch.cat([centre[:3], centre[4:]]))
    assert adopt_features(network, varies) == ()


def test_a_validation_without_a_click_is_refused(made: Shop) -> None:
    with pytest.raises(TrainingError, match="nothing was clicked in the validation period"):
        Validation(made.data, np.empty(0, np.int64))

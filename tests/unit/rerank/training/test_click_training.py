"""Training on clicks: position correction, killed runs, and training from an existing network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from shelfwise.rerank.ranker.network import RankerNetwork
from shelfwise.rerank.training.click_dataset import click_lists, fit_evidence
from shelfwise.rerank.training.click_training import (
    PrivacyOptions,
    ShopperRecords,
    Validation,
    adopt_features,
    new_network,
    train_federated,
)
from shelfwise.rerank.training.datasets import full_batches
from shelfwise.rerank.training.list_scores import scores_of
from shelfwise.rerank.training.trainer import Run
from shelfwise.retrieval.errors import TrainingError
from tests.click_training import OPTIONS, Threads, shoppers, start, validation, without_attention
from tests.unit.rerank.training.clicked_shop import Shop, click_data, learned_lists, row_of, shop
from tests.unit.rerank.training.teacher_lists import SHAPE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def events(made: Shop) -> pl.DataFrame:
    return made.events(6_000)


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
    with pytest.raises(TrainingError, match="no clicks in the validation period"):
        Validation(made.data, np.empty(0, np.int64))


def test_feature_that_is_constant_in_one_store_keeps_the_scale_of_the_others(
    made: Shop, events: pl.DataFrame, tmp_path: Path
) -> None:
    data = click_data(made, learned_lists(made, events))
    features = made.data.lists.features.copy()
    features[:, 3] = 1.0
    starts = new_network(SHAPE, features, seed=0), start(made)
    stores = Threads(2, rounds=1)

    def trained(network: RankerNetwork) -> RankerNetwork:
        return train_federated(network, data, validation(made), OPTIONS, stores, Run(tmp_path))[0]

    assert starts[0].constant_features[3]
    with ThreadPoolExecutor(2) as threads:
        for network in threads.map(trained, starts):
            assert network.spread[3].item() == pytest.approx(starts[1].spread[3].item())
            assert network.centre[3].item() == pytest.approx(starts[1].centre[3].item())


def test_noise_grows_as_epsilon_falls_and_shoppers_are_few() -> None:
    pytest.importorskip("opacus")
    noise = [PrivacyOptions(epsilon).guarantee(2_000).noise for epsilon in (16, 4)]
    assert noise == sorted(noise)
    few, many = (PrivacyOptions(4).guarantee(count) for count in (500, 5_000))
    assert few.noise > many.noise
    assert few.delta == 1 / 5_000


def test_displays_are_of_one_shopper_each(made: Shop, events: pl.DataFrame) -> None:
    named = shoppers(events, 50)
    lists = click_lists(fit_evidence(named, by_shopper=True), made.data.lists, row_of, 16)
    records = ShopperRecords.of(without_attention(made), click_data(made, lists))
    assert len(records.displays) == 50
    rows, acts = records.drawn(np.arange(3), 4, np.random.default_rng(1))
    assert rows.shape == acts.shape[:3] == (3, 4, 20 + 8)
    owners = lists.displays.shoppers
    assert owners is not None
    for number, mine in enumerate(records.displays):
        assert set(owners[mine]) == {number}
        acted = named.filter((pl.col("who") == sorted(named["who"].unique())[number]) & (pl.col("kind") == "click"))
        assert lists.displays.acts[mine, :, 0].sum() <= len(acted)


def test_private_training_needs_shoppers(made: Shop, events: pl.DataFrame) -> None:
    with pytest.raises(TrainingError, match="do not distinguish shoppers"):
        ShopperRecords.of(start(made), click_data(made, learned_lists(made, events)))

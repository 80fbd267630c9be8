"""Capabilities of training, on small stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import torch

from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.network import RankerNetwork
from shelfwise.rerank.ranker.onnx_export import export_network
from shelfwise.rerank.ranker.pruning import PruningTarget, measure_importance, prune_network
from shelfwise.rerank.sessions.bots import Signal, score_sessions
from shelfwise.rerank.training.click_dataset import click_lists, fit_evidence
from shelfwise.rerank.training.click_training import (
    PrivacyOptions,
    ShopperRecords,
    train_federated,
    train_on_clicks,
    train_privately,
)
from shelfwise.rerank.training.datasets import full_batches
from shelfwise.rerank.training.trainer import Run
from shelfwise.rerank.user_tower.held_out_acts import hit_rate, ranks_of, split_by_time
from shelfwise.rerank.user_tower.histories import Histories
from shelfwise.rerank.user_tower.tower import UserTower
from shelfwise.rerank.user_tower.user_tower_training import fit
from tests import bot_shop
from tests.click_training import OPTIONS, Threads, reached, start, validation, without_attention
from tests.click_training import shoppers as shoppers_of
from tests.logged_searches import clicks, clicks_of, ordered, simulated_searches
from tests.rankers import opened_export
from tests.unit.rerank.ranker import random_candidates
from tests.unit.rerank.text_towers.tiny_towers import judged, make_index, write_judgments
from tests.unit.rerank.training import clicked_shop
from tests.unit.rerank.training.clicked_shop import Shop, click_data, learned_lists, row_of
from tests.unit.rerank.user_tower.small_stores import EACH, KINDS, TINY, catalog, shoppers
from tests.unit.service.cli import commands

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ("--batch", "32", "--learning-rate", "5e-3", "--max-length", "16", "--ranks", "20-100", "--epochs", "2")


@pytest.fixture(scope="module")
def shop(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose encoder has random weights, and judgments with other words than its products."""
    folder = tmp_path_factory.mktemp("shop")
    make_index(folder, cache)
    write_judgments(folder / "judgments.tsv", judged())
    return folder


def train_towers(shop: Path, *options: str) -> dict[str, Any]:
    given = ("--encoder", shop / "tiny", "--judgments", shop / "judgments.tsv", "--no-publish", *SMALL, *options)
    towers: dict[str, Any] = commands.document("train", "towers", shop / "index", *given)["towers"]
    curve = [each["validation"] for each in towers["curve"]]
    assert curve[towers["best"]] > curve[0]
    return towers


def test_text_towers(shop: Path) -> None:
    towers = train_towers(shop)
    assert (towers["base"], towers["source"], towers["options"]["loss"]["name"]) == ("tiny", "judgments", "softmax")


@pytest.mark.parametrize("loss", ["softmax", "pointwise"])
def test_losses_with_lora(shop: Path, loss: str) -> None:
    towers = train_towers(shop, "--loss", loss, "--lora", "4", "--learning-rate", "2e-2")
    assert (towers["options"]["lora"], towers["options"]["loss"]["name"]) == (4, loss)


def test_augmentation(shop: Path) -> None:
    shares = ("--typos", "0.3", "--units", "0.2", "--brands", "0.2", "--drop-fields", "0.2", "--unlike", "0.2")
    assert train_towers(shop, *shares)["options"]["augment"]["typos"] == 0.3


def test_adversarial_training(shop: Path) -> None:
    assert train_towers(shop, "--fgm", "0.5")["options"]["fgm"] == 0.5


def test_tuning(shop: Path) -> None:
    assert train_towers(shop, "--tune", "2")["options"]


def test_ensembles(shop: Path) -> None:
    towers = train_towers(shop, "--mixing", "--averaging")
    assert (towers["options"]["mix"], towers["options"]["average"]) == (True, True)
    assert 0 < towers["share"] <= 1


@pytest.fixture(scope="module")
def learned() -> UserTower:
    vectors, kinds = catalog()
    return fit(vectors, shoppers(), replace(TINY, epochs=12, refit=False), categories=kinds)


def test_user_tower(learned: UserTower) -> None:
    _, held = split_by_time(shoppers(seed=9), 0.3, hide_seen=True)
    assert hit_rate(ranks_of(learned, held)).mean() > 0.8


def test_cold_start(learned: UserTower) -> None:
    """Products that nobody chose are recommended by their text."""
    new, last = np.arange(EACH - 1, KINDS * EACH, EACH), np.arange(KINDS)
    scores = learned.scores(Histories.of([[kind * EACH + 1] for kind in last.tolist()]))[:, new]
    assert (scores.argmax(axis=1) == (last + 1) % KINDS).sum() >= KINDS - 2


def test_shopper_sequence(learned: UserTower) -> None:
    """The newest acts count most: the same two acts in the other order give another next product."""
    first, second = KINDS * [0], KINDS * [0]
    for kind in range(KINDS):
        first[kind], second[kind] = kind * EACH, (kind + 1) % KINDS * EACH
    forth, back = (
        learned.scores(Histories.of([[*each] for each in zip(*order, strict=True)]))
        for order in ((first, second), (second, first))
    )
    assert (forth.argmax(axis=1) // EACH == (np.arange(KINDS) + 2) % KINDS).sum() >= KINDS - 1
    assert (forth.argmax(axis=1) != back.argmax(axis=1)).all()


@pytest.fixture(scope="module")
def clicked(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose shoppers want products with the query's words, and click by position too."""
    return clicked_shop.shop(tmp_path_factory.mktemp("clicked"))


@pytest.fixture(scope="module")
def events(clicked: Shop) -> pl.DataFrame:
    return clicked.events(6_000)


@pytest.fixture(scope="module")
def ranker(clicked: Shop, events: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> RankerNetwork:
    """A ranker with cross-attention, trained on the clicks."""
    data = click_data(clicked, learned_lists(clicked, events))
    folder = tmp_path_factory.mktemp("ranker")
    return train_on_clicks(start(clicked), data, validation(clicked), OPTIONS, Run(folder))[0]


def test_ranker_from_clicks(clicked: Shop, ranker: RankerNetwork) -> None:
    assert ranker.shape.layers
    assert reached(clicked, start(clicked)) + 0.1 < reached(clicked, ranker)


def test_pruning(clicked: Shop, ranker: RankerNetwork) -> None:
    batches = full_batches(clicked.data, np.arange(len(clicked.data.lists)))
    sample = [(each.inputs, each.is_candidate) for each in batches]
    smaller = prune_network(ranker, measure_importance(ranker, sample, (1.0, 0.0, 0.0)), PruningTarget(heads=2))
    assert sum(each.numel() for each in smaller.parameters()) < sum(each.numel() for each in ranker.parameters())
    assert reached(clicked, smaller) > reached(clicked, ranker) - 0.1


def test_int8(tmp_path: Path) -> None:
    network, lists = random_candidates.network(1), [random_candidates.candidates(40, words=6, tokens=9)]
    export_network(network, tmp_path / MODEL_FILE, "int8")
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / MODEL_FILE).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    found, expected = opened_export(tmp_path).score(lists)[0], random_candidates.scored(network, *lists)[0][:, 0]
    assert np.abs(found - expected).max() < 0.05 * expected.std() + 0.02


def test_private_training(clicked: Shop, events: pl.DataFrame, tmp_path: Path) -> None:
    evidence = fit_evidence(shoppers_of(events, 1_000), by_shopper=True)
    data = click_data(clicked, click_lists(evidence, clicked.data.lists, row_of, 16))
    private, before = PrivacyOptions(4.0, epochs=6), without_attention(clicked)
    network, curve, guarantee = train_privately(before, data, validation(clicked), OPTIONS, private, Run(tmp_path))
    assert reached(clicked, before) + 0.05 < reached(clicked, network)
    assert len(curve) == 1 + private.epochs
    count = len(ShopperRecords.of(before, data).displays)
    assert (guarantee.epsilon, guarantee.delta, guarantee.shoppers) == (4.0, 1 / (10 * count), count)
    weights = network.state_dict()
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, weights[name])}
    assert changed
    assert all(name.startswith(("mlp.", "linear.")) for name in changed)


def test_federated_training(clicked: Shop, events: pl.DataFrame, tmp_path: Path) -> None:
    """Each store has only the clicks of its own queries, and is measured on all queries."""
    queries = pl.col("query").hash(seed=1) % 4
    parts = [click_data(clicked, learned_lists(clicked, events.filter(each))) for each in (queries == 0, queries > 0)]
    assert 0 < len(parts[0].clicks.usable) < len(parts[1].clicks.usable)
    local = replace(OPTIONS, loop=replace(OPTIONS.loop, warm_up=1))
    stores = Threads(2, rounds=6)

    def trained(number: int, federation: Threads) -> RankerNetwork:
        data, judge = parts[number], validation(clicked)
        network, curve = train_federated(start(clicked), data, judge, local, federation, Run(tmp_path))
        assert [each.number for each in curve] == [*range(federation.rounds + 1)]
        return network

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(trained, (0, 1), (stores, stores))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    alone = reached(clicked, trained(0, Threads(1, rounds=6)))
    assert 1 - reached(clicked, one) < 0.8 * (1 - alone)


def test_fraud() -> None:
    visits = bot_shop.Shop()
    visits.honest(60)
    bot_shop.crawl(visits, "crawler")
    scores = score_sessions(visits.cleaned())
    found = scores.filter("is_fraud")
    assert found["shopper"].to_list() == ["crawler"]
    assert set(found["reasons"][0]) >= {Signal.FAST.value, Signal.EVEN.value, Signal.MUCH.value, Signal.SWEEP.value}
    assert found["score"][0] > 0.99
    assert scores.filter(~pl.col("is_fraud"))["reasons"].list.len().sum() == 0


@pytest.mark.parametrize("best_first", [True, False])
def test_off_policy_evaluation(best_first: bool) -> None:
    searches, attractiveness = simulated_searches()
    ranking = ordered(searches, attractiveness if best_first else -attractiveness)
    found = clicks(searches, ranking)
    truth = clicks_of(searches, ranking, attractiveness)
    assert found.low < truth - found.before < found.high
    assert (found.difference > 0) == best_first
    assert found.after == pytest.approx(truth, rel=0.1)

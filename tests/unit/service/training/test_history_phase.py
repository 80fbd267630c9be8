"""The second phase of learning from clicks: a taste that shoppers have is learned and kept, chance is left out."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import torch

from rerank.model_store import WEIGHTS_FILE
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork, load_network
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.spec import ranker_store
from rerank.training.click_training import Mixing
from rerank.training.history_training import HistoryOptions
from rerank.training.trainer import LoopOptions
from retrieval.progress import NullProgress
from retrieval.store.versions import Store
from service.engine.snapshot import Connection, Snapshot, open_snapshot
from service.training.click_dataset import (
    ClickRankerOptions,
    ClickTraining,
    HistoryResult,
    TrainedNetwork,
    build_training_set,
)
from service.training.ranker_from_clicks import click_ranker, train_history_phase
from tests.learning_stores import QUICK
from tests.rankers import REPORT
from tests.unit.service.training.tasteful_shoppers import Told, told

pytestmark = pytest.mark.usefixtures("one_thread")

BUILT = 1.78e9


@pytest.fixture(scope="module")
def root(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("tasteful") / "store"))
    (copied / "training").mkdir()
    return copied


@pytest.fixture(scope="module")
def snapshot(root: Path) -> Iterator[Snapshot]:
    store = Store(root)
    with closing(Connection(store)) as connection:
        yield open_snapshot(store, connection)


@pytest.fixture(scope="module")
def tasteful(snapshot: Snapshot) -> Told:
    return told(snapshot, tastes=True)


@pytest.fixture(scope="module")
def trained(root: Path, snapshot: Snapshot, tasteful: Told) -> ClickTraining:
    return _trained(root, snapshot, tasteful, QUICK)


def _trained(root: Path, snapshot: Snapshot, learned: Told, options: ClickRankerOptions) -> ClickTraining:
    return click_ranker(
        snapshot, learned.lists, root / "training", root, options, BUILT, NullProgress(), acts=learned.acts
    )


def second_phase(
    snapshot: Snapshot, lists: pl.DataFrame, acts: pl.DataFrame | None, run: Path, options: ClickRankerOptions = QUICK
) -> HistoryResult:
    made = build_training_set(snapshot, lists, None, options, BUILT, NullProgress())
    shape = NetworkShape(made.data.data.states.dimension, 0, len(FEATURES), layers=0, history=0)
    torch.manual_seed(0)
    chosen = TrainedNetwork("debiased", RankerNetwork(shape), (), Mixing((1.0, 0.0, 0.0), 0.0, 0.0))
    return train_history_phase(made, chosen, acts, None, run, NullProgress())


def test_a_taste_is_learned_kept_and_told(trained: ClickTraining) -> None:
    made = trained.added.model
    assert OnnxRanker(made).reads_history
    gained = [made.report.measures[f"MRR gained by histories{end}"] for end in (", at least", "", ", at most")]
    assert 0 < gained[0] < gained[1] < gained[2]
    sentence = made.spec.trained_on["histories"]
    assert str(sentence).endswith("shoppers): kept")
    assert "displays with a history; MRR +0." in str(sentence)
    network = load_network(made.folder / WEIGHTS_FILE)
    assert network.shape.history == 32
    assert network.shape.vector_dimension == made.spec.vector_dimension
    assert trained.networks[QUICK.method].network.history is None


def test_training_resumes_from_the_served_attention(
    root: Path, snapshot: Snapshot, tasteful: Told, trained: ClickTraining
) -> None:
    before = trained.added.model

    def build(folder: Path) -> None:
        shutil.copytree(before.folder, folder, dirs_exist_ok=True)

    assert ranker_store(root).publish(build, before.spec, REPORT).serves
    options = dataclasses.replace(QUICK, histories=HistoryOptions(loop=LoopOptions(epochs=0)))
    again = _trained(root, snapshot, tasteful, options)
    served, made = (load_network(each.folder / WEIGHTS_FILE) for each in (before, again.added.model))
    assert again.added.model.spec.parent == before.spec.identity
    assert served.history is not None
    assert made.history is not None
    weights = made.history.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in served.history.state_dict().items())
    assert not torch.equal(made.linear.weight, served.linear.weight)


def test_chance_is_left_out(snapshot: Snapshot, tmp_path: Path) -> None:
    chance = told(snapshot, tastes=False)
    found = second_phase(snapshot, chance.lists, chance.acts, tmp_path)
    assert found.attention is None
    assert found.gain is not None
    assert found.gain.low <= 0
    assert found.summary.endswith("no sure gain, left out")


def test_acts_that_come_after_all_lists_are_no_history(snapshot: Snapshot, tasteful: Told, tmp_path: Path) -> None:
    later = tasteful.acts.with_columns(pl.col("time") + timedelta(days=90))
    found = second_phase(snapshot, tasteful.lists, later, tmp_path)
    assert found.summary == "0 displays with a history, 200 are needed: left out"
    assert found.attention is None


def test_with_too_little_nothing_is_trained(snapshot: Snapshot, tasteful: Told, tmp_path: Path) -> None:
    few = tasteful.acts.filter(pl.col("shopper").is_in([f"u{number}" for number in range(15)]))
    found = second_phase(snapshot, tasteful.lists, few, tmp_path)
    assert "displays with a history, 200 are needed: left out" in found.summary
    options = dataclasses.replace(QUICK, validating=2)
    found = second_phase(snapshot, tasteful.lists, tasteful.acts, tmp_path, options)
    assert "shoppers for validation and test, 40 are needed: left out" in found.summary
    assert list(tmp_path.iterdir()) == []


def test_without_shoppers_nothing_is_trained(snapshot: Snapshot, tasteful: Told, tmp_path: Path) -> None:
    for lists, acts in ((tasteful.lists, None), (tasteful.lists.drop("shopper"), tasteful.acts)):
        assert second_phase(snapshot, lists, acts, tmp_path).summary == "no known shoppers: left out"

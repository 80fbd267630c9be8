"""From a log of clicks to a ranker with a verdict: on the demo index, whose shoppers are simulated from its grades."""

from __future__ import annotations

import csv
from contextlib import closing
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from rerank.click_models.simulation import Conditions, PositionShopper, falling_examination, graded_store, simulate
from rerank.ranker.features import FEATURES
from rerank.ranker.spec import AddedRanker, ranker_store
from retrieval.errors import TrainingError
from retrieval.progress import NullProgress
from retrieval.store.versions import Store
from service.demo import DemoFiles
from service.engine.snapshot import Connection, open_snapshot
from service.events.signals import Popularity
from service.training.click_dataset import ClickRankerOptions, build_training_set
from service.training.ranker_from_clicks import click_ranker
from tests.learning_stores import QUICK
from tests.unit.rerank.click_models.simulated_logs import simulated_events

pytestmark = pytest.mark.usefixtures("one_thread")

BUILT = datetime(2026, 5, 1).timestamp()
START = datetime(2026, 5, 1)


@pytest.fixture(scope="module")
def events(demo: DemoFiles) -> pl.DataFrame:
    grades: dict[str, dict[str, float]] = {}
    with demo.judgments.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            grades.setdefault(row["query"].lower(), {})[row["product_id"]] = float(row["grade"])
    told = dict(
        list({query: judged for query, judged in grades.items() if len(set(judged.values())) > 1}.items())[:120]
    )
    store, pairs = graded_store(told, seed=1)
    shopper = PositionShopper(falling_examination(1.0))
    return simulated_events(simulate(store, shopper, 4_000, Conditions(), 1), store, pairs, START, 1)


def trained(root: Path, events: pl.DataFrame, options: ClickRankerOptions = QUICK) -> AddedRanker:
    store = Store(root)
    work = root / "training"
    work.mkdir(exist_ok=True)
    with closing(Connection(store)) as connection:
        return click_ranker(open_snapshot(store, connection), events, work, root, options, BUILT, NullProgress()).added


def test_clicks_make_a_ranker_with_a_verdict_on_later_lists(root: Path, events: pl.DataFrame) -> None:
    added = trained(root, events)
    made = added.model
    verdict = made.report.decision
    assert verdict is not None
    assert added.serves == verdict.publish
    assert made.report.against == "default"
    named = {(each.measure, each.slice) for each in verdict.comparisons}
    assert {(name, "all queries") for name in ("nDCG@10", "MRR", "click likelihood")} <= named
    assert {("nDCG@10", name) for name in ("head queries", "tail queries", "new products")} <= named
    told = made.report.measures
    assert told["above naive, at least"] <= told["above naive"] <= told["above naive, at most"]
    assert told["above naive"] == pytest.approx(told["nDCG@10"] - told["nDCG@10 of naive training"])
    assert made.spec.trained_on["method"] == "debiased"
    assert made.spec.calibration[0] >= 0
    assert {path.name for path in (root / "training").iterdir()} <= {"tensorboard"}


def test_popularity_in_all_periods_is_that_before_the_validation_lists(root: Path, events: pl.DataFrame) -> None:
    product = events.filter(pl.col("kind") == "click")["product_id"].mode().sort()[0]
    asked = []

    def popular(end: datetime) -> Popularity:
        asked.append(end)
        return Popularity.of_scores({product: 4.0})

    store = Store(root)
    with closing(Connection(store)) as connection:
        snapshot = open_snapshot(store, connection)
        made = build_training_set(snapshot, events, None, QUICK, BUILT, NullProgress(), popular)
        row = snapshot.products.row_of(product)
    (end,) = asked
    first = pl.col("time").filter(pl.col("kind") == "impression").min().over("query_id")
    assert (made.periods.training.select(first).to_series() < end).all()
    assert made.periods.validation["time"].min() == end
    for lists in (made.clicks.lists, made.validating.data.lists, made.held_out.data.lists):
        told = lists.features[:, FEATURES.index("popularity")]
        assert (told == (lists.rows == row)).all()
        assert told.any()


def test_a_log_without_clicks_trains_nothing(root: Path, events: pl.DataFrame) -> None:
    with pytest.raises(TrainingError, match="nothing was clicked"):
        trained(root, events.filter(pl.col("kind") == "impression"))
    assert ranker_store(root).names() == []


def test_products_that_are_gone_are_no_reason_to_fail(root: Path, events: pl.DataFrame) -> None:
    others = events.with_columns(product_id=pl.format("gone-{}", "product_id"))
    with pytest.raises(TrainingError, match="queries have a clicked candidate"):
        trained(root, others)

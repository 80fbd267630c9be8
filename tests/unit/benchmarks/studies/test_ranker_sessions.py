"""Rankers that are trained on some sessions foretell the clicks of others, each order by the same measure."""

from __future__ import annotations

import polars as pl
import pytest

from benchmarks.studies.ranker_clicks import LOGGED, MERGED_ORDER, SessionOptions, measure_sessions, show_sessions
from rerank.click_models.simulation import (
    Conditions,
    PositionShopper,
    falling_examination,
    graded_store,
    simulate,
    simulated_events,
)
from rerank.training.click_training import ClickOptions
from rerank.training.trainer import LoopOptions
from retrieval.judgments import read_judgments
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from tests.learning_stores import Quiet
from tests.unit.service.training.test_from_clicks import START

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = SessionOptions(
    seeds=1, depth=40, candidates=20, training=ClickOptions(loop=LoopOptions(epochs=2, learning_rate=3e-3, warm_up=2))
)


@pytest.fixture(scope="module")
def events(demo: DemoFiles) -> pl.DataFrame:
    """Sessions of ten queries."""
    every = read_judgments(demo.judgments).grades
    graded = {query: grades for query, grades in every.items() if len(set(grades.values())) > 1}
    store, pairs = graded_store({query.lower(): graded[query] for query in list(graded)[:10]}, seed=1)
    shopper = PositionShopper(falling_examination(1.0))
    return simulated_events(simulate(store, shopper, 3_000, Conditions(), 1), store, pairs, START, 1)


def test_every_order_is_told_by_the_same_lists(
    engine: SearchEngine, events: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    report = measure_sessions(engine.snapshot, events, OPTIONS, Quiet())
    assert (report.queries, report.lists, report.trained_on) == (10, 600, 2_100)
    assert 0.2 < report.known <= 1
    learned = {f"{shape}, {way}" for shape in ("head", "cross-attention") for way in ("debiased", "naive")}
    assert set(report.orders) == {LOGGED, MERGED_ORDER} | learned
    assert report.orders[LOGGED].against_logged.mean == 0
    assert all(each.likelihood < 0 for each in report.orders.values())
    assert report.orders["cross-attention, debiased"].against_logged.mean > 0
    show_sessions(report)
    assert f"{report.orders[MERGED_ORDER].likelihood:.4f}" in capsys.readouterr().out

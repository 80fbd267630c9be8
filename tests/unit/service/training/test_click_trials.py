"""Lists of a later period as a trial, without products that are no candidates or were removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shelfwise.rerank.click_models.evaluation import ClickLikelihood
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.training.click_dataset import ClickTrial, TrialOptions, build_trial
from shelfwise.service.training.ranker_promotion import ClickGate

CHANCES = np.array([1.0, 0.5, 0.25])
START = datetime(2026, 5, 1)
GONE = "gone-from-the-catalog"


def shown(number: int, query: str, products: Sequence[str], acts: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    common = {"query_id": f"q{number}", "query": query, "time": START + timedelta(minutes=number), "shopper": ""}
    impressions = [
        {**common, "kind": "impression", "product_id": each, "position": at} for at, each in enumerate(products, 1)
    ]
    return impressions + [{**common, "kind": kind, "product_id": each, "position": None} for kind, each in acts]


@pytest.fixture
def candidates(engine: SearchEngine) -> list[str]:
    return [hit.product.id for hit in engine.search("steel pan", size=20, stage="merged").hits]


def tried(engine: SearchEngine, rows: list[dict[str, object]], queries: int = 10) -> ClickTrial:
    return build_trial(engine.snapshot, pl.DataFrame(rows), CHANCES, TrialOptions(0.0, depth=20, queries=queries))


def test_acts_are_weighted_by_inverse_propensity(engine: SearchEngine, candidates: list[str]) -> None:
    first, second, third = candidates[:3]
    rows = [
        *shown(1, "steel pan", (first, second, third), [("click", second), ("cart", second)]),
        *shown(2, "steel pan", (first, GONE), [("click", GONE)]),
        *shown(3, "drill", (GONE,), []),
    ]
    made = tried(engine, rows)
    assert made.traffic.tolist() == [1.0, 2.0]
    pan = made.data.lists.queries.index("steel pan")
    place = made.data.lists.place(pan)
    ids = [engine.snapshot.products.id_of(row) for row in made.data.lists.rows[place].tolist()]
    gains = dict(zip(ids, made.data.targets[place].tolist(), strict=True))
    # A click counts 1 and a cart 3, at a position half as often examined; the prior is the mean of both queries.
    prior = 2 * (1 + 3 + 1) / ((1 + 0.5 + 0.25) + (1 + 0.5) + 1)
    expected = {first: prior / (1 + 1 + 2), second: (1 + 3 + prior) / (0.5 + 2), third: prior / (0.25 + 2)}
    assert gains == pytest.approx(expected)
    assert [name for name, is_chosen in zip(ids, made.is_chosen[place].tolist(), strict=True) if is_chosen] == [second]
    assert made.numbers.tolist() == [pan]


def test_removed_products_are_dropped_from_the_lists(engine: SearchEngine, candidates: list[str]) -> None:
    rows = shown(1, "steel pan", (GONE, candidates[0]), [("click", GONE), ("click", candidates[0])])
    made = tried(engine, rows)
    assert made.log.shown.tolist() == [[False, True, False]]
    assert made.log.clicks.tolist() == [[False, True, False]]
    assert made.query_of_list.tolist() == [0]
    scores = np.arange(len(made.data.lists.rows), dtype=float)
    at = made.data.lists.rows.tolist().index(engine.snapshot.products.row_of(candidates[0]))
    assert made.shown_scores(scores)[0, 1] == at


def test_most_frequent_queries_are_evaluated(engine: SearchEngine, candidates: list[str]) -> None:
    rows = [row for number in range(3) for row in shown(number, "steel pan", candidates[:2], [])]
    rows += shown(9, "drill", candidates[:2], [])
    made = tried(engine, rows, queries=1)
    assert made.data.lists.queries == ("steel pan",)
    assert (made.traffic.tolist(), made.query_of_list.tolist()) == ([3.0], [0, 0, 0])
    assert made.numbers.tolist() == []


def test_scale_of_scores_may_differ_between_languages(engine: SearchEngine) -> None:
    rows: list[dict[str, object]] = []
    for query in ("steel pan", "背包"):
        found = [hit.product.id for hit in engine.search(query, size=3, stage="merged").hits]
        rows += [row for number in range(5) for row in shown(len(rows) + number, query, found, [("click", found[0])])]
    trial = tried(engine, rows)
    assert set(trial.languages.tolist()) == {"en", "zh"}
    gate = ClickGate(engine.snapshot, trial, trial, ClickLikelihood.fit(trial.log), (), ())
    scores = np.random.default_rng(1).normal(size=len(trial.data.lists.rows))
    is_chinese = trial.languages[trial.data.lists.query_of] == "zh"
    plain, scaled = (
        gate.measures(lambda _trial, each=each: each)  # type: ignore[misc]
        for each in (scores, np.where(is_chinese, 10 * scores + 3, scores))
    )
    assert scaled.click_likelihood == pytest.approx(plain.click_likelihood, abs=1e-3)

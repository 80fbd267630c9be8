"""Orders of the same candidates, measured on parts of the judged queries."""

from __future__ import annotations

import pytest

from shelfwise.benchmarks.studies.rankers import PARTS, GradedOrders, part_of
from shelfwise.rerank.training.datasets import merged_scores
from shelfwise.retrieval.judgments import Judgments, read_judgments
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.training.ranker_dataset import candidate_lists


@pytest.fixture(scope="module")
def judged(demo: DemoFiles) -> Judgments:
    every = read_judgments(demo.judgments)
    # Just enough of each part.
    chosen = [query for part in ("train", "validation", "test") for query in part_of(list(every.grades), part)[:40]]
    return Judgments({query: every.grades[query] for query in chosen}, every.lowest)


def test_splits_are_disjoint_and_complete() -> None:
    queries = [f"query {number}" for number in range(2_000)]
    parts = [part_of(queries, part) for part in PARTS if part != "all"]
    assert sorted(query for part in parts for query in part) == sorted(queries)
    assert len(parts[0]) > len(parts[2]) > len(parts[1]) > 0


def test_unjudged_products_are_skipped_with_judged_only(engine: SearchEngine, judged: Judgments) -> None:
    lists = candidate_lists(engine.snapshot, part_of(list(judged.grades), "test"), 0.0, depth=30)
    graded = GradedOrders(engine.snapshot, judged, lists)
    gains = graded.gains()
    assert gains.min() == 0
    assert gains.max() > 0
    whole, alone = graded.ndcg(merged_scores(lists)), graded.ndcg(merged_scores(lists), judged_only=True)
    assert (alone >= whole - 1e-9).all()
    assert (alone > whole).any()

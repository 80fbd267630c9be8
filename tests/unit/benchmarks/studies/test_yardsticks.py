"""Yardsticks of the ranker on small lists whose best order is known, and a ranker at several depths."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.studies.query_memory import MeasureBySeed
from benchmarks.studies.rankers import part_of
from rerank.evaluation.promotion import NEW_QUERIES, TRAFFIC_NAMES
from rerank.ranker.features import FEATURES
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.spec import ranker_store
from rerank.training.click_training import ClickOptions, Validation
from rerank.training.datasets import ListData, merged_scores
from rerank.training.trainer import LoopOptions
from retrieval.judgments import Judgments, read_judgments
from retrieval.progress import NullProgress
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from service.engine.models import encoding_of
from service.engine.reranking import DEPTH, Reranker, Reranking
from tests.unit.rerank.training.teacher_lists import teacher_data

try:
    from benchmarks.studies import yardsticks
except OSError as error:
    pytest.skip(f"LightGBM needs OpenMP ({error}): apt-get install libgomp1", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("one_thread")

RATING = FEATURES.index("rating")


def _rated(folder: Path, lists: int, seed: int) -> ListData:
    """Lists whose products gain more the nearer their rating is to 1: a tree can learn that, a linear model cannot."""
    data = teacher_data(folder, [12] * lists, seed)
    gap = np.abs(data.lists.features[:, RATING] - 1)
    return dataclasses.replace(data, targets=np.clip(2 - gap, 0, None).astype(np.float32))


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    return Validation(_rated(tmp_path_factory.mktemp("validation"), 20, seed=3), np.arange(20))


@pytest.fixture(scope="module")
def orders(validation: Validation, tmp_path_factory: pytest.TempPathFactory) -> yardsticks.Orders:
    training = yardsticks.graded_clicks(_rated(tmp_path_factory.mktemp("training"), 60, seed=2))
    options = ClickOptions(loop=LoopOptions(epochs=1))
    others = {yardsticks.SERVING: lambda data: merged_scores(data.lists)}
    return yardsticks.train_orders(training, validation, options, NullProgress(), others)


def test_grades_train_only_where_one_candidate_is_better(tmp_path: Path) -> None:
    data = _rated(tmp_path, 3, seed=2)
    data.targets[data.lists.place(1)] = 0
    clicks = yardsticks.graded_clicks(data).clicks
    assert clicks.usable.tolist() == [0, 2]
    assert clicks.gains.shape == (36, 3)
    assert clicks.gains.max() == 1


def test_lambdamart_finds_an_order_and_every_ranker_is_summed_with_it(
    orders: yardsticks.Orders, validation: Validation
) -> None:
    reached = {name: float(validation.ndcg(each(validation.data)).mean()) for name, each in orders.scorers.items()}
    sums = [f"{name} + LambdaMART" for name in ("network", "serving ranker")]
    assert list(reached) == ["merged", "network", "serving ranker", "LambdaMART", *sums]
    assert reached["serving ranker"] == reached["merged"]
    assert reached["merged"] < 0.9
    assert reached["LambdaMART"] > 0.95
    assert all(reached[name] > reached["merged"] for name in sums)


def test_a_sum_takes_the_weight_that_validates_best(validation: Validation) -> None:
    noise = np.random.default_rng(5).standard_normal(len(validation.data.targets)) * 1_000

    def good(data: ListData) -> NDArray[np.float32]:
        return data.targets

    assert yardsticks.sum_scorer(lambda _: noise, good, validation)[1] == max(yardsticks.WEIGHTS)
    both, weight = yardsticks.sum_scorer(good, lambda _: noise, validation)
    assert weight == min(yardsticks.WEIGHTS)
    assert validation.ndcg(both(validation.data)).mean() > 0.95


def test_queries_that_were_not_trained_on_are_a_slice() -> None:
    found = MeasureBySeed(np.zeros((1, 4)), np.array([4.0, 2.0, 1.0, 1.0]), np.array([False, False, False, True]))
    slices = dict(found.slices)
    assert list(slices) == ["all", *TRAFFIC_NAMES, NEW_QUERIES]
    assert slices[NEW_QUERIES].tolist() == [False, False, False, True]


def test_deeper_reranking_puts_more_candidates_into_order(engine: SearchEngine, demo: DemoFiles) -> None:
    every = read_judgments(demo.judgments)
    queries = part_of(list(every.grades), "test")[:12]
    judgments = Judgments({query: every.grades[query] for query in queries}, every.lowest)
    model = ranker_store(Path("no rankers here")).serving(encoding_of(engine.snapshot)).model
    assert model is not None
    with closing(Reranker(OnnxRanker(model))) as reranker:
        found = yardsticks.measure_depths(Reranking(engine.snapshot, reranker, 60.0), judgments, queries)
    assert list(found) == [0, *yardsticks.DEPTHS]
    counts = [each.candidates for each in found.values()]
    assert counts == sorted(counts)
    assert 0 == counts[0] < counts[1] < counts[2]
    assert found[DEPTH].against_usual.mean == 0
    assert all(each.p99 >= each.p50 > 0 for depth, each in found.items() if depth)

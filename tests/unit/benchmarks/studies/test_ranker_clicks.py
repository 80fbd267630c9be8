"""The benchmark of learning from clicks, on a small shop whose grades are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.studies.ranker_clicks import BenchOptions, measure_ranker_clicks, trainings
from benchmarks.studies.rankers import JudgedLists
from rerank.training.click_training import ClickOptions
from rerank.training.trainer import LoopOptions
from retrieval.judgments import Judgments
from tests.unit.rerank.training.clicked_shop import shop


def test_every_way_is_set_against_the_grades_and_the_naive_one(tmp_path: Path) -> None:
    made = shop(tmp_path, queries=80, candidates=8)
    lists = made.data.lists
    grades: dict[str, dict[str, float]] = {query: {} for query in lists.queries}
    ids = [f"p{row}" for row in lists.rows.tolist()]
    for number, name, relevance in zip(lists.query_of.tolist(), ids, made.relevance.tolist(), strict=True):
        grades[lists.queries[number]][name] = float(round(3 * relevance))
    gains = np.exp2(np.round(3 * made.relevance)).astype(np.float32) - 1
    options = BenchOptions(
        sessions=2_000,
        seeds=1,
        folds=2,
        training=ClickOptions(loop=LoopOptions(epochs=2, learning_rate=5e-3, warm_up=5)),
        strengths=(1.0,),
        ways=("debiased", "naive"),
    )
    done: list[None] = []
    report = measure_ranker_clicks(
        JudgedLists(made.data, gains, ids), Judgments(grades, 0.0), options, lambda: done.append(None)
    )
    assert len(done) == trainings(options) == 6
    assert {(each.strength, each.way) for each in report.figures} == {(1.0, "debiased"), (1.0, "naive")}
    assert 0 < report.merged < report.truth <= 1
    by_way = {each.way: each for each in report.figures}
    assert by_way["naive"].above_naive.mean == 0.0

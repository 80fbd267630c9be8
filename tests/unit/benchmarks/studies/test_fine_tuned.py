"""Teachers that are fine-tuned on judged queries before rankers learn from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.studies.rankers import FineTunedTeacher, GradedOrders, part_of
from rerank.teacher.fine_tuning import FineTuningOptions
from rerank.training.trainer import LoopOptions
from retrieval.judgments import read_judgments
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from service.training.ranker_dataset import candidate_lists
from tests.learning_stores import Quiet
from tests.unit.rerank.teacher.tiny_cross_encoder import make_cross_encoder


def test_a_fine_tuned_teacher_is_made_once_of_the_same_lists(
    engine: SearchEngine, demo: DemoFiles, tmp_path: Path
) -> None:
    judged = read_judgments(demo.judgments)
    queries = part_of(list(judged.grades), "train")[:80]
    lists = candidate_lists(engine.snapshot, queries, 0.0, depth=6)
    gains = GradedOrders(engine.snapshot, judged, lists).gains()
    tuned = FineTunedTeacher(
        str(make_cross_encoder(tmp_path / "tiny")),
        tmp_path / "tuned",
        cache=tmp_path / "cache",
        options=FineTuningOptions(LoopOptions(learning_rate=1e-3, warm_up=2), lists=8),
    )
    told: list[str] = []

    class Told(Quiet):
        def end(self, summary: str) -> None:
            told.append(summary)

    teacher = tuned.open(engine.snapshot, lists, gains, Told())
    assert told[0].startswith("nDCG@10 of the queries held out by epoch: 0.")
    again = tuned.open(engine.snapshot, lists, gains, Told())
    assert len(told) == 1
    assert again.identity == teacher.identity
    pairs = ["drill"] * 3, ["a drill", "a drill bit", "a lamp"]
    np.testing.assert_array_equal(again.score(*pairs), teacher.score(*pairs))
    longer = replace(tuned, epochs=2).open(engine.snapshot, lists, gains, Told())
    assert len(told) == 2
    assert longer.identity != teacher.identity

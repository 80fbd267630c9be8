"""Rankers that are trained here and now, measured beside what they learned from and what they are to beat."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.rankers import (
    MERGED,
    MIXTURE,
    PARTS,
    TEACHER,
    GradedOrders,
    LearningOptions,
    LearningReport,
    NarrowStates,
    measure_learning,
    part_of,
    show_learning,
)
from rerank.teacher.teacher import Teacher, open_teacher
from rerank.training.datasets import merged_scores
from rerank.training.distillation import DistilOptions
from rerank.training.grade_training import GradesOptions
from rerank.training.trainer import LoopOptions
from retrieval.errors import SettingError
from retrieval.judgments import Judgments, read_judgments
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from service.training.ranker_dataset import candidate_lists
from tests.learning_stores import Quiet
from tests.unit.rerank.teacher.tiny_cross_encoder import make_cross_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_EPOCH = LoopOptions(epochs=1)


@pytest.fixture(scope="module")
def judged(demo: DemoFiles) -> Judgments:
    every = read_judgments(demo.judgments)
    # Enough of each part, and not more.
    chosen = [query for part in ("train", "validation", "test") for query in part_of(list(every.grades), part)[:40]]
    return Judgments({query: every.grades[query] for query in chosen}, every.lowest)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    return open_teacher(str(make_cross_encoder(folder / "tiny")), "torch", folder / "cache")


@pytest.fixture(scope="module")
def report(
    engine: SearchEngine, judged: Judgments, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> LearningReport:
    options = LearningOptions(
        depth=12,
        candidates=8,
        seeds=2,
        distilling=DistilOptions(ONE_EPOCH),
        tuning=GradesOptions(LoopOptions(epochs=5, learning_rate=3e-3, warm_up=2)),
        kept=tmp_path_factory.mktemp("kept"),
    )
    return measure_learning(engine.snapshot, judged, teacher, options, Quiet())


def test_every_system_orders_the_same_queries(report: LearningReport, judged: Judgments) -> None:
    assert report.test_queries == len(part_of(list(judged.grades), "test"))
    assert report.trained_on == f"{len(part_of(list(judged.grades), 'train'))} judged queries"
    learned = {f"{name}, {how}" for name in ("head", "cross-attention") for how in ("distilled", "tuned on grades")}
    assert {MERGED, TEACHER, MIXTURE} | learned <= set(report.systems)
    assert report.systems[MERGED].against_merged.mean == 0
    assert all(report.systems[name].spread > 0 for name in learned)
    assert all(0 < each.ndcg < each.judged_only <= 1 for each in report.systems.values())


def test_grades_teach_more_than_a_teacher_without_a_clue(report: LearningReport) -> None:
    systems = report.systems
    assert systems["head, tuned on grades"].ndcg > systems["head, distilled"].ndcg


def test_the_table_names_every_system(report: LearningReport, capsys: pytest.CaptureFixture[str]) -> None:
    show_learning(report)
    told = capsys.readouterr().out
    assert all(f"{each.ndcg:.4f}" in told for each in report.systems.values())


def test_parts_share_no_query_and_are_the_whole() -> None:
    queries = [f"query {number}" for number in range(2_000)]
    parts = [part_of(queries, part) for part in PARTS if part != "all"]
    assert sorted(query for part in parts for query in part) == sorted(queries)
    assert len(parts[0]) > len(parts[2]) > len(parts[1]) > 0


def test_what_nobody_judged_is_passed_over_where_only_judged_products_count(
    engine: SearchEngine, judged: Judgments
) -> None:
    lists = candidate_lists(engine.snapshot, part_of(list(judged.grades), "test"), 0.0, depth=30)
    graded = GradedOrders(engine.snapshot, judged, lists)
    gains = graded.gains()
    assert gains.min() == 0
    assert gains.max() > 0
    whole, alone = graded.ndcg(merged_scores(lists)), graded.ndcg(merged_scores(lists), judged_only=True)
    assert (alone >= whole - 1e-9).all()
    assert (alone > whole).any()


def test_narrow_states_are_the_first_columns_at_length_1(engine: SearchEngine) -> None:
    stored = engine.snapshot.states
    assert stored is not None
    narrow, rows = NarrowStates(stored, 32), np.arange(5)
    before, after = stored.gather(rows), narrow.gather(rows)
    assert after.states.shape == (*before.ids.shape, 32)
    is_token = after.ids >= 0
    assert np.abs(np.linalg.norm(after.states[is_token].astype(float), axis=1) - 127).max() < 3
    assert not after.states[~is_token].any()
    whole = before.states[is_token][:, :32].astype(float)
    cosines = (whole * after.states[is_token]).sum(axis=1) / np.linalg.norm(whole, axis=1) / 127
    assert cosines.min() > 0.97
    with pytest.raises(SettingError, match="96 columns, not 97"):
        NarrowStates(stored, 97)

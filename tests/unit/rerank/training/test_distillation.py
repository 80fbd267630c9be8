"""Distillation, and stored teacher scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import FEATURES, HAS_STATES, MERGED
from shelfwise.rerank.ranker.network import EVENTS, RankerNetwork
from shelfwise.rerank.training import distillation
from shelfwise.rerank.training.datasets import CandidateLists, ListData, full_batches, merged_scores
from shelfwise.rerank.training.distillation import (
    DistillationCatalog,
    DistilOptions,
    ListSplit,
    TeacherScores,
    agreement,
    distil,
    mix_targets,
    split_lists,
)
from shelfwise.rerank.training.list_scores import scores_of
from shelfwise.rerank.training.trainer import LoopOptions, Run
from shelfwise.retrieval.errors import TrainingError
from tests.progress import KilledError, killed_at
from tests.unit.rerank.training.teacher_lists import SHAPE, teacher_data

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = DistilOptions(LoopOptions(epochs=4, learning_rate=0.01, warm_up=5, patience=9), seed=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ListData:
    return teacher_data(tmp_path_factory.mktemp("states"), [10, 1, 0, 12] * 110)


@pytest.fixture(scope="module")
def parts(data: ListData) -> ListSplit:
    return split_lists(data.lists, seed=OPTIONS.seed)


@pytest.fixture(scope="module")
def distilled(data: ListData, parts: ListSplit, tmp_path_factory: pytest.TempPathFactory) -> RankerNetwork:
    return distil([DistillationCatalog(data, parts)], SHAPE, OPTIONS, Run(tmp_path_factory.mktemp("run")))[0]


def lists_of(lengths: list[int], merged: list[float]) -> CandidateLists:
    features = np.zeros((len(merged), len(FEATURES)), np.float32)
    features[:, MERGED] = merged
    names = tuple(map(str, range(len(lengths))))
    return CandidateLists(
        names, np.cumsum([0, *lengths]), np.arange(len(merged)), features, np.zeros(len(merged), np.float32)
    )


def test_lists_with_choices_are_in_one_split(data: ListData, parts: ListSplit) -> None:
    assert [len(part) for part in (parts.training, parts.validation, parts.held_out)] == [120, 50, 50]
    together = np.concatenate([parts.training, parts.validation, parts.held_out])
    assert sorted(together.tolist()) == np.flatnonzero(data.lists.lengths > 1).tolist()
    assert all((np.diff(part) > 0).all() for part in (parts.training, parts.validation, parts.held_out))


def test_too_few_lists_are_refused() -> None:
    few = lists_of([2] * 199 + [1] * 50, [0.0] * 448)
    with pytest.raises(TrainingError, match="199 of 249 queries have two candidates or more; at least 200"):
        split_lists(few)


def test_first_stage_is_scaled_to_the_teacher() -> None:
    lists, teacher = lists_of([2, 2], [1.0, 3.0, 2.0, 6.0]), np.array([10, 30, 10, 70], np.float32)
    # Deviations within lists: 10 and 30 of the teacher, 1 and 2 of the merged scores.
    scale = ((10 + 30) / 2) / ((1 + 2) / 2)
    expected = teacher + 1.5 * scale * np.array([1, 3, 2, 6])
    assert mix_targets(lists, teacher).tolist() == pytest.approx(expected.tolist())
    assert mix_targets(lists, teacher, weight=0.0).tolist() == teacher.tolist()


def test_teacher_order_has_agreement_1(data: ListData, parts: ListSplit) -> None:
    wanted = np.concatenate([data.targets[data.lists.place(number)] for number in parts.held_out])
    assert agreement(data, parts.held_out, wanted) == pytest.approx(1)
    assert agreement(data, parts.held_out, -wanted).max() < 1


def test_distillation_learns_the_teacher_order(data: ListData, parts: ListSplit, distilled: RankerNetwork) -> None:
    merged = [merged_scores(data.lists)[data.lists.place(number)] for number in parts.held_out]
    first_stage = agreement(data, parts.held_out, np.concatenate(merged)).mean()
    for event in range(len(EVENTS)):
        weights = tuple(float(event == other) for other in range(len(EVENTS)))
        found = scores_of(distilled, full_batches(data, parts.held_out), weights)
        assert agreement(data, parts.held_out, found).mean() > max(0.9, first_stage + 0.1)


def test_distillation_learns_scores_without_states(data: ListData, parts: ListSplit, tmp_path: Path) -> None:
    features = data.lists.features.copy()
    features[:, HAS_STATES] = 1
    everywhere = dataclasses.replace(data, lists=dataclasses.replace(data.lists, features=features))
    untrained = dataclasses.replace(OPTIONS, loop=LoopOptions(epochs=0))
    seen, _ = distil([DistillationCatalog(everywhere, parts)], SHAPE, untrained, Run(tmp_path))
    with_states, without = (seen.scaled(torch.full((len(FEATURES),), result))[HAS_STATES] for result in (1.0, 0.0))
    assert float(with_states - without) > 2


def test_killed_run_gives_the_same_weights(
    data: ListData, parts: ListSplit, distilled: RankerNetwork, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        distil([DistillationCatalog(data, parts)], SHAPE, OPTIONS, Run(tmp_path, killed_at(21)))
    steps: list[int] = []
    resumed, _ = distil([DistillationCatalog(data, parts)], SHAPE, OPTIONS, Run(tmp_path, steps.append))
    # Two complete epochs of eight steps were stored.
    assert steps == [16, *[1] * 16]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in distilled.state_dict().items())


class CountingTeacher:
    identity = "letters"

    def __init__(self, fails_after: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._fails_after = fails_after

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        if self._fails_after is not None and len(self.asked) >= self._fails_after:
            raise RuntimeError("killed")
        self.asked += zip(queries, texts, strict=True)
        if progress:
            progress(len(queries))
        return np.array([len(set(query) & set(text)) for query, text in zip(queries, texts, strict=True)], np.float32)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_PART", 4)


def scored(folder: Path) -> CountingTeacher:
    """A counting teacher after scoring the pairs whose scores this folder lacks."""
    teacher = CountingTeacher()
    assert TeacherScores(teacher, folder).score(_QUERIES, _TEXTS).tolist() == _EXPECTED
    return teacher


_QUERIES = [f"query {number % 5}" for number in range(20)]
_TEXTS = [f"text {number // 4} {'xyz'[number % 3]}" for number in range(20)]
_PAIRS = list(zip(_QUERIES, _TEXTS, strict=True))
_EXPECTED = CountingTeacher().score(_QUERIES, _TEXTS).tolist()


def test_distinct_pairs_are_scored_once(tmp_path: Path) -> None:
    teacher, result = CountingTeacher(), list[int]()
    scores = TeacherScores(teacher, tmp_path).score([*_QUERIES, *_QUERIES], [*_TEXTS, *_TEXTS], result.append)
    assert scores.tolist() == _EXPECTED * 2
    assert sorted(teacher.asked) == sorted(set(_PAIRS))
    assert sum(result) == 40
    assert scored(tmp_path).asked == []


def test_killed_scoring_resumes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        TeacherScores(CountingTeacher(fails_after=12), tmp_path).score(_QUERIES, _TEXTS)
    assert len(scored(tmp_path).asked) == 20 - 12


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file"])
def test_pairs_of_a_damaged_file_are_scored_again(tmp_path: Path, content: bytes) -> None:
    asked = scored(tmp_path).asked
    (tmp_path / "letters.npz").write_bytes(content)
    assert scored(tmp_path).asked == asked


def test_pair_key_depends_on_the_text_boundary(tmp_path: Path) -> None:
    teacher = CountingTeacher()
    TeacherScores(teacher, tmp_path).score(["ab", "a"], ["c", "bc"])
    assert len(teacher.asked) == 2
    assert TeacherScores(teacher, tmp_path).score([], []).tolist() == []

"""Tuning on grades goes on from a network, learns what the grades say, and keeps to what the teacher said beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rerank.ranker.features import FEATURES
from rerank.training.click_training import new_network
from rerank.training.datasets import ListData, full_batches
from rerank.training.distillation import ListSplit, agreement, split_lists
from rerank.training.evaluation import scores_of
from rerank.training.grade_training import GradeTrainingOptions, graded_ndcg, tune_on_grades
from rerank.training.trainer import LoopOptions
from tests.unit.rerank.training.teacher_lists import SHAPE, taught

pytestmark = pytest.mark.usefixtures("one_thread")

COSINE = FEATURES.index("cosine")
OPTIONS = GradeTrainingOptions(LoopOptions(epochs=5, learning_rate=0.01, warm_up=5, patience=9), seed=5)


@pytest.fixture(scope="module")
def liked(tmp_path_factory: pytest.TempPathFactory) -> ListData:
    """Its targets are the teacher's scores."""
    return taught(tmp_path_factory.mktemp("states"), [10, 12] * 110)


@pytest.fixture(scope="module")
def parts(liked: ListData) -> ListSplit:
    return split_lists(liked.lists, seed=1)


@pytest.fixture(scope="module")
def graded(liked: ListData) -> ListData:
    """Two of each list's products are judged, those with the highest cosine, whatever the teacher says."""
    gains = np.zeros(len(liked.targets), np.float32)
    for number in range(len(liked.lists)):
        place = liked.lists.place(number)
        gains[place.start + np.argsort(liked.lists.features[place, COSINE])[-2:]] = 1.0
    return dataclasses.replace(liked, targets=gains)


def tuned(
    graded: ListData, liked: ListData, parts: ListSplit, folder: Path, weight: float
) -> tuple[NDArray[np.float32], float]:
    """Scores of the validation lists, and how they order them by the grades."""
    start = new_network(SHAPE, liked.lists.features, seed=2)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    options = dataclasses.replace(OPTIONS, teacher_weight=weight)
    network, curve = tune_on_grades(start, graded, liked.targets, parts.training, parts.validation, options, folder)
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert max(epoch.validation for epoch in curve) > curve[0].validation
    scores = scores_of(network, full_batches(graded, parts.validation))
    return scores, float(graded_ndcg(graded, parts.validation, scores).mean())


def test_a_heavier_teacher_is_followed_more_and_the_grades_less(
    graded: ListData, liked: ListData, parts: ListSplit, tmp_path: Path
) -> None:
    alone, ndcg_alone = tuned(graded, liked, parts, tmp_path / "alone", 0.0)
    both, ndcg_both = tuned(graded, liked, parts, tmp_path / "both", 3.0)
    assert ndcg_alone > ndcg_both
    followed = [float(agreement(liked, parts.validation, scores).mean()) for scores in (alone, both)]
    assert followed[1] > followed[0]


def test_the_measure_is_of_what_was_judged(graded: ListData, parts: ListSplit) -> None:
    numbers = parts.validation
    places = np.concatenate([np.arange(*graded.lists.offsets[each : each + 2]) for each in numbers.tolist()])
    best = graded_ndcg(graded, numbers, graded.targets[places])
    assert (best == 1).all()
    assert (graded_ndcg(graded, numbers, -graded.targets[places]) < 1).all()

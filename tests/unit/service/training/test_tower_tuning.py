"""A bounded search for training options: the given ones first, stored in a file, resumed; failed trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from shelfwise.rerank.text_towers.task import TextTowerOptions
from shelfwise.rerank.text_towers.tower_loss import LossOptions
from shelfwise.rerank.training.trainer import Epoch
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.training.text_towers_tuning import tuned

OPTIONS = TextTowerOptions(learning_rate=2e-5, loss=LossOptions(temperature=0.02), seed=3)


class TrialRecorder:
    def __init__(self, lost: int | None = None, killed: int | None = None) -> None:
        self.tried: list[TextTowerOptions] = []
        self._lost, self._killed = lost, killed

    def __call__(self, options: TextTowerOptions, folder: Path, judged: Callable[[Epoch], None]) -> float:
        self.tried.append(options)
        folder.mkdir()
        if len(self.tried) == self._killed:
            raise KeyboardInterrupt
        if len(self.tried) == self._lost:
            raise TrainingError("the loss became nan at step 3")
        value = 1 - abs(math.log10(options.learning_rate / 3e-4)) / 4 - abs(options.negatives.count - 2) / 10
        for number in range(3):
            judged(Epoch(number, None, value * (number + 1) / 3))
        return value


def test_resumed_study_tries_new_options(tmp_path: Path) -> None:
    first, more = TrialRecorder(), TrialRecorder()
    tuned(OPTIONS, 4, tmp_path / "study.db", first, NullProgress())
    tuned(OPTIONS, 8, tmp_path / "study.db", more, NullProgress())
    assert len(more.tried) == 4
    assert not {each.learning_rate for each in first.tried} & {each.learning_rate for each in more.tried}


def test_killed_study_resumes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tuned(OPTIONS, 6, tmp_path / "study.db", TrialRecorder(killed=4), NullProgress())
    train = TrialRecorder()
    found = tuned(OPTIONS, 6, tmp_path / "study.db", train, NullProgress())
    assert len(train.tried) == 3
    assert tuned(OPTIONS, 6, tmp_path / "study.db", TrialRecorder(killed=1), NullProgress()) == found


def test_invalid_study_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database " * 100)
    with pytest.raises(TrainingError, match=r"study\.db has no search that can resume .* remove it"):
        tuned(OPTIONS, 2, tmp_path / "study.db", TrialRecorder(), NullProgress())


def test_trial_with_non_finite_loss_counts_and_is_not_selected(tmp_path: Path) -> None:
    train = TrialRecorder(lost=1)
    with pytest.raises(TrainingError, match="no trial completed"):
        tuned(OPTIONS, 1, tmp_path / "one.db", TrialRecorder(lost=1), NullProgress())
    assert tuned(OPTIONS, 2, tmp_path / "study.db", train, NullProgress()) == train.tried[1]

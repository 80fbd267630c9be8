"""The mean of several parts' weights: who is taken into it, and when it begins anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rerank.text_towers.training import average
from rerank.training.trainer import RunState


class Told:
    """A network of one number, and the validation of each mean in turn."""

    def __init__(self, *validations: float) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        self.state = RunState()
        self._validations = iter(validations)
        self.judged: list[float] = []

    def part(self, weight: float, validation: float) -> tuple[float, int, float]:
        """What the mean is after a part of this weight: its weight, members and validation."""
        self.network.weight.data.fill_(weight)
        average(self.network, self.state, validation, self._judge)
        assert self.network.weight.item() == weight
        mean, progress = self.state.averaged["weight"].item(), self.state.progress
        return mean, progress.averaged, progress.averaged_best

    def _judge(self) -> float:
        self.judged.append(self.network.weight.item())
        return next(self._validations)


def test_the_first_part_is_its_own_mean() -> None:
    told = Told()
    assert told.part(3.0, 0.4) == (3.0, 1, 0.4)
    assert not told.judged


def test_what_makes_it_no_worse_is_taken_in() -> None:
    told = Told(0.5, 0.5)
    told.part(2.0, 0.4)
    assert told.part(4.0, 0.45) == (3.0, 2, 0.5)
    mean, members, reached = told.part(6.0, 0.45)
    assert (members, reached) == (3, 0.5)
    assert mean == pytest.approx(4.0)
    assert told.judged == pytest.approx([3.0, 4.0])


def test_what_makes_it_worse_is_left_out() -> None:
    told = Told(0.3)
    told.part(2.0, 0.4)
    assert told.part(4.0, 0.35) == (2.0, 1, 0.4)


def test_one_that_is_better_alone_begins_it_anew() -> None:
    told = Told(0.45)
    told.part(2.0, 0.4)
    assert told.part(4.0, 0.5) == (4.0, 1, 0.5)


def test_a_count_is_that_of_the_newest() -> None:
    network, state = nn.BatchNorm1d(1), RunState()
    for count in (1, 2):
        network.num_batches_tracked = torch.tensor(count)
        average(network, state, 0.5, lambda: 0.6)
    assert state.averaged["num_batches_tracked"].item() == 2

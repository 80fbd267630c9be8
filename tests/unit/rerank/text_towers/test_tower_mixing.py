"""Mixtures of the weights that training began with and those that it ended with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rerank.text_towers.model import SHARES, mix
from rerank.training.trainer import weights_of


class Counted(nn.Module):
    """A network of two numbers, and a count."""

    def __init__(self, values: list[float], count: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))
        self.register_buffer("count", torch.tensor(count))


START = {"values": torch.tensor([0.0, 8.0]), "count": torch.tensor(1)}


@pytest.mark.parametrize("share", SHARES)
def test_the_mixture_that_is_judged_best_stays(share: float) -> None:
    network = Counted([4.0, 0.0], 7)

    def judge() -> float:
        return -abs(network.values[0].item() - 4 * share)

    mixed = mix(network, START, -9.0, judge)
    assert (mixed.share, mixed.validation) == (share, 0.0)
    assert network.values.tolist() == [4 * share, 8 - 8 * share]
    assert network.state_dict()["count"].item() == 7


@pytest.mark.parametrize("reached", [0.5, 0.6])
def test_of_equally_good_ones_all_that_was_learned_stays_to_the_last_bit(reached: float) -> None:
    network = Counted([0.1, 0.2], 7)
    before = weights_of(network)
    mixed = mix(network, START, reached, lambda: 0.5)
    assert (mixed.share, mixed.validation) == (1.0, reached)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

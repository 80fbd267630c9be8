"""The mean of the weights after several parts of a training, as long as it validates better for each.

Wortsman et al. 2022, Model soups, section 2 (the greedy soup); its members are checkpoints of one run, in their order.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from rerank.towers.mixing import between
from rerank.training.checkpoint import RunState, weights_of


def average(network: nn.Module, state: RunState, validation: float, judge: Callable[[], float]) -> None:
    """Takes the weights of a network, whose own validation is told, into the mean of a run, if that is no worse by it;
    begins the mean anew with them where they alone are better than both. The network stays as it is."""
    progress, latest = state.progress, weights_of(network)
    if progress.averaged:
        mean = between(state.averaged, latest, 1 / (progress.averaged + 1))
        network.load_state_dict(mean)
        reached = judge()
        network.load_state_dict(latest)
        if reached >= max(progress.averaged_best, validation):
            state.averaged, progress.averaged, progress.averaged_best = mean, progress.averaged + 1, reached
            return
        if progress.averaged_best >= validation:
            return
    state.averaged, progress.averaged, progress.averaged_best = latest, 1, validation

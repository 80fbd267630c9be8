"""Listwise losses, losses on clicks, propensities."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from shelfwise.rerank.ranker.onnx_export import example_inputs
from shelfwise.rerank.training.click_training import labelled_loss
from shelfwise.rerank.training.datasets import ListBatch
from shelfwise.rerank.training.losses import distillation, list_softmax, propensities, unbiased_gains
from tests.unit.rerank.training.teacher_lists import SHAPE

_ALL = torch.ones(1, 3, dtype=torch.bool)


def test_list_softmax_is_the_cross_entropy_of_the_gains() -> None:
    scores, gains = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[3.0, 1.0, 0.0]])
    total = math.exp(1) + math.exp(0) + math.exp(-1)
    expected = -(3 / 4) * math.log(math.exp(1) / total) - (1 / 4) * math.log(math.exp(0) / total)
    assert list_softmax(scores, gains, _ALL).item() == pytest.approx(expected, rel=1e-5)


def test_query_without_gains_does_not_change_the_mean() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0], [5.0, 0.0, 0.0]])
    gains = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    both = list_softmax(scores, gains, _ALL.expand(2, 3))
    assert both.item() == pytest.approx(list_softmax(scores[:1], gains[:1], _ALL).item())


def test_distillation_is_the_divergence_and_a_tenth_of_the_squared_margins() -> None:
    scores, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    first = math.exp(1) / (math.exp(1) + 1)
    divergence = first * math.log(first / 0.5) + (1 - first) * math.log((1 - first) / 0.5)
    squared = ((0 - 1) ** 2 + (0 + 1) ** 2) / 2
    expected = 2.0**2 * divergence + 0.1 * squared
    assert distillation(scores, teacher, _ALL[:, :2]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [distillation, list_softmax])
def test_padding_changes_no_loss_and_gets_no_gradient(loss: object) -> None:
    scores = torch.tensor([[1.0, 0.5, 9.0]], requires_grad=True)
    targets = torch.tensor([[0.2, 0.9, 5.0]])
    is_candidate = torch.tensor([[True, True, False]])
    padded = loss(scores, targets * is_candidate, is_candidate)  # type: ignore[operator]
    alone = loss(scores[:, :2], targets[:, :2], is_candidate[:, :2])  # type: ignore[operator]
    assert padded.item() == pytest.approx(alone.item(), rel=1e-5)
    padded.backward()
    assert scores.grad is not None
    assert scores.grad[0, 2].item() == 0.0


CLICKS = (1.0, 0.0, 0.0)
SCORES = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.2, 9.0]])[..., None].expand(2, 3, 3)
"""Scores of two lists; the second has only two candidates."""


def three(values: list[list[float]]) -> Tensor:
    return torch.tensor(values)[..., None].expand(-1, -1, 3).clone()


BATCH = ListBatch(
    inputs=example_inputs(SHAPE),
    is_candidate=torch.tensor([[True, True, True], [True, True, False]]),
    targets=three([[0.6, 0.2, 0.0], [0.0, 0.5, 0.0]]),
    weights=torch.tensor([1.0, 0.5]),
)


def entropy(wanted: float, *others: float) -> float:
    return math.log(sum(math.exp(each) for each in (wanted, *others))) - wanted


def test_labelled_loss_is_the_cross_entropy_of_the_gains_by_the_weights_of_queries() -> None:
    first = 0.75 * entropy(1.0, 0.0, -1.0) + 0.25 * entropy(0.0, 1.0, -1.0)
    expected = (1.0 * first + 0.5 * entropy(0.2, 0.5)) / 1.5
    assert labelled_loss(SCORES, BATCH, CLICKS).item() == pytest.approx(expected, rel=1e-5)


def test_event_kinds_are_summed_by_weight() -> None:
    alone = labelled_loss(SCORES, BATCH, CLICKS)
    assert labelled_loss(SCORES, BATCH, (1.0, 0.5, 0.25)).item() == pytest.approx(1.75 * alone.item())


def test_no_acts_give_zero_loss_and_finite_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    nothing = dataclasses.replace(BATCH, targets=torch.zeros(2, 3, 3))
    loss = labelled_loss(scores, nothing, CLICKS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_propensity_is_bounded_below() -> None:
    assert propensities(np.array([1.0, 0.4, 0.01, np.nan]), 0.1).tolist() == [1.0, 0.4, 0.1, 0.1]


def test_acts_are_weighted_by_examination() -> None:
    pairs = np.array([[0, 1], [1, 0], [0, -1]], np.int32)
    acts = np.zeros((3, 2, 3), np.bool_)
    acts[0, 1, 0] = acts[1, 0, 0] = acts[1, 0, 1] = acts[2, 0, 0] = True
    gains = unbiased_gains(pairs, acts, np.array([1.0, 0.25]), np.array([1.0, 3.0, 5.0]), 3)
    # Pair 0 was shown three times and clicked once, first; pair 1 twice: clicked second, and clicked and carted first.
    mean = (1 + 1 + 1 + 3) / (3 + 2 * 0.25)
    expected = [(1 + 2 * mean) / (1 + 0.25 + 1 + 2), (1 + 1 + 3 + 2 * mean) / (0.25 + 1 + 2), math.nan]
    assert gains.tolist() == pytest.approx(expected, nan_ok=True)

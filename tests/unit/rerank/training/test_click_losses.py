"""The losses on clicks against their formulas written out."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from rerank.ranker.onnx_export import example_inputs
from rerank.training.click_dataset import ClickBatch
from rerank.training.click_training import displayed_loss, labelled_loss
from tests.unit.rerank.training.teacher_lists import SHAPE

CLICKS = (1.0, 0.0, 0.0)
SCORES = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.2, 9.0]])[..., None].expand(2, 3, 3)
"""Of two lists; the second has two candidates only."""


def three(values: list[list[float]]) -> Tensor:
    return torch.tensor(values)[..., None].expand(-1, -1, 3).clone()


BATCH = ClickBatch(
    inputs=example_inputs(SHAPE),
    is_candidate=torch.tensor([[True, True, True], [True, True, False]]),
    gains=three([[0.6, 0.2, 0.0], [0.0, 0.5, 0.0]]),
    is_shown=torch.tensor([[True, True, False], [True, True, False]]),
    weights=torch.tensor([1.0, 0.5]),
    list_of=torch.tensor([0, 0, 1]),
    places=torch.tensor([[0, 1], [1, 0], [1, -1]]),
    acts=three([[2.0, 0.0], [1.0, 1.0], [1.0, 0.0]]),
    is_position_shown=torch.tensor([True, True, False]),
)


def entropy(wanted: float, *others: float) -> float:
    return math.log(sum(math.exp(each) for each in (wanted, *others))) - wanted


def test_labelled_loss_is_the_cross_entropy_of_the_gains_by_the_weights_of_queries() -> None:
    first = 0.75 * entropy(1.0, 0.0, -1.0) + 0.25 * entropy(0.0, 1.0, -1.0)
    expected = (1.0 * first + 0.5 * entropy(0.2, 0.5)) / 1.5
    assert labelled_loss(SCORES, BATCH, CLICKS).item() == pytest.approx(expected, rel=1e-5)


def test_displayed_loss_is_over_what_stood_there_and_what_nobody_saw() -> None:
    high, low = entropy(1.0, 0.0, -1.0), entropy(0.0, 1.0, -1.0)
    # Two clicks on the first display's first candidate, and one on each of the second display's.
    expected = (1.0 * (2 * high + low + high) / 4 + 0.5 * 0.0) / 1.5
    assert displayed_loss(SCORES, BATCH, CLICKS).item() == pytest.approx(expected, abs=1e-5)


def test_a_click_counts_by_the_inverse_of_its_propensity() -> None:
    high, low = entropy(1.0, 0.0, -1.0), entropy(0.0, 1.0, -1.0)
    expected = (1.0 * (2 * high + low + 4 * high) / 7) / 1.5
    found = displayed_loss(SCORES, BATCH, CLICKS, chances=torch.tensor([1.0, 0.25]))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_a_position_adds_its_bias_and_what_nobody_saw_stands_behind_the_last() -> None:
    bias = torch.tensor([[0.0], [-2.0]]).expand(2, 3)
    above, below = entropy(1.0, 0.0 - 2, -1.0 - 2), entropy(0.0, 1.0 - 2, -1.0 - 2)
    moved = entropy(1.0 - 2, 0.0, -1.0 - 2)
    expected = (1.0 * (2 * above + below + moved) / 4) / 1.5
    assert displayed_loss(SCORES, BATCH, CLICKS, bias=bias).item() == pytest.approx(expected, abs=1e-5)
    hidden = dataclasses.replace(BATCH, is_position_shown=torch.zeros(3, dtype=torch.bool))
    plain = displayed_loss(SCORES, BATCH, CLICKS)
    assert displayed_loss(SCORES, hidden, CLICKS, bias=bias).item() == pytest.approx(plain.item())


def test_kinds_of_events_add_up_by_their_weights() -> None:
    alone = labelled_loss(SCORES, BATCH, CLICKS)
    assert labelled_loss(SCORES, BATCH, (1.0, 0.5, 0.25)).item() == pytest.approx(1.75 * alone.item())


def test_without_any_act_there_is_nothing_to_lose_and_the_gradient_is_finite() -> None:
    scores = SCORES.clone().requires_grad_()
    nothing = dataclasses.replace(BATCH, acts=torch.zeros(3, 2, 3), gains=torch.zeros(2, 3, 3))
    loss = displayed_loss(scores, nothing, CLICKS) + labelled_loss(scores, nothing, CLICKS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()

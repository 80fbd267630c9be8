"""The listwise losses against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from rerank.training.losses import centred, distillation, list_softmax

_ALL = torch.ones(1, 3, dtype=torch.bool)


def test_list_softmax_is_the_cross_entropy_of_the_gains() -> None:
    scores, gains = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[3.0, 1.0, 0.0]])
    total = math.exp(1) + math.exp(0) + math.exp(-1)
    expected = -(3 / 4) * math.log(math.exp(1) / total) - (1 / 4) * math.log(math.exp(0) / total)
    assert list_softmax(scores, gains, _ALL).item() == pytest.approx(expected, rel=1e-5)


def test_a_query_without_gains_adds_nothing_to_the_mean() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0], [5.0, 0.0, 0.0]])
    gains = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    both = list_softmax(scores, gains, _ALL.expand(2, 3))
    assert both.item() == pytest.approx(list_softmax(scores[:1], gains[:1], _ALL).item())


def test_scores_like_the_teachers_but_for_a_constant_lose_nothing() -> None:
    teacher = torch.tensor([[2.0, -1.0, 0.5]])
    assert distillation(teacher + 7, teacher, _ALL).item() == pytest.approx(0.0, abs=1e-6)


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


def test_centred_scores_have_no_mean() -> None:
    is_candidate = torch.tensor([[True, True, False]])
    assert centred(torch.tensor([[1.0, 3.0, 50.0]]), is_candidate).tolist() == [[-1.0, 1.0, 0.0]]

"""Listwise losses: each compares the scores of a query's candidates with what they should be, among themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

_FAR = -1e4
TEMPERATURE = 2.0
SQUARED_WEIGHT = 0.1


def distillation(scores: Tensor, teacher: Tensor, is_candidate: Tensor) -> Tensor:
    """How far scores (B, c) are from a teacher's (B, c), a mean over queries.

    The Kullback-Leibler divergence of the two softmaxes at temperature 2 (Hinton, Vinyals & Dean 2015, section 2),
    with a tenth of the squared difference of the scores less their list's mean (margins, as in Hofstätter et al. 2020,
    Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation, section 3.1).
    """
    wanted = softmax((teacher / TEMPERATURE).masked_fill(~is_candidate, _FAR), dim=-1)
    given = log_softmax((scores / TEMPERATURE).masked_fill(~is_candidate, _FAR), dim=-1)
    divergence = kl_div(given, wanted, reduction="none").masked_fill(~is_candidate, 0.0).sum(dim=-1)
    difference = centred(scores, is_candidate) - centred(teacher, is_candidate)
    squared = difference.square().sum(dim=-1) / is_candidate.sum(dim=-1).clamp(min=1)
    return (TEMPERATURE**2 * divergence + SQUARED_WEIGHT * squared).mean()


def list_softmax(scores: Tensor, gains: Tensor, is_candidate: Tensor) -> Tensor:
    """ListNet's top-one cross entropy (Cao et al. 2007, section 4.2): gains (B, c) are taken as they are, over their
    sum; a query without any gain adds nothing."""
    given = log_softmax(scores.masked_fill(~is_candidate, _FAR), dim=-1)
    total = gains.sum(dim=-1)
    entropy = -(gains * given.masked_fill(~is_candidate, 0.0)).sum(dim=-1) / total.clamp(min=1e-6)
    has_gain = (total > 0).float()
    return (entropy * has_gain).sum() / has_gain.sum().clamp(min=1)


def centred(scores: Tensor, is_candidate: Tensor) -> Tensor:
    """Scores (B, c) less the mean of their list; 0 where there is no candidate."""
    kept = torch.where(is_candidate, scores, torch.zeros_like(scores))
    mean = kept.sum(dim=-1, keepdim=True) / is_candidate.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.where(is_candidate, scores - mean, torch.zeros_like(scores))

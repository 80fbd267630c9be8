"""Losses over lists of candidates, and corrections for position bias."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from shelfwise.rerank.click_models.click_log import NOTHING as NOTHING_SHOWN
from shelfwise.rerank.click_models.click_log import Floats, Ints, sums

_FAR = -1e4
TEMPERATURE = 2.0
SQUARED_WEIGHT = 0.1


def distillation(scores: Tensor, teacher: Tensor, is_candidate: Tensor) -> Tensor:
    """Divergence of scores (B, c) from a teacher's (B, c), a mean over queries. The Kullback-Leibler divergence of
    the two softmaxes at temperature 2 (Hinton, Vinyals & Dean 2015, section 2), plus a tenth of the squared
    difference of the centred scores (margins, as in Hofstätter et al. 2020, Improving Efficient Neural Ranking
    Models with Cross-Architecture Knowledge Distillation, section 3.1)."""
    wanted = softmax((teacher / TEMPERATURE).masked_fill(~is_candidate, _FAR), dim=-1)
    given = log_softmax((scores / TEMPERATURE).masked_fill(~is_candidate, _FAR), dim=-1)
    divergence = kl_div(given, wanted, reduction="none").masked_fill(~is_candidate, 0.0).sum(dim=-1)
    difference = centred(scores, is_candidate) - centred(teacher, is_candidate)
    squared = difference.square().sum(dim=-1) / is_candidate.sum(dim=-1).clamp(min=1)
    return (TEMPERATURE**2 * divergence + SQUARED_WEIGHT * squared).mean()


def list_softmax(scores: Tensor, gains: Tensor, is_candidate: Tensor) -> Tensor:
    """ListNet's top-one cross entropy (Cao et al. 2007, section 4.2): gains (B, c) are normalised by their sum; a
    query without gains adds nothing."""
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


MIN_PROPENSITY = 0.1
"""Smallest propensity: clipping bounds the weight of one act (Strehl et al. 2010, Learning from logged implicit
exploration data, section 2)."""


def propensities(examination: Floats, least: float = MIN_PROPENSITY) -> Floats:
    """Propensities (depth,): clipped examination (depth,) of a click model."""
    return np.clip(np.nan_to_num(examination, nan=least), least, 1.0)


PRIOR_EXAMINATIONS = 2.0
"""The prior of each pair: examined impressions of a product of average value."""


def unbiased_gains(pairs: Ints, acts: NDArray[np.bool_], chances: Floats, worth: Floats, count: int) -> Floats:
    """(count,): position-corrected value of each pair per examined impression; NaN for a pair that was never shown.

    The value of a pair's acts is divided by the sum of the propensities of its impressions: inverse propensity weights
    (Joachims, Swaminathan & Schnabel 2017, Unbiased learning-to-rank with biased feedback, section 4), self-normalised
    (Swaminathan & Joachims 2015, The self-normalized estimator for counterfactual learning, section 5). Both sums begin
    with `PRIOR_EXAMINATIONS` of average value, so that one click on a product that was hardly seen does not determine
    the ideal order of a query, the reference of nDCG. `pairs` (n, depth) were shown, `acts` (n, depth, 3) are the acts
    on them, `chances` (depth,) are propensities, `worth` (3,) are the values of a click, a cart and a purchase."""
    shown = pairs != NOTHING_SHOWN
    examined = sums(pairs[shown], np.broadcast_to(chances[: pairs.shape[1]], pairs.shape)[shown], count)
    gained = sums(pairs[shown], (acts @ worth)[shown], count)
    mean = gained.sum() / max(examined.sum(), np.finfo(np.float64).tiny)
    smoothed = (gained + PRIOR_EXAMINATIONS * mean) / (examined + PRIOR_EXAMINATIONS)
    return np.where(examined > 0, smoothed, np.nan)

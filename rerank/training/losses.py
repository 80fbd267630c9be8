"""Losses over lists of candidates, and what corrects them for the position of what was clicked."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, softmax

from rerank.click_models.click_log import NOTHING as NOTHING_SHOWN
from rerank.click_models.click_log import Floats, Ints, sums
from rerank.ranker.network import EVENTS

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


LEAST_PROPENSITY = 0.1
"""Rarer looks count as this: one act far down a list would outweigh all others (clipping: Strehl et al. 2010, Learning
from logged implicit exploration data, section 2)."""


def propensities(examination: Floats, least: float = LEAST_PROPENSITY) -> Floats:
    """(depth,): the probabilities that positions are looked at, by a click model's examination (depth,), clipped."""
    return np.clip(np.nan_to_num(examination, nan=least), least, 1.0)


def unbiased_gains(pairs: Ints, acts: NDArray[np.bool_], chances: Floats, worth: Floats, count: int) -> Floats:
    """(count,): what each pair was worth for an impression that is looked at, freed of position.

    Each act counts 1 / the propensity of its position (Joachims, Swaminathan & Schnabel 2017, Unbiased learning-to-rank
    with biased feedback, section 4), so that nothing is supposed of a pair but what was done with it. `pairs` (n,
    depth) is what was shown, `acts` (n, depth, 3) what was done, `chances` (depth,) are propensities, `worth` (3,) says
    what a click, a cart and a purchase count for.
    """
    shown = pairs != NOTHING_SHOWN
    gained = (acts @ worth) / chances[: pairs.shape[1]]
    impressions = sums(pairs[shown], np.ones(int(shown.sum())), count)
    return np.asarray(sums(pairs[shown], gained[shown], count) / np.maximum(impressions, 1.0))


# The position tower: what a place adds to a click, learned beside the ranker and left behind when it serves.
#
# Guo et al. 2019 (PAL: a position-bias aware learning framework, section 3) and Zhao et al. 2019 (Recommending what
# video to watch next, section 4.3): a click's score is what the network says of query and product, plus what the tower
# says of the position and of nothing else.

_STEP = 30.0
"""A position's bias is as large as the scores of a whole network, and is to be learned by as few steps as their
corrections: its steps are so much longer."""


class PositionTower(nn.Module):
    """A bias for each position and kind of event."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(depth, len(EVENTS)))

    @property
    def bias(self) -> Tensor:
        """(depth, 3): what each position adds to a score, the first adding nothing."""
        return _STEP * (self.places - self.places[:1])

"""Losses on clicks: a listwise softmax over debiased gains, or over the acts on each display as they were.

Both are means over queries by their weights, and of a query only what its acts are relative to each other counts. Of
the kinds of events each has its output and its weight. A candidate that nobody was shown stands in every display of its
query, behind the last position.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from rerank.training.click_batches import ClickBatch

_FAR = -1e4
_LEAST = 1e-9


def labelled_loss(scores: Tensor, batch: ClickBatch, tasks: Sequence[float]) -> Tensor:
    """ListNet's top-one cross entropy (Cao et al. 2007, section 4.2) of scores (B, c, 3) with the debiased gains."""
    given = log_softmax(scores.masked_fill(~batch.is_candidate[..., None], _FAR), dim=1)
    told = -(batch.gains * given.masked_fill(~batch.is_candidate[..., None], 0.0)).sum(dim=1)
    return _weighted(told, batch.gains.sum(dim=1), batch.weights, tasks)


def displayed_loss(
    scores: Tensor, batch: ClickBatch, tasks: Sequence[float], bias: Tensor | None = None, chances: Tensor | None = None
) -> Tensor:
    """The cross entropy of scores (B, c, 3) with the acts on each display, among what stood there.

    `bias` (depth, 3) is what a position adds to the score of what stands there; `chances` (depth,) are propensities,
    by whose inverse acts count.
    """
    logits = _on_displays(scores, batch.list_of, batch.places)
    behind = _unseen(scores, batch)[batch.list_of]
    if bias is not None:
        told = batch.tells_position[:, None, None].float()
        logits = logits + told * bias[None, : logits.shape[1]]
        behind = behind + told[:, 0] * bias[_last(batch.places)]
    logits = logits.masked_fill((batch.places < 0)[..., None], _FAR)
    total = torch.logsumexp(torch.cat([logits, behind[:, None]], dim=1), dim=1, keepdim=True)
    acts = batch.acts if chances is None else batch.acts / chances[None, : logits.shape[1], None]
    entropy, acted = (acts * (total - logits)).sum(dim=1), acts.sum(dim=1)
    nothing = torch.zeros(scores.shape[0], scores.shape[2])
    told_by_list = nothing.index_add(0, batch.list_of, entropy)
    return _weighted(told_by_list, nothing.index_add(0, batch.list_of, acted), batch.weights, tasks)


def single_displays_loss(
    scores: Tensor, is_candidate: Tensor, acts: Tensor, chances: Tensor, tasks: Sequence[float]
) -> Tensor:
    """The same with the scores (K, depth, 3) of what stood on each of K displays, every one of them with scores of its
    own: a mean over all acts by their weights, since a display of one act would else count alike whatever its place."""
    given = log_softmax(scores.masked_fill(~is_candidate[..., None], _FAR), dim=1)
    weighted = acts / chances[None, : acts.shape[1], None]
    entropy = -(weighted * given).sum(dim=(0, 1))
    return (entropy / weighted.sum(dim=(0, 1)).clamp(min=_LEAST) * torch.tensor(tasks)).sum()


def _weighted(entropy: Tensor, total: Tensor, weights: Tensor, tasks: Sequence[float]) -> Tensor:
    """The mean over lists of entropy (B, 3) by the total (B, 3) of what it is over; a list without any adds nothing."""
    each = entropy / total.clamp(min=_LEAST)
    by_list = (total > 0).float() * weights[:, None]
    means = (each * by_list).sum(dim=0) / by_list.sum(dim=0).clamp(min=_LEAST)
    return (means * torch.tensor(tasks)).sum()


def _on_displays(scores: Tensor, list_of: Tensor, places: Tensor) -> Tensor:
    """(K, depth, 3): the scores of what stood at each position."""
    return scores[list_of[:, None], places.clamp(min=0)]


def _unseen(scores: Tensor, batch: ClickBatch) -> Tensor:
    """(B, 3): the logarithm of the sum of the exponentials of what nobody was shown."""
    is_unseen = batch.is_candidate & ~batch.is_shown
    return torch.logsumexp(scores.masked_fill(~is_unseen[..., None], _FAR), dim=1)


def _last(places: Tensor) -> Tensor:
    """(K,): the last position of each display that holds a candidate."""
    positions = torch.arange(places.shape[1])[None].expand_as(places)
    return positions.masked_fill(places < 0, 0).amax(dim=1)

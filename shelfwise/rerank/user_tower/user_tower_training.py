"""Training of the user tower: next-product prediction from histories and product vectors."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shelfwise.rerank.training.trainer import Epoch, LoopOptions, Run, Training, best_of, train
from shelfwise.rerank.user_tower.held_out_acts import HeldOutActs, hide, in_parts, ndcg, ranks, ranks_of, split_by_time
from shelfwise.rerank.user_tower.histories import Histories, Ints, text_scores
from shelfwise.rerank.user_tower.item_neighbours import (
    NO_NEIGHBOURS,
    NeighbourOptions,
    WeightedNeighbours,
    factorize,
    find_neighbours,
)
from shelfwise.rerank.user_tower.tower import UserTower
from shelfwise.rerank.user_tower.transformer import (
    HistoryWindowBatch,
    HistoryWindowBatches,
    UserTowerModel,
    UserTowerShape,
)
from shelfwise.retrieval.errors import TrainingError

METHOD = 6
"""Increases when the same acts and options make another tower."""
MIN_SHOPPERS = 20
"""Minimum number of shoppers with two acts or more."""


@dataclass(frozen=True, slots=True)
class UserTowerOptions:
    """Options of the training."""

    epochs: int = 12
    """The most epochs; training may stop early."""
    batch: int = 64
    """Windows of at most 50 acts per step."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    patience: int = 4
    """Epochs without a better validation after which training stops."""
    width: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.4
    negatives: int = 1_024
    """Candidates per step, at most the whole catalog."""
    unknown: float = 0.3
    """Share of the products of a step that are reduced to their text, like new ones."""
    most_products: int = 200_000
    """Maximum products with a vector of their own, the most popular ones."""
    least_shoppers: int = 1
    """Minimum shoppers of a product with a vector of its own, for privacy."""
    hide_seen: bool = True
    """Whether to hide products that the shopper has seen; else they may be chosen again."""
    refit: bool = True
    """Whether to train again on all acts, for the best number of epochs."""
    validation_share: float = 0.1
    """Share of the newest acts that validate the number of epochs."""
    most_validated: int = 2_000
    """The most choices used for validation."""
    seed: int = 0

    def loop(self) -> LoopOptions:
        return LoopOptions(self.epochs, self.learning_rate, self.weight_decay, patience=self.patience)


def fit(
    vectors: NDArray[np.float32],
    histories: Histories,
    options: UserTowerOptions = UserTowerOptions(),
    *,
    categories: Ints | None = None,
    work: Run | None = None,
) -> UserTower:
    """Trains a tower on product vectors (N, d) and histories, oldest act first. `categories` (N,) number the products'
    categories, -1 if unknown; new products take the mean popularity of their category. The newest acts are held out
    until the number of epochs is known. Without `work`, an interrupted run cannot resume. Raises TrainingError for
    too little data or a non-finite loss."""
    _check(vectors, histories)
    share, hide_seen = options.validation_share, options.hide_seen
    learning, held = split_by_time(histories, share, hide_seen=hide_seen, whole_visit=True)
    if not len(held.targets):
        raise TrainingError("no shopper did anything after the first acts of all: nothing can validate a tower")
    with tempfile.TemporaryDirectory() as scratch:
        work = work or Run(Path(scratch))
        run = _UserTowerTraining(vectors, learning, options, categories)
        validating = held.some(options.most_validated, options.seed)
        curve = run.train(validating, replace(work, folder=work.folder / "validated"))
        neighbours = choose_neighbours(
            run.tower(),
            learning,
            validating,
            least_shoppers=options.least_shoppers,
            timed=not np.isnan(histories.times).any(),
        )
        prior = choose_prior(run.tower(neighbours), validating)
        best = best_of(curve).number
        if options.refit:
            run = _UserTowerTraining(vectors, histories, replace(options, epochs=best, patience=best + 1), categories)
            run.train(None, Run(work.folder / "whole", work.advance))
            neighbours = run.learned_again(neighbours)
    return run.tower(neighbours, prior)


def _check(vectors: NDArray[np.float32], histories: Histories) -> None:
    enough = int((histories.lengths > 1).sum())
    if enough < MIN_SHOPPERS:
        message = f"{enough:,} shoppers did two things or more; at least {MIN_SHOPPERS} are needed to train a tower"
        raise TrainingError(message)
    if histories.products.max() >= len(vectors):
        raise TrainingError(
            f"an act is of the product in row {histories.products.max():,}; there are {len(vectors):,} vectors"
        )
    if not np.isfinite(vectors).all():
        raise TrainingError("product vectors have values that are not finite: rebuild the index")


class _UserTowerTraining:
    def __init__(
        self, vectors: NDArray[np.float32], histories: Histories, options: UserTowerOptions, categories: Ints | None
    ) -> None:
        self._vectors, self._options, self._categories = vectors, options, categories
        self._histories = histories
        torch.manual_seed(options.seed)
        counts = np.bincount(histories.products, minlength=len(vectors))
        shape = UserTowerShape(vectors.shape[1], options.width, options.layers, options.heads, options.dropout)
        chosen = factorize(
            histories, len(vectors), options.width, least_shoppers=options.least_shoppers, most=options.most_products
        )
        self.model = UserTowerModel(shape, vectors, counts, chosen)
        self._batches = HistoryWindowBatches(
            histories,
            counts,
            size=options.batch,
            negatives=options.negatives,
            unknown=options.unknown,
            hide_seen=options.hide_seen,
            seed=options.seed,
        )

    def train(self, held: HeldOutActs | None, run: Run) -> tuple[Epoch, ...]:
        """Trains the tower; returns the curve. Without `held` the last epoch counts as the best."""

        def validate(_model: UserTowerModel) -> float:
            if held is None:
                return float(self._batches.epoch)
            found = ranks_of(self.tower(), held)
            return float(ndcg(found).mean())

        training = Training(self._batches.of_epoch, self._batches.steps, next_product_loss, validate)
        self.model.eval()
        return train(self.model, training, self._options.loop(), run)

    def learned_again(self, neighbours: WeightedNeighbours) -> WeightedNeighbours:
        """Neighbours with the same options, on these histories."""
        if neighbours.options is None:
            return neighbours
        rows, least = self.model.rows, self._options.least_shoppers
        return replace(
            neighbours, neighbours=find_neighbours(self._histories, rows, neighbours.options, least_shoppers=least)
        )

    def tower(self, neighbours: WeightedNeighbours = NO_NEIGHBOURS, prior: float = 0.0) -> UserTower:
        self.model.eval()
        made = self.model.product_parameters(self._categories)
        chosen = np.bincount(self._histories.products, minlength=len(self._vectors))[made.rows]
        learned = replace(made, neighbours=neighbours, chosen=chosen.astype(np.float32), prior=prior)
        return UserTower(self.model.encode, self._vectors, learned, self._categories)


def next_product_loss(model: UserTowerModel, batch: HistoryWindowBatch) -> torch.Tensor:
    """Softmax cross-entropy over the sampled candidates, each logit less its log probability."""
    logits = model.logits(batch) - torch.from_numpy(batch.sample.log_q)
    if not len(batch.wanted):  # no new choice in the batch
        return logits.sum() * 0.0
    if len(batch.hidden[0]):
        where = torch.from_numpy(batch.hidden[0]), torch.from_numpy(batch.hidden[1])
        logits = logits.index_put(where, torch.tensor(-1e4))
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.wanted))


_RIDGES = (6.0, 25.0)
_HALF_LIVES = (None, 60.0)
_FADING = (0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
_WEIGHTS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_AGAIN = 0.3
"""Weight of a product for itself, if seen products may be recommended."""
_TRANSITIONS = (1.0, 2.0, 4.0, 8.0)
_TRANSITION_HALF_LIVES = (15.0, 60.0)


def choose_neighbours(
    tower: UserTower, histories: Histories, held: HeldOutActs, *, least_shoppers: int, timed: bool
) -> WeightedNeighbours:
    """Chooses the neighbours and their weight that predict the held-out acts best together with `tower`, which has
    none, then transitions that improve on them. Ties go to none or the smaller weight. Choices decay with time only if
    `timed`. Raises TrainingError if neighbours cannot be learned."""
    find = partial(find_neighbours, histories, tower.learned.rows, least_shoppers=least_shoppers)
    tried = []
    for half_life, ridge in product(_HALF_LIVES if timed else (None,), _RIDGES):
        options = NeighbourOptions(ridge, half_life, 0.0 if held.hide_seen else _AGAIN)
        neighbours = find(options)
        tried += [WeightedNeighbours(neighbours, weight, fading, options) for fading in _FADING for weight in _WEIGHTS]
    best = _best_added(tower, NO_NEIGHBOURS, tried, held)
    if best.options is None:
        return best
    tried = []
    for half_life in _TRANSITION_HALF_LIVES if timed else (None,):
        options = replace(best.options, transition=1.0, transition_half_life=half_life)
        neighbours = find(replace(options, ridge=None))
        tried += [
            WeightedNeighbours(neighbours, best.weight * share, best.decay, replace(options, transition=share))
            for share in _TRANSITIONS
        ]
    added = _best_added(tower, best, tried, held)
    if added is best or added.options is None:
        return best
    return replace(best, neighbours=find(added.options), options=added.options)


def _best_added(
    tower: UserTower, start: WeightedNeighbours, tried: Sequence[WeightedNeighbours], held: HeldOutActs
) -> WeightedNeighbours:
    """The one of `tried` that predicts the held-out acts best when its scores are added to those of `tower` and
    `start`; `start` if none is better."""
    reached = np.zeros(len(tried))
    before = 0.0
    for part, seen in in_parts(held, len(tower.catalog)):
        scores = tower.scores(part.histories, part.now)
        if start.weight:
            scores = scores + np.float32(start.weight) * tower.neighbour_scores(start, part.histories)
        # Hidden products stay hidden, whatever is added.
        scores = hide(scores, seen)
        before += _reached(scores, part)
        last = NO_NEIGHBOURS
        for number, each in enumerate(tried):
            if each.neighbours is not last.neighbours or each.decay != last.decay:
                added = tower.neighbour_scores(each, part.histories)
            last = each
            reached[number] += _reached(scores + np.float32(each.weight) * added, part)
    best = max(range(len(tried)), key=lambda number: (reached[number], -tried[number].weight))
    return tried[best] if reached[best] > before else start


_PRIORS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


def choose_prior(tower: UserTower, held: HeldOutActs) -> float:
    """Chooses the weight, in choices, of a product's place by its text in `tower`, which has none yet: the one that
    predicts the held-out acts best; of equal ones, the smallest."""
    reached = np.zeros(len(_PRIORS))
    for part, seen in in_parts(held, len(tower.catalog)):
        scores, texts = tower.scores(part.histories, part.now), text_scores(tower.catalog, part.histories)
        for number, prior in enumerate(_PRIORS):
            found = tower.mix(scores, texts, part.histories, tower.shares(prior)) if prior else scores
            reached[number] += _reached(hide(found, seen), part)
    return _PRIORS[int(reached.argmax())]


def _reached(scores: NDArray[np.floating], held: HeldOutActs) -> float:
    return float(ndcg(ranks(scores, held.targets, held.visits)).sum())

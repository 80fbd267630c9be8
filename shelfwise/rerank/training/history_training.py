"""Training of the attention over shoppers' histories; the rest of the network is frozen, its scores are precomputed.
A display is a list that was shown to a shopper; the history is what the shopper did before. The loss is a listwise
softmax over each display, with acts weighted by inverse propensity. The displays of half of the later shoppers decide
when to stop, those of the others evaluate: the attention is kept if it ranks clicked products significantly higher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shelfwise.rerank.evaluation.metrics import query_means
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.ranker.features import MAX_ACTS
from shelfwise.rerank.ranker.network import HistoryAttention
from shelfwise.rerank.training.click_training import single_displays_loss
from shelfwise.rerank.training.trainer import LoopOptions, Run, Training, train

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Acts:
    """Acts of shoppers on products of the catalog, ordered by shopper, then time."""

    shopper: Numbers
    """(a,): shopper number; ascending."""
    rows: Numbers
    """(a,): product rows."""
    kinds: Numbers
    """(a,): indices in `shelfwise.rerank.ranker.features.ACT_KINDS`."""
    times: Numbers

    def before(self, shopper: Numbers, times: Numbers) -> tuple[Numbers, Numbers]:
        """Indices of the newest `MAX_ACTS` acts of k histories, from the first bounds (k,) to before the second
        (k,)."""
        start = int(self.times.min(initial=0))
        span = int(self.times.max(initial=0)) - start + 2
        keys = self.shopper * span + (self.times - start)
        behind = np.searchsorted(keys, shopper * span + np.clip(times - start, 0, span - 1))
        return np.maximum(np.searchsorted(self.shopper, shopper), behind - MAX_ACTS), behind


@dataclass(frozen=True, slots=True, eq=False)
class ShopperDisplays:
    """k lists, each as shown to one shopper, earliest first."""

    shopper: Numbers
    """(k,): the shopper's number."""
    times: Numbers
    """(k,): display time in milliseconds since 1970."""
    places: Numbers
    """(k, depth): candidate index over all queries, concatenated, at each position; -1 for none."""
    acts: NDArray[np.bool_]
    """(k, depth, 3): whether it was clicked, added to the cart, bought."""
    first: Numbers
    """(k,): start of the shopper's history in `Acts`."""
    behind: Numbers
    """(k,): end of the history; all of its acts are earlier than the list."""

    def __len__(self) -> int:
        return len(self.shopper)

    def select(self, chosen: Numbers | NDArray[np.bool_]) -> ShopperDisplays:
        return ShopperDisplays(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def informative(self, most: int | None = None, *, outputs: int | None = None) -> ShopperDisplays:
        """The newest `most` displays with a history, at least two candidates, and an act on one. Only the first
        `outputs` kinds of acts count."""
        is_candidate = self.places >= 0
        acted = self.acts[..., :outputs].any(axis=(1, 2))
        found = np.flatnonzero((self.behind > self.first) & (is_candidate.sum(axis=1) > 1) & acted)
        return self.select(found[-most:] if most else found)


_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class HistoryData:
    """Displays and the inputs of their batches."""

    displays: ShopperDisplays
    past: Acts
    rows: Numbers
    """(m,): rows of the candidates that displays refer to."""
    base: NDArray[np.float32]
    """(m, 3): scores of the frozen network with the merged score mixed in; undefined for candidates not displayed."""
    gather: Callable[[Numbers], NDArray[np.float32]]
    """Returns the vectors (n, v) of product rows (n,)."""

    def batch(self, numbers: Numbers) -> HistoryBatch:
        shown = self.displays.select(numbers)
        is_candidate = shown.places >= 0
        places = np.where(is_candidate, shown.places, 0)
        length = int((shown.behind - shown.first).max(initial=1))
        at = shown.behind[:, None] - np.arange(length, 0, -1)
        is_act = at >= shown.first[:, None]
        at = np.where(is_act, at, 0)
        gaps = (shown.times[:, None] - self.past.times[at]) / _DAY_MS
        return HistoryBatch(
            torch.from_numpy(self._vectors(self.rows[places], is_candidate)),
            torch.from_numpy(self._vectors(self.past.rows[at], is_act)),
            torch.from_numpy(np.where(is_act, self.past.kinds[at], -1)),
            torch.from_numpy(np.where(is_act, gaps, 0).astype(np.float32)),
            torch.from_numpy(self.base[places]),
            torch.from_numpy(is_candidate),
            torch.from_numpy(shown.acts.astype(np.float32)),
        )

    def _vectors(self, rows: Numbers, is_there: NDArray[np.bool_]) -> NDArray[np.float32]:
        found = self.gather(rows[is_there])
        vectors = np.zeros((*rows.shape, found.shape[1]), np.float32)
        vectors[is_there] = found
        return vectors


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """K displays of at most c candidates each."""

    vectors: Tensor
    """(K, c, v): the candidates' vectors."""
    history_vectors: Tensor
    """(K, h, v): the vectors of the history's products."""
    history_kinds: Tensor
    """(K, h): the kinds of its acts; -1 for none."""
    history_gaps: Tensor
    """(K, h): days from each act to the display."""
    base: Tensor
    """(K, c, 3): scores without the history."""
    is_candidate: Tensor
    """(K, c): whether there is a candidate."""
    acts: Tensor
    """(K, c, 3): the acts on each candidate."""

    def scores(self, attention: HistoryAttention) -> Tensor:
        """(K, c, 3): scores with the history."""
        added: Tensor = attention(self.vectors, self.history_vectors, self.history_kinds, self.history_gaps)
        return self.base + added


MIN_SHOPPERS = 20
"""Minimum displays for stopping, and for evaluation."""
_TOGETHER = 512
"""Displays per scoring batch."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryEvaluation:
    """Evaluates an order on displays of a later time, by the mean reciprocal rank of clicks. Each click is weighted
    by the inverse propensity of its position (Joachims, Swaminathan & Schnabel 2017, section 4); otherwise clicks
    would favour the order that was shown."""

    choosing: HistoryData
    judging: HistoryData
    chances: NDArray[np.float64]
    """(depth,): propensities."""
    event_weights: tuple[float, float, float]
    """Combines three outputs into one score."""

    @property
    def shoppers(self) -> int:
        return sum(len(np.unique(each.displays.shopper)) for each in (self.choosing, self.judging))

    def validate(self, attention: HistoryAttention | None) -> float:
        """Mean reciprocal rank on the displays used for stopping."""
        ranks, weights = self._ranks(self.choosing, attention)
        return float(np.average(ranks, weights=weights))

    def gain(self, attention: HistoryAttention) -> Difference:
        """Gain from the history on the evaluation displays, with a bootstrap over shoppers, since displays of one
        shopper are dependent."""
        # The weights are those of the clicks, and so the same with and without a history.
        (means, total), (without, _) = self.by_shopper(attention), self.by_shopper(None)
        return paired_bootstrap(means, without, total)

    def by_shopper(self, attention: HistoryAttention | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each shopper's mean on the evaluation displays, and its weight; None means without a history."""
        numbers, shopper = np.unique(self.judging.displays.shopper, return_inverse=True)
        ranks, weights = self._ranks(self.judging, attention)
        return query_means(ranks, shopper, len(numbers), weights)

    def _ranks(
        self, data: HistoryData, attention: HistoryAttention | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(k,) each: mean of 1 / rank over each display's clicks, and their weight; None means without a history."""
        clicks = data.displays.acts[..., 0] / self.chances[: data.displays.places.shape[1]]
        order = np.argsort(-self._scores(data, attention), axis=1, kind="stable")
        ranks = np.argsort(order, axis=1) + 1.0
        weights = clicks.sum(axis=1)
        return (clicks / ranks).sum(axis=1) / weights, weights

    def _scores(self, data: HistoryData, attention: HistoryAttention | None) -> NDArray[np.float64]:
        """(k, depth): scores of each display's products, the lowest value for none."""
        worth, found = torch.tensor(self.event_weights), []
        with torch.inference_mode():
            for start in range(0, len(data.displays), _TOGETHER):
                batch = data.batch(np.arange(start, min(start + _TOGETHER, len(data.displays))))
                scores = (batch.base if attention is None else batch.scores(attention)) @ worth
                found.append(scores.masked_fill(~batch.is_candidate, -torch.inf).double().numpy())
        return np.concatenate(found)


def split_by_shopper(displays: ShopperDisplays) -> tuple[ShopperDisplays, ShopperDisplays]:
    """Splits the displays into two halves with disjoint shoppers."""
    _, place = np.unique(displays.shopper, return_inverse=True)
    return displays.select(place % 2 == 0), displays.select(place % 2 == 1)


MIN_DISPLAYS = 200
"""Minimum number of training displays."""


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """Options of training on histories."""

    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(epochs=12, learning_rate=3e-3, warm_up=20, patience=3)
    )
    displays: int = 32
    """The number of displays in a step."""
    most: int = 50_000
    """The number of newest displays used for training."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoryTraining:
    """Inputs of the training of the attention over histories."""

    data: HistoryData
    judges: HistoryEvaluation
    tasks: tuple[float, float, float]
    """Loss weights of clicks, carts and purchases."""
    options: HistoryOptions = field(default_factory=HistoryOptions)
    seed: int = 0

    @property
    def steps(self) -> int:
        return -(-len(self.data.displays) // self.options.displays)

    def batches(self, epoch: int) -> Iterator[HistoryBatch]:
        order = np.random.default_rng(self.seed * 1_000 + epoch).permutation(len(self.data.displays))
        size = self.options.displays
        return (self.data.batch(order[start : start + size]) for start in range(0, len(order), size))


def train_history(start: HistoryAttention, training: HistoryTraining, run: Run) -> HistoryAttention:
    """Trains a copy of `start`; returns it with the weights of the best validation. Raises TrainingError for a
    non-finite loss."""
    attention, judges = copy.deepcopy(start), training.judges
    chances = torch.from_numpy(judges.chances).float()

    def loss(trained: HistoryAttention, batch: HistoryBatch) -> Tensor:
        return single_displays_loss(batch.scores(trained), batch.is_candidate, batch.acts, chances, training.tasks)

    what = Training(training.batches, training.steps, loss, judges.validate)
    train(attention, what, training.options.loop, run)
    return attention.eval()

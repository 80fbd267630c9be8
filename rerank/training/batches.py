"""Batches for the ranker's network: some candidates of some lists, with their tokens and what they should score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.ranker.features import HAS_STATES, MERGED
from rerank.ranker.inputs import Candidates, History, batched
from rerank.ranker.network import Inputs
from rerank.training.lists import CandidateLists
from retrieval.encoder import Tokens
from retrieval.token_states import ProductTokens, TokenStates


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded inputs with their targets (B, c), and which places hold a candidate (B, c)."""

    inputs: Inputs
    targets: Tensor
    is_candidate: Tensor
    weights: Tensor
    """(B, c): how much each target counts."""


@dataclass(frozen=True, slots=True)
class ListData:
    """Lists, and all that their batches are made of. Nobody's history is among it: see
    `rerank.training.history_batches`."""

    lists: CandidateLists
    queries: Sequence[Tokens]
    """Of each list's query, with as many columns of states as the products have."""
    states: TokenStates
    targets: NDArray[np.float32]
    """(m,): what each candidate should score."""
    weights: NDArray[np.float32] | None = None
    """(m,); None counts all alike."""

    def batch(self, numbers: Sequence[int], dropped: float, seed: int) -> Batch:
        """The batch of some lists. A share of the candidates, `dropped`, lose their states: so the network learns to
        do without."""
        rng = np.random.default_rng(seed)
        inputs = batched([self._candidates(number, dropped, rng) for number in numbers], 0)
        shape = inputs.features.shape[:2]
        targets, weights = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        is_candidate = np.zeros(shape, bool)
        for at, number in enumerate(numbers):
            wanted = self.targets[self.lists.place(number)]
            is_candidate[at, : len(wanted)] = True
            targets[at, : len(wanted)] = wanted
            if self.weights is not None:
                weights[at, : len(wanted)] = self.weights[self.lists.place(number)]
        return Batch(
            Inputs(*(torch.from_numpy(array) for array in inputs.arrays().values())),
            torch.from_numpy(targets),
            torch.from_numpy(is_candidate),
            torch.from_numpy(weights),
        )

    def shown_features(self, dropped: float, seed: int) -> NDArray[np.float32]:
        """The features (m, F) of all candidates as batches show them: a share of them has lost its states."""
        features = self.lists.features.copy()
        features[np.random.default_rng(seed).random(len(features)) < dropped, HAS_STATES] = 0
        return features

    def candidates(self, number: int) -> Candidates:
        """One list as a ranker is asked about it."""
        return self._candidates(number, 0.0, np.random.default_rng(0))

    def _candidates(self, number: int, dropped: float, rng: np.random.Generator) -> Candidates:
        place = self.lists.place(number)
        products = self.states.gather(self.lists.rows[place])
        features = self.lists.features[place]
        if dropped:
            lost = rng.random(len(features)) < dropped
            products, features = without_states(products, lost), features.copy()
            features[lost, HAS_STATES] = 0
        query = self.queries[number]
        vectors = np.empty((len(features), 0), np.float32)
        return Candidates(query, self.states.idf[query.ids], products, features, vectors, History.none(0))


def without_states(products: ProductTokens, lost: NDArray[np.bool_]) -> ProductTokens:
    """The same products, those that are lost (c,) without their tokens."""
    ids, states = products.ids.copy(), products.states.copy()
    ids[lost], states[lost] = -1, 0
    return ProductTokens(ids, states)


def shuffled(data: ListData, numbers: NDArray[np.int64], *, lists: int, dropped: float, seed: int) -> Iterator[Batch]:
    """An epoch of batches of `lists` queries each, in an order drawn anew for every seed."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(numbers)
    for start in range(0, len(order), lists):
        yield data.batch(order[start : start + lists].tolist(), dropped, int(rng.integers(2**31)))


def whole(data: ListData, numbers: NDArray[np.int64], *, lists: int = 8) -> Iterator[Batch]:
    """Batches of the lists as they are, every candidate of them, in order."""
    for start in range(0, len(numbers), lists):
        yield data.batch(numbers[start : start + lists].tolist(), 0.0, 0)


def merged_scores(lists: CandidateLists) -> NDArray[np.float32]:
    """What the first stage scored each candidate (m,)."""
    return lists.features[:, MERGED]

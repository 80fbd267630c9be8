"""Queries with their candidates, as training data of the ranker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from shelfwise.rerank.ranker.features import HAS_STATES, MERGED, Candidates, History, pad_batch
from shelfwise.rerank.ranker.network import Inputs
from shelfwise.retrieval.encoders.base import Tokens
from shelfwise.retrieval.index.token_states import ProductTokens, StoredStates

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


FOLD = "\n"
"""Separates the query and the number of the fold in a fold's name; queries do not contain it."""


def query_of_fold(name: str) -> str:
    """The query in a fold's name; a plain query is returned as it is."""
    return name.partition(FOLD)[0]


@dataclass(frozen=True, slots=True)
class CandidateLists:
    """n queries with their candidates, concatenated: those of query i are at offsets[i] to offsets[i + 1]."""

    queries: tuple[str, ...]
    offsets: Numbers
    """(n + 1,): the bounds of each query's candidates."""
    rows: Numbers
    """(m,): the candidates' rows in their version."""
    features: Floats
    """(m, F), see `shelfwise.rerank.ranker.features`."""
    bonus: Floats
    """(m,): what serving adds to a ranker's score for the type and price that the query asks for."""

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def lengths(self) -> Numbers:
        """(n,): number of candidates."""
        return np.diff(self.offsets)

    def place(self, number: int) -> slice:
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))

    def places(self, numbers: Numbers) -> Numbers:
        """Indices of the candidates of some queries, concatenated."""
        return np.concatenate([_NONE, *(np.arange(*self.offsets[each : each + 2]) for each in numbers.tolist())])

    @property
    def query_of(self) -> Numbers:
        """(m,): query number of each candidate."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def select(self, places: Numbers) -> CandidateLists:
        """The candidates at `places` (ascending), and all queries."""
        lengths = np.bincount(self.query_of[places], minlength=len(self))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return CandidateLists(self.queries, offsets, self.rows[places], self.features[places], self.bonus[places])

    def repeat(self, numbers: Sequence[int], names: Sequence[str]) -> CandidateLists:
        """The lists of these numbers (k,), possibly repeated, under these query names (k,)."""
        chosen = np.array(numbers, np.int64)
        places = self.places(chosen)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths[chosen])])
        return CandidateLists(tuple(names), offsets, self.rows[places], self.features[places], self.bonus[places])

    def sample(self, most: int, seed: int, of: Numbers | None = None) -> CandidateLists:
        """At most `most` candidates of each query, or of those in `of`: half of them the top ones, the others sampled.
        The sample depends on the seed and the query text."""
        drawn = set(range(len(self)) if of is None else of.tolist())
        kept = (self._drawn(each, most if each in drawn else len(self.rows), seed) for each in range(len(self)))
        return self.select(np.concatenate([_NONE, *kept]))

    def _drawn(self, number: int, most: int, seed: int) -> Numbers:
        place = self.place(number)
        count, head = place.stop - place.start, most // 2
        if count <= most:
            return np.arange(place.start, place.stop)
        text = f"{seed}/{self.queries[number]}".encode("utf-8", "surrogatepass")
        rng = np.random.default_rng(xxhash.xxh3_64_intdigest(text))
        behind = rng.choice(np.arange(head, count), most - head, replace=False)
        return np.asarray(np.concatenate([np.arange(head), np.sort(behind)]) + place.start)


_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class ListBatch:
    """B lists with c candidates each."""

    inputs: Inputs
    targets: Tensor
    """(B, c), or (B, c, 3) if they differ by kind of event."""
    is_candidate: Tensor
    """(B, c)."""
    weights: Tensor
    """(B,)."""


@dataclass(frozen=True, slots=True)
class ListData:
    """Lists and the inputs of their batches, without histories; see `shelfwise.rerank.training.history_training`."""

    lists: CandidateLists
    queries: Sequence[Tokens]
    """One entry per query, with the token dimension of the products."""
    states: StoredStates
    targets: NDArray[np.float32]
    """(m,): target score of each candidate; or (m, 3), one for each kind of event."""
    weights: NDArray[np.float32] | None = None
    """(n,): weights of the lists; None for equal weights."""

    def batch(self, numbers: Sequence[int], dropped: float, seed: int) -> ListBatch:
        """The batch of some lists. A share `dropped` of the candidates lose their token states."""
        rng = np.random.default_rng(seed)
        inputs = pad_batch([self._candidates(number, dropped, rng) for number in numbers], 0)
        chosen = np.array(numbers, np.int64)
        is_candidate = np.arange(inputs.features.shape[1]) < self.lists.lengths[chosen, None]
        targets = np.zeros((*is_candidate.shape, *self.targets.shape[1:]), np.float32)
        targets[is_candidate] = self.targets[self.lists.places(chosen)]
        return ListBatch(
            Inputs(*(torch.from_numpy(array) for array in inputs.arrays().values())),
            torch.from_numpy(targets),
            torch.from_numpy(is_candidate),
            torch.from_numpy(np.ones(len(chosen), np.float32) if self.weights is None else self.weights[chosen]),
        )

    def shown_features(self, dropped: float, seed: int) -> NDArray[np.float32]:
        """The features (m, F) of all candidates as in batches: a share of them has no token states."""
        features = self.lists.features.copy()
        features[np.random.default_rng(seed).random(len(features)) < dropped, HAS_STATES] = 0
        return features

    def candidates(self, number: int) -> Candidates:
        """One list as input of a ranker."""
        return self._candidates(number, 0.0, np.random.default_rng(0))

    def _candidates(self, number: int, dropped: float, rng: np.random.Generator) -> Candidates:
        place = self.lists.place(number)
        products = self.states.gather(self.lists.rows[place])
        features = self.lists.features[place]
        if dropped:
            lost = rng.random(len(features)) < dropped
            products, features = drop_states(products, lost), features.copy()
            features[lost, HAS_STATES] = 0
        query = self.queries[number]
        vectors = np.empty((len(features), 0), np.float32)
        return Candidates(query, self.states.idf[query.ids], products, features, vectors, History.none(0))


def drop_states(products: ProductTokens, lost: NDArray[np.bool_]) -> ProductTokens:
    """The same products without the tokens of those in the mask (c,)."""
    ids, states = products.ids.copy(), products.states.copy()
    ids[lost], states[lost] = -1, 0
    return ProductTokens(ids, states)


def shuffled_batches(
    data: ListData, numbers: NDArray[np.int64], *, lists: int, dropped: float, seed: int
) -> Iterator[ListBatch]:
    """An epoch of batches of `lists` queries each, in an order drawn from the seed."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(numbers)
    for start in range(0, len(order), lists):
        yield data.batch(order[start : start + lists].tolist(), dropped, int(rng.integers(2**31)))


def full_batches(data: ListData, numbers: NDArray[np.int64], *, lists: int = 8) -> Iterator[ListBatch]:
    """Batches of complete lists, in order."""
    for start in range(0, len(numbers), lists):
        yield data.batch(numbers[start : start + lists].tolist(), 0.0, 0)


def merged_scores(lists: CandidateLists) -> NDArray[np.float32]:
    """The merged first-stage scores (m,)."""
    return lists.features[:, MERGED]

"""Queries with their candidates, as the ranker is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CandidateLists:
    """n queries with their candidates, end to end: those of query i are at offsets[i] to offsets[i + 1]."""

    queries: tuple[str, ...]
    offsets: Numbers
    """(n + 1,)."""
    rows: Numbers
    """(m,): the candidates' rows in the version that they were found in."""
    features: Floats
    """(m, F), as `rerank.ranker.features` makes them."""

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def lengths(self) -> Numbers:
        """(n,): the number of candidates of each query."""
        return np.diff(self.offsets)

    def place(self, number: int) -> slice:
        """Where the candidates of one query are."""
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))

    def places(self, numbers: Numbers) -> Numbers:
        """Where the candidates of some queries are, end to end."""
        return np.concatenate([_NONE, *(np.arange(*self.offsets[each : each + 2]) for each in numbers.tolist())])

    @property
    def query_of(self) -> Numbers:
        """(m,): which query each candidate is of."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def taken(self, places: Numbers) -> CandidateLists:
        """The candidates at `places`, ascending, and all queries."""
        lengths = np.bincount(self.query_of[places], minlength=len(self))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return CandidateLists(self.queries, offsets, self.rows[places], self.features[places])

    def thinned(self, most: int, seed: int) -> CandidateLists:
        """At most so many candidates of each query: half of them its head, where the order matters most, the others
        drawn from behind it. A query's draw depends on the seed and its own text alone."""
        return self.taken(np.concatenate([self._drawn(number, most, seed) for number in range(len(self))] or [_NONE]))

    def _drawn(self, number: int, most: int, seed: int) -> Numbers:
        place = self.place(number)
        count, head = place.stop - place.start, most // 2
        if count <= most:
            return np.arange(place.start, place.stop)
        text = f"{seed}/{self.queries[number]}".encode("utf-8", "surrogatepass")
        rng = np.random.default_rng(xxhash.xxh3_64_intdigest(text))
        behind = rng.choice(np.arange(head, count), most - head, replace=False)
        return np.asarray(np.concatenate([np.arange(head), np.sort(behind)]) + place.start)


def joined(parts: Sequence[CandidateLists]) -> CandidateLists:
    """The lists of all parts, one part's behind the other's."""
    lengths = np.concatenate([_NONE, *(part.lengths for part in parts)])
    return CandidateLists(
        tuple(query for part in parts for query in part.queries),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.features for part in parts]),
    )


_NONE = np.empty(0, np.int64)

"""How far two rankers agree, on queries made from the catalog, and what each takes to score one of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.training.batches import ListData
from rerank.training.distillation import agreement
from rerank.training.synthetic_queries import synthetic_queries
from service.popularity import Popularity
from service.reranking import DEPTH
from service.snapshot import Snapshot
from service.training.candidate_lists import candidate_lists
from service.training.from_catalog import Progress, list_data

_FIRST = 10


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """What a ranker scores, and how long that takes."""

    scores: NDArray[np.float64]
    """(m,): of the candidates of all lists, end to end."""
    milliseconds: float
    """Of one of the longest lists, the median."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far one ranker orders as another one does."""

    agreement: float
    """The mean nDCG@10 by the other one's scores; see `rerank.training.distillation.agreement`."""
    first_ten: float
    """The mean share of the other one's ten best that are among its ten best."""
    queries: int


def sample_data(snapshot: Snapshot, count: int, popularity: Popularity, seed: int, progress: Progress) -> ListData:
    """So many queries made from the catalog, or as many as it gives, with the candidates that serving scores."""
    products = (snapshot.products[row] for row in range(len(snapshot.products)))
    queries = [query.text for query in synthetic_queries(products, count, seed)]
    progress.begin("candidates", len(queries), "queries")
    lists = candidate_lists(
        snapshot, queries, snapshot.built, depth=DEPTH, popularity=popularity, progress=progress.advance
    )
    progress.end(f"{len(lists.rows):,} of {len(queries):,} synthetic queries")
    return list_data(snapshot, lists, np.zeros(len(lists.rows), np.float32))


def timed_scores(rankers: Mapping[str, OnnxRanker], data: ListData, numbers: Sequence[int]) -> dict[str, Timed]:
    """Scores and times of rankers on some lists, one at least.

    Each list is scored by all of them before the next one, each time by another one first, so that what slows the
    machine slows them alike.
    """
    scores = {name: [np.empty(0)] for name in rankers}
    spent: dict[str, list[float]] = {name: [] for name in rankers}
    names, longest = list(rankers), max(data.lists.lengths[number] for number in numbers)
    for turn, number in enumerate(numbers):
        candidates = [data.candidates(number)]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            scores[name] += rankers[name].score(candidates)
            if data.lists.lengths[number] == longest:
                spent[name].append(time.perf_counter() - started)
    return {name: Timed(np.concatenate(scores[name]), float(np.median(spent[name])) * 1_000) for name in names}


def likeness(
    data: ListData, numbers: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> Likeness:
    """Of the scores `after` to those `before`, both of the candidates of some lists end to end."""
    targets = np.zeros(len(data.lists.rows), np.float32)
    targets[data.lists.places(numbers)] = before
    offsets = np.cumsum([0, *data.lists.lengths[numbers]]).tolist()
    shares = [_shared(before[start:end], after[start:end]) for start, end in itertools.pairwise(offsets)]
    agreed = agreement(replace(data, targets=targets), numbers, after)
    return Likeness(float(agreed.mean()), float(np.mean(shares)), len(numbers))


def _shared(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    first, now = (set(np.argsort(-each, kind="stable")[:_FIRST].tolist()) for each in (before, after))
    return len(first & now) / len(first)

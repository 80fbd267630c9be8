"""Hard negatives: products that a retriever ranks high for a query and that are not known positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.text_towers.dataset import Floats, Rows, TowerDataset

_BLOCK = 256
"""Queries per block of cosines."""
_JUDGED_SHARE = 0.5
"""Probability that the first negative is a judged one, if there is one."""
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class NegativeOptions:
    """Options of negative sampling."""

    count: int = 1
    """Negatives of each pair, in addition to the other pairs of its batch."""
    first: int = 101
    last: int = 500
    """Ranks of both retrievers; products above are too often relevant though unjudged."""
    pool: int = 50_000
    """Maximum products that are encoded to mine again; ranks are scaled by their share of the catalog."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativePools:
    """Negative pools of each training query, without its positives."""

    retrieved: Sequence[Rows]
    judged: Sequence[Rows]
    """Judged products below the gain of a positive."""


def window(ranked: Rows, first: int, last: int) -> Rows:
    """Ranks `first` to `last`, from 1, of rows best first; the lower half if there are fewer."""
    return ranked[min(first - 1, len(ranked) // 2) : last]


def build_pools(made: TowerDataset, rankings: Sequence[Sequence[Rows]]) -> NegativePools:
    """Builds pools; `rankings` has each retriever's results for each query of `made.training`."""
    retrieved, judged = [], []
    for place, (positive, unfit) in enumerate(_known(made)):
        found = [_NOTHING, *(ranking[place] for ranking in rankings)]
        retrieved.append(np.setdiff1d(np.concatenate(found), positive))
        judged.append(unfit)
    return NegativePools(retrieved, judged)


def draw_negatives(
    made: TowerDataset, pairs: Rows, found: NegativePools, options: NegativeOptions, size: int, rng: np.random.Generator
) -> Rows:
    """Draws negatives (n, count) for training pairs (n,); `size` is the catalog's. Random products that are not
    positives fill up short pools."""
    place_of = {number: place for place, number in enumerate(made.training.tolist())}
    positives = [positive for positive, _ in _known(made)]
    result = np.empty((len(pairs), options.count), np.int64)
    for at, query in enumerate(made.query_of[pairs].tolist()):
        place = place_of[query]
        chosen = _some(found.retrieved[place], options.count, rng)
        judged = found.judged[place]
        if options.count and len(judged) and rng.random() < _JUDGED_SHARE:
            chosen = np.concatenate([rng.choice(judged, 1), chosen])[: options.count]
        missing = options.count - len(chosen)
        result[at] = np.concatenate([chosen, _any(positives[place], missing, size, rng)]) if missing else chosen
    return result


def nearest(queries: Floats, products: Floats, rows: Rows, last: int) -> list[Rows]:
    """The `last` products of greatest cosine for each query (q, d), best first; `products` (p, d) are unit vectors with
    their `rows` (p,)."""
    last = min(last, len(rows))
    blocks = (queries[start : start + _BLOCK] for start in range(0, len(queries), _BLOCK))
    return [ranked for block in blocks for ranked in _best(block @ products.T, rows, last)]


def _best(scores: NDArray[np.float32], rows: Rows, last: int) -> Iterator[Rows]:
    places = np.argpartition(-scores, last - 1, axis=1)[:, :last]
    # Ties are ordered by row, whatever the partition returned.
    places = np.sort(places, axis=1)
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    yield from rows[np.take_along_axis(places, order, axis=1)]


def _known(made: TowerDataset) -> Iterator[tuple[Rows, Rows]]:
    """The positives of each training query, and its judged non-positives, ascending."""
    starts = np.searchsorted(made.query_of, made.training)
    ends = np.searchsorted(made.query_of, made.training, side="right")
    is_positive = made.is_positive
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows, fits = made.rows[start:end], is_positive[start:end]
        yield rows[fits], rows[~fits]


def _some(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    return rng.choice(rows, min(count, len(rows)), replace=False) if len(rows) else rows


def _any(positive: Rows, count: int, size: int, rng: np.random.Generator) -> Rows:
    proposed = rng.integers(0, size, count + len(positive) + 8)
    left = proposed[~np.isin(proposed, positive)]
    # A catalog of positives only has no negatives: the loss masks these.
    return np.resize(left if len(left) else proposed, count)

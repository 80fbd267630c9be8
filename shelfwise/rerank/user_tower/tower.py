"""A trained user tower over the products of one catalog, in numpy: vectors of shoppers and scores of products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import MAX_ACTS
from shelfwise.rerank.ranker.onnx import open_model
from shelfwise.rerank.user_tower.histories import (
    MAX_COUNTED,
    Floats,
    Histories,
    Ints,
    TextPlaces,
    Windows,
    certainty,
    text_scores,
)
from shelfwise.rerank.user_tower.item_neighbours import NO_NEIGHBOURS, WeightedNeighbours
from shelfwise.retrieval.errors import USER_TOWER, ModelError

_CHUNK = 256
"""Shoppers per block: their product vectors take about 20 MB."""
_DEEPEST = 1_000
"""The number of best products, by either order, that are mixed in a large catalog."""
_BEHIND = np.float32(1e3)
"""The amount by which the scores of the others are lowered."""
_SHRINKS = 20.0
"""Number of products at which a category's mean bias has the weight of the global mean."""


class Encode(Protocol):
    """The network of a tower, in any runtime."""

    def __call__(self, vectors: Floats, own: Floats, kinds: Ints, gaps: Ints) -> tuple[Floats, Floats]:
        """Query vectors (n, d) and (n, e) of windows with product vectors (n, w, d), own vectors (n, w, e), kinds and
        gaps (n, w)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ProductParameters:
    """Parameters of single products in addition to their text."""

    rows: Ints
    """(m,): ascending."""
    own: Floats
    """(m, e)."""
    bias: Floats
    """(m,): log popularity."""
    category_bias: Mapping[int, float]
    """Bias of a new product, by category."""
    usual_bias: float
    """Bias of a new product of another category."""
    neighbours: WeightedNeighbours = NO_NEIGHBOURS
    """Item neighbours; positions index `rows`."""
    chosen: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    """(m,): how often each was chosen."""
    prior: float = 0.0
    """The weight of a product's place by its text (`TextPlaces`), in choices; 0 if it is not used."""

    def biases(self, count: int, categories: Ints | None) -> Floats:
        """Biases (N,) of all products of the catalog."""
        made = np.full(count, self.usual_bias, np.float32)
        if categories is not None and self.category_bias:
            by_number = np.full(int(categories.max(initial=-1)) + 2, self.usual_bias, np.float32)
            for number, bias in self.category_bias.items():
                by_number[number] = bias
            made = by_number[categories]
        made[self.rows] = self.bias
        return made


def smooth_means(biases: Floats, groups: Ints) -> tuple[dict[int, float], float]:
    """Mean bias (m,) of each group, smoothed to the global mean; groups below 0 are ignored."""
    usual = float(biases.mean()) if len(biases) else 0.0
    numbers, places = np.unique(groups, return_inverse=True)
    sums = np.bincount(places, biases, len(numbers)) + _SHRINKS * usual
    means = sums / (np.bincount(places, minlength=len(numbers)) + _SHRINKS)
    smoothed = zip(numbers.tolist(), means.tolist(), strict=True)
    return {number: mean for number, mean in smoothed if number >= 0}, usual


class UserTower:
    """Recommends by dot products of a shopper's vectors with the products'; see
    `shelfwise.rerank.user_tower.user_tower_training.fit`."""

    def __init__(
        self, encode: Encode, catalog: Floats, learned: ProductParameters, categories: Ints | None = None
    ) -> None:
        """`catalog` (N, d) are the vectors of all products, `categories` (N,) their category numbers."""
        self.encode = encode
        self.catalog = catalog
        self.learned = learned
        self.bias = learned.biases(len(catalog), categories)
        """(N,)."""
        self._shares = self.shares(learned.prior) if learned.prior else None
        self._places = np.full(len(catalog) + 1, len(learned.rows))
        self._places[learned.rows] = np.arange(len(learned.rows))
        self._own = np.concatenate([learned.own, np.zeros((1, learned.own.shape[1]), np.float32)])

    def vectors(self, histories: Histories, now: NDArray[np.float64] | None = None) -> Floats:
        """Text vectors (n, d) of n shoppers, which alone score products without choices; 0 for an empty history."""
        return self.parts(histories, now)[0]

    def parts(self, histories: Histories, now: NDArray[np.float64] | None = None) -> tuple[Floats, Floats]:
        """Vectors in the text space (n, d) and in the space of own vectors (n, e)."""
        windows = histories.newest(now)
        made = [self._encoded(windows, slice(at, at + _CHUNK)) for at in range(0, len(histories), _CHUNK)]
        if not made:
            return np.empty((0, self.catalog.shape[1]), np.float32), np.empty((0, self._own.shape[1]), np.float32)
        is_any = (histories.lengths > 0)[:, None]
        near, own = (np.concatenate(each) for each in zip(*made, strict=True))
        return np.where(is_any, near, 0).astype(np.float32), np.where(is_any, own, 0).astype(np.float32)

    def scores(self, histories: Histories, now: NDArray[np.float64] | None = None) -> Floats:
        """Log-likelihood scores (n, N) up to a constant for each shopper; only popularity for an empty history. `now`
        (n,) in seconds since 1970, if known."""
        near, own = self.parts(histories, now)
        made = near @ self.catalog.T + self.bias
        made[:, self.learned.rows] += own @ self.learned.own.T
        if self.learned.neighbours.weight:
            made += self.learned.neighbours.weight * self.neighbour_scores(self.learned.neighbours, histories)
        made = np.asarray(made, np.float32)
        if self._shares is None:
            return made
        return self.mix(made, text_scores(self.catalog, histories), histories, self._shares)

    def shares(self, prior: float) -> Floats:
        """The share (N,) of its own score that each product keeps if its place by text has a weight of `prior`
        choices."""
        made = np.zeros(len(self.catalog), np.float32)
        made[self.learned.rows] = certainty(self.learned.chosen, prior)
        return made

    def mix(self, scores: Floats, texts: Floats, histories: Histories, shares: Floats) -> Floats:
        """Scores (n, N) mixed with the places by text, of which each product keeps a share (N,); those of the history
        keep theirs."""
        made = scores.copy()
        for number in np.flatnonzero(histories.lengths).tolist():
            others = np.ones(scores.shape[1], np.bool_)
            others[histories.products[histories.of_shopper(number)]] = False
            rows = np.flatnonzero(others)
            if len(rows) > 2 * _DEEPEST:
                best = (np.argpartition(-each[number, rows], _DEEPEST)[:_DEEPEST] for each in (scores, texts))
                made[number, rows] -= _BEHIND
                rows = rows[np.union1d(*best)]
            given = scores[number, rows], texts[number, rows], shares[rows]
            made[number, rows] = TextPlaces.of(*given).mixed(*given)
        return made

    def neighbour_scores(self, weighted: WeightedNeighbours, histories: Histories) -> Floats:
        """Neighbour scores (n, N) of n shoppers, by neighbours of `learned.rows`."""
        import scipy.sparse as sp

        rows, neighbours = self.learned.rows, weighted.neighbours
        ages = np.repeat(histories.starts[1:], histories.lengths) - np.arange(len(histories.products)) - 1
        places = self._places[histories.products]
        counted = (ages < MAX_COUNTED) & (places < len(rows))
        owners = np.repeat(np.arange(len(histories)), histories.lengths)[counted]
        weights = (weighted.decay ** ages[counted]).astype(np.float32)
        chosen = sp.csr_matrix((weights, (owners, places[counted])), (len(histories), len(rows)))
        shape = (len(neighbours), len(rows))
        strengths = sp.csr_matrix((neighbours.strengths, neighbours.others, neighbours.starts), shape)
        made = np.zeros((len(histories), len(self.catalog)), np.float32)
        made[:, rows] = (chosen @ strengths).toarray()
        return made

    def _encoded(self, windows: Windows, part: slice) -> tuple[Floats, Floats]:
        products = windows.products[part, -MAX_ACTS:]
        vectors = self.catalog[products] * (products >= 0)[..., None]
        return self.encode(
            vectors.astype(np.float32), self._own[self._places[products]], windows.kinds[part], windows.gaps[part]
        )


INPUTS = ("vectors", "own", "kinds", "gaps")
OUTPUTS = ("near", "own_near")


class OnnxEncoder:
    """Encodes shoppers with ONNX Runtime. Thread-safe; each call computes in the calling thread."""

    def __init__(self, path: Path) -> None:
        """Raises ModelDamagedError for a graph that cannot be loaded or has other inputs."""
        cure = "train the tower again: shelfwise train users"
        self._session, self._inputs = open_model(path, INPUTS, OUTPUTS, "tower", cure, USER_TOWER)

    def __call__(
        self, vectors: NDArray[np.float32], own: NDArray[np.float32], kinds: Ints, gaps: Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raises ModelError if the graph fails or the output is not finite."""
        given = dict(zip(INPUTS, (vectors, own, kinds, gaps), strict=True))
        try:
            near, mine = self._session.run(None, {name: given[name] for name in self._inputs})
        except Exception as error:
            raise ModelError(f"the user tower failed on a history ({str(error)[:300]})", USER_TOWER) from error
        if not (np.isfinite(near).all() and np.isfinite(mine).all()):
            raise ModelError("the user tower returned vectors that are not finite: train it again", USER_TOWER)
        return near, mine

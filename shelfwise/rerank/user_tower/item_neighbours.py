"""Item neighbours by two ridge regressions: of each product on all others (EASE: Steck 2019, Embarrassingly Shallow
Autoencoders for Sparse Data, section 3), and of the products of a visit on those chosen before it (SLIT: Choi et al.
2021, Session-aware Linear Item-Item Models for Session-based Recommendation, section 3.3). In contrast to cosines of
pairs (item-based kNN), a product does not count what other products already explain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.user_tower.histories import DAY, Histories, Ints, visit_numbers
from shelfwise.retrieval.errors import TrainingError

if TYPE_CHECKING:
    import scipy.sparse as sp


MAX_NEIGHBOURS = 400
"""Number of neighbours of each product, those with the largest weights."""
MAX_PRODUCTS = 10_000
"""Number of most popular products that have neighbours; their matrix takes 400 MB."""
_ROWS = 1_000
"""Products per block of co-occurrence counts; it bounds the memory."""


def find_neighbours(
    histories: Histories,
    rows: Ints,
    options: NeighbourOptions,
    *,
    least_shoppers: int,
    most: int = MAX_NEIGHBOURS,
    most_products: int = MAX_PRODUCTS,
) -> Neighbours:
    """The `most` strongest neighbours of the products at rows (m,), ascending, among those with enough common shoppers.
    Positions index `rows`. Raises TrainingError if the regression cannot be solved."""
    table = who_chose(histories, rows)
    places = np.sort(np.argsort(-table.getnnz(axis=0), kind="stable")[:most_products])
    if not len(places):
        return Neighbours(np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    weights = _weights(histories, rows[places], options)
    if options.transition:
        weights += np.float32(options.transition) * _transitions(histories, rows[places], options)
        np.clip(weights, -1.0, 1.0, out=weights)
    chosen = table[:, places].tocsr()
    by_product = chosen.T.tocsr()
    counts = np.zeros(len(rows), np.int64)
    others, strengths = [], []
    for part in _parts(len(places)):
        common = (by_product[part] @ chosen).toarray()
        strong = np.where(common >= least_shoppers, weights[part], 0.0)
        best = np.argsort(-np.abs(strong), axis=1, kind="stable")[:, :most]
        for place, says, found in zip(places[part], strong, best, strict=True):
            kept = np.sort(found[says[found] != 0])
            counts[place] = len(kept)
            others.append(places[kept].astype(np.int32))
            strengths.append(says[kept].astype(np.float32))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Neighbours(starts, np.concatenate(others), np.concatenate(strengths))


def _weights(histories: Histories, rows: Ints, options: NeighbourOptions) -> NDArray[np.float32]:
    """(m, m): regression weight of the first product for the second. With G the co-occurrence counts and P = (G +
    ridge)^-1 it is -P_ij / P_jj (equation 8); 0 without a ridge."""
    from scipy.linalg import lapack

    if options.ridge is None:
        return np.zeros((len(rows), len(rows)), np.float32)
    table = who_chose(histories, rows, options.half_life)
    table.data = np.sqrt(table.data)
    matrix, diagonal = _factor(table, options.ridge), np.diag_indices(len(rows))
    # In place, as in `_factor`; it leaves a lower triangle.
    _, problem = lapack.spotri(matrix, lower=True, overwrite_c=True)
    if problem or not np.isfinite(matrix[diagonal]).all():
        raise TrainingError(_UNSOLVED)
    for part in _parts(len(rows)):
        matrix[: part.start, part] = matrix[part, : part.start].T
        block = np.tril(matrix[part, part])
        matrix[part, part] = block + np.tril(block, -1).T
    matrix /= -matrix[diagonal]
    np.clip(matrix, -1.0, 1.0, out=matrix)
    matrix[diagonal] = options.again
    return matrix


_UNSOLVED = "the item neighbours cannot be computed from these choices; are their times far apart?"
_TRANSITION_RIDGE = 30.0
"""Like `NeighbourOptions.ridge`, for transitions."""
_MAX_VISITS, _MAX_BEFORE = 100_000, 200
"""The number of newest visits from which transitions are estimated, and of newest acts before each of them."""


def _transitions(histories: Histories, rows: Ints, options: NeighbourOptions) -> NDArray[np.float32]:
    """(m, m): regression weight of the first product, chosen before a visit, for the second in it: (X'X + ridge)^-1 X'Y
    (SLIT, equation 9)."""
    from scipy.linalg import lapack

    before, inside = _visits(histories, rows, options)
    if not before.data.any():  # nobody came again for something
        return np.zeros((len(rows), len(rows)), np.float32)
    made, problem = lapack.spotrs(
        _factor(before, _TRANSITION_RIDGE), _gram(before, inside), lower=True, overwrite_b=True
    )
    if problem or not np.isfinite(made).all():
        raise TrainingError(_UNSOLVED)
    if not options.again:
        made[np.diag_indices(len(rows))] = 0.0
    return np.asarray(made, np.float32)


def _visits(histories: Histories, rows: Ints, options: NeighbourOptions) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Visits (v), none of them a shopper's first: the products at rows (m,) chosen before each and in it, (v, m) each.
    Without `again`, those in it are new to the shopper. Both are weighted by the root of the visit's weight."""
    import scipy.sparse as sp

    column = np.full(int(max(histories.products.max(), rows[-1])) + 1, -1)
    column[rows] = np.arange(len(rows))
    first = np.flatnonzero(np.diff(visit_numbers(histories), prepend=-1))
    ends = np.append(first[1:], len(histories.products))
    begins = np.repeat(histories.starts[:-1], histories.lengths)[first]
    times = np.nan_to_num(histories.times[first])
    later = np.argsort(times, kind="stable")
    later = later[(first > begins)[later]][-_MAX_VISITS:]

    def table(starts: Ints, stops: Ints) -> sp.csr_matrix:
        lengths = stops - starts
        acts = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        places = column[histories.products[acts]]
        visits = np.repeat(np.arange(len(starts)), lengths)[places >= 0]
        pairs = np.unique(visits * len(rows) + places[places >= 0])
        return sp.csr_matrix((np.ones(len(pairs)), np.divmod(pairs, len(rows))), (len(starts), len(rows)))

    before = table(np.maximum(begins, first - _MAX_BEFORE)[later], first[later])
    inside = table(first[later], ends[later])
    if not options.again:
        inside -= inside.multiply(before)
    worth = (inside.getnnz(axis=1) > 0).astype(np.float64)
    if options.transition_half_life is not None:
        worth *= 0.5 ** ((times.max(initial=0.0) - times[later]) / DAY / options.transition_half_life)
    weights = sp.diags(np.sqrt(worth))
    return (weights @ before).tocsr(), (weights @ inside).tocsr()


def _factor(table: sp.csr_matrix, ridge: float) -> NDArray[np.float32]:
    """(m, m): the Cholesky factor of a table's (n, m) Gram matrix with a ridge, a lower triangle."""
    from scipy.linalg import lapack

    matrix = _gram(table, table)
    diagonal = np.diag_indices(len(matrix))
    matrix[diagonal] += ridge * matrix[diagonal].mean()
    # It works in place, on Fortran order.
    _, problem = lapack.spotrf(matrix, lower=True, overwrite_a=True)
    if problem:
        raise TrainingError(_UNSOLVED)
    return matrix


def _gram(one: sp.csr_matrix, other: sp.csr_matrix) -> NDArray[np.float32]:
    """(m, m): inner products of the columns of two tables (n, m)."""
    by_product = one.T.tocsr()
    made = np.empty((one.shape[1], other.shape[1]), np.float32, order="F")
    for part in _parts(len(made)):
        made[part] = (by_product[part] @ other).toarray()
    return made


def _parts(count: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]


# A low-rank factorisation cannot represent which two of a thousand products are a pair; a table of pairs can. A tower
# scores by both.


@dataclass(frozen=True, slots=True)
class NeighbourOptions:
    """Options of item neighbours."""

    ridge: float | None = 25.0
    """Added to the number of shoppers who chose each product, as a multiple of its mean; higher values reduce the
    effect of few shoppers. None for transitions only."""
    half_life: float | None = None
    """Days after which a choice counts half; None if all count the same."""
    again: float = 0.0
    """A product's weight for itself, if shoppers may choose it again; the first regression leaves it out."""
    transition: float = 0.0
    """Weight of the transitions, relative to the first regression; 0 for none."""
    transition_half_life: float | None = None
    """Days after which a visit counts half for transitions; None if all count the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Sparse weights between m products that the same shoppers chose, by position."""

    starts: Ints
    """(m + 1,): neighbours of position i are `others[starts[i]:starts[i + 1]]`."""
    others: NDArray[np.int32]
    """(p,): positions, each product's ascending."""
    strengths: NDArray[np.float32]
    """(p,): -1 to 1, regression weight of the position for the neighbour."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def some(self, places: Ints) -> Neighbours:
        """Restricts to the products at positions (k,), which are renumbered 0 to k - 1."""
        import scipy.sparse as sp

        whole = sp.csr_matrix((self.strengths, self.others, self.starts), (len(self), len(self)))
        chosen = whole[places][:, places].sorted_indices()
        return Neighbours(chosen.indptr.astype(np.int64), chosen.indices.astype(np.int32), chosen.data)

    def problem(self, count: int) -> str:
        """The error in the arrays for this number of products, or ""."""
        bounds = self.starts
        if len(bounds) != count + 1 or bounds[0] != 0 or bounds[-1] != len(self.others) or (np.diff(bounds) < 0).any():
            return "has bounds of neighbours that do not match"
        if len(self.others) != len(self.strengths) or ((self.others < 0) | (self.others >= count)).any():
            return "names neighbours that it does not have"
        return "" if (np.abs(self.strengths) <= 1).all() else "has strengths of neighbours that are not within -1 and 1"

    def scores(self, places: Ints, fading: float) -> NDArray[np.float32]:
        """Scores (m,) by the products at positions (w,), oldest first, -1 for none; each older one has `fading` times
        the weight of the next newer one."""
        chosen: dict[int, float] = {}
        for age, place in enumerate(places[::-1].tolist()):
            if place >= 0:
                chosen[place] = chosen.get(place, 0.0) + fading**age
        if not chosen:
            return np.zeros(len(self), np.float32)
        parts = [slice(int(self.starts[place]), int(self.starts[place + 1])) for place in chosen]
        others = np.concatenate([self.others[part] for part in parts])
        strengths = np.concatenate(
            [self.strengths[part] * weight for part, weight in zip(parts, chosen.values(), strict=True)]
        )
        return np.bincount(others, strengths, len(self)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedNeighbours:
    """Neighbours and their weight in a tower's scores."""

    neighbours: Neighbours
    weight: float
    """Weight of the neighbour scores; 0 to ignore them."""
    decay: float
    options: NeighbourOptions | None = None
    """Options of the training, if any."""

    def some(self, places: Ints) -> WeightedNeighbours:
        return replace(self, neighbours=self.neighbours.some(places)) if self.weight else self


NO_NEIGHBOURS = WeightedNeighbours(
    Neighbours(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)), 0.0, 1.0
)


# Own vectors of products: a truncated singular value decomposition of who chose them (as in PureSVD: Cremonesi, Koren &
# Turrin 2010, section 3.3), computed once. Vectors trained with the tower overfitted the training shoppers and
# predicted the next product of others worse.

_SHRINKS = 2.0
"""Number of shoppers at which a product's vector has a length of about 0.7; it approaches 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Own vectors of products, and the contribution of each of n shoppers to them. A product's vector is the sum over
    its shoppers of `loudness` x `reach` x the shopper's vector. Training subtracts the shopper's own contribution, so
    that the target does not leak through the vectors."""

    rows: Ints
    """(m,): ascending."""
    vectors: NDArray[np.float32]
    """(m, e)."""
    reach: NDArray[np.float32]
    """(m,)."""
    shoppers: NDArray[np.float32]
    """(n, e)."""
    loudness: NDArray[np.float32]
    """(n,)."""


def who_chose(histories: Histories, rows: Ints, half_life: float | None = None) -> sp.csr_matrix:
    """(n, m): 1 if a shopper chose the product at rows (m,), ascending. With a `half_life` in days the newest choice is
    decayed; times have to be known."""
    import scipy.sparse as sp

    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    is_kept = np.isin(histories.products, rows)
    place = np.searchsorted(rows, histories.products[is_kept])
    pairs = owner[is_kept] * len(rows) + place
    # Acts are oldest first: the newest of repeated choices is the first in reverse.
    pairs, last = np.unique(pairs[::-1], return_index=True)
    counted = np.ones(len(pairs))
    if half_life is not None and len(pairs):
        days = (histories.times.max() - histories.times[is_kept][::-1][last]) / DAY
        counted = 0.5 ** (days / half_life)
    return sp.csr_matrix(
        (counted, (pairs // max(len(rows), 1), pairs % max(len(rows), 1))), (len(histories), len(rows))
    )


def factorize(histories: Histories, count: int, width: int, *, least_shoppers: int, most: int) -> Factors:
    """Factorises choices of a catalog of `count` products; the most popular products get a vector. The dot product
    approximates the cosine of the sets of shoppers; active shoppers count less per pair. Unused columns are 0."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import svds

    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    pairs = np.unique(owner * count + histories.products)
    chosen = np.bincount(pairs % count, minlength=count)
    often = np.argsort(-chosen, kind="stable")[:most]
    rows = np.sort(often[chosen[often] >= max(1, least_shoppers)])
    table = who_chose(histories, rows)
    loudness = 1 / np.sqrt(1 + np.log2(np.maximum(table.getnnz(axis=1), 1)))
    reach = 1 / np.sqrt(chosen[rows] + _SHRINKS)
    made, shoppers = np.zeros((len(rows), width)), np.zeros((len(histories), width))
    rank = min(width, min(table.shape) - 1)
    if rank > 0:
        scaled = sp.diags(loudness) @ table @ sp.diags(reach)
        # A given start vector makes the factors deterministic.
        directions, weights, others = svds(scaled, k=rank, v0=np.ones(min(scaled.shape)))
        made[:, :rank], shoppers[:, :rank] = others.T * weights, directions
    arrays = (each.astype(np.float32) for each in (made, reach, shoppers, loudness))
    return Factors(rows, *arrays)

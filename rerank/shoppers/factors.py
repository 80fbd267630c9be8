"""Own vectors of products: which of them the same shoppers chose, in a few columns.

They are factors of a truncated singular value decomposition (as in Cremonesi, Koren & Turrin 2010, PureSVD, section
3.3), made once and not trained on: vectors that the tower itself learned for each product remembered the training
shoppers, and foretold the next product of others worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from rerank.shoppers.histories import DAY, Histories, Ints

_SHRINKS = 2.0
"""A product that so many shoppers chose has a vector of about 0.7; the more, the nearer to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The products that have a vector of their own, and what each of n shoppers put into these.

    A product's vector is the sum over its shoppers of `loudness` x `reach` x the shopper's vector. Who learns from a
    shopper takes their part out first: else it would learn to find what it is to foretell in the vectors themselves.
    """

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
    """(n, m): 1 where a shopper chose the product of a row, of rows (m,) ascending, however often.

    With a `half_life` in days the last time counts, half as much after so many days; times have to be known.
    """
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    is_kept = np.isin(histories.products, rows)
    place = np.searchsorted(rows, histories.products[is_kept])
    pairs = owner[is_kept] * len(rows) + place
    # Acts stand oldest first: of what was chosen again, the last time is the first from behind.
    pairs, last = np.unique(pairs[::-1], return_index=True)
    counted = np.ones(len(pairs))
    if half_life is not None and len(pairs):
        days = (histories.times.max() - histories.times[is_kept][::-1][last]) / DAY
        counted = 0.5 ** (days / half_life)
    return sp.csr_matrix(
        (counted, (pairs // max(len(rows), 1), pairs % max(len(rows), 1))), (len(histories), len(rows))
    )


def own_vectors(histories: Histories, count: int, width: int, *, least_shoppers: int, most: int) -> Factors:
    """Of a catalog of `count` products, those that enough shoppers chose, at most so many, with their vectors.

    Their dot product is about the cosine of who chose them; shoppers who chose much say less of each pair. Columns that
    so few products and shoppers do not fill are 0.
    """
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
        # A first vector that is given makes the same factors each time.
        directions, weights, others = svds(scaled, k=rank, v0=np.ones(min(scaled.shape)))
        made[:, :rank], shoppers[:, :rank] = others.T * weights, directions
    told = (each.astype(np.float32) for each in (made, reach, shoppers, loudness))
    return Factors(rows, *told)

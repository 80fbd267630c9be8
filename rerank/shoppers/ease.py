"""Learns which products go together: a ridge regression of each product on all others (EASE: Steck 2019, Embarrassingly
Shallow Autoencoders for Sparse Data, section 3).

Cosines of pairs (item-based kNN) count what all shoppers choose once for each product beside it; here products explain
what others have explained no second time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from rerank.shoppers.factors import who_chose
from rerank.shoppers.histories import Histories, Ints
from rerank.shoppers.neighbours import NeighbourOptions, Neighbours
from retrieval.errors import TrainingError

MOST = 400
"""Products beside each one, those of which it says most."""
MOST_PRODUCTS = 10_000
"""That have any, those that most shoppers chose: their pairs are solved for in one matrix of so many rows, 400 MB."""
_ROWS = 1_000
"""Products whose shoppers in common are counted at once: it bounds the memory."""


def neighbours_of(
    histories: Histories,
    rows: Ints,
    options: NeighbourOptions,
    *,
    least_shoppers: int,
    most: int = MOST,
    most_products: int = MOST_PRODUCTS,
) -> Neighbours:
    """Of the products at rows (m,), ascending: the `most` of which each says most, of those that at least so many
    shoppers chose with it. A place is a place in `rows`.

    Raises TrainingError where the pairs cannot be solved for.
    """
    table = who_chose(histories, rows)
    places = np.sort(np.argsort(-table.getnnz(axis=0), kind="stable")[:most_products])
    if not len(places):
        return Neighbours(np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    told = _weights(histories, rows[places], options)
    chosen = table[:, places].tocsr()
    by_product = chosen.T.tocsr()
    counts = np.zeros(len(rows), np.int64)
    others, strengths = [], []
    for part in _parts(len(places)):
        common = (by_product[part] @ chosen).toarray()
        strong = np.where(common >= least_shoppers, told[part], 0.0)
        best = np.argsort(-np.abs(strong), axis=1, kind="stable")[:, :most]
        for place, says, found in zip(places[part], strong, best, strict=True):
            kept = np.sort(found[says[found] != 0])
            counts[place] = len(kept)
            others.append(places[kept].astype(np.int32))
            strengths.append(says[kept].astype(np.float32))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Neighbours(starts, np.concatenate(others), np.concatenate(strengths))


def _weights(histories: Histories, rows: Ints, options: NeighbourOptions) -> NDArray[np.float32]:
    """(m, m): what having chosen the first product says of choosing the second.

    With G the shoppers that products have in common and P = (G + ridge)^-1 it is -P_ij / P_jj (equation 8).
    """
    table = who_chose(histories, rows, options.half_life)
    table.data = np.sqrt(table.data)
    by_product = table.T.tocsr()
    matrix = np.empty((len(rows), len(rows)), np.float32, order="F")
    for part in _parts(len(rows)):
        matrix[part] = (by_product[part] @ table).toarray()
    diagonal = np.diag_indices(len(rows))
    matrix[diagonal] += options.ridge * matrix[diagonal].mean()
    # Both work in the matrix that they are given, which is in the order that they want, and leave a lower triangle.
    _, problem = lapack.spotrf(matrix, lower=True, overwrite_a=True)
    if not problem:
        _, problem = lapack.spotri(matrix, lower=True, overwrite_c=True)
    if problem or not np.isfinite(matrix[diagonal]).all():
        raise TrainingError("what shoppers chose cannot be solved for pairs of products: times that are far apart?")
    for part in _parts(len(rows)):
        matrix[: part.start, part] = matrix[part, : part.start].T
        block = np.tril(matrix[part, part])
        matrix[part, part] = block + np.tril(block, -1).T
    matrix /= -matrix[diagonal]
    np.clip(matrix, -1.0, 1.0, out=matrix)
    matrix[diagonal] = options.again
    return matrix


def _parts(count: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]

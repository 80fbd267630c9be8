"""Products and vectors of a version with live changes laid over them. The version's own files stay as they are.

Rows of the version keep their numbers; a product that came between rebuilds gets the next free one, so among equal
scores it stands behind the older products until the next version puts everything in the order of ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Tokens
from retrieval.index.token_states import PADDING, ProductTokens, TokenRuns, TokenStates
from retrieval.index.vectors import NearestRows, Rows, VectorIndex, Vectors
from retrieval.records import Product
from retrieval.store.signals import COLUMNS, ProductSignals, SignalColumns, columns_of, signal_row

_MOST_PASSED_OVER = 500
"""Masked rows that a search asks for on top, to drop them; beyond that the index is told what is allowed."""


class Products(Protocol):
    """The products of a snapshot, by row."""

    def __len__(self) -> int:
        """Rows that may be asked for."""
        ...

    def __getitem__(self, row: int) -> Product:
        """The product of a row."""
        ...

    def id_of(self, row: int) -> str:
        """The id of one row, without reading the product."""
        ...

    def row_of(self, product_id: str) -> int | None:
        """The row of a product id, or None where there is no such product."""
        ...


@dataclass(frozen=True, slots=True)
class ChangedProducts:
    """Products, some of them replaced, some gone, some new."""

    base: Products
    changed: Mapping[int, Product | None] = field(default_factory=dict)
    """By row; None for one that is gone."""
    added: Mapping[str, int] = field(default_factory=dict)
    """The rows of ids that the base does not have, those that are gone again among them."""

    def __len__(self) -> int:
        return len(self.base) + len(self.added)

    def __getitem__(self, row: int) -> Product:
        if row not in self.changed:
            return self.base[row]
        product = self.changed[row]
        if product is None:
            raise IndexError(f"the product of row {row} is gone")
        return product

    def id_of(self, row: int) -> str:
        """The id of one row."""
        return self[row].id if row in self.changed else self.base.id_of(row)

    def row_of(self, product_id: str) -> int | None:
        """The row of a product id, or None where there is no such product."""
        row = self.place_of(product_id)
        return None if row is None or self.changed.get(row, _THERE) is None else row

    def place_of(self, product_id: str) -> int | None:
        """The row that an id has or had."""
        row = self.base.row_of(product_id)
        return self.added.get(product_id) if row is None else row

    def with_changes(self, changed: Mapping[int, Product | None], added: Mapping[str, int]) -> ChangedProducts:
        """These products with more changes, the later ones counting."""
        return ChangedProducts(
            self.base, MappingProxyType({**self.changed, **changed}), MappingProxyType({**self.added, **added})
        )


_THERE = Product("", "")


class ChangedVectors:
    """A vector index, some of its vectors replaced, some gone, some new. Read-only, as every index."""

    def __init__(self, base: VectorIndex, masked: frozenset[int], rows: Rows, vectors: Vectors) -> None:
        """`masked` are the rows of `base` that do not count any more; `rows` (n,), ascending, have the `vectors` (n,
        dimension) instead, or anew."""
        self._base = base
        self._masked = masked
        self._rows = rows
        self._vectors = vectors
        self._is_masked = np.zeros(base.size, dtype=bool)
        self._is_masked[sorted(masked)] = True

    @classmethod
    def over(cls, base: VectorIndex) -> ChangedVectors:
        """Nothing changed yet."""
        nothing = np.empty((0, base.dimension), dtype=np.float32)
        return cls(base, frozenset(), np.empty(0, dtype=np.int64), nothing)

    def with_changes(self, vectors: Mapping[int, Vectors | None]) -> ChangedVectors:
        """This index with other vectors (dimension,) for some rows, None for rows that are gone."""
        laid = dict(zip(self._rows.tolist(), self._vectors, strict=True))
        laid.update((row, vector) for row, vector in vectors.items() if vector is not None)
        for row in (row for row, vector in vectors.items() if vector is None):
            laid.pop(row, None)
        rows = np.array(sorted(laid), dtype=np.int64)
        stacked = np.array([laid[row] for row in rows.tolist()], dtype=np.float32)
        masked = self._masked | {row for row in vectors if row < self._base.size}
        return ChangedVectors(self._base, masked, rows, stacked.reshape(len(rows), self.dimension))

    @property
    def size(self) -> int:
        """The number of vectors."""
        return self._base.size - len(self._masked) + len(self._rows)

    @property
    def dimension(self) -> int:
        """The length of each vector."""
        return self._base.dimension

    def search(self, query: Vectors, limit: int, allowed: Rows | None = None) -> NearestRows:
        """The `limit` nearest rows to `query` (dimension,), of `allowed` (ascending, distinct) where it is given."""
        base = self._base_search(query, limit, allowed)
        laid = self._rows if allowed is None else np.intersect1d(self._rows, allowed, assume_unique=True)
        if not len(laid):
            return base
        rows = np.concatenate([base.rows, laid])
        scores = np.concatenate([base.scores, self.similarity(query, laid)])
        order = np.lexsort((rows, -scores))[:limit]
        return NearestRows(rows[order], scores[order])

    def _base_search(self, query: Vectors, limit: int, allowed: Rows | None) -> NearestRows:
        if not self._masked and allowed is None:
            return self._base.search(query, limit)
        if allowed is None and len(self._masked) <= _MOST_PASSED_OVER:
            found = self._base.search(query, limit + len(self._masked))
            kept = ~self._is_masked[found.rows]
            return NearestRows(found.rows[kept][:limit], found.scores[kept][:limit])
        inside = np.flatnonzero(~self._is_masked) if allowed is None else allowed[allowed < self._base.size]
        return self._base.search(query, limit, inside[~self._is_masked[inside]])

    def similarity(self, query: Vectors, rows: Rows) -> NDArray[np.float32]:
        """The exact cosine of `query` (dimension,) with each of `rows`, in their order."""
        if not len(self._rows):
            return self._base.similarity(query, rows)
        at, is_laid = self._laid(rows)
        scores = np.empty(len(rows), dtype=np.float32)
        scores[~is_laid] = self._base.similarity(query, rows[~is_laid])
        scores[is_laid] = np.einsum("ij,j->i", self._vectors[at[is_laid]], query)
        return scores

    def vector(self, row: int) -> Vectors:
        """The vector of one row, (dimension,)."""
        at = int(np.searchsorted(self._rows, row))
        if at < len(self._rows) and self._rows[at] == row:
            return np.array(self._vectors[at], dtype=np.float32)
        return self._base.vector(row)

    def gather(self, rows: Rows) -> Vectors:
        """The vectors of `rows` (n, dimension), in their order."""
        if not len(self._rows):
            return self._base.gather(rows)
        at, is_laid = self._laid(rows)
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        vectors[~is_laid] = self._base.gather(rows[~is_laid])
        vectors[is_laid] = self._vectors[at[is_laid]]
        return vectors

    def _laid(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each of `rows` stands among the vectors that are laid over, and whether it is there at all."""
        at = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
        return at, self._rows[at] == rows

    @property
    def without_cluster(self) -> ChangedVectors:
        """The same changes over the same vectors, where no cluster is asked."""
        return ChangedVectors(self._base.without_cluster, self._masked, self._rows, self._vectors)


# Token states and signals of a version with live changes laid over them. The version's own files stay as they are.


@dataclass(frozen=True, slots=True)
class ChangedStates:
    """The states of a version of `size` products, some of them replaced or new. A product that has none, as one whose
    text could not be encoded, has no tokens."""

    base: TokenStates
    size: int
    laid: Mapping[int, TokenRuns | None] = field(default_factory=dict)
    """By row, the tokens of one text; None for a product without states, or one that is gone."""

    @property
    def encoder(self) -> str:
        """See `retrieval.index.token_states.TokenStates`."""
        return self.base.encoder

    @property
    def dimension(self) -> int:
        """See `retrieval.index.token_states.TokenStates`."""
        return self.base.dimension

    @property
    def idf(self) -> NDArray[np.float32]:
        """That of the version: some changes do not make a token rarer."""
        return self.base.idf

    def narrow_query(self, query: Tokens) -> Tokens:
        """See `retrieval.index.token_states.TokenStates`."""
        return self.base.narrow_query(query)

    def with_changes(self, laid: Mapping[int, TokenRuns | None]) -> ChangedStates:
        """These states with more changes, the later ones counting."""
        return ChangedStates(self.base, self.size, MappingProxyType({**self.laid, **laid}))

    def gather(self, rows: Rows) -> ProductTokens:
        """See `retrieval.index.token_states.TokenStates`."""
        is_stored = np.array([row < self.size and row not in self.laid for row in rows.tolist()], bool)
        if is_stored.all():
            return self.base.gather(rows)
        stored = self.base.gather(rows[is_stored])
        laid = [self.laid.get(row) for row in rows[~is_stored].tolist()]
        longest = max(stored.ids.shape[1], *(len(each.ids) if each else 0 for each in laid))
        ids = np.full((len(rows), longest), PADDING, np.int32)
        states = np.zeros((len(rows), longest, self.dimension), np.int8)
        width = stored.ids.shape[1]
        ids[is_stored, :width], states[is_stored, :width] = stored.ids, stored.states
        for place, tokens in zip(np.flatnonzero(~is_stored).tolist(), laid, strict=True):
            if tokens:
                ids[place, : len(tokens.ids)], states[place, : len(tokens.ids)] = tokens.ids, tokens.states
        return ProductTokens(ids, states)


@dataclass(frozen=True, slots=True)
class ChangedSignals:
    """The signals of a version of `size` products, some of them replaced or new."""

    base: ProductSignals
    size: int
    laid: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    """By row (5,)."""

    def with_changes(self, products: Mapping[int, Product | None]) -> ChangedSignals:
        """These signals with those of more products; of one that is gone nothing is known."""
        laid = {row: _UNKNOWN if product is None else signal_row(product) for row, product in products.items()}
        return ChangedSignals(self.base, self.size, MappingProxyType({**self.laid, **laid}))

    def at(self, rows: Rows) -> SignalColumns:
        """See `retrieval.store.signals.ProductSignals`."""
        table = np.array([self.laid.get(row, _UNKNOWN) for row in rows.tolist()], np.float32).reshape(-1, len(COLUMNS))
        is_stored = np.array([row < self.size and row not in self.laid for row in rows.tolist()], bool)
        stored = self.base.at(rows[is_stored])
        for column, name in enumerate(COLUMNS):
            table[is_stored, column] = getattr(stored, name)
        return columns_of(table)


_UNKNOWN = np.full(len(COLUMNS), np.nan, np.float32)

"""Token states and signals of a version with live changes laid over them. The version's own files stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from retrieval.encoder import Tokens
from retrieval.product_signals import COLUMNS, ProductSignals, SignalColumns, columns_of, signal_row
from retrieval.records import Product
from retrieval.token_states import PADDING, ProductTokens, Rows, TokenRuns, TokenStates


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
        """See `retrieval.token_states.TokenStates`."""
        return self.base.encoder

    @property
    def dimension(self) -> int:
        """See `retrieval.token_states.TokenStates`."""
        return self.base.dimension

    @property
    def idf(self) -> NDArray[np.float32]:
        """That of the version: some changes do not make a token rarer."""
        return self.base.idf

    def cut(self, query: Tokens) -> Tokens:
        """See `retrieval.token_states.TokenStates`."""
        return self.base.cut(query)

    def with_changes(self, laid: Mapping[int, TokenRuns | None]) -> ChangedStates:
        """These states with more changes, the later ones counting."""
        return ChangedStates(self.base, self.size, MappingProxyType({**self.laid, **laid}))

    def gather(self, rows: Rows) -> ProductTokens:
        """See `retrieval.token_states.TokenStates`."""
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
        """See `retrieval.product_signals.ProductSignals`."""
        table = np.array([self.laid.get(row, _UNKNOWN) for row in rows.tolist()], np.float32).reshape(-1, len(COLUMNS))
        is_stored = np.array([row < self.size and row not in self.laid for row in rows.tolist()], bool)
        stored = self.base.at(rows[is_stored])
        for column, name in enumerate(COLUMNS):
            table[is_stored, column] = getattr(stored, name)
        return columns_of(table)


_UNKNOWN = np.full(len(COLUMNS), np.nan, np.float32)

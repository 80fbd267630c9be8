"""An index's token states with fewer columns than are stored: what these are worth.

Columns come in the order of what they keep (`retrieval.token_projection`), so the first ones are what an index of as
many columns would hold, but for the rounding to int8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.encoder import Tokens, unit_rows
from retrieval.errors import SettingError
from retrieval.token_states import SCALE, ProductTokens, Rows, TokenStates


@dataclass(frozen=True, slots=True)
class NarrowStates:
    """The first columns of an index's states."""

    stored: TokenStates
    dimension: int

    def __post_init__(self) -> None:
        if not 1 <= self.dimension <= self.stored.dimension:
            raise SettingError(f"the index holds states of {self.stored.dimension} columns, not {self.dimension}")

    @property
    def encoder(self) -> str:
        """See `TokenStates`."""
        return self.stored.encoder

    @property
    def idf(self) -> NDArray[np.float32]:
        """The same."""
        return self.stored.idf

    def cut(self, query: Tokens) -> Tokens:
        """The same."""
        return query.narrowed(self.dimension)

    def gather(self, rows: Rows) -> ProductTokens:
        """The same."""
        found = self.stored.gather(rows)
        narrow = np.zeros((*found.ids.shape, self.dimension), np.int8)
        is_token = found.ids >= 0
        kept = unit_rows(found.states[is_token][:, : self.dimension].astype(np.float32))
        narrow[is_token] = np.rint(kept * SCALE).astype(np.int8)
        return ProductTokens(found.ids, narrow)

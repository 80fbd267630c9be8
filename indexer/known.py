"""Vectors and tokens at hand, from earlier versions and interrupted runs, by the fingerprint of their text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexer.text_keys import Keys, KeyTable
from retrieval.states_writer import StatesWriter
from retrieval.token_states import TokenRuns, steps
from retrieval.vectors import Rows, Vectors

_COPIED_ROWS = 16_384
_BLOCK_ROWS = 4_096
"""Products whose tokens are in memory at once: some ten megabytes."""


class KnownTokens:
    """The tokens at hand. Of two sources with the same text the one that came first counts."""

    def __init__(self) -> None:
        self._sources: list[tuple[KeyTable, TokenRuns]] = []

    def add(self, table: KeyTable, tokens: TokenRuns) -> None:
        """Takes tokens (m texts) and where their keys stand."""
        self._sources.append((table, tokens))

    def write(self, keys: Keys, writer: StatesWriter) -> None:
        """Writes the tokens of the texts with these keys (n, 16) in their order; raises KeyError for one without."""
        for start in range(0, len(keys), _BLOCK_ROWS):
            writer.add(*self._block(keys[start : start + _BLOCK_ROWS]))

    def _block(self, keys: Keys) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int32]]:
        """Ids and states of the tokens of b texts end to end, and the number of each one's."""
        lengths, found = np.zeros(len(keys), np.int32), self._found(keys)
        for tokens, rows, places in found:
            lengths[rows] = tokens.lengths[places]
        begins = np.cumsum(lengths, dtype=np.int64) - lengths
        total, dimension = int(lengths.sum()), self._sources[0][1].states.shape[1]
        ids, states = np.empty(total, np.int32), np.empty((total, dimension), np.int8)
        for tokens, rows, places in found:
            into, at = steps(begins[rows], lengths[rows]), steps(tokens.starts[places], lengths[rows])
            ids[into], states[into] = tokens.ids[at], tokens.states[at]
        return ids, states, lengths

    def _found(self, keys: Keys) -> list[tuple[TokenRuns, NDArray[np.int64], NDArray[np.int64]]]:
        """Each source that is needed, with rows of `keys` and their places in it."""
        found, rows = [], np.arange(len(keys))
        for table, tokens in self._sources:
            places = table.places(keys[rows])
            is_here = places >= 0
            if is_here.any():
                found.append((tokens, rows[is_here], places[is_here]))
            rows = rows[~is_here]
        if len(rows):
            raise KeyError(f"{len(rows)} texts have no tokens")
        return found


class KnownVectors:
    """The vectors at hand, by the fingerprint of the text that they were made from."""

    def __init__(self, dimension: int, tokens: KnownTokens | None = None) -> None:
        """Where `tokens` are wanted, a vector without them is of no use: one run of the encoder gives both."""
        self._dimension = dimension
        self.tokens = tokens
        self._sources: list[tuple[KeyTable, Vectors]] = []

    def add(self, keys: Keys, vectors: Vectors, tokens: TokenRuns | None = None) -> None:
        """Takes vectors (n, dimension) and tokens with their keys (n, 16); those of another dimension are of no use."""
        fits = len(keys) == len(vectors) and vectors.ndim == 2 and vectors.shape[1] == self._dimension
        if not (fits and len(keys)):
            return
        table = KeyTable(keys)
        if self.tokens is not None:
            if tokens is None or len(tokens.lengths) != len(keys):
                return
            self.tokens.add(table, tokens)
        self._sources.append((table, vectors))

    def known(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys (n, 16) have a vector here (n,)."""
        found = np.zeros(len(keys), dtype=bool)
        for table, _ in self._sources:
            found |= table.places(keys) >= 0
        return found

    def fill(self, keys: Keys, rows: Rows, into: Vectors) -> None:
        """Copies the vectors of `keys` (n, 16) to the `rows` (n,) of `into`; the source that came first counts.

        Raises KeyError for a key without a vector.
        """
        for table, vectors in self._sources:
            places = table.places(keys)
            found = places >= 0
            for start in range(0, int(found.sum()), _COPIED_ROWS):
                piece = slice(start, start + _COPIED_ROWS)
                into[rows[found][piece]] = vectors[places[found][piece]]
            keys, rows = keys[~found], rows[~found]
        if len(keys):
            raise KeyError(f"{len(keys)} texts have no vector")

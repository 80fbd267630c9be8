"""Writes the token states of a version, product after product; memory holds where each begins, and counts of tokens."""

from __future__ import annotations

from array import array
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import GrowingArray
from retrieval.token_states import (
    FACTS_FILE,
    IDF_FILE,
    IDS_FILE,
    MOST_TOKENS,
    OFFSETS_FILE,
    STATES_FILE,
    StatesFacts,
)


class StatesWriter:
    """Fills a folder that `retrieval.token_states.StoredStates` opens."""

    def __init__(self, folder: Path, encoder: str, dimension: int, vocabulary: int, most: int = MOST_TOKENS) -> None:
        """`encoder` is the identity of the one whose states these are, `vocabulary` more than any of its ids."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._made_of = encoder, dimension, vocabulary, most
        self._ids = GrowingArray(folder / IDS_FILE, np.dtype(np.int32))
        self._states = GrowingArray(folder / STATES_FILE, np.dtype(np.int8), dimension)
        self._offsets = array("q", (0,))
        self._frequency = np.zeros(vocabulary, np.int64)

    def add(self, ids: NDArray[np.int32], states: NDArray[np.int8], lengths: NDArray[np.int32]) -> None:
        """Takes the next m products: their tokens' ids (total,) and states (total, d) end to end, and how many tokens
        each has (m,). Raises ValueError for an id that the vocabulary does not have."""
        vocabulary = len(self._frequency)
        if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
            raise ValueError(f"token ids from {ids.min()} to {ids.max()}, of a vocabulary of {vocabulary}")
        # A token counts once for each product that has it, however often.
        pairs = np.unique(np.repeat(np.arange(len(lengths)), lengths) * vocabulary + ids)
        self._frequency += np.bincount(pairs % vocabulary, minlength=vocabulary)
        self._ids.add(ids)
        self._states.add(states)
        self._offsets.frombytes((self._offsets[-1] + np.cumsum(lengths, dtype=np.int64)).tobytes())

    def finish(self) -> StatesFacts:
        """Ends the files and returns what states.json says."""
        encoder, dimension, vocabulary, most = self._made_of
        products, tokens = len(self._offsets) - 1, self._offsets[-1]
        self._ids.close()
        self._states.close()
        np.save(self._folder / OFFSETS_FILE, np.frombuffer(self._offsets, np.int64))
        np.save(self._folder / IDF_FILE, inverse_frequency(self._frequency, products))
        facts = StatesFacts(encoder, dimension, products, tokens, vocabulary, most)
        (self._folder / FACTS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
        return facts


def inverse_frequency(frequency: NDArray[np.int64], products: int) -> NDArray[np.float32]:
    """ln((n + 1) / (df + 1)) + 1 of tokens that df (v,) of n products have (Spärck Jones 1972, smoothed): above 1, and
    finite for a token that no product has."""
    return (np.log((products + 1) / (frequency + 1)) + 1).astype(np.float32)

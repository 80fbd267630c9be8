"""Token states of a version's products: int8, memory-mapped, for the ranker.

states/
  states.npy     (total, d) int8: the products' tokens, concatenated, each a unit vector times 127; (vocabulary, d), the
                 state of each token, for an encoder whose tokens have the same state in all texts
  ids.npy        (total,) int32: the tokens' ids in the encoder's vocabulary
  offsets.npy    (n + 1,) int64: where each product's tokens begin
  idf.npy        (vocabulary,) float32: the inverse document frequency of each token in the catalog
  states.json    TokenStatesInfo

They are the states of the first tokens of each product's text, from the run that computed its vector (late interaction
over stored states: Khattab & Zaharia 2020, ColBERT, section 3.2).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import Tokens, unit_rows
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.store.files import GrowingArray, format_json, load_array, load_json

STATES_FILE = "states.npy"
IDS_FILE = "ids.npy"
OFFSETS_FILE = "offsets.npy"
IDF_FILE = "idf.npy"
FACTS_FILE = "states.json"
STATES_FILES = (STATES_FILE, IDS_FILE, OFFSETS_FILE, IDF_FILE, FACTS_FILE)
DIMENSION = 96
"""The default number of columns of stored states: 20 tokens of a product take 2,000 bytes."""
MAX_TOKENS = 32
"""The number of tokens of a product that are stored."""
SCALE = 127
"""The stored length of a state of length 1."""
PADDING = -1

Rows = NDArray[np.int64]


class TokenStatesInfo(msgspec.Struct, frozen=True):
    """The content of states.json, also part of the manifest."""

    encoder: str
    """Identity of the encoder that computed them."""
    dimension: int
    products: int
    tokens: int
    """The number of tokens of all products."""
    vocabulary: int
    """A bound above all token ids."""
    most: int = MAX_TOKENS
    """The most tokens of a product that are stored."""
    shared: bool = False
    """Whether a token has the same state in all texts."""


@dataclass(frozen=True, slots=True)
class ProductTokens:
    """The tokens of c products, padded to the longest."""

    ids: NDArray[np.int32]
    """(c, t); -1 after a product's last token."""
    states: NDArray[np.int8]
    """(c, t, d): rows of length about 127; zeros if there is no token."""

    @property
    def has_any(self) -> NDArray[np.bool_]:
        """(c,): whether the product has any token."""
        return np.asarray((self.ids >= 0).any(axis=1))

    @classmethod
    def none(cls, count: int, dimension: int) -> ProductTokens:
        """The tokens of `count` products without states."""
        return cls(np.empty((count, 0), np.int32), np.empty((count, 0, dimension), np.int8))


@dataclass(frozen=True, slots=True)
class TokenRuns:
    """The tokens of m texts, each as one run of two long arrays."""

    ids: NDArray[np.int32]
    """(total,)"""
    states: NDArray[np.int8]
    """(total, d), or (vocabulary, d) if a token has the same state in all texts."""
    starts: NDArray[np.int64]
    """(m,)"""
    lengths: NDArray[np.int32]
    """(m,)"""
    shared: bool = False

    def gather(self, places: Rows) -> ProductTokens:
        """The tokens of the texts at `places` (c,), padded."""
        lengths = self.lengths[places]
        is_token = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = np.full(is_token.shape, PADDING, np.int32)
        states = np.zeros((*is_token.shape, self.states.shape[1]), np.int8)
        at = run_indices(self.starts[places], lengths)
        ids[is_token] = found = self.ids[at]
        states[is_token] = self.states[found if self.shared else at]
        return ProductTokens(ids, states)


def run_indices(starts: NDArray[np.int64], lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """The indices start, start + 1, ... of each run, up to its length, concatenated."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    found: NDArray[np.int64] = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return found


def quantise_tokens(tokens: Sequence[Tokens], dimension: int) -> TokenRuns:
    """The first tokens of each text in stored form: `dimension` columns, normalised again, times 127, rounded."""
    lengths = np.array([min(MAX_TOKENS, len(each.ids)) for each in tokens], np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    if not lengths.sum():
        return TokenRuns(np.empty(0, np.int32), np.empty((0, dimension), np.int8), starts, lengths)
    states = _quantised(np.concatenate([each.states[:MAX_TOKENS, :dimension] for each in tokens]))
    return TokenRuns(np.concatenate([each.ids[:MAX_TOKENS] for each in tokens]), states, starts, lengths)


def _quantised(states: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.rint(unit_rows(states) * SCALE).astype(np.int8)


class StoredStates:
    """The opened token states of a version, with changes applied over them. Read-only and thread-safe.

    A product without states, such as one whose text could not be encoded, has no tokens.
    """

    def __init__(self, folder: Path) -> None:
        """Raises StoreDamagedError with the file that is missing, cannot be read, or does not match the others."""
        self.info = facts = load_json(folder / FACTS_FILE, TokenStatesInfo)
        offsets = load_array(folder / OFFSETS_FILE, mapped=True, dtype=np.int64, shape=(facts.products + 1,))
        lengths = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != facts.tokens or lengths.min(initial=0) < 0:
            raise StoreDamagedError(f"{folder / OFFSETS_FILE} does not match {STATES_FILE}; rebuild the index")
        if lengths.max(initial=0) > facts.most:
            message = f"{folder / OFFSETS_FILE} has a product of more than {facts.most} tokens; rebuild the index"
            raise StoreDamagedError(message)
        shape = (facts.vocabulary if facts.shared else facts.tokens, facts.dimension)
        self.runs = TokenRuns(
            load_array(folder / IDS_FILE, mapped=True, dtype=np.int32, shape=(facts.tokens,)),
            load_array(folder / STATES_FILE, mapped=True, dtype=np.int8, shape=shape),
            offsets[:-1],
            lengths.astype(np.int32),
            facts.shared,
        )
        self.idf: NDArray[np.float32] = load_array(
            folder / IDF_FILE, mapped=True, dtype=np.float32, shape=(facts.vocabulary,)
        )
        """The inverse document frequency of each token (vocabulary,), see `inverse_frequency`."""
        self.encoder, self.dimension, self.size = facts.encoder, facts.dimension, facts.products
        self._changes: Mapping[int, TokenRuns | None] = {}
        """Tokens of one text by row; None for a product without states or a deleted one."""

    def with_changes(self, changes: Mapping[int, TokenRuns | None]) -> StoredStates:
        """These states with more changes, of which later ones win."""
        newer = copy(self)
        newer._changes = {**self._changes, **changes}
        return newer

    def narrow_query(self, query: Tokens) -> Tokens:
        """A query's tokens, reduced to the columns of the products' states."""
        return query.narrowed(self.dimension)

    def gather(self, rows: Rows) -> ProductTokens:
        """The tokens of the products at `rows` (c,), in their order."""
        is_stored = np.array([row < self.size and row not in self._changes for row in rows.tolist()], bool)
        if is_stored.all():
            return self.runs.gather(rows)
        stored = self.runs.gather(rows[is_stored])
        changes = [self._changes.get(row) for row in rows[~is_stored].tolist()]
        longest = max(stored.ids.shape[1], *(len(each.ids) if each else 0 for each in changes))
        ids = np.full((len(rows), longest), PADDING, np.int32)
        states = np.zeros((len(rows), longest, self.dimension), np.int8)
        width = stored.ids.shape[1]
        ids[is_stored, :width] = stored.ids
        states[is_stored, :width] = stored.states
        for index, tokens in zip(np.flatnonzero(~is_stored).tolist(), changes, strict=True):
            if tokens:
                ids[index, : len(tokens.ids)] = tokens.ids
                states[index, : len(tokens.states)] = tokens.states
        return ProductTokens(ids, states)


class StatesWriter:
    """Writes the token states of a version, product by product."""

    def __init__(
        self, folder: Path, encoder: str, dimension: int, vocabulary: int, shared: NDArray[np.float32] | None = None
    ) -> None:
        """`encoder` is the identity of the encoder of the states, `vocabulary` is above all of its ids. `shared` are
        the states of all tokens (vocabulary, at least `dimension`), if these are the same in all texts."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._facts = TokenStatesInfo(encoder, dimension, 0, 0, vocabulary, shared=shared is not None)
        self._ids = GrowingArray(folder / IDS_FILE, np.dtype(np.int32))
        self._states = GrowingArray(folder / STATES_FILE, np.dtype(np.int8), dimension)
        if shared is not None:
            self._states.add(_quantised(shared[:, :dimension]))
        self._offsets = array("q", (0,))
        self._frequency = np.zeros(vocabulary, np.int64)

    def add(self, ids: NDArray[np.int32], states: NDArray[np.int8] | None, lengths: NDArray[np.int32]) -> None:
        """Adds the next m products: their tokens' ids (total,) and states (total, d), concatenated (None if states are
        shared), and their numbers of tokens (m,). Raises ValueError for an id outside the vocabulary."""
        vocabulary = len(self._frequency)
        if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
            raise ValueError(f"token ids from {ids.min()} to {ids.max()}, but a vocabulary of {vocabulary}")
        # Document frequency: a token counts once per product, however often it occurs.
        pairs = np.sort(np.repeat(np.arange(len(lengths)), lengths) * vocabulary + ids)
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        self._frequency += np.bincount(pairs % vocabulary, minlength=vocabulary)
        self._ids.add(ids)
        if states is not None:
            self._states.add(states)
        self._offsets.frombytes((self._offsets[-1] + np.cumsum(lengths, dtype=np.int64)).tobytes())

    def finish(self) -> TokenStatesInfo:
        """Closes the files and returns the content of states.json."""
        products, tokens = len(self._offsets) - 1, self._offsets[-1]
        self._ids.close()
        self._states.close()
        np.save(self._folder / OFFSETS_FILE, np.frombuffer(self._offsets, np.int64))
        np.save(self._folder / IDF_FILE, inverse_frequency(self._frequency, products))
        facts = msgspec.structs.replace(self._facts, products=products, tokens=tokens)
        (self._folder / FACTS_FILE).write_bytes(format_json(facts))
        return facts


def inverse_frequency(frequency: NDArray[np.int64], products: int) -> NDArray[np.float32]:
    """ln((n + 1) / (df + 1)) + 1 for tokens that df (v,) of n products have (Spärck Jones 1972, smoothed): above 1, and
    finite for a token that no product has."""
    return (np.log((products + 1) / (frequency + 1)) + 1).astype(np.float32)

"""The step of a rebuild that makes vectors, and token states where the encoder gives any, reusing what is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from indexer.embedding_cache import EncodingCheckpoints, Keys, KeyTable, TokenCache, VectorCache, whole_keys
from indexer.incremental import cache_version_vectors
from retrieval.encoders.base import Encoder, as_token_encoder
from retrieval.index.token_states import StatesWriter, TokenRuns, TokenStatesInfo, quantise_tokens
from retrieval.index.vectors import Rows, Vectors, create_vectors
from retrieval.progress import Progress
from retrieval.store.manifest import STATES_FOLDER, TEXT_KEYS_FILE, VECTORS_FOLDER
from retrieval.store.products import ProductStore, encoder_text
from retrieval.store.versions import Store


@dataclass(frozen=True, slots=True)
class EncodingResult:
    """What was made: how many texts had to be encoded, and the facts of the states, if there are any."""

    texts: int
    states: TokenStatesInfo | None


def state_columns(encoder: Encoder, wanted: int) -> int:
    """Columns of the states that an encoder's versions get where `wanted` are asked for; 0 where it gives none."""
    token_encoder = as_token_encoder(encoder) if wanted else None
    return min(wanted, token_encoder.state_dimension) if token_encoder else 0


class CatalogEncoder:
    """Encodes the texts of one catalog by one encoder."""

    def __init__(self, store: Store, encoder: Encoder, state_dimension: int, progress: Progress) -> None:
        """`state_dimension` is as `state_columns` gives it."""
        self._store = store
        self._encoder = encoder
        self._states = state_dimension
        self._progress = progress

    def run(self, building: Path, keys: Keys, before: str) -> EncodingResult:
        """Fills vectors, text keys and states of the version that is `building`, whose products are there already.

        `keys` (n, 16) are those of its texts; `before` names the version whose vectors are looked at first.
        """
        cache = VectorCache(self._encoder.dimension, TokenCache() if self._states else None)
        cache_version_vectors(self._store, self._encoder.identity, cache, before, self._states)
        folder = self._store.staging / f"vectors-{self._encoder.identity}"
        chunks = EncodingCheckpoints(folder, self._encoder.dimension, self._states)
        chunks.load(cache)
        rows = missing_rows(keys, cache)
        self._progress.begin("encode", len(rows), "products")
        vectors = create_vectors(building / VECTORS_FOLDER, len(keys), self._encoder.dimension)
        is_cached = cache.contains(keys)
        cache.fill(keys[is_cached], np.flatnonzero(is_cached), vectors)
        products = ProductStore(building)
        for chunk, made in encode_rows(
            rows, keys, lambda row: encoder_text(products[row]), self._encoder, chunks, self._progress.advance
        ):
            vectors[chunk] = made
        copy_to_duplicates(keys, rows, vectors)
        np.save(building / TEXT_KEYS_FILE, keys)
        chunks.add_saved_tokens(cache)
        states = self._write_states(building / STATES_FOLDER, keys, cache.tokens)
        states_text = f"{states.tokens:,} token states" if states else "no token states"
        self._progress.end(f"{len(rows):,} texts encoded, {len(keys) - len(rows):,} vectors reused, {states_text}")
        return EncodingResult(len(rows), states)

    def _write_states(self, folder: Path, keys: Keys, tokens: TokenCache | None) -> TokenStatesInfo | None:
        token_encoder = as_token_encoder(self._encoder)
        if tokens is None or token_encoder is None:
            return None
        writer = StatesWriter(folder, token_encoder.identity, self._states, token_encoder.vocabulary)
        tokens.write(keys, writer)
        return writer.finish()


# Vectors for a catalog's texts, and their tokens where those are wanted: what is not at hand is encoded.
#
# What is encoded is saved chunk by chunk as it comes, so a run that is killed loses less than one chunk of work. Memory
# holds fingerprints, never all texts.

CHUNK = 1_024
_COPIED_ROWS = 16_384


class TextSource(Protocol):
    """The texts of a catalog, by row."""

    def __call__(self, row: int, /) -> str:
        """The text that becomes the vector of this row."""
        ...


def missing_rows(keys: Keys, cache: VectorCache) -> Rows:
    """Rows of `keys` (n, 16) whose texts have to be encoded: the first of each text without a vector, ascending."""
    missing = np.flatnonzero(~cache.contains(keys))
    _, first = np.unique(whole_keys(keys[missing]), return_index=True)
    return np.asarray(missing[np.sort(first)], dtype=np.int64)


def encode_rows(
    rows: Rows,
    keys: Keys,
    text_of: TextSource,
    encoder: Encoder,
    chunks: EncodingCheckpoints,
    advance: Callable[[int], None],
) -> Iterator[tuple[Rows, Vectors]]:
    """Encodes the texts of `rows` (m,) of `keys` (n, 16): each chunk's rows with their vectors, when they are safe.

    Their tokens, where the folder keeps any, stay in it.
    """
    # Texts of one length together: a batch costs what its longest text costs.
    lengths = np.fromiter((len(text_of(row)) for row in rows.tolist()), dtype=np.int64, count=len(rows))
    ordered = rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        texts = [text_of(row) for row in chunk.tolist()]
        vectors, tokens = _encoded(texts, encoder, chunks.state_dimension, advance)
        chunks.save(keys[chunk], vectors, tokens)
        yield chunk, vectors


def _encoded(
    texts: Sequence[str], encoder: Encoder, state_dimension: int, advance: Callable[[int], None]
) -> tuple[Vectors, TokenRuns | None]:
    token_encoder = as_token_encoder(encoder) if state_dimension else None
    if token_encoder is None:
        return encoder.encode_products(texts, advance), None
    vectors, tokens = token_encoder.encode_products_with_tokens(texts, advance)
    return vectors, quantise_tokens(tokens, state_dimension)


def copy_to_duplicates(keys: Keys, rows: Rows, into: Vectors) -> None:
    """Copies the vectors at `rows` (m,), which have distinct keys, to the other rows of `into` with the same keys."""
    if not len(rows):
        return
    table = KeyTable(keys[rows])
    for start in range(0, len(keys), _COPIED_ROWS):
        places = table.find(keys[start : start + _COPIED_ROWS])
        others = np.flatnonzero(places >= 0)
        into[start + others] = into[rows[places[others]]]

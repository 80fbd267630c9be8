"""The step of a rebuild that makes vectors, and token states where the encoder gives any, reusing what is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.before import add_vectors_of_versions
from indexer.chunks import ChunkFolder
from indexer.known import KnownTokens, KnownVectors
from indexer.observing import Observer
from indexer.text_keys import Keys
from indexer.vectors import encode_rows, missing_rows, spread
from retrieval.encoder import Encoder, with_tokens
from retrieval.layout import STATES_FOLDER, TEXT_KEYS_FILE, VECTORS_FOLDER
from retrieval.product_store import ProductStore
from retrieval.product_text import encoder_text
from retrieval.published import Store
from retrieval.states_writer import StatesWriter
from retrieval.stored_vectors import create_vectors
from retrieval.token_states import StatesFacts


@dataclass(frozen=True, slots=True)
class Encoded:
    """What was made: how many texts had to be encoded, and the facts of the states, if there are any."""

    texts: int
    states: StatesFacts | None


def state_columns(encoder: Encoder, wanted: int) -> int:
    """Columns of the states that an encoder's versions get where `wanted` are asked for; 0 where it gives none."""
    telling = with_tokens(encoder) if wanted else None
    return min(wanted, telling.state_dimension) if telling else 0


class CatalogEncoder:
    """Encodes the texts of one catalog by one encoder."""

    def __init__(self, store: Store, encoder: Encoder, state_dimension: int, observer: Observer) -> None:
        """`state_dimension` is as `state_columns` gives it."""
        self._store = store
        self._encoder = encoder
        self._states = state_dimension
        self._observer = observer

    def run(self, building: Path, keys: Keys, before: str) -> Encoded:
        """Fills vectors, text keys and states of the version that is `building`, whose products are there already.

        `keys` (n, 16) are those of its texts; `before` names the version whose vectors are looked at first.
        """
        known = KnownVectors(self._encoder.dimension, KnownTokens() if self._states else None)
        add_vectors_of_versions(self._store, self._encoder.identity, known, before, self._states)
        folder = self._store.staging / f"vectors-{self._encoder.identity}"
        chunks = ChunkFolder(folder, self._encoder.dimension, self._states)
        chunks.load(known)
        rows = missing_rows(keys, known)
        self._observer.begin("encode", len(rows), "products")
        vectors = create_vectors(building / VECTORS_FOLDER, len(keys), self._encoder.dimension)
        is_known = known.known(keys)
        known.fill(keys[is_known], np.flatnonzero(is_known), vectors)
        products = ProductStore(building)
        for chunk, made in encode_rows(
            rows, keys, lambda row: encoder_text(products[row]), self._encoder, chunks, self._observer.advance
        ):
            vectors[chunk] = made
        spread(keys, rows, vectors)
        np.save(building / TEXT_KEYS_FILE, keys)
        chunks.add_saved_tokens(known)
        states = self._write_states(building / STATES_FOLDER, keys, known.tokens)
        told = f"{states.tokens:,} token states" if states else "no token states"
        self._observer.end(f"{len(rows):,} texts encoded, {len(keys) - len(rows):,} vectors reused, {told}")
        return Encoded(len(rows), states)

    def _write_states(self, folder: Path, keys: Keys, tokens: KnownTokens | None) -> StatesFacts | None:
        telling = with_tokens(self._encoder)
        if tokens is None or telling is None:
            return None
        writer = StatesWriter(folder, telling.identity, self._states, telling.vocabulary)
        tokens.write(keys, writer)
        return writer.finish()

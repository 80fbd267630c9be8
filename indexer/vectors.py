"""Vectors for a catalog's texts, and their tokens where those are wanted: what is not at hand is encoded.

What is encoded is saved chunk by chunk as it comes, so a run that is killed loses less than one chunk of work. Memory
holds fingerprints, never all texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from indexer.chunks import ChunkFolder
from indexer.known import KnownVectors
from indexer.text_keys import Keys, KeyTable, whole_keys
from retrieval.encoder import Encoder, with_tokens
from retrieval.token_states import TokenRuns, quantised
from retrieval.vectors import Rows, Vectors

CHUNK = 1_024
_COPIED_ROWS = 16_384


class TextSource(Protocol):
    """The texts of a catalog, by row."""

    def __call__(self, row: int, /) -> str:
        """The text that becomes the vector of this row."""
        ...


def missing_rows(keys: Keys, known: KnownVectors) -> Rows:
    """Rows of `keys` (n, 16) whose texts have to be encoded: the first of each text without a vector, ascending."""
    unknown = np.flatnonzero(~known.known(keys))
    _, first = np.unique(whole_keys(keys[unknown]), return_index=True)
    return np.asarray(unknown[np.sort(first)], dtype=np.int64)


def encode_rows(
    rows: Rows, keys: Keys, text_of: TextSource, encoder: Encoder, chunks: ChunkFolder, advance: Callable[[int], None]
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
    telling = with_tokens(encoder) if state_dimension else None
    if telling is None:
        return encoder.encode_products(texts, advance), None
    vectors, tokens = telling.encode_products_with_tokens(texts, advance)
    return vectors, quantised(tokens, state_dimension)


def spread(keys: Keys, rows: Rows, into: Vectors) -> None:
    """Copies the vectors at `rows` (m,), which have distinct keys, to the other rows of `into` with the same keys."""
    if not len(rows):
        return
    table = KeyTable(keys[rows])
    for start in range(0, len(keys), _COPIED_ROWS):
        places = table.places(keys[start : start + _COPIED_ROWS])
        others = np.flatnonzero(places >= 0)
        into[start + others] = into[rows[places[others]]]

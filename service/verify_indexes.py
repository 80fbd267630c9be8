"""Verifying the two indexes: whether products are found by their ids, their terms and their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from indexer.text_keys import Keys
from retrieval.analysis import Analyzer, TermGroup, identifier_key
from retrieval.arrays import load_array
from retrieval.conditions import TextIn
from retrieval.encoder import Encoder
from retrieval.fields import fold
from retrieval.keyword import KeywordIndex, Selection
from retrieval.layout import KEYWORD_FOLDER, TEXT_KEYS_FILE, VECTORS_FOLDER
from retrieval.product_store import ProductStore
from retrieval.product_text import encoder_text, keyword_terms
from retrieval.stored_vectors import VECTORS_FILE
from retrieval.vectors import VectorIndex, Vectors
from retrieval.vectors_faiss import INDEX_FILE, ROWS_FILE
from service.problems import Problem, Tally
from service.verify_rows import sample

IDS = 10_000
"""Products that are looked up by their id, and..."""
FOUND = 1_000
"""...by their terms and by their vector: those take longer."""
ENCODED = 64
"""Products whose vector is made again."""
_NEAR = 0.99
"""The cosine from which two vectors of one text, made on two machines, count as equal."""
_UNIT = 1e-3
_MOST_TERMS = 8
_CHUNK = 65_536
_STORED = f"{VECTORS_FOLDER}/{VECTORS_FILE}"


def check_keyword(
    keyword: KeywordIndex, products: ProductStore, analyzer: Analyzer | None, advance: Callable[[int], None]
) -> list[Problem]:
    """Looks a sample of the products up by id and, where there is an analyzer, by their own terms."""
    unnamed, unfound = Tally(), Tally()
    by_terms = set(sample(len(products), FOUND)) if analyzer else set()
    for row in sample(len(products), IDS):
        product_id = products.id_of(row)
        if not _is_named(keyword, product_id, row):
            unnamed.add(product_id)
        if analyzer and row in by_terms and not _is_found(keyword, keyword_terms(products[row], analyzer), row):
            unfound.add(product_id)
        advance(1)
    return [
        *unnamed.problems(KEYWORD_FOLDER, "not found by the id at the row"),
        *unfound.problems(KEYWORD_FOLDER, "not found by the own terms"),
    ]


def _is_named(keyword: KeywordIndex, product_id: str, row: int) -> bool:
    if row in keyword.identified(identifier_key(product_id)):
        return True
    # An identifier that is all punctuation, or that too many products carry, names none of them.
    by_id = TextIn("id", (fold(product_id),))
    return row in keyword.select(Selection(where=by_id, everything=True))


def _is_found(keyword: KeywordIndex, terms: Sequence[str], row: int) -> bool:
    together = tuple(islice(dict.fromkeys(terms), _MOST_TERMS))
    return not together or bool((keyword.score(np.array([row]), (TermGroup((together,)),)).scores > 0).any())


def check_vectors(folder: Path, index: VectorIndex, products: ProductStore, text_keys: Keys | None) -> list[Problem]:
    """The stored vectors are of length 1, equal for equal texts, and found by the index that proposes them."""
    vectors: Vectors = load_array(folder / VECTORS_FILE, mapped=True)
    odd = Tally()
    for row in _not_unit(vectors):
        odd.add(_name(products, row))
    found = odd.problems(_STORED, "not of length 1")
    if text_keys is not None and len(text_keys) == len(vectors):
        unequal = Tally()
        for row in _unequal(vectors, text_keys):
            unequal.add(_name(products, row))
        found += unequal.problems(TEXT_KEYS_FILE, "one text and two vectors")
    return found + (_index_problems(folder, index, products) if (folder / INDEX_FILE).exists() else [])


def _name(products: ProductStore, row: int) -> str:
    return products.id_of(row) if row < len(products) else f"row {row}"


def _not_unit(vectors: Vectors) -> Iterator[int]:
    for start in range(0, len(vectors), _CHUNK):
        lengths = np.linalg.norm(vectors[start : start + _CHUNK], axis=1)
        # Not `> _UNIT`: a length that is no number is wrong too.
        yield from (start + np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT))).tolist()


def _unequal(vectors: Vectors, text_keys: Keys) -> Iterator[int]:
    """Rows whose text is that of the row before them, in the order of keys, and whose vector is not."""
    halves = np.ascontiguousarray(text_keys).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    same = np.flatnonzero((halves[order[1:]] == halves[order[:-1]]).all(axis=1))
    for place in same.tolist():
        one, other = order[place], order[place + 1]
        if not np.array_equal(vectors[one], vectors[other]):
            yield int(other)


def _index_problems(folder: Path, index: VectorIndex, products: ProductStore) -> list[Problem]:
    rows = load_array(folder / ROWS_FILE)
    if not np.array_equal(np.sort(rows[rows >= 0]), np.arange(index.size)):
        return [Problem(f"{VECTORS_FOLDER}/{ROWS_FILE}", "it does not name each row once")]
    lost = Tally()
    for row in sample(index.size, FOUND):
        own = index.vector(row)
        nearest = index.search(own, 1)
        if not len(nearest.rows) or nearest.scores[0] < index.similarity(own, np.array([row]))[0]:
            lost.add(_name(products, row))
    return lost.problems(f"{VECTORS_FOLDER}/{INDEX_FILE}", "not found by the own vector")


def check_encoder(encoder: Encoder, index: VectorIndex, products: ProductStore) -> list[Problem]:
    """Makes the vectors of a sample of the products again."""
    rows = [row for row in sample(len(products), ENCODED) if row < index.size]
    if encoder.dimension != index.dimension:
        what = f"makes vectors of dimension {encoder.dimension}, {_STORED} holds {index.dimension}"
        return [Problem("encoder", what)]
    made = encoder.encode_products([encoder_text(products[row]) for row in rows])
    far = Tally()
    for row, vector in zip(rows, made, strict=True):
        if not float(vector @ index.vector(row)) >= _NEAR:
            far.add(products.id_of(row))
    return far.problems(_STORED, "another vector than the encoder makes of the text")

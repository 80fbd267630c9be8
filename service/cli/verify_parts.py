"""Checks of a version's parts against each other: records, fields, terms, vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from indexer.embedding_cache import Keys, text_key
from retrieval.encoders.base import Encoder
from retrieval.errors import StoreDamagedError
from retrieval.filters.conditions import TextIn
from retrieval.filters.schema import FieldCatalog, FieldCounter, fold_value
from retrieval.index.faiss import INDEX_FILE, ROWS_FILE
from retrieval.index.keyword import KeywordIndex, Selection
from retrieval.index.keyword_documents import (
    LINES_FILE,
    KeywordLine,
    decode_line,
    encode_line,
    keyword_line,
    read_lines,
)
from retrieval.index.vectors import VECTORS_FILE, VectorIndex, Vectors
from retrieval.records import Product
from retrieval.store.files import load_array
from retrieval.store.manifest import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
)
from retrieval.store.products import (
    IDS_FILE,
    PRODUCTS_FILE,
    ProductStore,
    encoder_text,
    keyword_document,
    keyword_terms,
    product_from_json,
)
from retrieval.text.analysis import Analyzer, TermGroup, identifier_key

if TYPE_CHECKING:
    pass


_EXAMPLES = 5
NEW_DIRECTORY = (
    "its checksums are right, so it was published like this: let the version before serve (shelfwise index rollback), "
    "rebuild into a new directory, and report it as a fault of Shelfwise"
)


class Problem(msgspec.Struct, frozen=True):
    """Something wrong with a version: the part that it is in, what it is, and what to do about it."""

    part: str
    what: str
    advice: str = NEW_DIRECTORY


@dataclass(slots=True)
class ProblemTally:
    """How many products something is wrong with, and the ids of the first."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, product_id: str) -> None:
        """Counts one more product."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(product_id)

    def problems(self, part: str, what: str) -> list[Problem]:
        """The problem, if any product has it."""
        if not self.count:
            return []
        named = ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")
        counted = f"{self.count:,} products" if self.count > 1 else "1 product"
        return [Problem(part, f"{what}: {counted} ({named})")]


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
    unnamed, unfound = ProblemTally(), ProblemTally()
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
    if row in keyword.find_identifier(identifier_key(product_id)):
        return True
    # An identifier that is all punctuation, or that too many products carry, names none of them.
    by_id = TextIn("id", (fold_value(product_id),))
    return row in keyword.select(Selection(where=by_id, everything=True))


def _is_found(keyword: KeywordIndex, terms: Sequence[str], row: int) -> bool:
    together = tuple(islice(dict.fromkeys(terms), _MOST_TERMS))
    return not together or bool((keyword.score(np.array([row]), (TermGroup((together,)),)).scores > 0).any())


def check_vectors(folder: Path, index: VectorIndex, products: ProductStore, text_keys: Keys | None) -> list[Problem]:
    """The stored vectors are of length 1, equal for equal texts, and found by the index that proposes them."""
    vectors: Vectors = load_array(folder / VECTORS_FILE, mapped=True)
    odd = ProblemTally()
    for row in _not_unit(vectors):
        odd.add(_name(products, row))
    found = odd.problems(_STORED, "not of length 1")
    if text_keys is not None and len(text_keys) == len(vectors):
        unequal = ProblemTally()
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
    lost = ProblemTally()
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
    far = ProblemTally()
    for row, vector in zip(rows, made, strict=True):
        if not float(vector @ index.vector(row)) >= _NEAR:
            far.add(products.id_of(row))
    return far.problems(_STORED, "another vector than the encoder makes of the text")


_LINES = f"{KEYWORD_FOLDER}/{LINES_FILE}"
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Records:
    """The products of a version, and beside them whatever of it can be compared with them; None is left out."""

    products: ProductStore
    catalog: FieldCatalog | None = None
    analyzer: Analyzer | None = None
    keyword: Path | None = None
    """The folder of the keyword index; compared where catalog and analyzer are there too."""
    text_keys: Keys | None = None


def check_rows(records: Records, advance: Callable[[int], None]) -> list[Problem]:
    """Reads every product once; memory holds one of them. `advance` is called for each."""
    return _Rows(records).run(advance)


class _Rows:
    """One reading. What is wrong is counted by its kind."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._counter = FieldCounter()
        self._terms = _Terms(records)
        self._unreadable, self._misnamed, self._unordered, self._other_text = (ProblemTally() for _ in range(4))

    def run(self, advance: Callable[[int], None]) -> list[Problem]:
        last = b""
        for row, (product_id, line) in enumerate(self._records.products.lines()):
            name = product_id.decode("utf-8", "backslashreplace")
            if row and product_id <= last:
                self._unordered.add(name)
            last = product_id
            try:
                self._compare(row, name, product_from_json(line))
            except StoreDamagedError:
                self._unreadable.add(name)
                self._terms.pass_over()
            advance(1)
        return [*self._problems(), *self._terms.problems()]

    def _compare(self, row: int, name: str, product: Product) -> None:
        if product.id != name:
            self._misnamed.add(name)
        self._counter.add(product)
        self._terms.compare(row, product)
        keys = self._records.text_keys
        if keys is not None and row < len(keys) and keys[row].tobytes() != text_key(encoder_text(product)):
            self._other_text.add(product.id)

    def _problems(self) -> Iterator[Problem]:
        yield from self._unreadable.problems(PRODUCTS_FILE, "cannot be read")
        yield from self._misnamed.problems(IDS_FILE, "another id in the record than in this list")
        yield from self._unordered.problems(IDS_FILE, "not in the order of ids")
        yield from self._other_text.problems(TEXT_KEYS_FILE, "another text than the one that became the vector")
        if self._records.catalog is not None and not self._unreadable.count:
            yield from _field_problems(self._records.catalog, self._counter.catalog())


class _Terms:
    """What the keyword index was given of each product, beside what it would be given now."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._lines = read_lines(records.keyword) if records.keyword else iter(())
        self._differing, self._missing = ProblemTally(), ProblemTally()
        self._broken = ""

    def compare(self, row: int, product: Product) -> None:
        """Takes the next row."""
        analyzer, catalog = self._records.analyzer, self._records.catalog
        line = self.pass_over()
        if not self._records.keyword or not analyzer or not catalog:
            return
        if line is None:
            self._missing.add(product.id)
            return
        made = keyword_line(keyword_document(row, product, analyzer, catalog), catalog)
        if encode_line(made) != line and not _is_equivalent(line, made):
            self._differing.add(product.id)

    def pass_over(self) -> bytes | None:
        """The line of the next row; None where there is none any more."""
        try:
            return next(self._lines, None)
        except StoreDamagedError as error:
            self._broken = str(error)
            return None

    def problems(self) -> Iterator[Problem]:
        """What was found, when all rows were taken."""
        yield from self._differing.problems(_LINES, "other terms or values than the product has")
        if self._broken:
            yield Problem(_LINES, self._broken)
        else:
            yield from self._missing.problems(_LINES, "not in it")
        if self.pass_over() is not None:
            yield Problem(_LINES, "it goes on behind the last product")


def _is_equivalent(stored: bytes, made: KeywordLine) -> bool:
    """Whether an index cannot tell them apart: the order of terms and fields says nothing there."""
    try:
        return _unordered(decode_line(stored)) == _unordered(made)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def _unordered(line: KeywordLine) -> tuple[Any, ...]:
    texts, shown = (msgspec.json.decode(each) if each else {} for each in (line.texts, line.shown))
    return Counter(line.text.split(" ")), sorted(line.identifiers), sorted(line.numbers), texts, shown


def _field_problems(stored: FieldCatalog, counted: FieldCatalog) -> Iterator[Problem]:
    one = {name: (info.products, info.kinds) for name, info in stored.fields.items()}
    other = {name: (info.products, info.kinds) for name, info in counted.fields.items()}
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if differing:
        text = [
            f"{name}: {_field_text(one.get(name))}, counted {_field_text(other.get(name))}"
            for name in differing[:_MOST_NAMED]
        ]
        more = "; ..." if len(differing) > _MOST_NAMED else ""
        yield Problem(FIELDS_FILE, f"it says otherwise than the products: {'; '.join(text)}{more}")
    if not stored.category_roots >= counted.category_roots:  # those of rejected rows may be among them
        yield Problem(FIELDS_FILE, "its widest categories are others than the products have")
    places = [info.slot for info in stored.fields.values()]
    if len(set(places)) < len(places):
        yield Problem(FIELDS_FILE, "two fields have one place in the keyword index")


def _field_text(field: tuple[int, frozenset[Any]] | None) -> str:
    return "none" if field is None else f"{field[0]:,} ({', '.join(sorted(field[1]))})"


def sample(count: int, most: int) -> list[int]:
    """At most `most` of the rows from 0 to `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist() if count else []

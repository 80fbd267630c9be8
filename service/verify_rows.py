"""Verifying, row by row: a version's records against its ids, its fields, its terms and the texts of its vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from indexer.text_keys import Keys, text_key
from retrieval.analysis import Analyzer
from retrieval.errors import StoreDamagedError
from retrieval.field_counter import FieldCounter
from retrieval.fields import FieldCatalog
from retrieval.keyword_lines import LINES_FILE, KeywordLine, decode_line, encode_line, keyword_line, read_lines
from retrieval.layout import FIELDS_FILE, KEYWORD_FOLDER, TEXT_KEYS_FILE
from retrieval.product_json import product_from_json
from retrieval.product_store import IDS_FILE, PRODUCTS_FILE, ProductStore
from retrieval.product_text import encoder_text, keyword_document
from retrieval.records import Product
from service.problems import Problem, Tally

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
    """Reads every product once; memory holds one of them. `advance` is told of each."""
    return _Rows(records).run(advance)


class _Rows:
    """One reading. What is wrong is counted by its kind."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._counter = FieldCounter()
        self._terms = _Terms(records)
        self._unreadable, self._misnamed, self._unordered, self._other_text = Tally(), Tally(), Tally(), Tally()

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
        self._differing, self._missing = Tally(), Tally()
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
        if encode_line(made) != line and not _mean_the_same(line, made):
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


def _mean_the_same(stored: bytes, made: KeywordLine) -> bool:
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
        told = [f"{name}: {_told(one.get(name))}, counted {_told(other.get(name))}" for name in differing[:_MOST_NAMED]]
        more = "; ..." if len(differing) > _MOST_NAMED else ""
        yield Problem(FIELDS_FILE, f"it says otherwise than the products: {'; '.join(told)}{more}")
    if not stored.category_roots >= counted.category_roots:  # those of rows that were set aside may be among them
        yield Problem(FIELDS_FILE, "its widest categories are others than the products have")
    places = [info.place for info in stored.fields.values()]
    if len(set(places)) < len(places):
        yield Problem(FIELDS_FILE, "two fields have one place in the keyword index")


def _told(field: tuple[int, frozenset[Any]] | None) -> str:
    return "none" if field is None else f"{field[0]:,} ({', '.join(sorted(field[1]))})"


def sample(count: int, most: int) -> list[int]:
    """At most `most` of the rows from 0 to `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist() if count else []

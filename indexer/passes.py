"""What workers do with a batch: the first pass reads and cleans rows, the second settles and inspects products.

Each pass is a callable that is pickled to the workers once; what it needs for its work it makes there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from indexer.aside import Notes
from indexer.cleaning.census import Census
from indexer.cleaning.cleaner import Cleaner
from indexer.cleaning.settler import Settler
from indexer.feeds import FieldNames, Record, RecordReader, Rejected
from indexer.mapping import FeedMapping
from indexer.quality.findings import Findings, Place
from indexer.quality.inspector import Inspector
from indexer.quality.norms import CategoryCensus
from indexer.quality.signatures import Signatures
from indexer.vectors import text_key
from retrieval.analysis import Analyzer, contains_chinese
from retrieval.errors import RowError
from retrieval.fields import FieldCatalog, FieldCounter
from retrieval.keyword_lines import encode_line, keyword_line
from retrieval.product_json import product_from_json, product_to_json
from retrieval.product_text import encoder_text, keyword_document
from retrieval.records import Product


class CleanedRow(NamedTuple):
    """A product as the first pass leaves it."""

    id: bytes
    """UTF-8."""
    line: bytes
    """The product as JSON."""
    place: Place


@dataclass(slots=True)
class CleanedRows:
    """What the first pass makes of a batch."""

    rows: list[CleanedRow] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    noted: Notes = field(default_factory=Notes)
    cleaned: Counter[str] = field(default_factory=Counter)
    """By cleaning rule: values that were changed."""
    spellings: Census = field(default_factory=Census)
    categories: CategoryCensus = field(default_factory=CategoryCensus)
    fields: FieldCounter = field(default_factory=FieldCounter)
    chinese: int = 0
    """Titles with Chinese in them."""
    names: FieldNames | None = None


class ReadRows:
    """The first pass, by a mapping and as of a time."""

    def __init__(self, mapping: FeedMapping, now: datetime) -> None:
        self._mapping = mapping
        self._now = now

    def __call__(self, batch: Sequence[Record | Rejected]) -> CleanedRows:
        """Products of the rows that can be used, and counts of everything else."""
        made = CleanedRows()
        records, products = self._read(batch, made)
        cleaned = self._cleaner.clean(products)
        made.cleaned.update(cleaned.counts)
        for record, read, product in zip(records, products, cleaned.products, strict=True):
            place = Place(record.file, record.line, guessed=not read.language)
            made.rows.append(CleanedRow(product.id.encode(), product_to_json(product), place))
            made.spellings.add(product)
            made.categories.add(product)
            made.fields.add(product)
            made.chinese += contains_chinese(product.title)
        made.names = self._reader.fields
        return made

    @cached_property
    def _reader(self) -> RecordReader:
        return RecordReader(self._mapping, now=self._now)

    @cached_property
    def _cleaner(self) -> Cleaner:
        return Cleaner()

    def _read(self, batch: Sequence[Record | Rejected], made: CleanedRows) -> tuple[list[Record], list[Product]]:
        records: list[Record] = []
        products: list[Product] = []
        for record in batch:
            if isinstance(record, Rejected):
                made.rejected.append(record)
                continue
            try:
                products.append(self._reader.product(record, made.noted.add))
            except RowError as error:
                made.rejected.append(self._reader.rejected(record, error))
            else:
                records.append(record)
        return records, products


class Item(NamedTuple):
    """One product as the second pass takes it."""

    id: bytes
    line: bytes
    """The product as JSON: cleaned, live changes folded in."""
    place: Place
    row_before: int
    """The row of the same id in the version before, or -1."""
    line_before: bytes
    """The product there as JSON."""


class SettledRow(NamedTuple):
    """A product as it will be published."""

    id: bytes
    line: bytes
    key: bytes
    """The fingerprint of the text that becomes its vector; empty where no index is built."""
    place: Place
    row_before: int
    is_as_before: bool
    terms: bytes
    """Its line of the keyword index; empty where that of the version before can stay, or where no index is built."""


@dataclass(slots=True)
class SettledRows:
    """What the second pass makes of a batch."""

    rows: list[SettledRow]
    settled: dict[str, int]
    """By rule: values that were written in the catalog's spelling."""
    fields: FieldCounter
    findings: Findings
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class Documents:
    """How the second pass makes lines of a keyword index."""

    catalog: FieldCatalog
    takes_over: bool
    """Whether an unchanged product's line of the version before can stay."""


class SettleRows:
    """The second pass over items in the order of ids; `documents` is None where no index is built."""

    def __init__(self, settler: Settler, inspector: Inspector, documents: Documents | None) -> None:
        self._settler = settler
        self._inspector = inspector
        self._documents = documents
        self._analyzer = Analyzer()  # synonyms are for queries only

    def __call__(self, batch: tuple[int, Sequence[Item]]) -> SettledRows:
        """The products that will be published, inspected; a batch is the number of its first row, and its items."""
        first_row, items = batch
        settled = self._settler.settle_all([product_from_json(item.line) for item in items])
        fields = FieldCounter()
        for product in settled.products:
            fields.add(product)
        inspected = self._inspector.inspect(settled.products, [item.place for item in items], first_row)
        rows = [self._row(item, product) for item, product in zip(items, settled.products, strict=True)]
        return SettledRows(rows, settled.counts, fields, inspected.findings, inspected.signatures)

    def _row(self, item: Item, product: Product) -> SettledRow:
        line = product_to_json(product)
        is_as_before = line == item.line_before
        documents = self._documents
        key = b"" if documents is None else text_key(encoder_text(product))
        terms = b"" if documents is None else self._terms(documents, product, is_as_before)
        return SettledRow(item.id, line, key, item.place, item.row_before, is_as_before, terms)

    def _terms(self, documents: Documents, product: Product, is_as_before: bool) -> bytes:
        if is_as_before and documents.takes_over:
            return b""
        document = keyword_document(0, product, self._analyzer, documents.catalog)
        return encode_line(keyword_line(document, documents.catalog))

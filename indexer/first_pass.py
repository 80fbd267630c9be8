"""The first pass over a batch of rows, in a worker: raw records become cleaned products, and are counted.

What travels between processes is plain lists: those cost a third of lists of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from indexer.aside import Notes
from indexer.cleaning.census import Census
from indexer.cleaning.cleaner import Cleaner
from indexer.feeds import FieldNames, Record, RecordReader, Rejected
from indexer.mapping import FeedMapping
from indexer.quality.norms import CategoryCensus
from retrieval.analysis import contains_chinese
from retrieval.errors import RowError
from retrieval.field_counter import FieldCounter
from retrieval.product_json import product_to_json
from retrieval.records import Product


@dataclass(slots=True)
class CleanedRows:
    """What the first pass makes of a batch. The lists are of one length: a place in each for each usable row."""

    ids: list[bytes] = field(default_factory=list)
    """UTF-8."""
    lines: list[bytes] = field(default_factory=list)
    """The products as JSON."""
    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Lines of the files, from 1."""
    guessed: list[bool] = field(default_factory=list)
    """Whether the language was detected, not declared."""
    rejected: list[Rejected] = field(default_factory=list)
    noted: Notes = field(default_factory=Notes)
    cleaned: dict[str, int] = field(default_factory=dict)
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
        products = self._read(batch, made)
        made.guessed = [not product.language for product in products]
        cleaned = self._cleaner.clean(products)
        made.cleaned = cleaned.counts
        made.ids = [product.id.encode() for product in cleaned.products]
        made.lines = [product_to_json(product) for product in cleaned.products]
        made.chinese = sum(contains_chinese(product.title) for product in cleaned.products)
        for product in cleaned.products:
            made.spellings.add(product)
            made.categories.add(product)
            made.fields.add(product)
        made.names = self._reader.fields
        return made

    @cached_property
    def _reader(self) -> RecordReader:
        return RecordReader(self._mapping, now=self._now)

    @cached_property
    def _cleaner(self) -> Cleaner:
        return Cleaner()

    def _read(self, batch: Sequence[Record | Rejected], made: CleanedRows) -> list[Product]:
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
                made.files.append(record.file)
                made.rows.append(record.line)
        return products

"""Pipeline from feeds to the products of a catalog: rows are read, cleaned, sorted, respelled, and inspected.

Two passes run over batches that worker processes share. The first reads and cleans rows, counts what depends on all
rows (spellings, prices, fields), and writes the products sorted by id to disk. The second normalises spellings and
inspects the products in order of id. Results do not depend on the size of batches. Processes exchange plain lists,
which cost a third of lists of objects.
"""

from __future__ import annotations

import heapq
import itertools
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np
import xxhash

from shelfwise.indexer.cleaning.cleaner import Cleaner
from shelfwise.indexer.cleaning.spelling import SpellingCensus, SpellingNormalizer
from shelfwise.indexer.embedding_cache import text_key
from shelfwise.indexer.external_sort import Entry, ExternalSorter
from shelfwise.indexer.feeds.base import FeedNote, Record, RejectedRow
from shelfwise.indexer.feeds.io import total_size
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.reader import FeedRecords, RecordBatch, RecordReader
from shelfwise.indexer.feeds.row_parser import FieldNames
from shelfwise.indexer.incremental import (
    INSPECTION_FOLDER,
    NO_ROW_KEY,
    ROW_KEY_BYTES,
    SIGNATURES_FOLDER,
    Inspection,
    KnownRows,
    PreviousProducts,
    PreviousVersion,
    Reading,
    UnchangedProducts,
    UpdateMerge,
    program_key,
    row_key,
    save_inspection,
    save_reading,
)
from shelfwise.indexer.quality.duplicates import DuplicateFinder
from shelfwise.indexer.quality.findings import MAX_EXAMPLES, Example, Failures, Findings, RowLocation
from shelfwise.indexer.quality.norms import CategoryCensus
from shelfwise.indexer.quality.report import FeedSummary, QualityReport, ReasonCount, make_report
from shelfwise.indexer.quality.rules import QualityRule, built_in_rules
from shelfwise.indexer.rejects import REJECTED_FILE, ReasonCounts, RejectLog, printable
from shelfwise.indexer.workers import Workers, map_products
from shelfwise.retrieval.errors import EmptyCatalogError, RowError
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldCounter
from shelfwise.retrieval.index.keyword_documents import encode_line, keyword_line
from shelfwise.retrieval.index.vectors import Rows, rows_now
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import WORDS_FOLDER
from shelfwise.retrieval.store.products import (
    DEFAULT_WEIGHTS,
    FieldWeights,
    ProductStore,
    ProductWriter,
    encoder_text,
    keyword_document,
    product_from_json,
    product_to_json,
)
from shelfwise.retrieval.text.analysis import Analyzer, contains_chinese
from shelfwise.retrieval.text.vocabulary import COUNTS_FILE

if TYPE_CHECKING:
    from shelfwise.indexer.quality.checks import InspectionResult, Inspector
    from shelfwise.indexer.quality.duplicates import Signatures
    from shelfwise.indexer.quality.norms import Norms


ROWS = 2_000
"""The number of rows in a batch of the first pass."""
PRODUCTS = 8_192
"""The number of products in a batch of the second pass: each rule costs some milliseconds per batch."""
LIVE = "live change"
"""The feed name of a product that only live changes have."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """The feeds to read, and how to read them."""

    feeds: tuple[str, ...]
    mapping: FeedMapping = field(default_factory=FeedMapping, kw_only=True)
    format: str = field(default="", kw_only=True)
    """The name of a feed format; empty detects the format of each feed."""
    rules: tuple[QualityRule, ...] = field(default=(), kw_only=True)
    """Quality rules; empty means the built-in ones."""


class FeedPipeline:
    """One run over feeds. Its files go into `folder`; ages are counted from `now`."""

    def __init__(
        self,
        options: FeedOptions,
        folder: Path,
        reject_log: RejectLog,
        workers: Workers,
        progress: Progress,
        now: datetime,
    ) -> None:
        self._options = options
        self._rules = options.rules or built_in_rules()
        self._rejects = reject_log
        self._workers = workers
        self._progress = progress
        self._now = now
        self._sorter = ExternalSorter(folder / "runs")
        self._files: dict[str, int] = {}
        self._spellings = SpellingCensus()
        self._categories = CategoryCensus()
        self._fields = FieldCounter()
        self._findings = Findings()
        self._signatures = folder / "duplicates"
        self._duplicates = DuplicateFinder(self._signatures, self._rules)
        self._row_files = array("i")
        """The number of each product's feed."""
        self._row_lines = array("q")
        self._cleaned: Counter[str] = Counter()
        self.notes = ReasonCounts()
        """Counts of dropped values."""
        self.rows = 0
        """The number of rows in the feeds, including rejected ones."""
        self.chinese = 0
        """The number of usable rows with Chinese characters in the title."""
        self.rows_before = array("q")
        """Row in the previous version of each product that the second pass left as it was there, else -1."""
        self._detected = bytearray()
        """One byte per product, 1 if its language was detected."""
        self._known_rows: KnownRows | None = None
        self._field_names: FieldNames | None = None
        self._read_keys = bytearray()
        """The key of each row that was read, in the order of arrival."""
        self._row_keys = bytearray()
        """The key of each product's row; NO_ROW_KEY if it depends on more than that row."""
        self.siblings = np.empty(0, np.int32)
        """The group of each product (n,), known after the report: see `DuplicateFindings`."""

    @property
    def usable(self) -> int:
        """The number of rows that the first pass did not reject."""
        return len(self._sorter) + (len(self._known_rows.rows) if self._known_rows else 0)

    @property
    def products(self) -> int:
        """The number of products that the second pass has returned so far."""
        return len(self.rows_before)

    def read(self, previous: PreviousVersion | None = None) -> None:
        """Runs the first pass, without rows from which the previous version was made. Raises FeedError for a feed that
        cannot be read."""
        options, note = self._options, self.notes.add_note
        self._progress.begin("read", total_size(options.feeds), "bytes")
        names: FieldNames | None = None
        if previous and not self._workers.reads_sources:
            self._known_rows = KnownRows.load(previous.folder, self.made_by)
        feeds = [FeedRecords(feed, options.mapping, options.format, ROWS) for feed in options.feeds]
        for batch in self._cleaned_batches(feeds):
            self._collect(batch)
            self._progress.advance(batch.bytes)
            names = batch.names if names is None or batch.names is None else names.merge(batch.names)
        if previous and self._known_rows:
            names = self._count_known(self._known_rows, previous.folder, names)
        for each in names.notes(", ".join(options.feeds)) if names else ():
            note(each)
        self._field_names = names
        rejected = self._rejects.reasons.counts.total()  # without duplicate ids, which the sort finds
        self._progress.end(f"{self.rows:,} rows" + (f", {rejected:,} rejected" if rejected else ""))

    @property
    def made_by(self) -> str:
        """A fingerprint of the program and the settings with which products are made from rows."""
        mapping = self._options.mapping
        names = map(sorted, (mapping.user_names, mapping.user_fields))
        parts = (program_key(), self._options.format, mapping.rules, *names)
        return xxhash.xxh3_128_hexdigest(repr(parts).encode())

    def _cleaned_batches(self, feeds: Sequence[FeedRecords]) -> Iterator[CleanedBatch]:
        work = FirstPass(self._options.mapping, self._now)
        if self._known_rows is None:
            return self._workers.map_sources(work, feeds)
        return self._workers.map(work, self._unknown_batches(self._known_rows, feeds))

    def _unknown_batches(self, known_rows: KnownRows, feeds: Sequence[FeedRecords]) -> Iterator[RecordBatch]:
        """The records that must be read, in large batches."""
        waiting = RecordBatch([], [], 0)
        for batch in itertools.chain.from_iterable(feeds):
            for record in batch.records:
                self._files.setdefault(record.file, len(self._files))
            rest = known_rows.unknown(batch.records, self._files)
            waiting = RecordBatch(
                [*waiting.records, *rest], [*waiting.notes, *batch.notes], waiting.bytes + batch.bytes
            )
            if len(waiting.records) >= ROWS:
                yield waiting
                waiting = RecordBatch([], [], 0)
        yield waiting

    def _count_known(self, known_rows: KnownRows, folder: Path, names: FieldNames | None) -> FieldNames:
        """Counts the products of rows that were not read; returns the field names of all rows."""
        detected = known_rows.undeclared
        for batch, without_language in map_products(folder, self._workers, known_rows.rows.tolist(), _count_cleaned):
            self._add_counts(batch)
            detected -= without_language
        self.rows += len(known_rows.rows)
        if detected:
            self._cleaned["language-detected"] += detected
        before = FieldNames(frozenset(known_rows.reading.unseen), frozenset(known_rows.reading.names))
        return names.merge(before) if names else before

    def _entries(self) -> Iterator[tuple[Entry, bool]]:
        """Every product of the first pass, ordered by id, and whether it is the first with its id."""
        entries = self._sorter.sorted()
        if self._known_rows is not None:
            known_entries = self._known_rows.entries()
            entries = heapq.merge(entries, known_entries, key=lambda each: (each.id, each.file // 2, each.row))
        last = None
        for entry in entries:
            yield entry, entry.id != last
            last = entry.id

    def _collect(self, batch: CleanedBatch) -> None:
        columns = (batch.ids, batch.lines, batch.files, batch.rows, batch.has_detected_language)
        for product_id, line, file, row, is_detected in zip(*columns, strict=True):
            self._sorter.add(product_id, line, 2 * self._files.setdefault(file, len(self._files)) + is_detected, row)
        self._rejects.reject(batch.rejected)
        self.notes.merge(batch.notes)
        self.rows += len(batch.ids) + len(batch.rejected)
        self._cleaned.update(batch.cleaned)
        self._read_keys += b"".join(batch.keys)
        self._add_counts(batch)

    def _add_counts(self, batch: CleanedBatch) -> None:
        self._spellings.merge(batch.spellings)
        self._categories.merge(batch.categories)
        self._fields.merge(batch.fields)
        self.chinese += batch.chinese

    def possible_fields(self, updates: UpdateMerge | None = None, previous: FieldCatalog | None = None) -> FieldCatalog:
        """The fields that products may have, known after the first pass, with the category roots."""
        normalizer = self._spellings.normalizer()
        updates = (updates or UpdateMerge()).use_spelling(normalizer)
        possible = self._fields_with(updates.products).catalog(previous, normalizer.levels)
        if possible.category_roots == self._fields_with(()).catalog(None, normalizer.levels).category_roots:
            return possible
        # A root that only live changes have is included while those changes are pending.
        pending = self._fields_with(self._merged_products(updates)).catalog(None, normalizer.levels)
        return FieldCatalog(possible.fields, pending.category_roots)

    def _fields_with(self, live: Iterable[Product]) -> FieldCounter:
        fields = FieldCounter()
        for product in live:
            fields.add(product)
        fields.merge(self._fields)
        return fields

    def _merged_products(self, updates: UpdateMerge) -> Iterator[Product]:
        ids = set(updates.ids)
        lines = {entry.id: entry.line for entry, is_first in self._entries() if is_first and entry.id in ids}
        for product_id in updates.ids:
            rebased = updates.rebase(product_id, lines.get(product_id))
            if rebased is not None and rebased.live is not None:
                yield rebased.live

    def published_fields(self, possible: FieldCatalog) -> FieldCatalog:
        """The fields that the products have, known after the second pass, in the order of the `possible` ones."""
        return FieldCatalog(self._fields.catalog(possible).fields, possible.category_roots)

    def publishable_batches(
        self,
        updates: UpdateMerge | None = None,
        previous: PreviousVersion | None = None,
        options: KeywordLineOptions | None = None,
    ) -> Iterator[PublishableBatch]:
        """Runs the second pass: returns the products to publish, ordered by id, in batches, without those in
        `rows_before`."""
        normalizer, norms = self._spellings.normalizer(), self._norms
        second_pass = SecondPass(normalizer, InspectionOptions(self._rules, norms, self._now), options)
        before: Inspection | None = None
        if previous and options and options.reuses_lines and (previous.folder / WORDS_FOLDER / COUNTS_FILE).is_file():
            before = Inspection.load(previous.folder, self._rules)
        unchanged = UnchangedProducts(before, normalizer, norms, self._now) if before else None
        settled = (updates or UpdateMerge()).use_spelling(normalizer)
        batches = self._sorted_batches(settled, PreviousProducts(previous), unchanged)
        for batch in self._workers.map(second_pass, batches):
            self._findings.merge(batch.findings)
            self._duplicates.add(batch.signatures)
            self._cleaned.update(batch.spelling_counts)
            for number in itertools.compress(batch.numbers, batch.is_respelled):
                self._row_keys[number * ROW_KEY_BYTES : (number + 1) * ROW_KEY_BYTES] = NO_ROW_KEY
            yield batch
        if previous and before:
            self._take_over(previous.products, before, second_pass)

    @cached_property
    def _norms(self) -> Norms:
        return self._categories.norms()

    def _take_over(self, products: ProductStore, before: Inspection, second_pass: SecondPass) -> None:
        """Adds the findings of the previous inspection for unchanged products."""
        rows_before = np.array(self.rows_before, np.int64)
        rows = np.flatnonzero(rows_before >= 0)
        now_at = rows_now(rows_before, len(products))
        self._duplicates.take_over(before.folder / SIGNATURES_FOLDER, now_at)
        self._findings.merge(before.counts)
        gone = np.flatnonzero(now_at < 0).tolist()
        parts = [[products.line(row) for row in gone[at : at + PRODUCTS]] for at in range(0, len(gone), PRODUCTS)]
        for counts in self._workers.map(partial(_count_lines, before.now), parts):
            self._findings.subtract_counts(counts)
        self._findings.merge(before.findings(rows_before[rows], rows))
        firsts = [np.sort(np.concatenate(each))[:MAX_EXAMPLES] for each in self._findings.failing.values()]
        sample = np.unique(np.concatenate([np.empty(0, np.int64), *firsts]))
        sample = sample[rows_before[sample] >= 0]
        examples = second_pass.inspect(
            [products[row] for row in rows_before[sample].tolist()], list(map(self._location, sample.tolist())), sample
        )
        for name, failures in examples.findings.failures.items():
            self._findings.failures[name].merge(Failures(0, failures.examples))

    def _location(self, row: int) -> RowLocation:
        file = [*self._files, LIVE][self._row_files[row]]
        return RowLocation(file, self._row_lines[row], bool(self._detected[row]))

    def save_inspection(self, version: Path) -> None:
        """Saves the data of the report for the next rebuild; called after `report`."""
        save_inspection(version, self._findings, self._rules, self._norms, self._now, self._detected)
        names = self._field_names or FieldNames(frozenset(), frozenset())
        save_reading(version, Reading(self.made_by, sorted(names.unseen), sorted(names.names)), self._row_keys)
        shutil.move(self._signatures, version / INSPECTION_FOLDER / SIGNATURES_FOLDER)

    def _sorted_batches(
        self, updates: UpdateMerge, previous: PreviousProducts, unchanged: UnchangedProducts | None
    ) -> Iterator[SortedBatch]:
        names = [*self._files, LIVE]
        batch = SortedBatch()
        for product_id, entry in _with_ids(self._unique(names), updates.ids):
            feed = entry.line if entry else None
            line = updates.merge(product_id, feed)
            if line is not feed:
                self._recount(feed, line)
            if line is None:
                continue
            file, row = (entry.file, entry.row) if entry else (2 * len(self._files), 0)
            self._row_files.append(file // 2)
            self._row_lines.append(row)
            self._detected.append(file % 2)
            previous_row, previous_line = previous.at(product_id)
            self._row_keys += self._key_of(entry, previous_row) if entry and line is feed else NO_ROW_KEY
            if unchanged and unchanged.has(previous_row, previous_line, line, file % 2):
                self.rows_before.append(previous_row)
                continue
            batch.numbers.append(len(self.rows_before))
            self.rows_before.append(-1)
            batch.ids.append(product_id)
            batch.lines.append(line)
            batch.files.append(names[file // 2])
            batch.rows.append(row)
            batch.has_detected_language.append(bool(file % 2))
            batch.previous_rows.append(previous_row)
            batch.previous_lines.append(previous_line)
            if len(batch.ids) == PRODUCTS:
                yield batch
                batch = SortedBatch()
        if batch.ids:
            yield batch

    def _key_of(self, entry: Entry, previous_row: int) -> bytes:
        if entry.number < 0:
            return self._known_rows.key(previous_row) if self._known_rows else NO_ROW_KEY
        return bytes(self._read_keys[entry.number * ROW_KEY_BYTES : (entry.number + 1) * ROW_KEY_BYTES])

    def _unique(self, names: list[str]) -> Iterator[Entry]:
        for entry, is_first in self._entries():
            if is_first:
                yield entry
                continue
            self._recount(entry.line, None)
            # The row is reported as the product, since the feed's own values are no longer known.
            detail, product = repr(entry.id.decode()), msgspec.json.decode(entry.line)
            file = names[entry.file // 2]
            self._rejects.reject([RejectedRow(file, entry.row, "duplicate id", detail, "jsonl", product)])

    def _recount(self, counted: bytes | None, published: bytes | None) -> None:
        """Corrects the counts of fields if a product other than the feed's, or none, is published."""
        if counted is not None:
            self._fields.remove(product_from_json(counted))
        if published is not None:
            self._fields.add(product_from_json(published))

    def report(self, product_of: Callable[[int], Product], pictures: Mapping[str, int] | None = None) -> QualityReport:
        """The quality report, known after the second pass; `product_of` returns a product by its row, `pictures` counts
        unusable ones by reason."""

        def row_of(row: int) -> tuple[Product, RowLocation]:
            return product_of(row), self._location(row)

        summary = FeedSummary(
            created=self._now,
            feeds=tuple(map(printable, self._options.feeds)),
            read=self.rows,
            rejected=_reason_counts(self._rejects.reasons),
            noted=_reason_counts(self.notes),
            cleaned=self._cleaned,
            pictures=pictures or {},
        )
        duplicates = self._duplicates.groups(row_of)
        self.siblings = duplicates.siblings
        return make_report(summary, self._findings, duplicates, self._rules)


def _reason_counts(reasons: ReasonCounts) -> dict[str, ReasonCount]:
    examples = {
        reason: tuple(Example("", each.detail, each.file, each.line) for each in first)
        for reason, first in reasons.examples.items()
    }
    return {reason: ReasonCount(count, examples[reason]) for reason, count in reasons.counts.items()}


def _with_ids(entries: Iterable[Entry], ids: list[bytes]) -> Iterator[tuple[bytes, Entry | None]]:
    """The entries, merged with the ids that none of them has; both are in ascending order."""
    at = 0
    for entry in entries:
        while at < len(ids) and ids[at] < entry.id:
            yield ids[at], None
            at += 1
        at += at < len(ids) and ids[at] == entry.id
        yield entry.id, entry
    for product_id in ids[at:]:
        yield product_id, None


@dataclass(slots=True)
class CleanedBatch:
    """The result of the first pass for a batch. Each list has one item per usable row."""

    ids: list[bytes] = field(default_factory=list)
    """The ids as UTF-8."""
    lines: list[bytes] = field(default_factory=list)
    """The products as JSON."""
    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """The lines in the files, from 1."""
    has_detected_language: list[bool] = field(default_factory=list)
    """Whether the language was detected and not declared."""
    keys: list[bytes] = field(default_factory=list)
    """Row keys, see `row_key`; NO_ROW_KEY if a value was dropped or cleaned, or depends on the time."""
    rejected: list[RejectedRow] = field(default_factory=list)
    notes: ReasonCounts = field(default_factory=ReasonCounts)
    cleaned: dict[str, int] = field(default_factory=dict)
    """The number of changed values by cleaning rule."""
    spellings: SpellingCensus = field(default_factory=SpellingCensus)
    categories: CategoryCensus = field(default_factory=CategoryCensus)
    fields: FieldCounter = field(default_factory=FieldCounter)
    chinese: int = 0
    """The number of titles with Chinese characters."""
    names: FieldNames | None = None
    bytes: int = 0
    """The number of bytes of the feed that were read for it."""

    def count(self, products: Sequence[Product]) -> None:
        """Counts what depends on all products."""
        self.chinese = sum(contains_chinese(product.title) for product in products)
        for product in products:
            self.spellings.add(product)
            self.categories.add(product)
            self.fields.add(product)


def _count_cleaned(products: Sequence[Product]) -> tuple[CleanedBatch, int]:
    """The counts of products that were cleaned earlier, and the number of products without a language."""
    batch = CleanedBatch()
    batch.count(products)
    return batch, sum(not product.language for product in products)


class FirstPass:
    """Makes cleaned products from raw records, and counts them; runs in a worker."""

    def __init__(self, mapping: FeedMapping, now: datetime) -> None:
        self._mapping = mapping
        self._now = now

    def __call__(self, raw: RecordBatch) -> CleanedBatch:
        batch = CleanedBatch(bytes=raw.bytes)
        for note in raw.notes:
            batch.notes.add_note(note)
        products = self._read(raw.records, batch)
        batch.has_detected_language = [not product.language for product in products]
        result = Cleaner().clean(products)
        for index, (product, cleaned) in enumerate(zip(products, result.products, strict=True)):
            if product is not cleaned and product != replace(cleaned, language=product.language):
                batch.keys[index] = NO_ROW_KEY
        batch.cleaned = result.counts
        batch.ids = [product.id.encode() for product in result.products]
        batch.lines = [product_to_json(product) for product in result.products]
        batch.count(result.products)
        batch.names = self._reader.fields
        return batch

    @cached_property
    def _reader(self) -> RecordReader:
        return RecordReader(self._mapping, now=self._now)

    def _read(self, records: Sequence[Record | RejectedRow], batch: CleanedBatch) -> list[Product]:
        products: list[Product] = []
        for record in records:
            if isinstance(record, RejectedRow):
                batch.rejected.append(record)
                continue
            noted: list[FeedNote] = []
            try:
                products.append(self._reader.read_product(record, noted.append))
            except RowError as error:
                batch.rejected.append(self._reader.reject(record, error))
            else:
                batch.files.append(record.file)
                batch.rows.append(record.line)
                is_known = not noted and not self._reader.depends_on_time
                batch.keys.append(row_key(record) if is_known else NO_ROW_KEY)
            for note in noted:
                batch.notes.add_note(note)
        return products


@dataclass(slots=True)
class SortedBatch:
    """Products ordered by id. The lists have equal lengths."""

    numbers: list[int] = field(default_factory=list)
    """The rows of the products in the new version."""
    ids: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    """The products as JSON: cleaned, with live changes merged."""
    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    has_detected_language: list[bool] = field(default_factory=list)
    previous_rows: list[int] = field(default_factory=list)
    """The row of the same id in the previous version, or -1."""
    previous_lines: list[bytes] = field(default_factory=list)
    """The product with the same id in the previous version as JSON, or empty."""


@dataclass(frozen=True, slots=True)
class PublishableBatch:
    """The result of the second pass for a batch: the products as published. The lists have equal lengths."""

    numbers: list[int]
    ids: list[bytes]
    lines: list[bytes]
    keys: list[bytes]
    """Fingerprints of the texts that become vectors; empty if no index is built."""
    previous_rows: list[int]
    is_unchanged: list[bool]
    is_respelled: list[bool]
    terms: list[bytes]
    """Lines of the keyword index, each empty if that of the previous version is kept; no lines if none is built."""
    spelling_counts: dict[str, int]
    """The number of values changed to the catalog's spelling, by rule."""
    findings: Findings
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class KeywordLineOptions:
    """The fields of the keyword index, whether an unchanged product keeps its line of the previous version, and the
    weights of the searched fields."""

    catalog: FieldCatalog
    reuses_lines: bool
    weights: FieldWeights = DEFAULT_WEIGHTS


@dataclass(frozen=True, slots=True)
class InspectionOptions:
    """The rules and norms for inspecting products, as of a time."""

    rules: tuple[QualityRule, ...]
    norms: Norms
    now: datetime


class SecondPass:
    """Changes products to the catalog's spelling, inspects and analyses them; runs in a worker.

    `options` is None if no index is built.
    """

    def __init__(
        self, normalizer: SpellingNormalizer, inspection: InspectionOptions, options: KeywordLineOptions | None
    ) -> None:
        self._normalizer = normalizer
        self._inspection = inspection
        self._options = options
        self._analyzer = Analyzer()  # without synonyms, which apply only to queries

    def __call__(self, batch: SortedBatch) -> PublishableBatch:
        cleaned = [product_from_json(line) for line in batch.lines]
        result = self._normalizer.normalize_all(cleaned)
        lines = [
            line if product is unspelled else product_to_json(product)
            for line, unspelled, product in zip(batch.lines, cleaned, result.products, strict=True)
        ]
        is_unchanged = [line == previous for line, previous in zip(lines, batch.previous_lines, strict=True)]
        locations = list(map(RowLocation, batch.files, batch.rows, batch.has_detected_language))
        inspected = self.inspect(result.products, locations, np.array(batch.numbers, np.int64))
        options, keys, terms = self._options, list[bytes](), list[bytes]()
        if options is not None:
            keys = [text_key(encoder_text(product)) for product in result.products]
            terms = [
                b"" if options.reuses_lines and is_same else self._terms(product, options)
                for product, is_same in zip(result.products, is_unchanged, strict=True)
            ]
        return PublishableBatch(
            batch.numbers,
            batch.ids,
            lines,
            keys,
            batch.previous_rows,
            is_unchanged,
            [line != unspelled for line, unspelled in zip(lines, batch.lines, strict=True)],
            terms,
            result.counts,
            inspected.findings,
            inspected.signatures,
        )

    def inspect(self, products: Sequence[Product], locations: Sequence[RowLocation], rows: Rows) -> InspectionResult:
        """The findings of products at `rows` (n,)."""
        return self._inspector.inspect(products, locations, rows)

    @cached_property
    def _inspector(self) -> Inspector:
        # Imported only in workers: the validation library takes a second to load.
        from shelfwise.indexer.cleaning.language import detect
        from shelfwise.indexer.quality.checks import Inspector

        return Inspector(self._inspection.rules, self._inspection.norms, self._inspection.now, detect)

    def _terms(self, product: Product, options: KeywordLineOptions) -> bytes:
        document = keyword_document(0, product, self._analyzer, options.catalog, options.weights)
        return encode_line(keyword_line(document, options.catalog))


def _count_lines(now: float, lines: Sequence[bytes]) -> Findings:
    from shelfwise.indexer.quality.checks import count_products

    return count_products(list(map(product_from_json, lines)), datetime.fromtimestamp(now, UTC))


def check_feeds(
    options: FeedOptions,
    rejected: Path | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    now: datetime | None = None,
) -> QualityReport:
    """The quality report of feeds, without publishing: reads, cleans and inspects them.

    Rejected rows are written to the file `rejected` if it is given. `workers` processes share the work, one per core if
    it is None; ages are counted from `now`. Raises FeedError for a feed that cannot be read at all, EmptyCatalogError
    for feeds without rows.
    """
    progress = progress or NullProgress()
    with TemporaryDirectory(prefix="shelfwise-check-") as scratch, Workers(workers) as pool:
        folder = Path(scratch)
        with RejectLog(rejected or folder / REJECTED_FILE) as reject_log:
            pipeline = FeedPipeline(options, folder, reject_log, pool, progress, now or datetime.now(UTC))
            pipeline.read()
            if not pipeline.rows:
                raise EmptyCatalogError(f"{', '.join(options.feeds)}: no rows in it")
            progress.begin("inspect", pipeline.usable, "products")
            products = ProductWriter(folder)
            for batch in pipeline.publishable_batches():
                for product_id, line in zip(batch.ids, batch.lines, strict=True):
                    products.add(product_id, line)
                progress.advance(len(batch.ids))
            products.finish()
            report = pipeline.report(ProductStore(folder).__getitem__)
            progress.end(f"{pipeline.products:,} products")
            return report

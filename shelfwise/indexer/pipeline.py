"""Pipeline from feeds to the products of a catalog: rows are read, cleaned, sorted, respelled, and inspected.

Two passes run over batches that worker processes share. The first reads and cleans rows, counts what depends on all
rows (spellings, prices, fields), and writes the products sorted by id to disk. The second normalises spellings and
inspects the products in order of id. Results do not depend on the size of batches.
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
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import numpy as np
import xxhash

from shelfwise.indexer.cleaning.cleaner import clean_products
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
from shelfwise.indexer.quality.checks import Inspector, count_products
from shelfwise.indexer.quality.duplicates import DuplicateFinder, Signatures
from shelfwise.indexer.quality.findings import MAX_EXAMPLES, Example, Failures, Findings, RowLocation
from shelfwise.indexer.quality.norms import CategoryCensus, Norms
from shelfwise.indexer.quality.report import FeedSummary, QualityReport, ReasonCount, make_report
from shelfwise.indexer.quality.rules import QualityRule, built_in_rules
from shelfwise.indexer.rejects import REJECTED_FILE, ReasonCounts, RejectLog, printable
from shelfwise.indexer.workers import Workers, map_products
from shelfwise.retrieval.errors import EmptyCatalogError, RowError
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldCounter
from shelfwise.retrieval.index.keyword_documents import encode_line, keyword_line
from shelfwise.retrieval.index.vectors import rows_now
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

ROWS = 2_000
"""The number of rows in a batch of the first pass."""
PRODUCTS = 8_192
"""The number of products in a batch of the second pass: each rule costs some milliseconds per batch."""
LIVE = "live change"
"""The feed name of a product that only live changes have."""


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
        self._files = [*options.feeds, LIVE]
        self._norms = Norms({})
        self._findings = Findings()
        self._signatures = folder / "duplicates"
        self._duplicates = DuplicateFinder(self._signatures, self._rules)
        self._row_files = array("i")
        """The number of each product's feed."""
        self._row_lines = array("q")
        self._cleaned: Counter[str] = Counter()
        self.counts = CatalogCounts()
        """Counts over all usable rows."""
        self.notes = ReasonCounts()
        """Counts of dropped values."""
        self.rows = 0
        """The number of rows in the feeds, including rejected ones."""
        self.rows_before = array("q")
        """Row in the previous version of each product that the second pass left as it was there, else -1."""
        self._detected = bytearray()
        """One byte per product, 1 if its language was detected."""
        self._known_rows: KnownRows | None = None
        self._field_names = FieldNames(options.mapping.user_names, frozenset())
        self._row_keys = bytearray()
        """The key of each product's row; NO_ROW_KEY if it depends on more than that row."""
        self.siblings = np.empty(0, np.int32)
        """The group of each product (n,), known after the report: see `DuplicateFindings`."""

    @property
    def usable(self) -> int:
        """The number of rows that the first pass did not reject."""
        return len(self._sorter) + (len(self._known_rows.rows) if self._known_rows else 0)

    def read(self, previous: PreviousVersion | None = None) -> None:
        """Runs the first pass, without rows from which the previous version was made. Raises FeedError for a feed that
        cannot be read."""
        options = self._options
        self._progress.begin("read", total_size(options.feeds), "bytes")
        work = FirstPass(options.mapping, self._now, {file: number for number, file in enumerate(self._files)})
        feeds = [FeedRecords(feed, options.mapping, options.format, ROWS) for feed in options.feeds]
        if previous and not self._workers.reads_sources:
            self._known_rows = KnownRows.load(previous.folder, self.made_by)
        if self._known_rows is None:
            batches = self._workers.map_sources(work, feeds)
        else:
            batches = self._workers.map(work, _unknown_batches(self._known_rows, feeds, work.files))
        for batch in batches:
            for entry in batch.entries:
                self._sorter.add(entry)
            self._rejects.reject(batch.rejected)
            self.notes.merge(batch.notes)
            self.rows += len(batch.entries) + len(batch.rejected)
            self._cleaned.update(batch.cleaned)
            self.counts.merge(batch.counts)
            self._field_names = self._field_names.merge(batch.names)
            self._progress.advance(batch.bytes)
        if previous and self._known_rows:
            self._count_known(self._known_rows, previous.folder)
        for each in self._field_names.notes(", ".join(options.feeds)):
            self.notes.add_note(each)
        rejected = self._rejects.reasons.counts.total()  # without duplicate ids, which the sort finds
        self._progress.end(f"{self.rows:,} rows" + (f", {rejected:,} rejected" if rejected else ""))

    @property
    def made_by(self) -> str:
        """A fingerprint of the program and the settings with which products are made from rows."""
        mapping = self._options.mapping
        names = map(sorted, (mapping.user_names, mapping.user_fields))
        parts = (program_key(), self._options.format, mapping.rules, *names)
        return xxhash.xxh3_128_hexdigest(repr(parts).encode())

    def _count_known(self, known_rows: KnownRows, folder: Path) -> None:
        """Counts the products of rows that were not read."""
        undeclared = known_rows.undeclared
        for part in map_products(folder, self._workers, known_rows.rows.tolist(), CatalogCounts.of):
            self.counts.merge(part)
            undeclared -= part.without_language
        self.rows += len(known_rows.rows)
        if undeclared:
            self._cleaned["language-detected"] += undeclared
        self._field_names = self._field_names.merge(known_rows.reading.fields)

    def _entries(self, ids: Iterable[bytes]) -> Iterator[tuple[bytes, list[Entry]]]:
        """The rows of each id, in order of arrival, ordered by id; none for those of `ids`, which are ascending, that
        the feeds do not have."""
        entries = self._sorter.sorted()
        if self._known_rows is not None:
            known_entries = self._known_rows.entries()
            entries = heapq.merge(entries, known_entries, key=lambda each: (each.id, each.file, each.row))
        pairs = heapq.merge(((each.id, each) for each in entries), ((each, None) for each in ids), key=itemgetter(0))
        for product_id, group in itertools.groupby(pairs, key=itemgetter(0)):
            yield product_id, [entry for _, entry in group if entry]

    def possible_fields(self, updates: UpdateMerge | None = None, previous: FieldCatalog | None = None) -> FieldCatalog:
        """The fields that products may have, known after the first pass, with the category roots."""
        normalizer = self.counts.spellings.normalizer()
        updates = (updates or UpdateMerge()).use_spelling(normalizer)
        possible = self._fields_with(updates.products).catalog(previous, normalizer.levels)
        if possible.category_roots == self.counts.fields.catalog(None, normalizer.levels).category_roots:
            return possible
        # A root that only live changes have is included while those changes are pending.
        changes = (
            updates.rebase(product_id, entries[0].line if entries else None)
            for product_id, entries in self._entries(updates.ids)
        )
        merged = self._fields_with(change.live for change in changes if change and change.live)
        return FieldCatalog(possible.fields, merged.catalog(None, normalizer.levels).category_roots)

    def _fields_with(self, live: Iterable[Product]) -> FieldCounter:
        fields = FieldCounter()
        for product in live:
            fields.add(product)
        fields.merge(self.counts.fields)
        return fields

    def publishable_batches(
        self,
        updates: UpdateMerge | None = None,
        previous: PreviousVersion | None = None,
        options: KeywordLineOptions | None = None,
    ) -> Iterator[PublishableBatch]:
        """Runs the second pass: returns the products to publish, ordered by id, in batches, without those in
        `rows_before`."""
        normalizer = self.counts.spellings.normalizer()
        self._norms = self.counts.categories.norms()
        inspector = Inspector(self._rules, self._norms, self._now)
        before: Inspection | None = None
        if previous and options and options.reuses_lines and (previous.folder / WORDS_FOLDER / COUNTS_FILE).is_file():
            before = Inspection.load(previous.folder, self._rules)
        unchanged = UnchangedProducts(before, normalizer, self._norms, self._now) if before else None
        settled = (updates or UpdateMerge()).use_spelling(normalizer)
        products = self._sorted_products(settled, PreviousProducts(previous), unchanged)
        batches = iter(lambda: list(itertools.islice(products, PRODUCTS)), [])
        for batch in self._workers.map(SecondPass(normalizer, inspector, options), batches):
            self._findings.merge(batch.findings)
            self._duplicates.add(batch.signatures)
            self._cleaned.update(batch.spelling_counts)
            for number in batch.respelled:
                self._row_keys[number * ROW_KEY_BYTES : (number + 1) * ROW_KEY_BYTES] = NO_ROW_KEY
            yield batch
        if previous and before:
            self._take_over(previous, before, inspector)

    def _take_over(self, previous: PreviousVersion, before: Inspection, inspector: Inspector) -> None:
        """Adds the findings of the previous inspection for unchanged products."""
        products = previous.products
        rows_before = np.array(self.rows_before, np.int64)
        rows = np.flatnonzero(rows_before >= 0)
        now_at = rows_now(rows_before, len(products))
        self._duplicates.take_over(before.folder / SIGNATURES_FOLDER, now_at)
        self._findings.merge(before.counts)
        gone = np.flatnonzero(now_at < 0).tolist()
        count = partial(count_products, now=datetime.fromtimestamp(before.now, UTC))
        for counts in map_products(previous.folder, self._workers, gone, count):
            self._findings.subtract_counts(counts)
        self._findings.merge(before.findings(rows_before[rows], rows))
        firsts = [np.sort(np.concatenate(each))[:MAX_EXAMPLES] for each in self._findings.failing.values()]
        sample = np.unique(np.concatenate([np.empty(0, np.int64), *firsts]))
        sample = sample[rows_before[sample] >= 0]
        examples = inspector.inspect(
            [products[row] for row in rows_before[sample].tolist()], list(map(self._location, sample.tolist())), sample
        )
        for name, failures in examples.findings.failures.items():
            self._findings.failures[name].merge(Failures(0, failures.examples))

    def _location(self, row: int) -> RowLocation:
        return RowLocation(self._files[self._row_files[row]], self._row_lines[row], bool(self._detected[row]))

    def save_inspection(self, version: Path) -> None:
        """Saves the data of the report for the next rebuild; called after `report`."""
        save_inspection(version, self._findings, self._rules, self._norms, self._now, self._detected)
        save_reading(version, Reading(self.made_by, self._field_names), self._row_keys)
        shutil.move(self._signatures, version / INSPECTION_FOLDER / SIGNATURES_FOLDER)

    def _sorted_products(
        self, updates: UpdateMerge, previous: PreviousProducts, unchanged: UnchangedProducts | None
    ) -> Iterator[SortedProduct]:
        for product_id, entries in self._entries(updates.ids):
            for repeated in entries[1:]:
                self._reject_repeated(repeated)
            entry = entries[0] if entries else Entry(product_id, b"", len(self._files) - 1, False, 0, NO_ROW_KEY)
            feed = entry.line if entries else None
            line = updates.merge(product_id, feed)
            if line is not feed:
                self._recount(feed, line)
            if line is None:
                continue
            number = len(self.rows_before)
            self._row_files.append(entry.file)
            self._row_lines.append(entry.row)
            self._detected.append(entry.is_detected)
            self._row_keys += entry.key if line is feed else NO_ROW_KEY
            previous_row, previous_line = previous.at(product_id)
            if unchanged and unchanged.has(previous_row, previous_line, line, entry.is_detected):
                self.rows_before.append(previous_row)
                continue
            self.rows_before.append(-1)
            yield SortedProduct(number, product_id, line, self._location(number), previous_row, previous_line)

    def _reject_repeated(self, entry: Entry) -> None:
        self._recount(entry.line, None)
        # The row is reported as the product, since the feed's own values are no longer known.
        detail, product = repr(entry.id.decode()), msgspec.json.decode(entry.line)
        file = self._files[entry.file]
        self._rejects.reject([RejectedRow(file, entry.row, "duplicate id", detail, "jsonl", product)])

    def _recount(self, counted: bytes | None, published: bytes | None) -> None:
        """Corrects the counts of fields if a product other than the feed's, or none, is published."""
        if counted is not None:
            self.counts.fields.add(product_from_json(counted), sign=-1)
        if published is not None:
            self.counts.fields.add(product_from_json(published))

    def report(self, product_of: Callable[[int], Product], pictures: Mapping[str, int] | None = None) -> QualityReport:
        """The quality report, known after the second pass; `product_of` returns a product by its row, `pictures` counts
        unusable ones by reason."""
        summary = FeedSummary(
            created=self._now,
            feeds=tuple(map(printable, self._options.feeds)),
            read=self.rows,
            rejected=_reason_counts(self._rejects.reasons),
            noted=_reason_counts(self.notes),
            cleaned=self._cleaned,
            pictures=pictures or {},
        )
        duplicates = self._duplicates.groups(lambda row: (product_of(row), self._location(row)))
        self.siblings = duplicates.siblings
        return make_report(summary, self._findings, duplicates, self._rules)


def _unknown_batches(
    known_rows: KnownRows, feeds: Iterable[FeedRecords], files: Mapping[str, int]
) -> Iterator[RecordBatch]:
    """The records that must be read, in large batches."""
    waiting = RecordBatch([], [], 0)
    for batch in itertools.chain.from_iterable(feeds):
        rest = known_rows.unknown(batch.records, files)
        waiting = RecordBatch([*waiting.records, *rest], [*waiting.notes, *batch.notes], waiting.bytes + batch.bytes)
        if len(waiting.records) >= ROWS:
            yield waiting
            waiting = RecordBatch([], [], 0)
    yield waiting


def _reason_counts(reasons: ReasonCounts) -> dict[str, ReasonCount]:
    return {
        reason: ReasonCount(
            count, tuple(Example("", each.detail, each.file, each.line) for each in reasons.examples[reason])
        )
        for reason, count in reasons.counts.items()
    }


@dataclass(slots=True)
class CatalogCounts:
    """Counts of what depends on all products."""

    spellings: SpellingCensus = field(default_factory=SpellingCensus)
    categories: CategoryCensus = field(default_factory=CategoryCensus)
    fields: FieldCounter = field(default_factory=FieldCounter)
    chinese: int = 0
    """The number of titles with Chinese characters."""
    without_language: int = 0

    @classmethod
    def of(cls, products: Sequence[Product]) -> CatalogCounts:
        """The counts of some products."""
        counts = cls()
        for product in products:
            counts.spellings.add(product)
            counts.categories.add(product)
            counts.fields.add(product)
            counts.chinese += contains_chinese(product.title)
            counts.without_language += not product.language
        return counts

    def merge(self, other: CatalogCounts) -> None:
        self.spellings.merge(other.spellings)
        self.categories.merge(other.categories)
        self.fields.merge(other.fields)
        self.chinese += other.chinese
        self.without_language += other.without_language


@dataclass(slots=True)
class CleanedBatch:
    """The result of the first pass for a batch."""

    bytes: int
    """The number of bytes of the feed that were read for it."""
    entries: list[Entry] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    notes: ReasonCounts = field(default_factory=ReasonCounts)
    cleaned: Mapping[str, int] = field(default_factory=dict)
    """The number of changed values by cleaning rule."""
    counts: CatalogCounts = field(default_factory=CatalogCounts)
    names: FieldNames = field(default_factory=lambda: FieldNames(frozenset(), frozenset()))


class FirstPass:
    """Makes cleaned products from raw records, and counts them; runs in a worker."""

    def __init__(self, mapping: FeedMapping, now: datetime, files: Mapping[str, int]) -> None:
        """`files` numbers the feeds."""
        self._mapping = mapping
        self._now = now
        self.files = files

    def __call__(self, raw: RecordBatch) -> CleanedBatch:
        batch = CleanedBatch(raw.bytes)
        for note in raw.notes:
            batch.notes.add_note(note)
        rows = list(self._read(raw.records, batch))
        result = clean_products(product for _, product, _ in rows)
        for (record, product, key), cleaned in zip(rows, result.products, strict=True):
            is_clean = product is cleaned or product == replace(cleaned, language=product.language)
            batch.entries.append(
                Entry(
                    cleaned.id.encode(),
                    product_to_json(cleaned),
                    self.files[record.file],
                    not product.language,
                    record.line,
                    key if is_clean else NO_ROW_KEY,
                )
            )
        batch.cleaned = result.counts
        batch.counts = CatalogCounts.of(result.products)
        batch.names = self._reader.fields
        return batch

    @cached_property
    def _reader(self) -> RecordReader:
        return RecordReader(self._mapping, now=self._now)

    def _read(
        self, records: Sequence[Record | RejectedRow], batch: CleanedBatch
    ) -> Iterator[tuple[Record, Product, bytes]]:
        """Each usable record with its product and its key."""
        for record in records:
            if isinstance(record, RejectedRow):
                batch.rejected.append(record)
                continue
            noted: list[FeedNote] = []
            try:
                product = self._reader.read_product(record, noted.append)
            except RowError as error:
                batch.rejected.append(self._reader.reject(record, error))
            else:
                is_alone = not noted and not self._reader.depends_on_time
                yield record, product, row_key(record) if is_alone else NO_ROW_KEY
            for note in noted:
                batch.notes.add_note(note)


class SortedProduct(NamedTuple):
    """A product of the second pass."""

    number: int
    """The row of the product in the new version."""
    id: bytes
    line: bytes
    """The product as JSON: cleaned, with live changes merged."""
    location: RowLocation
    previous_row: int
    """The row of the same id in the previous version, or -1."""
    previous_line: bytes
    """The product with the same id in the previous version as JSON, or empty."""


class PublishableProduct(NamedTuple):
    """A product as published."""

    number: int
    id: bytes
    line: bytes
    key: bytes
    """The fingerprint of the text that becomes a vector; empty if no index is built."""
    previous_row: int
    terms: bytes
    """The line of the keyword index; empty if that of the previous version is kept, or none is built."""


@dataclass(slots=True)
class PublishableBatch:
    """The result of the second pass for a batch."""

    spelling_counts: Mapping[str, int]
    """The number of values changed to the catalog's spelling, by rule."""
    findings: Findings
    signatures: Signatures
    products: list[PublishableProduct] = field(default_factory=list)
    respelled: list[int] = field(default_factory=list)
    """The rows of the products whose spelling was changed."""
    unchanged: int = 0
    """The number of products that are the same in the previous version."""


@dataclass(frozen=True, slots=True)
class KeywordLineOptions:
    """The fields of the keyword index, whether an unchanged product keeps its line of the previous version, and the
    weights of the searched fields."""

    catalog: FieldCatalog
    reuses_lines: bool
    weights: FieldWeights = DEFAULT_WEIGHTS


class SecondPass:
    """Changes products to the catalog's spelling, inspects and analyses them; runs in a worker.

    `options` is None if no index is built.
    """

    def __init__(
        self, normalizer: SpellingNormalizer, inspector: Inspector, options: KeywordLineOptions | None
    ) -> None:
        self._normalizer = normalizer
        self._inspector = inspector
        self._options = options
        self._analyzer = Analyzer()  # without synonyms, which apply only to queries

    def __call__(self, batch: Sequence[SortedProduct]) -> PublishableBatch:
        cleaned = [product_from_json(each.line) for each in batch]
        result = self._normalizer.normalize_all(cleaned)
        numbers = np.array([each.number for each in batch], np.int64)
        inspected = self._inspector.inspect(result.products, [each.location for each in batch], numbers)
        publishable = PublishableBatch(result.counts, inspected.findings, inspected.signatures)
        for each, unspelled, product in zip(batch, cleaned, result.products, strict=True):
            line = each.line
            if product is not unspelled:
                line = product_to_json(product)
                publishable.respelled.append(each.number)
            is_unchanged = line == each.previous_line
            publishable.unchanged += is_unchanged
            key, terms = b"", b""
            if self._options is not None:
                key = text_key(encoder_text(product))
                if not (self._options.reuses_lines and is_unchanged):
                    catalog = self._options.catalog
                    document = keyword_document(0, product, self._analyzer, catalog, self._options.weights)
                    terms = encode_line(keyword_line(document, catalog))
            publishable.products.append(PublishableProduct(each.number, each.id, line, key, each.previous_row, terms))
        return publishable


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
                for each in batch.products:
                    products.add(each.id, each.line)
                progress.advance(len(batch.products))
            products.finish()
            report = pipeline.report(ProductStore(folder).__getitem__)
            progress.end(f"{report.products:,} products")
            return report

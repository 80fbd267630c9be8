"""From feeds to the products of a catalog: read, clean, sort, settle, inspect. What `check` shows and `rebuild` builds.

Two passes, both over batches that worker processes share. The first reads and cleans rows, counts what is known only
of all of them (spellings, prices, fields), and leaves the products sorted by id on disk. The second settles spellings
and inspects, in the order of ids. Batches give the same results however they are cut and whoever works on them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import msgspec

from indexer.cleaning.cleaner import Cleaner
from indexer.cleaning.spelling import SpellingCensus, SpellingNormalizer
from indexer.embedding_cache import text_key
from indexer.external_sort import Entry, ExternalSorter, RowLocations
from indexer.feeds.io import total_size
from indexer.feeds.mapping import FeedMapping
from indexer.feeds.reader import FieldNames, Record, RecordReader, RejectedRow, read_records
from indexer.incremental import PreviousProducts, PreviousVersion, UpdateMerge
from indexer.quality.duplicates import DuplicateFinder
from indexer.quality.findings import Example, Findings, RowLocation
from indexer.quality.norms import CategoryCensus
from indexer.quality.report import FeedSummary as Origin
from indexer.quality.report import QualityReport, ReasonCount, make_report
from indexer.quality.rules import QualityRule, built_in_rules
from indexer.rejects import ReasonCounts, RejectLog, printable
from indexer.workers import Workers
from retrieval.errors import EmptyCatalogError, RowError
from retrieval.filters.schema import FieldCatalog, FieldCounter
from retrieval.index.keyword_documents import encode_line, keyword_line
from retrieval.progress import NullProgress, Progress
from retrieval.records import Product
from retrieval.store.products import (
    ProductStore,
    ProductWriter,
    encoder_text,
    keyword_document,
    product_from_json,
    product_to_json,
)
from retrieval.text.analysis import Analyzer, contains_chinese

if TYPE_CHECKING:
    from indexer.quality.checks import Inspector
    from indexer.quality.duplicates import Signatures
    from indexer.quality.norms import Norms


ROWS = 2_000
"""Rows of a batch of the first pass."""
PRODUCTS = 8_192
"""Products of a batch of the second: judging them costs some milliseconds a rule, whatever the products."""
LIVE = "live change"
"""Stands where the name of a feed would, for a product that came between rebuilds."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What to read, and how."""

    feeds: tuple[str, ...]
    mapping: FeedMapping = field(default_factory=FeedMapping)
    format: str = ""
    """A feed format's name; empty recognises each feed's by looking."""
    rules: tuple[QualityRule, ...] = ()
    """Quality rules; none asks the built-in ones."""


class FeedPipeline:
    """One run over feeds. Its files go into `folder`; `now` is what ages are counted from."""

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
        self._folder = folder
        self._rejects = reject_log
        self._workers = workers
        self._progress = progress
        self._now = now
        self._spool = ExternalSorter(folder / "runs")
        self._files: dict[str, int] = {}
        self._spellings = SpellingCensus()
        self._categories = CategoryCensus()
        self._fields = FieldCounter()
        self._findings = Findings()
        self._duplicates = DuplicateFinder(folder / "duplicates", self._rules)
        self._places = RowLocations(folder / "places")
        self._cleaned: Counter[str] = Counter()
        self.notes = ReasonCounts()
        """Values that were dropped."""
        self.rows = 0
        """Rows of the feeds, those that were rejected among them."""
        self.chinese = 0
        """Titles with Chinese in them, of the rows that can be used."""
        self.products = 0
        """Products that the second pass gave so far."""

    @property
    def usable(self) -> int:
        """Rows that can be used, as far as the first pass can tell."""
        return len(self._spool)

    def read(self) -> None:
        """The first pass. Raises FeedError for a feed that cannot be read."""
        self._progress.begin("read", total_size(self._options.feeds), "bytes")
        names: FieldNames | None = None
        for cleaned in self._workers.map(FirstPass(self._options.mapping, self._now), _batches(self._records(), ROWS)):
            self._take(cleaned)
            names = cleaned.names if names is None or cleaned.names is None else names.merge(cleaned.names)
        for noted in names.notes(", ".join(self._options.feeds)) if names else ():
            self.notes.add_note(noted)
        self._progress.end(f"{self.rows:,} rows, {self._rejects.reasons.counts.total():,} rejected")

    def _records(self) -> Iterator[Record | RejectedRow]:
        options, note = self._options, self.notes.add_note
        return read_records(
            options.feeds, mapping=options.mapping, format=options.format, note=note, advance=self._progress.advance
        )

    def _take(self, cleaned: CleanedBatch) -> None:
        columns = (cleaned.ids, cleaned.lines, cleaned.files, cleaned.rows, cleaned.has_detected_language)
        for product_id, line, file, row, guessed in zip(*columns, strict=True):
            self._spool.add(product_id, line, 2 * self._files.setdefault(file, len(self._files)) + guessed, row)
        self._rejects.reject(cleaned.rejected)
        self.notes.merge(cleaned.notes)
        self.rows += len(cleaned.ids) + len(cleaned.rejected)
        self._cleaned.update(cleaned.cleaned)
        self._spellings.merge(cleaned.spellings)
        self._categories.merge(cleaned.categories)
        self._fields.merge(cleaned.fields)
        self.chinese += cleaned.chinese

    def possible_fields(self, folding: UpdateMerge | None = None, before: FieldCatalog | None = None) -> FieldCatalog:
        """The fields that products may have, known after the first pass: a place for each, and the category roots."""
        settler = self._spellings.normalizer()
        folding = (folding or UpdateMerge()).use_spelling(settler)
        found = self._fields_with(folding.products).catalog(before, settler.levels)
        if found.category_roots == self._fields_with(()).catalog(None, settler.levels).category_roots:
            return found
        # A root that only live changes bring is one as far as those changes stand on.
        kept = self._fields_with(self._folded(folding)).catalog(None, settler.levels)
        return FieldCatalog(found.fields, kept.category_roots)

    def _fields_with(self, live: Iterable[Product]) -> FieldCounter:
        fields = FieldCounter()
        for product in live:
            fields.add(product)
        fields.merge(self._fields)
        return fields

    def _folded(self, folding: UpdateMerge) -> Iterator[Product]:
        """The products that live changes make of what the feed says."""
        ids = set(folding.ids)
        lines = {entry.id: entry.line for entry, is_first in self._spool.sorted() if is_first and entry.id in ids}
        for product_id in folding.ids:
            rebased = folding.rebase(product_id, lines.get(product_id))
            if rebased is not None and rebased.live is not None:
                yield rebased.live

    def published_fields(self, found: FieldCatalog) -> FieldCatalog:
        """The fields that the products have, known after the second pass, in the places of those that were `found`."""
        return FieldCatalog(self._fields.catalog(found).fields, found.category_roots)

    def publishable_batches(
        self,
        folding: UpdateMerge | None = None,
        before: PreviousVersion | None = None,
        documents: KeywordLineOptions | None = None,
    ) -> Iterator[PublishableBatch]:
        """The second pass: the products to publish in the order of their ids, batch by batch."""
        settler = self._spellings.normalizer()
        work = SecondPass(settler, InspectionOptions(self._rules, self._categories.norms(), self._now), documents)
        items = self._items((folding or UpdateMerge()).use_spelling(settler), PreviousProducts(before))
        for settled in self._workers.map(work, items):
            self._findings.merge(settled.findings)
            self._duplicates.add(settled.signatures)
            self._cleaned.update(settled.spelling_counts)
            self.products += len(settled.ids)
            yield settled

    def _items(self, folding: UpdateMerge, before: PreviousProducts) -> Iterator[SortedBatch]:
        names = [*self._files, LIVE]
        items = SortedBatch(0)
        for product_id, entry in _with_ids(self._unique(names), folding.ids):
            feed = entry.line if entry else None
            line = folding.merge(product_id, feed)
            if line is not feed:
                self._recount(feed, line)
            if line is None:
                continue
            file, row = (entry.file, entry.row) if entry else (2 * len(self._files), 0)
            self._places.add(file // 2, row)
            row_before, line_before = before.at(product_id)
            items.ids.append(product_id)
            items.lines.append(line)
            items.files.append(names[file // 2])
            items.rows.append(row)
            items.has_detected_language.append(bool(file % 2))
            items.previous_rows.append(row_before)
            items.previous_lines.append(line_before)
            if len(items.ids) == PRODUCTS:
                yield items
                items = SortedBatch(items.first_row + PRODUCTS)
        if items.ids:
            yield items

    def _unique(self, names: list[str]) -> Iterator[Entry]:
        for entry, is_first in self._spool.sorted():
            if is_first:
                yield entry
            else:
                self._recount(entry.line, None)
                self._rejects.reject([_duplicate(entry, names[entry.file // 2])])

    def _recount(self, before: bytes | None, after: bytes | None) -> None:
        """Another product than the one that was counted, or none, will be published."""
        if before is not None:
            self._fields.remove(product_from_json(before))
        if after is not None:
            self._fields.add(product_from_json(after))

    def report(self, product_of: Callable[[int], Product]) -> QualityReport:
        """What was found, known after the second pass; `product_of` gives a product by its row."""
        names = [*self._files, LIVE]

        def row_of(row: int) -> tuple[Product, RowLocation]:
            file, line = self._places[row]
            return product_of(row), RowLocation(names[file], line)

        origin = Origin(
            created=self._now,
            feeds=tuple(map(printable, self._options.feeds)),
            read=self.rows,
            rejected=_reason_counts(self._rejects.reasons),
            noted=_reason_counts(self.notes),
            cleaned=self._cleaned,
        )
        return make_report(origin, self._findings, self._duplicates.groups(row_of), self._rules)


def _reason_counts(reasons: ReasonCounts) -> dict[str, ReasonCount]:
    return {
        reason: ReasonCount(
            count, tuple(Example("", each.detail, each.file, each.line) for each in reasons.examples[reason])
        )
        for reason, count in reasons.counts.items()
    }


def _duplicate(entry: Entry, file: str) -> RejectedRow:
    """The row as a product: what it was in the feed is gone by the time that its id turns out to be there before."""
    return RejectedRow(
        file, entry.row, "duplicate id", repr(entry.id.decode()), "jsonl", msgspec.json.decode(entry.line)
    )


def _with_ids(entries: Iterable[Entry], ids: list[bytes]) -> Iterator[tuple[bytes, Entry | None]]:
    """The entries with, in between, those ids that none of them has; both are in ascending order."""
    at = 0
    for entry in entries:
        while at < len(ids) and ids[at] < entry.id:
            yield ids[at], None
            at += 1
        at += at < len(ids) and ids[at] == entry.id
        yield entry.id, entry
    for product_id in ids[at:]:
        yield product_id, None


def _batches(each: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(each)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


# The first pass over a batch of rows, in a worker: raw records become cleaned products, and are counted.
#
# What travels between processes is plain lists: those cost a third of lists of objects.


@dataclass(slots=True)
class CleanedBatch:
    """What the first pass makes of a batch. The lists are of one length: a place in each for each usable row."""

    ids: list[bytes] = field(default_factory=list)
    """UTF-8."""
    lines: list[bytes] = field(default_factory=list)
    """The products as JSON."""
    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Lines of the files, from 1."""
    has_detected_language: list[bool] = field(default_factory=list)
    """Whether the language was detected, not declared."""
    rejected: list[RejectedRow] = field(default_factory=list)
    notes: ReasonCounts = field(default_factory=ReasonCounts)
    cleaned: dict[str, int] = field(default_factory=dict)
    """By cleaning rule: values that were changed."""
    spellings: SpellingCensus = field(default_factory=SpellingCensus)
    categories: CategoryCensus = field(default_factory=CategoryCensus)
    fields: FieldCounter = field(default_factory=FieldCounter)
    chinese: int = 0
    """Titles with Chinese in them."""
    names: FieldNames | None = None


class FirstPass:
    """The first pass, by a mapping and as of a time."""

    def __init__(self, mapping: FeedMapping, now: datetime) -> None:
        self._mapping = mapping
        self._now = now

    def __call__(self, batch: Sequence[Record | RejectedRow]) -> CleanedBatch:
        """Products of the rows that can be used, and counts of everything else."""
        made = CleanedBatch()
        products = self._read(batch, made)
        made.has_detected_language = [not product.language for product in products]
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

    def _read(self, batch: Sequence[Record | RejectedRow], made: CleanedBatch) -> list[Product]:
        products: list[Product] = []
        for record in batch:
            if isinstance(record, RejectedRow):
                made.rejected.append(record)
                continue
            try:
                products.append(self._reader.read_product(record, made.notes.add_note))
            except RowError as error:
                made.rejected.append(self._reader.reject(record, error))
            else:
                made.files.append(record.file)
                made.rows.append(record.line)
        return products


# The second pass over a batch of products, in a worker: settled into the catalog's spelling, inspected, analysed.
#
# What travels between processes is plain lists: those cost a third of lists of objects.


@dataclass(slots=True)
class SortedBatch:
    """A batch of products in the order of their ids. The lists are of one length."""

    first_row: int
    """The number of the first one, over all batches."""
    ids: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    """The products as JSON: cleaned, live changes folded in."""
    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    has_detected_language: list[bool] = field(default_factory=list)
    previous_rows: list[int] = field(default_factory=list)
    """The row of the same id in the version before, or -1."""
    previous_lines: list[bytes] = field(default_factory=list)
    """The product there as JSON, or nothing."""


@dataclass(frozen=True, slots=True)
class PublishableBatch:
    """What the second pass makes of a batch: the products as they will be published. The lists are of one length."""

    ids: list[bytes]
    lines: list[bytes]
    keys: list[bytes]
    """Fingerprints of the texts that become vectors; empty where no index is built."""
    previous_rows: list[int]
    is_unchanged: list[bool]
    terms: list[bytes]
    """Lines of the keyword index, each empty where that of the version before can stay; empty where none is built."""
    spelling_counts: dict[str, int]
    """By rule: values that were written in the catalog's spelling."""
    findings: Findings
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class KeywordLineOptions:
    """How the second pass makes lines of a keyword index."""

    catalog: FieldCatalog
    reuses_lines: bool
    """Whether an unchanged product's line of the version before can stay."""


@dataclass(frozen=True, slots=True)
class InspectionOptions:
    """What products are inspected by."""

    rules: tuple[QualityRule, ...]
    norms: Norms
    now: datetime


class SecondPass:
    """The second pass; `documents` is None where no index is built."""

    def __init__(
        self, settler: SpellingNormalizer, judging: InspectionOptions, documents: KeywordLineOptions | None
    ) -> None:
        self._settler = settler
        self._judging = judging
        self._documents = documents
        self._analyzer = Analyzer()  # synonyms are for queries only

    def __call__(self, items: SortedBatch) -> PublishableBatch:
        """The products that will be published, inspected."""
        cleaned = [product_from_json(line) for line in items.lines]
        settled = self._settler.normalize_all(cleaned)
        lines = [
            line if product is before else product_to_json(product)
            for line, before, product in zip(items.lines, cleaned, settled.products, strict=True)
        ]
        are_as_before = [line == before for line, before in zip(lines, items.previous_lines, strict=True)]
        places = list(map(RowLocation, items.files, items.rows, items.has_detected_language))
        inspected = self._inspector.inspect(settled.products, places, items.first_row)
        documents = self._documents
        return PublishableBatch(
            items.ids,
            lines,
            [] if documents is None else [text_key(encoder_text(product)) for product in settled.products],
            items.previous_rows,
            are_as_before,
            [] if documents is None else self._terms(documents, settled.products, are_as_before),
            settled.counts,
            inspected.findings,
            inspected.signatures,
        )

    @cached_property
    def _inspector(self) -> Inspector:
        # Loaded where it is used: the validation library takes a second, and the program that reads needs none of it.
        from indexer.cleaning.language import detect
        from indexer.quality.checks import Inspector

        return Inspector(self._judging.rules, self._judging.norms, self._judging.now, detect)

    def _terms(
        self, documents: KeywordLineOptions, products: Sequence[Product], are_as_before: Sequence[bool]
    ) -> list[bytes]:
        return [
            b"" if documents.reuses_lines and is_as_before else self._line(documents.catalog, product)
            for product, is_as_before in zip(products, are_as_before, strict=True)
        ]

    def _line(self, catalog: FieldCatalog, product: Product) -> bytes:
        return encode_line(keyword_line(keyword_document(0, product, self._analyzer, catalog), catalog))


# A feed's quality report alone: everything that a rebuild does before it encodes, and nothing is published.


def check_feeds(
    options: FeedOptions,
    rejected: Path | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    now: datetime | None = None,
) -> QualityReport:
    """Reads, cleans and inspects feeds; rejected rows are written to the file `rejected` where one is named.

    `workers` processes share the work, one for each core where it is None; ages are counted from `now`.

    Raises FeedError for a feed that cannot be read at all, EmptyCatalogError for feeds without a row.
    """
    heard = progress or NullProgress()
    with TemporaryDirectory(prefix="shelfwise-check-") as scratch, Workers(workers) as pool:
        folder = Path(scratch)
        with RejectLog(rejected or folder / "rejected.jsonl") as reject_log:
            intake = FeedPipeline(options, folder, reject_log, pool, heard, now or datetime.now(UTC))
            intake.read()
            if not intake.rows:
                raise EmptyCatalogError(f"{', '.join(options.feeds)}: no rows in it")
            return _inspected(intake, folder, heard)


def _inspected(intake: FeedPipeline, folder: Path, progress: Progress) -> QualityReport:
    progress.begin("inspect", intake.usable, "products")
    products = ProductWriter(folder)
    for settled in intake.publishable_batches():
        for product_id, line in zip(settled.ids, settled.lines, strict=True):
            products.add(product_id, line)
        progress.advance(len(settled.ids))
    products.finish()
    report = intake.report(ProductStore(folder).__getitem__)
    progress.end(f"{intake.products:,} products")
    return report

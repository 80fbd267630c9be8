"""Reading of feeds: raw records in the process that reads, products wherever they are made.

`read_records` opens the feeds, detects each one's format and returns its raw rows with their lines; `RecordReader`
makes a product from one of them. `read_products` does both in one process. A row that cannot be used is rejected with
its line and the reason (see `shelfwise.indexer.feeds.row_parser`). A file that breaks off raises FeedError after the
rows before the break: a broken file must never look like a small catalog.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from shelfwise.indexer.feeds.base import Feed, FeedFormat, FeedNote, NoteHandler, Record, RejectedRow, Row, ignore
from shelfwise.indexer.feeds.csv import CSV_FORMAT, first_line, open_table
from shelfwise.indexer.feeds.google import GOOGLE_TEXT, GOOGLE_XML
from shelfwise.indexer.feeds.io import open_sources
from shelfwise.indexer.feeds.json import JSON_ARRAY, JSON_LINES, REJECTED, is_rejected, unwrap_rejected
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.parquet import PARQUET
from shelfwise.indexer.feeds.proposals import check_columns, map_flag, propose_columns
from shelfwise.indexer.feeds.row_parser import FieldNames, RowReader
from shelfwise.indexer.feeds.shopify import SHOPIFY
from shelfwise.indexer.feeds.variants import add_variants
from shelfwise.indexer.feeds.woocommerce import WOOCOMMERCE
from shelfwise.retrieval.errors import FeedError, RowError, suggest_names
from shelfwise.retrieval.records import Product


@dataclass(frozen=True, slots=True)
class NumberedProduct:
    """A product with the line of its feed, from 1."""

    line: int
    product: Product


def read_records(
    paths: Sequence[str],
    *,
    mapping: FeedMapping | None = None,
    format: str = "",  # noqa: A002  # as the option is called
    note: NoteHandler = ignore,
    advance: Callable[[int], None] = ignore,
) -> Iterator[Record | RejectedRow]:
    """The rows of several feeds, one after the other, undecoded; rows that are already found invalid are rejected.

    `format` is the name of all feeds' format; empty detects each one's. `note` receives remarks on a whole feed and the
    products that are not for sale, `advance` the number of bytes read. Raises FeedError for a feed that cannot be
    opened (before the first row if it is missing), has no known format, lacks a column, or breaks off (after its rows
    before that).
    """
    named = get_format(format) if format else None
    for source in open_sources(paths, advance):
        feed = Feed(source, mapping or FeedMapping(), note)
        feed_format = named or detect_format(feed)
        records = feed_format.read(feed)
        yield from (
            records if feed_format.rules or feed_format is REJECTED else _with_proposals(feed, feed_format, records)
        )


_SAMPLE = 200
"""Records from whose values unmapped columns are proposed."""


def _with_proposals(
    feed: Feed, feed_format: FeedFormat, records: Iterator[Record | RejectedRow]
) -> Iterator[Record | RejectedRow]:
    """The records of a feed whose fields may have any names. A table without an id or a title raises FeedError, with
    the columns that look like them; `feed.note` receives the other proposals."""
    first: list[Record | RejectedRow] = []
    failure = None
    try:
        first.extend(itertools.islice(records, _SAMPLE))
    except FeedError as error:
        failure = error  # raised after the records before it
    rows = list(_decoded(feed_format, first))
    proposals = dict(propose_columns(rows, feed.mapping))
    if feed_format in (CSV_FORMAT, PARQUET) and rows:
        check_columns(feed.source.path, list(rows[0]), feed.mapping, proposals)
    for field, name in proposals.items():
        advice = f"{name} looks like it: {map_flag(field, name)}"
        feed.note(FeedNote(feed.source.path, 0, field, "no column is mapped", advice))
    yield from first
    if failure is not None:
        raise failure
    yield from records


def _decoded(feed_format: FeedFormat, records: Iterable[Record | RejectedRow]) -> Iterator[Row]:
    for record in records:
        with suppress(RowError):
            if isinstance(record, Record):
                yield feed_format.rows(record.row)[0]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of a feed, with their notes and the number of bytes that were read for them."""

    records: list[Record | RejectedRow]
    notes: list[FeedNote]
    bytes: int


@dataclass(frozen=True, slots=True)
class FeedRecords:
    """The records of one feed in batches of `size`; each iteration reads the feed. Raises like `read_records`."""

    feed: str
    mapping: FeedMapping
    format: str
    size: int

    def __iter__(self) -> Iterator[RecordBatch]:
        notes, read = list[FeedNote](), list[int]()
        records = read_records(
            (self.feed,), mapping=self.mapping, format=self.format, note=notes.append, advance=read.append
        )
        while (batch := list(itertools.islice(records, self.size))) or notes or read:
            yield RecordBatch(batch, notes.copy(), sum(read))
            notes.clear()
            read.clear()


class RecordReader:
    """Makes products from records, by a mapping and as of a time, which decides the valid sale prices."""

    def __init__(self, mapping: FeedMapping, *, now: datetime | None = None) -> None:
        self._mapping = mapping
        self._now = now or datetime.now(UTC)
        self._readers: dict[str, RowReader] = {}
        self.depends_on_time = False
        """Whether another time might give another product for the last record."""

    def read_product(self, record: Record, note: NoteHandler = ignore) -> Product:
        """The product of a record; `note` receives each dropped value.

        Raises RowError if the row must be rejected.
        """
        record = _inner(record)
        feed_format = FORMATS[record.format]
        reader = self._readers.get(record.format)
        if reader is None:
            reader = self._readers[record.format] = RowReader(
                self._mapping.with_format_rules(feed_format.rules), self._now
            )

        def noted(field: str, reason: str, detail: str) -> None:
            note(FeedNote(record.file, record.line, field, reason, detail))

        row, variants = feed_format.assemble(feed_format.rows(record.row), noted, self._now)
        product = reader.read(row, noted)
        self.depends_on_time = reader.has_sale_period or feed_format is WOOCOMMERCE
        return add_variants(product, variants) if variants else product

    def reject(self, record: Record, error: RowError) -> RejectedRow:
        """The rejected row of a record, with the row as a JSON value: decoded, or as text if it cannot be."""
        try:
            inner = _inner(record)
        except RowError:  # a rejected row without a format is kept as it is
            inner = record
        return RejectedRow(record.file, record.line, error.reason, error.detail, inner.format, _row_of(inner))

    @property
    def fields(self) -> FieldNames:
        """The user's names that no row had so far, and the names in the rows."""
        fields = FieldNames(self._mapping.user_names, frozenset())
        for reader in self._readers.values():
            fields = fields.merge(reader.plans.fields)
        return fields


def _inner(record: Record) -> Record:
    """The record itself, or the one inside a rejected row. Raises RowError if the latter has no format."""
    if record.format == "rejected":
        record = unwrap_rejected(record)
        if record.format not in FORMATS or record.format == "rejected":
            raise RowError("not a rejected row", f"its format is {record.format[:80]!r}")
    return record


def _row_of(record: Record) -> object:
    if not isinstance(record.row, bytes):
        try:
            return FORMATS[record.format].rows(record.row)[0] if record.format == "parquet" else record.row
        except RowError:
            return str(record.row)
    try:
        row: object = msgspec.json.decode(record.row)
        msgspec.json.encode(row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return record.row.decode(errors="replace")
    return row


def read_products(
    paths: Sequence[str],
    mapping: FeedMapping,
    reject: Callable[[RejectedRow], None],
    *,
    format: str = "",  # noqa: A002  # as the option is called
    note: NoteHandler = ignore,
    advance: Callable[[int], None] = ignore,
    now: datetime | None = None,
) -> Iterator[NumberedProduct]:
    """The products of several feeds as one catalog, in one process. Of equal ids the first is kept, also across feeds.

    See `read_records` for the hooks and the errors. The ids are held in memory.
    """
    reader = RecordReader(mapping, now=now)
    ids: set[str] = set()
    for record in read_records(paths, mapping=mapping, format=format, note=note, advance=advance):
        if isinstance(record, RejectedRow):
            reject(record)
            continue
        try:
            product = reader.read_product(record, note)
            if product.id in ids:
                raise RowError("duplicate id", repr(product.id))
        except RowError as error:
            reject(reader.reject(record, error))
        else:
            ids.add(product.id)
            yield NumberedProduct(record.line, product)
    for unseen in reader.fields.notes(", ".join(paths)):
        note(unseen)


FORMATS: Mapping[str, FeedFormat] = {
    one.name: one
    for one in (GOOGLE_XML, GOOGLE_TEXT, SHOPIFY, WOOCOMMERCE, JSON_LINES, JSON_ARRAY, CSV_FORMAT, PARQUET, REJECTED)
}


def get_format(name: str, formats: Mapping[str, FeedFormat] = FORMATS) -> FeedFormat:
    """A format by its name. Raises FeedError for an unknown one, with the known names."""
    if name in formats:
        return formats[name]
    advice = suggest_names(name, formats, f"the formats are {', '.join(formats)}")
    raise FeedError(f"--format {name}: there is no such format; {advice}")


def detect_format(feed: Feed) -> FeedFormat:
    """The format of a feed. An empty one is JSON lines without lines. Raises FeedError if none is detected."""
    source = feed.source
    if source.head.startswith(b"PAR1"):
        return PARQUET
    start = source.head.lstrip()
    if not start:
        return JSON_LINES
    if start.startswith(b"<"):
        return GOOGLE_XML
    if start.startswith(b"["):
        return JSON_ARRAY
    if start.startswith(b"{"):
        return REJECTED if is_rejected(start.split(b"\n", 1)[0]) else JSON_LINES
    table = open_table(feed, fewest=2)
    if table is None:
        raise FeedError(
            f"{source.path}: line 1: cannot be recognised: {first_line(source.head)} does not begin JSON, XML or "
            f"a table with a header; set its format with --format ({', '.join(FORMATS)})"
        )
    return next(each for each in (SHOPIFY, WOOCOMMERCE, GOOGLE_TEXT, CSV_FORMAT) if each.has_columns(table.names))

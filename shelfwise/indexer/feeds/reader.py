"""Reading of feeds: raw records in the process that reads, products wherever they are made.

`read_records` opens the feeds, detects each one's format and returns its raw rows with their lines; `RecordReader`
makes a product from one of them. `read_products` does both in one process. A row that cannot be used is rejected with
its line and the reason (see `shelfwise.indexer.feeds.row_parser`). A file that breaks off raises FeedError after the
rows before the break: a broken file must never look like a small catalog.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from rapidfuzz import fuzz

from shelfwise.indexer.feeds.base import Feed, FeedFormat, FeedNote, NoteHandler, Record, RejectedRow, Row, ignore
from shelfwise.indexer.feeds.csv import CSV_FORMAT, first_line, open_table
from shelfwise.indexer.feeds.google import GOOGLE_TEXT, GOOGLE_XML
from shelfwise.indexer.feeds.io import open_sources
from shelfwise.indexer.feeds.json import JSON_ARRAY, JSON_LINES, REJECTED, unwrap_rejected
from shelfwise.indexer.feeds.mapping import FeedMapping, MappingRule
from shelfwise.indexer.feeds.parquet import PARQUET
from shelfwise.indexer.feeds.row_parser import FieldNames, RowReader
from shelfwise.indexer.feeds.shopify import SHOPIFY
from shelfwise.indexer.feeds.values import price
from shelfwise.indexer.feeds.variants import add_variants
from shelfwise.indexer.feeds.woocommerce import WOOCOMMERCE
from shelfwise.retrieval.errors import FeedError, RowError, close_names, suggest_names
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
        _check_columns(feed.source.path, list(rows[0]), feed.mapping, proposals)
    for field, name in proposals.items():
        advice = f"{name} looks like it: {_map_flag(field, name)}"
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
    for one in (GOOGLE_XML, SHOPIFY, WOOCOMMERCE, GOOGLE_TEXT, REJECTED, JSON_LINES, JSON_ARRAY, CSV_FORMAT, PARQUET)
}


def get_format(name: str, formats: Mapping[str, FeedFormat] = FORMATS) -> FeedFormat:
    """A format by its name. Raises FeedError for an unknown one, with the known names."""
    if name in formats:
        return formats[name]
    advice = suggest_names(name, formats, f"the formats are {', '.join(formats)}")
    raise FeedError(f"--format {name}: there is no such format; {advice}")


def detect_format(
    feed: Feed, formats: Mapping[str, FeedFormat] = FORMATS, describe: Callable[[bytes], str] = first_line
) -> FeedFormat:
    """The format of a feed, the first of `formats` that recognises it; an empty one is JSON lines without lines.

    Raises FeedError if none does; `describe` returns the feed's beginning for the message.
    """
    source = feed.source
    head = source.head.lstrip()
    for feed_format in formats.values():
        if feed_format.begins(head):
            return feed_format
    table = open_table(feed, fewest=2)
    if table is None:
        raise FeedError(
            f"{source.path}: line 1: cannot be recognised: {describe(source.head)} is not the beginning of a table "
            f"with a header or of another format; set its format with --format ({', '.join(formats)})"
        )
    return next(feed_format for feed_format in formats.values() if feed_format.has_columns(table.names))


# Proposals for the fields of a feed that no column is mapped to: the column whose values look like an id, a title or a
# price, in any language. Of several such columns, the one with a name similar to a known one is proposed; else the
# first for an id, the one with the most varied and the shortest texts for a title, and with the highest amounts for a
# price.

_PROPOSABLE = ("id", "title", "price")
_REQUIRED = ("id", "title")
_MIN_FILLED = 0.9
"""Least share of rows with a title."""
_MIN_AMOUNTS = 0.7
"""Least share of amounts among the values of a price column; others are "on request"."""
_MIN_DECIMALS = 0.5
"""Least share of prices with two decimals or a currency."""
_MIN_VARIED = 0.6
"""Least share of different values in a title column."""
_MAX_ID = 40
_MAX_TITLE = 200
"""Longest id and longest average title, in characters."""
_MIN_WORDS = 1.5
"""Least average number of words of a title."""
_NO_ID = re.compile(r"\s|://|^\d{4}-\d\d-\d\d")
"""Blanks, an address, or a date."""
_MIN_ALIKE = 60
"""Least similarity of a column's name and a known one, 0 to 100, for it to count."""
_MIN_PART = 5
"""Least length of a known name that may be similar to a part of a column's name."""
_EXACT = re.compile(r"[.,]\d\d(?!\d)|[^\d\s.,'’+-]")
"""Two decimals, or a currency."""


def _missing_fields(names: Sequence[str], mapping: FeedMapping) -> list[str]:
    """The proposable fields for which rows with these names have no value."""
    present = {*names, *(name.partition(".")[0] for name in names)}

    def is_missing(rule: MappingRule) -> bool:
        sources = (source.name for source in rule.sources)
        return rule.value is None and not any(name in present or name.partition(".")[0] in present for name in sources)

    return [field for field in _PROPOSABLE if is_missing(mapping.rules[field])]


def propose_columns(rows: Sequence[Row], mapping: FeedMapping) -> Iterator[tuple[str, str]]:
    """The missing fields of some rows, each with the column that looks like it; a column is proposed once."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    used = {source.name for rule in mapping.rules.values() for source in rule.sources}
    columns = {name: [_text(row.get(name)) for row in rows] for name in names if name not in used}
    for field in _missing_fields(names, mapping):
        sources = [source.name for source in mapping.rules[field].sources]
        scores = {name: _SCORES[field](values) for name, values in columns.items()}
        if fitting := {name: score for name, score in scores.items() if score is not None}:
            column = max(fitting, key=lambda name: (_similarity(name, sources), fitting[name]))
            del columns[column]
            yield field, column


def _similarity(name: str, sources: Sequence[str]) -> float:
    """The similarity of a column's name to a known one; 0 if it is too small to count."""
    # Part of a long word is often equal to a short one by chance.
    scorers = ((each, fuzz.partial_ratio if _MIN_PART <= len(each) <= len(name) else fuzz.ratio) for each in sources)
    best = max(scorer(each, name.casefold()) for each, scorer in scorers)
    return best if best >= _MIN_ALIKE else 0.0


def _check_columns(path: str, names: Sequence[str], mapping: FeedMapping, proposals: Mapping[str, str]) -> None:
    """Raises FeedError if no column of a table can be a product's id, or none its title; the message names both, and
    proposes columns."""
    missing = [field for field in _missing_fields(names, mapping) if field in _REQUIRED]
    if not missing:
        return
    problems = []
    guesses = {}
    for field in missing:
        sources = [source.name for source in mapping.rules[field].sources]
        origin = "mapped" if field in mapping.user_fields else "known"
        problems.append(f"no column is the {field} ({origin}: {', '.join(sources)})")
        close = (each for name in (*sources, field) for each in close_names(name, names))
        guesses[field] = proposals.get(field) or next(close, "COLUMN")
    flags = " ".join(_map_flag(field, name) for field, name in {**guesses, **proposals}.items())
    cure = f"name {'it' if len(missing) == 1 else 'them'} with {flags}"
    raise FeedError(f"{path}: {', and '.join(problems)}; its columns are {', '.join(names[:20])}; {cure}")


def _map_flag(field: str, name: str) -> str:
    """The option of a command that maps a column to a field."""
    return f"--map {shlex.quote(f'{field}={name}')}"


def _text(value: object) -> str:
    """A value as in a table; a price that is a number has two decimals if it has one."""
    if isinstance(value, float):
        return f"{value:.2f}" if round(value, 2) == value and not value.is_integer() else repr(value)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


# The score of a column for a field, None if its values cannot be of this field.


def _id_score(values: Sequence[str]) -> float | None:
    fits = all(0 < len(each) <= _MAX_ID and not _NO_ID.search(each) for each in values)
    return 0.0 if fits and len(set(values)) == len(values) and _price_score(values) is None else None


def _title_score(values: Sequence[str]) -> float | None:
    filled = [each for each in values if each]
    varied = round(len(set(filled)) / max(1, len(filled)), 1)
    if len(filled) < _MIN_FILLED * len(values) or varied < _MIN_VARIED:
        return None
    words = sum(len(each.split()) for each in filled) / len(filled)
    # Chinese and Japanese have no blanks between words.
    is_unspaced = sum(each[0] > "\u2e80" for each in filled) > len(filled) / 2
    length = sum(map(len, filled)) / len(filled)
    is_other = any("://" in each for each in filled) or _price_score(values) is not None
    fits = length <= _MAX_TITLE and (words >= _MIN_WORDS or is_unspaced) and not is_other
    return varied * _MAX_TITLE - length if fits else None


def _price_score(values: Sequence[str]) -> float | None:
    filled = [each for each in values if each]
    amounts = []
    for each in filled:
        with suppress(RowError):
            amounts.append(price("price", each)[0])
    exact = sum(bool(_EXACT.search(each)) for each in filled)
    fits = len(amounts) >= max(1, _MIN_AMOUNTS * len(filled)) and exact >= _MIN_DECIMALS * len(filled)
    return sum(amounts) / len(amounts) if fits else None


_SCORES: Mapping[str, Callable[[Sequence[str]], float | None]] = {
    "id": _id_score,
    "title": _title_score,
    "price": _price_score,
}

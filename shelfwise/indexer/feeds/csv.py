"""Text tables: the delimiter and the escaping of a file, its header, and its rows with correct line numbers.

A row with more or fewer cells than the header is rejected. If a stray quote has swallowed the lines after it, only its
own line is rejected: reading continues at the next line that is a whole row.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shelfwise.indexer.feeds.base import Feed, FeedFormat, FeedNote, Record, RejectedRow, Row, object_row, shorten
from shelfwise.indexer.feeds.io import MAX_LINE, FeedSource, detect_encoding, iterate_lines
from shelfwise.indexer.feeds.json import TOO_LONG
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.retrieval.errors import FeedError, RowError

DELIMITERS = ",;\t|"
NOT_UTF_8 = "not UTF-8"
WRONG_CELLS = "wrong number of cells"
EXTRA = ""
"""The key of surplus cells in a row with a wrong number of cells; a repaired row no longer has it."""

_SAMPLE_ROWS = 2_000
_MAX_NAME = 200
_MAX_COLUMNS = 2_000
_FREE = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """The dialect of a text: columns, delimiter and the escape character of quotes."""

    names: tuple[str, ...]
    delimiter: str
    escape: str | None = None
    """The escape of a quote in a cell: the backslash, or None if the quote is doubled, as in the standard."""
    first: int = 2
    """The number of the line after the header."""

    def rename(self, names: Mapping[str, str]) -> Table:
        """The same table with some columns renamed."""
        return replace(self, names=_unique([names.get(name, name) for name in self.names]))


def detect_table(head: str, is_whole: bool, fewest: int = 2) -> Table | None:
    """The table that a text begins with, if its first line is a header of at least `fewest` columns.

    The delimiter is the one that splits the header into most columns; the escaping is the one with which fewer of the
    first rows have a wrong number of cells.
    """
    lines = [f"{line}\n" for line in head.split("\n")]
    if not is_whole and len(lines) > 1:
        del lines[-1]  # probably incomplete
    start = next((number for number, line in enumerate(lines) if not line.isspace()), None)
    if start is None:
        return None
    declared = lines[start].strip().removeprefix("sep=")
    is_declared = len(declared) == 1 and lines[start].startswith("sep=")
    start += is_declared
    sample = lines[start : start + _SAMPLE_ROWS]
    tables = [_table(sample, start, mark) for mark in (declared if is_declared else DELIMITERS)]
    table = max((table for table in tables if table), key=lambda table: len(table.names), default=None)
    if table is None or len(table.names) < fewest:
        return None
    if not any('\\"' in line for line in sample):
        return table
    return min(table, replace(table, escape="\\"), key=lambda one: _misfits(one, sample))


def _table(lines: list[str], start: int, delimiter: str) -> Table | None:
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = next(reader, [])
    except csv.Error:
        return None
    while header and not header[-1].strip():
        header.pop()
    is_sane = 0 < len(header) <= _MAX_COLUMNS and all(len(name) <= _MAX_NAME for name in header)
    if not is_sane or not all(name.strip().isprintable() for name in header):
        return None
    return Table(_unique([name.strip() for name in header]), delimiter, first=start + reader.line_num + 1)


def _unique(names: list[str]) -> tuple[str, ...]:
    """The names, made unique: a column without a name, or with a repeated one, gets its number."""
    distinct: dict[str, None] = {}
    for position, name in enumerate(names, 1):
        unique = name or f"column {position}"
        number = position
        while unique in distinct:
            unique = f"{name or 'column'} {number}"
            number += 1
        distinct[unique] = None
    return tuple(distinct)


def _misfits(table: Table, lines: list[str]) -> int:
    try:
        return sum(len(row) != len(table.names) for row in _reader(table, iter(lines)) if row)
    except csv.Error:
        return len(lines)


def _reader(table: Table, lines: Iterator[str]) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=table.delimiter, escapechar=table.escape)


class _TooLongError(Exception):
    """A row has more than MAX_LINE characters."""


class _TableLines:
    """The lines of a table for csv; those of the current row are kept, and can be returned again."""

    def __init__(self, source: FeedSource, first: int) -> None:
        self._lines = iterate_lines(source)
        self._first = first
        self._again: deque[tuple[int, str, bool]] = deque()
        self.budget = _FREE
        """The number of characters of lines that may still be returned again."""
        self._size = 0
        self.row_lines: list[tuple[int, str, bool]] = []
        """Line number, text, and whether it could not be decoded."""
        self.is_broken = False
        """Whether one of the row's lines could not be decoded."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._decoded()
        self.row_lines.append(line)
        _, text, is_broken = line
        if is_broken:
            self.is_broken = True
        self._size += len(text)
        if self._size > MAX_LINE:
            raise _TooLongError
        return text

    def _decoded(self) -> tuple[int, str, bool]:
        for number, line in self._lines:
            if number < self._first:
                continue
            self.budget += len(line)
            try:
                return number, line.decode() + "\n", False
            except UnicodeDecodeError:
                return number, line.decode(errors="replace") + "\n", True
        raise StopIteration

    def begin(self) -> None:
        self.row_lines.clear()
        self._size = 0
        self.is_broken = False

    def give_back(self, count: int) -> None:
        """Returns the last lines of the row again, within a limit on all lines that stray quotes swallow."""
        self.budget -= sum(len(line[1]) for line in self.row_lines)
        self._again.extendleft(reversed(self.row_lines[-count:]))
        del self.row_lines[-count:]


class TableReader:
    """The rows of a table: a list of cells for each valid one, as many as there are columns."""

    def __init__(self, source: FeedSource, table: Table, named: str) -> None:
        self._source = source
        self._table = table
        self._format = named
        self._lines = _TableLines(source, table.first)

    def __iter__(self) -> Iterator[tuple[int, list[str]] | RejectedRow]:
        """The line of each row and its cells, or the rejected row. Raises FeedError if the feed breaks off."""
        lines = self._lines
        width = len(self._table.names)
        reader = _reader(self._table, lines)
        while True:
            lines.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (_TooLongError, csv.Error) as error:
                yield self._unreadable(error)
                continue
            if not any(cells):
                continue
            if len(cells) == width and not lines.is_broken:
                yield lines.row_lines[0][0], cells
            else:
                yield from self._odd(cells)

    def _odd(self, cells: list[str]) -> Iterator[tuple[int, list[str]] | RejectedRow]:
        names, lines = self._table.names, self._lines
        extra = cells[len(names) :]
        if lines.is_broken:
            detail = f"it has a byte that is not valid in {self._source.encoding}"
            yield self._rejected(NOT_UTF_8, detail, dict(zip(names, cells, strict=False)))
        elif extra and not any(map(str.strip, extra)):
            yield lines.row_lines[0][0], cells[: len(names)]
        elif len(cells) > 1 or cells[0].strip():
            detail = f"{len(cells):,} cells, but the header has {len(names):,}"
            if self._go_back():
                cells = next(_reader(self._table, iter([text for _, text, _ in lines.row_lines])), cells)
                extra = cells[len(names) :]
            row = {**dict(zip(names, cells, strict=False)), EXTRA: [shorten(cell) for cell in extra[:_MAX_COLUMNS]]}
            yield self._rejected(WRONG_CELLS, detail, row)

    def _unreadable(self, error: Exception) -> RejectedRow:
        """A row that csv cannot read: it or a cell is too long, or a carriage return is inside a line."""
        text = shorten(self._lines.row_lines[0][1])
        self._go_back()
        if isinstance(error, _TooLongError) or "limit" in str(error):
            limit = csv.field_size_limit()
            return self._rejected(TOO_LONG, f"a row may have {MAX_LINE:,} bytes, a cell {limit:,} characters", text)
        return self._rejected("not a row", str(error), text)

    def _rejected(self, reason: str, detail: str, row: object) -> RejectedRow:
        return RejectedRow(self._source.path, self._lines.row_lines[0][0], reason, detail, self._format, row)

    def _go_back(self) -> bool:
        """If an unclosed quote began the row, goes back to the first line inside it that is a whole row itself."""
        lines = self._lines
        if len(lines.row_lines) > 1 and lines.budget > 0:
            for count in range(len(lines.row_lines) - 1, 0, -1):
                if self._is_row(lines.row_lines[-count][1]):
                    lines.give_back(count)
                    return True
        return False

    def _is_row(self, line: str) -> bool:
        try:
            return len(next(_reader(self._table, iter([line])), [])) == len(self._table.names)
        except csv.Error:
            return False


_ENOUGH = 2
_TITLES = {"google-tsv": "Google Merchant", "shopify": "Shopify", "woocommerce": "WooCommerce"}


def open_table(feed: Feed, fewest: int = 1) -> Table | None:
    """The table at the beginning of a feed, whose encoding is detected first.

    None if its first line is not a header.
    """
    source = feed.source
    encoding = detect_encoding(source.head)
    if encoding != source.encoding and source.encoding == "utf-8":
        source.decode(encoding)
    return detect_table(source.head.decode(errors="replace"), source.is_short, fewest)


def read_table(
    feed: Feed, named: str, renamed: Callable[[Table], Mapping[str, str]], required: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]] | RejectedRow]:
    """The rows of a table with their lines, under the names that `renamed` gives to columns.

    Raises FeedError if the feed is not a table, lacks one of the `required` columns, or breaks off.
    """
    source = feed.source
    table = open_table(feed)
    if table is None:
        if source.head.strip():
            raise FeedError(f"{source.path}: line 1: is not a table header: {first_line(source.head)}")
        return
    if source.encoding != "utf-8":
        detail = f"the text is read as {source.encoding}; if that is wrong, convert the feed to UTF-8"
        feed.note(FeedNote(source.path, 0, "encoding", "not UTF-8", detail))
    user_names = feed.mapping.user_names
    table = table.rename({old: new for old, new in renamed(table).items() if old not in user_names})
    looks = f"{source.path}: looks like a {_TITLES.get(named)} feed but has no column"
    cure = "add it to the export, or set another format with --format"
    check_names(looks, table.names, required, cure)
    names = table.names
    for row in TableReader(source, table, named):
        if isinstance(row, RejectedRow):
            yield row
        else:
            yield row[0], dict(zip(names, row[1], strict=True))


def has_typical_columns(typical: str) -> Callable[[Collection[str]], bool]:
    """A test whether columns are those of a shop software's export: at least two match the pattern `typical`."""
    pattern = re.compile(typical, re.IGNORECASE)
    return lambda names: sum(bool(pattern.fullmatch(name)) for name in names) >= _ENOUGH


def hiding_column(row: Row, hidden: Mapping[str, Collection[str]]) -> str:
    """The first column with one of its `hidden` values, for which a product is not for sale; empty if there is none."""
    return next((name for name, values in hidden.items() if str(row.get(name, "")).strip().lower() in values), "")


def is_for_sale(feed: Feed, line: int, row: Mapping[str, str], hidden: Mapping[str, Collection[str]]) -> bool:
    """Whether no column has one of its `hidden` values; a product that is not for sale is reported."""
    if name := hiding_column(row, hidden):
        feed.note(FeedNote(feed.source.path, line, name, "not for sale", row[name]))
    return not name


def first_line(head: bytes) -> str:
    """The beginning of a feed, for a message."""
    return repr(head.lstrip()[:60].split(b"\n")[0].decode(errors="replace").strip())


def check_names(feed: str, names: Iterable[str], required: Sequence[str], cure: str) -> None:
    """Raises FeedError if a known format lacks a column or field without which its rows cannot be read.

    `feed` and `cure` are the beginning and the end of the message.
    """
    missing = [name for name in required if name not in set(names)]
    if missing:
        raise FeedError(f"{feed} {', '.join(map(repr, missing))}; {cure}")


def map_column_names(names: Sequence[str], mapping: FeedMapping) -> dict[str, str]:
    """Columns that spell a known name differently ("Product ID" for product_id), with that name."""
    targets = {source.name for rule in mapping.rules.values() for source in rule.sources}
    columns: dict[str, str] = {}
    for name in names:
        plain = "_".join(name.lower().split())
        if name not in targets and plain in targets and plain not in names and plain not in columns.values():
            columns[name] = plain
    return columns


def read_csv(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each row of a table whose columns are known names or mapped ones."""
    path = feed.source.path

    def renamed(table: Table) -> dict[str, str]:
        names = map_column_names(table.names, feed.mapping)
        feed.check_columns(path, [names.get(name, name) for name in table.names], feed.mapping)
        return names

    for row in read_table(feed, "csv", renamed):
        yield row if isinstance(row, RejectedRow) else Record(path, row[0], "csv", row[1])


def table_rows(row: object) -> Sequence[Row]:
    """The rows of a record of a table.

    Raises RowError for a row that was rejected for its number of cells and is not yet repaired.
    """
    rows = object_row(row)
    if any(EXTRA in one for one in rows):
        raise RowError(WRONG_CELLS, 'put each cell under its column, and remove ""')
    return rows


CSV_FORMAT = FeedFormat(
    "csv", "table with a header (CSV, TSV)", read_csv, rows=table_rows, has_columns=lambda _names: True
)

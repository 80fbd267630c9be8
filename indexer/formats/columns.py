"""CSV and its relatives with any columns: which format a header has, and rows by the names known or mapped."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from indexer.formats.encodings import detected_encoding
from indexer.formats.format import Feed, Format, Row, object_row
from indexer.formats.records import Noted, Record, Rejected
from indexer.formats.table import EXTRA, WRONG_CELLS, Table, TableReader, recognised_table
from indexer.mapping import FeedMapping
from retrieval.close_names import close_names
from retrieval.errors import FeedError, RowError

Check = Callable[[str, Sequence[str], FeedMapping], None]
"""Told a feed's path, its columns under known names, and the mapping; raises FeedError where one is missing."""
_NEEDED = ("id", "title")
_ENOUGH = 2
_TITLES = {"google-tsv": "Google Merchant", "shopify": "Shopify", "woocommerce": "WooCommerce"}


def opened_table(feed: Feed, fewest: int = 1) -> Table | None:
    """The table at the beginning of a feed, whose encoding is looked for first.

    None where its first line is no header.
    """
    source = feed.source
    encoding = detected_encoding(source.head)
    if encoding != source.encoding and source.encoding == "utf-8":
        source.decode(encoding)
    return recognised_table(source.head.decode(errors="replace"), source.is_short, fewest)


def read_table(
    feed: Feed, named: str, renamed: Callable[[Table], Mapping[str, str]], required: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]] | Rejected]:
    """The rows of a table, each with its line, under the names that `renamed` gives to columns.

    Raises FeedError when the feed is no table, lacks one of the `required` columns, or breaks off.
    """
    source = feed.source
    table = opened_table(feed)
    if table is None:
        if source.head.strip():
            raise FeedError(f"{source.path}: line 1: is no header of a table: {first_line(source.head)}")
        return
    if source.encoding != "utf-8":
        detail = f"the text is read as {source.encoding}; where that is wrong, convert the feed to UTF-8"
        feed.note(Noted(source.path, 0, "encoding", "not UTF-8", detail))
    asked = feed.mapping.asked
    table = table.renamed({old: new for old, new in renamed(table).items() if old not in asked})
    check_columns(source.path, named, table.names, required)
    names = table.names
    for row in TableReader(source, table, named):
        if isinstance(row, Rejected):
            yield row
        else:
            yield row[0], dict(zip(names, row[1], strict=True))


def resembles(names: Iterable[str], typical: re.Pattern[str]) -> bool:
    """Whether columns are those of one shop software's export: two that are nobody else's."""
    return sum(bool(typical.fullmatch(name)) for name in names) >= _ENOUGH


def is_for_sale(feed: Feed, line: int, row: Mapping[str, str], hidden: Mapping[str, Collection[str]]) -> bool:
    """Whether no column has one of its `hidden` values; a product that is not for sale is noted."""
    for name, values in hidden.items():
        if row.get(name, "").strip().lower() in values:
            feed.note(Noted(feed.source.path, line, name, "not for sale", row[name]))
            return False
    return True


def first_line(head: bytes) -> str:
    """The beginning of a feed, for a message."""
    return repr(head.lstrip()[:60].split(b"\n")[0].decode(errors="replace").strip())


def check_columns(path: str, named: str, names: Iterable[str], required: Sequence[str]) -> None:
    """Raises FeedError when a known format lacks a column that its rows cannot be read without."""
    missing = [name for name in required if name not in set(names)]
    if missing:
        columns = ", ".join(map(repr, missing))
        raise FeedError(
            f"{path}: looks like a {_TITLES[named]} feed but has no column {columns}; "
            f"add it to the export, or say what else the feed is with --format"
        )


def check_mapped(path: str, names: Sequence[str], mapping: FeedMapping) -> None:
    """Raises FeedError when no column can be a product's id, or none its title."""
    present = {*names, *(name.partition(".")[0] for name in names)}
    for target in _NEEDED:
        rule = mapping.rules[target]
        sources = [source.name for source in rule.sources]
        if rule.value is None and not any(name in present or name.partition(".")[0] in present for name in sources):
            close = next(filter(None, (close_names(name, names) for name in (*sources, target))), ("COLUMN",))
            raise FeedError(
                f"{path}: no column is the {target} (known: {', '.join(sources)}); its columns are "
                f"{', '.join(names[:20])}; say which with --map {target}={close[0]}"
            )


def known_names(names: Sequence[str], mapping: FeedMapping) -> dict[str, str]:
    """Columns that spell a known name in another way ("Product ID" for product_id), with that name."""
    known = {source.name for rule in mapping.rules.values() for source in rule.sources}
    found: dict[str, str] = {}
    for name in names:
        plain = "_".join(name.lower().split())
        if name not in known and plain in known and plain not in names and plain not in found.values():
            found[name] = plain
    return found


def read_csv(feed: Feed, check: Check = check_mapped) -> Iterator[Record | Rejected]:
    """A record for each row of a table whose columns are known names or mapped ones."""
    path = feed.source.path

    def renamed(table: Table) -> dict[str, str]:
        names = known_names(table.names, feed.mapping)
        check(path, [names.get(name, name) for name in table.names], feed.mapping)
        return names

    for row in read_table(feed, "csv", renamed):
        yield row if isinstance(row, Rejected) else Record(path, row[0], "csv", row[1])


def table_rows(row: object) -> Sequence[Row]:
    """The rows of a record of a table.

    Raises RowError for one that was set aside for its number of cells and is not yet repaired.
    """
    rows = object_row(row)
    if any(EXTRA in one for one in rows):
        raise RowError(WRONG_CELLS, 'put each cell under its column, and take out ""')
    return rows


CSV = Format("csv", "table with a header (CSV, TSV)", read_csv, rows=table_rows)

"""WooCommerce's product CSV: variations are separate rows that name their parent, anywhere in the file.

A product that may have variations waits with them in a private SQLite database, which uses the disk when it grows;
other products are yielded at once. Products not for sale (Published 0 or -1, hidden) are skipped with a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import msgspec

from shelfwise.indexer.feeds.base import Feed, FeedFormat, Record, RejectedRow, Row
from shelfwise.indexer.feeds.csv import Table, has_typical_columns, is_for_sale, read_table, table_rows
from shelfwise.indexer.feeds.mapping import DropHandler, MappingRule, first_of
from shelfwise.indexer.feeds.values import UnusableValueError, is_in_period, period
from shelfwise.indexer.feeds.variants import (
    VariantPrice,
    VariantRows,
    amount,
    best_availability,
    check_count,
    count_of,
    option_values,
    price_columns,
    unique_texts,
)
from shelfwise.retrieval.errors import FeedError, RowError
from shelfwise.retrieval.records import Availability, Variant

_PARENT_ID = re.compile(r"id:\s*(\S+)", re.IGNORECASE)
_ITS_OWN = "FROM variations WHERE line NOT IN joined AND ((id = ?1 AND ?1 <> '') OR (sku = ?2 AND ?2 <> ''))"


class VariationStore:
    """Products and variations until the end of the feed, on disk if they are many."""

    def __init__(self) -> None:
        import sqlite3

        self._rows = sqlite3.connect("", isolation_level=None)  # a private file, deleted with the connection
        self._rows.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000; BEGIN;"
            "CREATE TABLE parents (line INTEGER PRIMARY KEY, id TEXT, sku TEXT, row BLOB);"
            "CREATE TABLE variations (line INTEGER PRIMARY KEY, id TEXT, sku TEXT, row BLOB);"
        )

    def close(self) -> None:
        self._rows.close()

    def add(self, line: int, row: dict[str, str], is_parent: bool) -> None:
        """Stores a row under its own id and SKU, or under those with which it names its parent."""
        insert = "INSERT INTO parents VALUES (?, ?, ?, ?)"
        identity, sku, parent = (row.get(name, "").strip() for name in ("ID", "SKU", "Parent"))
        if not is_parent:
            insert = "INSERT INTO variations VALUES (?, ?, ?, ?)"
            by_id = _PARENT_ID.fullmatch(parent)
            identity, sku = (by_id[1], "") if by_id else ("", parent)
        self._rows.execute(insert, (line, identity, sku, msgspec.json.encode(row)))

    def products(self) -> Iterator[VariantRows]:
        """Each product's own row, followed by those of its variations."""
        self._rows.executescript(
            "CREATE INDEX variations_by_id ON variations (id); CREATE INDEX variations_by_sku ON variations (sku);"
            "CREATE TABLE joined (line INTEGER PRIMARY KEY);"
        )
        for line, identity, sku, content in self._rows.execute("SELECT * FROM parents ORDER BY line"):
            product = VariantRows(line, _decode_row(content))
            names = (identity, sku)
            for (variation,) in self._rows.execute(f"SELECT row {_ITS_OWN} ORDER BY line", names):
                product.add(_decode_row(variation))
                if product.is_full:
                    break
            self._rows.execute(f"INSERT INTO joined SELECT line {_ITS_OWN}", names)
            yield product

    def orphans(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The variations that belong to no product."""
        orphans = self._rows.execute("SELECT line, row FROM variations WHERE line NOT IN joined ORDER BY line")
        for line, content in orphans:
            yield line, _decode_row(content)


_decode_row = msgspec.json.Decoder(dict[str, str]).decode


REQUIRED = ("ID", "Type", "Name")
NO_PARENT = "no parent"
_KNOWN_NAMES = (
    "ID|Type|SKU|GTIN, UPC, EAN, or ISBN|Name|Published|Is featured?|Visibility in catalog|Short description|"
    "Description|Date sale price starts|Date sale price ends|In stock?|Stock|Backorders allowed?|Sale price|"
    "Regular price|Categories|Tags|Images|Parent|Brands"
)
_BY_SPELLING = {name.lower(): name for name in _KNOWN_NAMES.split("|")} | {
    "gtin/upc/ean/isbn": "GTIN, UPC, EAN, or ISBN"
}
_TYPICAL = (
    r"is featured\?|visibility in catalog|in stock\?|backorders allowed\?|regular price|date sale price .*"
    r"|sold individually\?|attribute 1 (name|value\(s\)|visible|global)|gtin, upc, ean, or isbn|download expiry days"
)
_LEFT_OUT = re.compile(
    r"Type|Published|Visibility in catalog|Position|Parent|Tax status|Tax class|Purchase note|Shipping class"
    r"|Attribute \d+ .*|Meta: .*|Download .*|Stock|In stock\?|Low stock amount|Backorders allowed\?|Sold individually\?"
    r"|Allow customer reviews\?|Date sale price .*|Sale price|Upsells|Cross-sells|Grouped products|Button text"
    r"|Short description|Is featured\?",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"Attribute (\d+) name", re.IGNORECASE)
_COMMA = re.compile(r"(?<!\\),")
HIDDEN = {"Published": {"0", "-1", "false", "no"}, "Visibility in catalog": {"hidden"}}

RULES: Mapping[str, MappingRule] = {
    "id": first_of("ID"),
    "title": first_of("Name"),
    "description": first_of("Description"),
    "brand": first_of("Brands"),
    "category": first_of("Categories"),
    "price": first_of("Regular price"),
    "availability": first_of("availability"),
    "images": first_of("Images"),
    "identifiers.sku": first_of("SKU"),
    "identifiers.gtin": first_of("GTIN, UPC, EAN, or ISBN"),
}


def woocommerce_columns(table: Table) -> dict[str, str]:
    """The columns in the spelling of the export."""
    return {name: _BY_SPELLING[name.lower()] for name in table.names if name.lower() in _BY_SPELLING}


def read_woocommerce(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each product: its own row, then its variations, without blank cells."""
    import sqlite3

    try:
        with closing(VariationStore()) as waiting:
            yield from _products(feed, waiting)
    except sqlite3.Error as error:
        raise FeedError(
            f"{feed.source.path}: its variations cannot be stored on disk: {error}; free some space"
        ) from error


def _products(feed: Feed, waiting: VariationStore) -> Iterator[Record | RejectedRow]:
    path = feed.source.path
    for row in read_table(feed, "woocommerce", woocommerce_columns, REQUIRED):
        if isinstance(row, RejectedRow):
            yield row
            continue
        line, cells = row
        filled = {name: value for name, value in cells.items() if value}
        kinds = set(unique_texts(*filled.get("Type", "").lower().split(",")))
        if kinds & {"variable", "variation"}:
            waiting.add(line, filled, is_parent="variable" in kinds)
        elif is_for_sale(feed, line, filled, HIDDEN):
            yield Record(path, line, "woocommerce", [filled])
    for product in waiting.products():
        if is_for_sale(feed, product.line, product.rows[0], HIDDEN):
            yield product.record(path, "woocommerce")
    for line, one in waiting.orphans():
        yield RejectedRow(path, line, NO_PARENT, f"no product is {one.get('Parent', '')!r}", "woocommerce", [one])


_STOCK_CELLS = {"instock": "1", "outofstock": "0", "onbackorder": "backorder"}


def row_of_woocommerce_object(product: Mapping[str, Any]) -> dict[str, object]:
    """A product of the REST API, as sent by webhooks, as its own row of the CSV, without variations."""
    attributes = enumerate(product.get("attributes") or [], 1)
    cells = {
        "ID": str(product.get("id") or ""),
        "Type": product.get("type"),
        "SKU": product.get("sku"),
        "GTIN, UPC, EAN, or ISBN": product.get("global_unique_id"),
        "Name": product.get("name"),
        "Published": "1" if product.get("status", "publish") == "publish" else "0",
        "Visibility in catalog": product.get("catalog_visibility"),
        "Short description": product.get("short_description"),
        "Description": product.get("description"),
        "In stock?": _STOCK_CELLS.get(str(product.get("stock_status"))),
        "Stock": product.get("stock_quantity"),
        "Backorders allowed?": product.get("backorders"),
        "Regular price": product.get("regular_price") or product.get("price"),
        "Sale price": product.get("sale_price"),
        "Date sale price starts": product.get("date_on_sale_from"),
        "Date sale price ends": product.get("date_on_sale_to"),
        "Categories": _cell(each.get("name") for each in product.get("categories") or []),
        "Tags": _cell(each.get("name") for each in product.get("tags") or [] if isinstance(each, dict)),
        "Brands": _cell(each.get("name") for each in product.get("brands") or []),
        "Images": _cell(each.get("src") for each in product.get("images") or []),
        "average_rating": product.get("average_rating") if product.get("rating_count") else None,
        "rating_count": product.get("rating_count"),
        "created_at": _utc(product.get("date_created_gmt")),
        "updated_at": _utc(product.get("date_modified_gmt")),
    }
    for position, each in attributes:
        cells[f"Attribute {position} name"] = each.get("name")
        cells[f"Attribute {position} value(s)"] = _cell(each.get("options") or ())
    return {name: str(value) for name, value in cells.items() if value not in (None, "")}


def _cell(values: Iterable[object]) -> str:
    """Several values in a cell, in the format that `_several` reads."""
    return ", ".join(str(value).replace(",", "\\,") for value in values if value)


def _utc(time: object) -> str:
    return f"{time}Z" if time else ""


def assemble_woocommerce(rows: Sequence[Row], note: DropHandler, now: datetime) -> tuple[Row, tuple[Variant, ...]]:
    """The product's own row with values from its variants, and the variants.

    Raises RowError for a broken price, and for a variant without its product.
    """
    check_count(rows)
    own = rows[0]
    if "variation" in str(own.get("Type", "")).lower():
        raise RowError(NO_PARENT, f"a variation without its product; its parent is {own.get('Parent', '')!r}")
    sold = [row for row in rows[1:] if str(row.get("Published", "1")).strip() not in HIDDEN["Published"]]
    variants = tuple(_variant(row, note, now) for row in sold)
    price = price_columns("Regular price", (_offer(row, note, now) for row in sold))
    row = {name: value for name, value in own.items() if not _LEFT_OUT.fullmatch(name)}
    row |= price or price_columns("Regular price", [_offer(own, note, now)])
    row["availability"] = best_availability(variants) or _stock(own)
    row["SKU"] = unique_texts(own.get("SKU"), *(one.get("SKU") for one in sold))
    row["GTIN, UPC, EAN, or ISBN"] = unique_texts(*(one.get("GTIN, UPC, EAN, or ISBN") for one in (own, *sold)))
    texts = (own.get("Short description"), own.get("Description"))
    row["Description"] = unique_texts(*(str(text).replace("\\n", "\n") for text in texts if text))
    row["Categories"] = (_several(own.get("Categories")) or [""])[0]
    row["Tags"] = _several(own.get("Tags"))
    row["Images"] = unique_texts(*_several(own.get("Images")), *(variant.image for variant in variants))
    row["attributes"] = {**_attributes(own), **option_values(variants)}
    return row, variants


def _several(value: object) -> list[str]:
    """The values of a cell separated by commas; a comma inside a value has a backslash."""
    parts = _COMMA.split(value) if isinstance(value, str) else []
    return unique_texts(*(part.replace("\\,", ",") for part in parts))


def _attributes(row: Row) -> dict[str, object]:
    """The values of each named attribute: a single one as a text, several as a list."""
    attributes: dict[str, object] = {}
    for column, name in row.items():
        match = _ATTRIBUTE.fullmatch(column)
        if match and isinstance(name, str) and name.strip():
            values = _several(row.get(f"Attribute {match[1]} value(s)"))
            attributes[name.strip()] = values[0] if len(values) == 1 else values
    return attributes


def _offer(row: Row, note: DropHandler, now: datetime) -> VariantPrice | None:
    regular = amount("Regular price", row.get("Regular price"))
    sale = amount("Sale price", row.get("Sale price"))
    if not sale or not _is_on_sale(row, note, now):
        return None if regular is None else VariantPrice(regular)
    return VariantPrice(sale, regular)


def _is_on_sale(row: Row, note: DropHandler, now: datetime) -> bool:
    start, end = (str(row.get(f"Date sale price {edge}") or "") for edge in ("starts", "ends"))
    try:
        return is_in_period(period("Date sale price", f"{start}/{end}"), now)
    except UnusableValueError as error:
        note("sale_period", error.reason, error.detail)
        return False


def _variant(row: Row, note: DropHandler, now: datetime) -> Variant:
    offer = _offer(row, note, now)
    pairs = (("sku", row.get("SKU")), ("gtin", row.get("GTIN, UPC, EAN, or ISBN")))
    return Variant(
        id=str(row.get("ID") or row.get("SKU") or "").strip(),
        options={name: value for name, value in _attributes(row).items() if isinstance(value, str)},
        price=offer.price if offer else None,
        availability=_stock(row),
        identifiers={kind: tuple(texts) for kind, value in pairs if (texts := unique_texts(value))},
        image=next(iter(_several(row.get("Images"))), ""),
    )


def _stock(row: Row) -> Availability | None:
    spelled = str(row.get("In stock?") or "").strip().lower()
    if spelled in ("1", "true", "yes"):
        return Availability.IN_STOCK
    if spelled == "backorder":
        return Availability.BACKORDER
    count = count_of(row.get("Stock"))
    if spelled not in ("0", "false", "no"):
        return None if count is None or spelled else Availability.IN_STOCK if count > 0 else Availability.OUT_OF_STOCK
    may_wait = str(row.get("Backorders allowed?") or "").strip().lower() in ("1", "notify", "yes")
    return Availability.BACKORDER if may_wait else Availability.OUT_OF_STOCK


WOOCOMMERCE = FeedFormat(
    "woocommerce",
    "WooCommerce product CSV",
    read_woocommerce,
    RULES,
    table_rows,
    assemble_woocommerce,
    has_typical_columns(_TYPICAL),
)

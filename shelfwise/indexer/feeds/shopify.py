"""Shopify's product CSV: one row per variant or image; the rows of a product are consecutive, with the same Handle.

Products that are not for sale (Status draft or archived, Published false) are skipped with a note. Headers of newer
exports are read like the old ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from shelfwise.indexer.feeds.base import Feed, FeedFormat, Record, RejectedRow, Row
from shelfwise.indexer.feeds.csv import Table, has_typical_columns, is_for_sale, read_table, table_rows
from shelfwise.indexer.feeds.mapping import DropHandler, MappingRule, first_of
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
from shelfwise.retrieval.errors import RowError
from shelfwise.retrieval.records import Availability, Variant

_TRACKER = "Variant Inventory Tracker"
"""The counter of a variant's stock. Only here does a blank cell have a meaning: stock is not counted."""
REQUIRED = ("Handle", "Title", "Variant Price")
_ALIASES = {
    "url handle": "Handle",
    "title": "Title",
    "description": "Body (HTML)",
    "body html": "Body (HTML)",
    "product category": "Product Category",
    "published on online store": "Published",
    "sku": "Variant SKU",
    "barcode": "Variant Barcode",
    "price": "Variant Price",
    "compare-at price": "Variant Compare At Price",
    "inventory tracker": _TRACKER,
    "inventory quantity": "Variant Inventory Qty",
    "continue selling when out of stock": "Variant Inventory Policy",
    "product image url": "Image Src",
    "image position": "Image Position",
    "variant image url": "Variant Image",
}
_KNOWN_NAMES = (
    "Handle|Title|Body (HTML)|Vendor|Product Category|Type|Tags|Published|Status|Variant SKU|Variant Price|"
    "Variant Compare At Price|Variant Inventory Tracker|Variant Inventory Qty|Variant Inventory Policy|Variant Barcode|"
    "Variant Image|Image Src|Image Position|Option1 Name|Option1 Value|Option2 Name|Option2 Value|Option3 Name|"
    "Option3 Value"
)
_BY_SPELLING = {**_ALIASES, **{name.lower(): name for name in _KNOWN_NAMES.split("|")}}
_TYPICAL = r"handle|url handle|body \(html\)|variant .*|option1 .*|compare-at price|image src"
# Columns of a variant, an image or the shop that shoppers do not need; costs are confidential.
_LEFT_OUT = re.compile(
    r"Variant .*|Option\d .*|Image .*|Published|Status|Gift Card|SEO .*|Cost per item|Unit price.*|Included / .*"
    r"|(Price|Compare At Price) / .*|Charge tax|Tax code|Requires shipping|Fulfillment service|Weight .*"
    r"|Product image.*",
    re.IGNORECASE,
)
_METAFIELD = re.compile(r"\s*\((product|variant)\.metafields\.[^)]*\)$")
NOT_FOR_SALE = {"Published": {"false", "no", "0"}, "Status": {"draft", "archived", "unlisted"}}
_YES = {"continue", "true", "yes"}

RULES: Mapping[str, MappingRule] = {
    "id": first_of("Handle"),
    "title": first_of("Title"),
    "description": first_of("Body (HTML)"),
    "brand": first_of("Vendor"),
    "category": first_of("Product Category", "Type"),
    "price": first_of("Variant Price"),
    "availability": first_of("availability"),
    "images": first_of("Image Src"),
    "identifiers.shopify": first_of("Shopify ID"),
    "identifiers.sku": first_of("Variant SKU"),
    "identifiers.gtin": first_of("Variant Barcode"),
    "identifiers.mpn": first_of("Google Shopping / MPN"),
}


def shopify_columns(table: Table) -> dict[str, str]:
    """The columns under the names of the older exports."""
    columns: dict[str, str] = {}
    for name in table.names:
        column = _BY_SPELLING.get(name.lower())
        if column and column not in columns.values():
            columns[name] = column
    return columns


def read_shopify(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each product, with all of its rows, without blank cells."""
    path = feed.source.path
    product: VariantRows | None = None
    for row in read_table(feed, "shopify", shopify_columns, REQUIRED):
        if isinstance(row, RejectedRow):
            yield row
            continue
        line, cells = row
        filled = {name: value for name, value in cells.items() if value or name == _TRACKER}
        if product and filled.get("Handle") == product.rows[0].get("Handle"):
            product.add(filled)
            continue
        if product and is_for_sale(feed, product.line, product.rows[0], NOT_FOR_SALE):
            yield product.record(path, "shopify")
        product = VariantRows(line, filled)
    if product and is_for_sale(feed, product.line, product.rows[0], NOT_FOR_SALE):
        yield product.record(path, "shopify")


def rows_of_shopify_object(product: Mapping[str, Any]) -> list[dict[str, object]]:
    """A product of the Admin API, as sent by webhooks, as rows of the CSV: those of variants, then those of images.

    Raises RowError without a handle; other missing values become blank cells.
    """
    if not product.get("handle"):
        raise RowError("no id", "a product of Shopify needs its handle; send all fields")
    category = product.get("category")
    images = product.get("images") or []
    pictures = {str(each["id"]): each.get("src") for each in images if "id" in each}
    own: dict[str, object] = {
        "Handle": product["handle"],
        "Shopify ID": str(product.get("id") or ""),
        "Title": product.get("title"),
        "Body (HTML)": product.get("body_html"),
        "Vendor": product.get("vendor"),
        "Product Category": category.get("full_name") if isinstance(category, dict) else None,
        "Type": product.get("product_type"),
        "Tags": product.get("tags") or "",
        "Status": product.get("status") or "",
        "Published": "false" if product.get("published_at", "") is None else "true",
        "created_at": product.get("created_at"),
        "updated_at": product.get("updated_at"),
    }
    own |= {f"Option{position} Name": each.get("name") for position, each in enumerate(product.get("options") or [], 1)}
    rows = [_variant_cells(each, pictures) for each in product.get("variants") or [{}]]
    return [own | rows[0], *rows[1:], *({"Image Src": each.get("src")} for each in images)]


def _variant_cells(variant: Mapping[str, Any], pictures: Mapping[str, object]) -> dict[str, object]:
    cells = {
        "Variant SKU": variant.get("sku"),
        "Variant Barcode": variant.get("barcode"),
        "Variant Price": variant.get("price"),
        "Variant Compare At Price": variant.get("compare_at_price"),
        "Variant Inventory Qty": variant.get("inventory_quantity"),
        "Variant Inventory Policy": variant.get("inventory_policy"),
        "Variant Image": pictures.get(str(variant.get("image_id"))),
        **{f"Option{index} Value": variant.get(f"option{index}") for index in (1, 2, 3)},
    }
    filled = {name: str(value) for name, value in cells.items() if value is not None}
    return filled | ({_TRACKER: variant["inventory_management"] or ""} if "inventory_management" in variant else {})


def assemble_shopify(rows: Sequence[Row], _note: DropHandler, _now: datetime) -> tuple[Row, tuple[Variant, ...]]:
    """The product's own row with values from its variants, and the variants.

    Raises RowError for a broken price of a variant.
    """
    check_count(rows)
    own = rows[0]
    sold = [row for row in rows if row.get("Variant Price") or row.get("Option1 Value")]
    options = {number: str(own.get(f"Option{number} Name") or "").strip() for number in (1, 2, 3)}
    variants = tuple(
        _variant(str(own.get("Handle", "")), position, row, options) for position, row in enumerate(sold, 1)
    )
    row = {_METAFIELD.sub("", name): value for name, value in own.items() if not _LEFT_OUT.fullmatch(name)}
    row |= price_columns("Variant Price", map(_offer, sold))
    row["availability"] = best_availability(variants)
    for name in ("Variant SKU", "Variant Barcode"):
        row[name] = unique_texts(*(_code(one, name) for one in sold))
    pictured = [row for row in rows if row.get("Image Src")]
    pictured.sort(key=lambda row: count_of(row.get("Image Position")) or 0.0)
    row["Image Src"] = unique_texts(*(each["Image Src"] for each in pictured), *(variant.image for variant in variants))
    row["Tags"] = unique_texts(*str(own.get("Tags", "")).split(","))
    row["attributes"] = option_values(variants)
    is_one = len(variants) == 1 and not variants[0].options
    return row, () if is_one else variants


def _offer(row: Row) -> VariantPrice | None:
    now = amount("Variant Price", row.get("Variant Price"))
    before = amount("Variant Compare At Price", row.get("Variant Compare At Price"))
    return None if now is None else VariantPrice(now, before)


def _variant(handle: str, position: int, row: Row, names: Mapping[int, str]) -> Variant:
    sku, barcode = _code(row, "Variant SKU"), _code(row, "Variant Barcode")
    values = {name: str(row.get(f"Option{number} Value") or "").strip() for number, name in names.items() if name}
    is_default = set(values.items()) == {("Title", "Default Title")}
    return Variant(
        id=sku or f"{handle}-{position}",
        options={} if is_default else {name: value for name, value in values.items() if value},
        price=amount("Variant Price", row.get("Variant Price")),
        availability=_stock(row),
        identifiers={kind: (value,) for kind, value in (("sku", sku), ("gtin", barcode)) if value},
        image=str(row.get("Variant Image") or row.get("Image Src") or "").strip(),
    )


def _code(row: Row, name: str) -> str:
    """A number as a code: for spreadsheets, it is written with a leading apostrophe."""
    return str(row.get(name) or "").strip().removeprefix("'")


def _stock(row: Row) -> Availability | None:
    """Availability by the inventory columns: a variant whose stock is not counted is always in stock."""
    count = count_of(row.get("Variant Inventory Qty"))
    if count is None:
        return None
    if count > 0 or not str(row.get(_TRACKER, "shopify")).strip():
        return Availability.IN_STOCK
    may_go_on = str(row.get("Variant Inventory Policy", "")).strip().lower() in _YES
    return Availability.BACKORDER if may_go_on else Availability.OUT_OF_STOCK


SHOPIFY = FeedFormat(
    "shopify", "Shopify product CSV", read_shopify, RULES, table_rows, assemble_shopify, has_typical_columns(_TYPICAL)
)

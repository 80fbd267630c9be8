"""Google Merchant product data: what its attributes mean, in whatever file they stand; and its text files.

The names are those of Google's product data specification.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from indexer.attributes import Note
from indexer.formats.columns import read_table, table_rows
from indexer.formats.format import Feed, Format, Row
from indexer.formats.records import Record, Rejected
from indexer.formats.table import Table
from indexer.mapping import Rule, names_rule
from retrieval.records import Variant

REQUIRED = ("id", "title", "description", "link", "image_link", "availability", "price")
"""What every offer must have."""
_TYPICAL_LIST = """
image_link additional_image_link google_product_category product_type gtin mpn condition item_group_id age_group
sale_price sale_price_effective_date identifier_exists custom_label_0 shipping_weight
"""
_TYPICAL = frozenset(_TYPICAL_LIST.split())
_ENOUGH = 5
# Terms of a sale to somewhere: they say nothing of the product, and differ for each buyer.
_TERM_LIST = """
shipping tax installment subscription_cost loyalty_points loyalty_program free_shipping_threshold handling_cutoff_time
minimum_order_value carrier_shipping
"""
_TERMS = frozenset(_TERM_LIST.split())
_ADDRESSES = re.compile(r"\s*,\s*(?=https?://)")

RULES: Mapping[str, Rule] = {
    "category": names_rule("product_type", "google_product_category", "category"),
    "updated": names_rule("updated", "pubDate"),
    "description": names_rule("description", "summary", "content"),
}


def resembles_google(names: Collection[str]) -> bool:
    """Whether columns are Google's: most of the required ones, an address among them, and one that is nobody else's."""
    has_address = "link" in names or "image_link" in names
    return has_address and sum(name in names for name in REQUIRED) >= _ENOUGH and not _TYPICAL.isdisjoint(names)


def google_name(name: str) -> str:
    """An attribute's name as the specification has it: "g:Image Link" is image_link."""
    return "_".join(name.lower().removeprefix("g:").split())


def assemble_google(rows: Sequence[Row], _note: Note, _now: datetime) -> tuple[Row, tuple[Variant, ...]]:
    """One offer for the rules: details as attributes, several images in one text apart, terms left out."""
    row = {name: value for name, value in rows[0].items() if name not in _TERMS}
    details = row.pop("product_detail", None)
    if details is not None:
        row.update(_details(details, row))
    category = row.get("google_product_category")
    if (
        isinstance(category, str) and category.strip().isdecimal()
    ):  # a number of Google's list says nothing to a shopper
        del row["google_product_category"]
        row["google_category_number"] = category
    images = row.get("additional_image_link")
    if isinstance(images, str) and "," in images:
        row["additional_image_link"] = _ADDRESSES.split(images)
    return row, ()


def _details(details: object, row: Row) -> dict[str, object]:
    """The attributes of `product_detail`: groups of section_name, attribute_name and attribute_value."""
    groups = [group for group in (details if isinstance(details, list) else [details]) if isinstance(group, dict)]
    if not groups:
        return {"product_detail": details}
    pairs = ((group.get("attribute_name"), group.get("attribute_value")) for group in groups)
    return {name: value for name, value in pairs if isinstance(name, str) and name and name not in row}


def google_columns(table: Table) -> dict[str, str]:
    """The columns of a text file, each with its name in the specification."""
    return {name: google_name(name) for name in table.names}


def read_google_text(feed: Feed) -> Iterator[Record | Rejected]:
    """A record for each row of a text file."""
    for row in read_table(feed, "google-tsv", google_columns, REQUIRED):
        yield row if isinstance(row, Rejected) else Record(feed.source.path, row[0], "google-tsv", row[1])


GOOGLE_TEXT = Format(
    "google-tsv", "Google Merchant text file", read_google_text, RULES, rows=table_rows, assemble=assemble_google
)

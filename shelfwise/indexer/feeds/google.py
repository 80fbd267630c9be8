"""Google Merchant product data: the meaning of its attributes, in any file format; and its text files.

The names are those of Google's product data specification.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from xml.etree.ElementTree import ParseError

from shelfwise.indexer.feeds.base import Feed, FeedFormat, Record, RejectedRow, Row, shorten
from shelfwise.indexer.feeds.csv import Table, check_names, read_table, table_rows
from shelfwise.indexer.feeds.io import MAX_LINE, FeedSource, declared_encoding, detect_encoding
from shelfwise.indexer.feeds.json import TOO_LONG
from shelfwise.indexer.feeds.mapping import DropHandler, MappingRule, first_of
from shelfwise.retrieval.errors import FeedError
from shelfwise.retrieval.records import Variant

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

REQUIRED = ("id", "title", "description", "link", "image_link", "availability", "price")
"""The attributes that every offer must have."""
_TYPICAL_LIST = """
image_link additional_image_link google_product_category product_type gtin mpn condition item_group_id age_group
sale_price sale_price_effective_date identifier_exists custom_label_0 shipping_weight
"""
_TYPICAL = frozenset(_TYPICAL_LIST.split())
_ENOUGH = 5
# Terms of a sale: they do not describe the product, and differ between buyers.
_TERM_LIST = """
shipping tax installment subscription_cost loyalty_points loyalty_program free_shipping_threshold handling_cutoff_time
minimum_order_value carrier_shipping
"""
_TERMS = frozenset(_TERM_LIST.split())
_ADDRESSES = re.compile(r"\s*,\s*(?=https?://)")

RULES: Mapping[str, MappingRule] = {
    "category": first_of("product_type", "google_product_category", "category"),
    "updated": first_of("updated", "pubDate"),
    "description": first_of("description", "summary", "content"),
}


def _resembles_google(columns: Collection[str]) -> bool:
    """Whether most of the required columns are there, one of them with an address, and a typical one."""
    names = set(map(google_name, columns))
    has_address = "link" in names or "image_link" in names
    return has_address and sum(name in names for name in REQUIRED) >= _ENOUGH and not _TYPICAL.isdisjoint(names)


def google_name(name: str) -> str:
    """An attribute's name as in the specification: "g:Image Link" is image_link."""
    return "_".join(name.lower().removeprefix("g:").split())


def assemble_google(rows: Sequence[Row], _note: DropHandler, _now: datetime) -> tuple[Row, tuple[Variant, ...]]:
    """One offer for the rules: details become attributes, a text of several images is split, terms are removed."""
    row = {name: value for name, value in rows[0].items() if name not in _TERMS}
    details = row.pop("product_detail", None)
    if details is not None:
        row.update(_details(details, row))
    category = row.get("google_product_category")
    # A number of Google's list means nothing to a shopper.
    if isinstance(category, str) and category.strip().isdecimal():
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


def _columns(table: Table) -> dict[str, str]:
    return {name: google_name(name) for name in table.names}


def read_google_text(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each row of a text file."""
    for row in read_table(feed, "google-tsv", _columns, REQUIRED):
        yield row if isinstance(row, RejectedRow) else Record(feed.source.path, row[0], "google-tsv", row[1])


GOOGLE_TEXT = FeedFormat(
    "google-tsv", "Google Merchant text file", read_google_text, RULES, table_rows, assemble_google, _resembles_google
)


_NAMESPACE = "{http://base.google.com/ns/1.0}"
_ITEMS = frozenset({"item", "entry"})
_ROOTS = frozenset({"rss", "feed", "RDF"})
_TEXTS = frozenset({"title", "description", "summary", "content"})
"""Fields whose inner elements are markup of the text, not separate fields."""
_MAX_DEPTH = 32
_MAX_NAMES = 10_000


class UnfitError(Exception):
    """XML that cannot be a feed; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item's line and fields; if it is too long, only the first megabyte of them."""

    line: int
    fields: dict[str, object]
    is_too_long: bool


class ItemCollector:
    """Makes rows from the parser's events: maps a field's name to its text, to an object, or to a list."""

    def __init__(self) -> None:
        self.expat: XMLParserType | None = None
        self.rows: list[Item] = []
        """The complete items."""
        self.fed = 0
        self._names: dict[str, tuple[str, bool]] = {}
        self._depth = 0
        self._item_depth = 0
        self._line = 0
        self._size = 0
        self._path: list[tuple[str, bool]] = []
        self._text: list[str] = []
        self._plain: dict[str, object] = {}
        self._google: dict[str, object] = {}
        self._group: dict[str, object] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnfitError(f"elements are more than {_MAX_DEPTH} deep")
        name = self._name(tag)
        if self._depth == 1 and name[0] not in _ROOTS:
            raise UnfitError(f"the root element is <{name[0]}>; RSS 2.0 and Atom are supported")
        if not self._item_depth:
            if name[0] in _ITEMS:
                self._begin_item()
            return
        self._path.append(name)
        if len(self._path) == 1 or self._path[0][0] not in _TEXTS:
            self._text.clear()
        if name[0] == "link" and "href" in attributes:
            self._text.append(attributes["href"])

    def _name(self, tag: str) -> tuple[str, bool]:
        """The local name, and whether it is one of Google's."""
        name = self._names.get(tag)
        if name is None:
            if len(self._names) >= _MAX_NAMES:
                raise UnfitError(f"it has more than {_MAX_NAMES:,} different element names")
            name = self._names[tag] = (tag.rpartition("}")[2].strip(), tag.startswith(_NAMESPACE))
        return name

    def _begin_item(self) -> None:
        self._item_depth = self._depth
        self._line = self.expat.CurrentLineNumber if self.expat else 0
        self._size = 0
        self._path.clear()
        self._plain, self._google, self._group = {}, {}, {}

    def data(self, text: str) -> None:
        if self._path:
            self._size += len(text)
            if self._size <= MAX_LINE:
                self._text.append(text)

    def end(self, _tag: str) -> None:
        if self._path:
            self._end_field(self._path.pop())
        elif self._depth == self._item_depth:
            self._item_depth = 0
            self.rows.append(Item(self._line, {**self._plain, **self._google}, self._size > MAX_LINE))
        self._depth -= 1

    def _end_field(self, name: tuple[str, bool]) -> None:
        self._size += len(name[0])
        if self._size > MAX_LINE or (self._path and self._path[0][0] in _TEXTS):
            return
        local, is_google = name
        if self._path:
            _add(self._group, local, "".join(self._text).strip())
        elif self._group:
            _add(self._google if is_google else self._plain, local, self._group)
            self._group = {}
        else:
            _add(self._google if is_google else self._plain, local, "".join(self._text).strip())
        self._text.clear()

    def close(self) -> None:
        pass


def _add(fields: dict[str, object], name: str, value: object) -> None:
    """Adds a field; one that occurs again becomes a list."""
    before = fields.get(name)
    if before is None:
        fields[name] = value
    elif isinstance(before, list):
        before.append(value)
    else:
        fields[name] = [before, value]


_PIECE = 1 << 16
_MAX_MARKUP = 1 << 22
_SAMPLE_ITEMS = 100
"""The number of items from which the fields of a feed are detected."""


class _XmlParser(Protocol):
    """ElementTree's parser with its inner expat parser."""

    @property
    def parser(self) -> XMLParserType: ...
    def feed(self, data: bytes, /) -> None: ...
    def close(self) -> object: ...


def read_google_xml(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each item or entry.

    Raises FeedError for XML that is not well-formed, declares entities, is neither RSS nor Atom, or whose items lack a
    field that every offer has.
    """
    source = feed.source
    path = source.path
    looks = f"{path}: looks like a Google Merchant feed but its items have no"
    if source.encoding == "utf-8":  # XML declares its encoding; otherwise it is detected
        source.decode(declared_encoding(source.head) or detect_encoding(source.head))
    waiting: list[Record | RejectedRow] = []
    fields: set[str] = set()
    is_checked = False
    for item in _items(source):
        waiting.append(_record(path, item))
        fields.update(item.fields)
        if is_checked or len(waiting) >= _SAMPLE_ITEMS:
            if not is_checked:
                check_names(looks, fields, REQUIRED, "add it to the export")
            is_checked = True
            yield from waiting
            waiting.clear()
    if waiting:
        check_names(looks, fields, REQUIRED, "add it to the export")
        yield from waiting


def _record(path: str, item: Item) -> Record | RejectedRow:
    if not item.is_too_long:
        return Record(path, item.line, "google-xml", item.fields)
    text = shorten(" ".join(value for value in item.fields.values() if isinstance(value, str)))
    return RejectedRow(path, item.line, TOO_LONG, f"an item may have {MAX_LINE:,} characters", "google-xml", text)


def _items(source: FeedSource) -> Iterator[Item]:
    from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

    items = ItemCollector()
    parser = DefusedXMLParser(target=items, encoding="utf-8", forbid_dtd=False)
    items.expat = parser.parser
    for piece in _pieces(source):
        fault = _feed_parser(source, parser, items, piece)
        yield from items.rows
        items.rows.clear()
        if fault:
            raise fault


def _pieces(source: FeedSource) -> Iterator[bytes]:
    """The text in pieces, and an empty piece (the end) after the last one of a feed that is not empty."""
    is_empty = True
    for chunk in source.read_utf8():
        is_empty = False
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]
    if not is_empty:
        yield b""


def _feed_parser(source: FeedSource, parser: _XmlParser, items: ItemCollector, piece: bytes) -> FeedError | None:
    """Passes a piece to the parser; errors are raised after the items before them."""
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]

    expat = parser.parser
    items.fed += len(piece)
    try:
        if piece:
            parser.feed(piece)
        else:
            parser.close()
        if items.fed - max(expat.CurrentByteIndex, 0) > _MAX_MARKUP:
            raise UnfitError(f"a piece of markup has over {_MAX_MARKUP:,} bytes")
    except DefusedXmlException:
        fault = "declares an entity; entities are never expanded: write the text itself"
        return FeedError(f"{source.path}: line {expat.CurrentLineNumber:,}: {fault}")
    except UnfitError as error:
        return FeedError(f"{source.path}: line {expat.CurrentLineNumber:,}: {error}")
    except ParseError as error:
        source.line = error.position[0] - 1
        return source.truncation_error(f"not well-formed XML: {error}")
    source.line = max(expat.CurrentLineNumber - 1, 0)
    return None


GOOGLE_XML = FeedFormat(
    "google-xml",
    "Google Merchant XML",
    read_google_xml,
    RULES,
    assemble=assemble_google,
    begins=lambda head: head.startswith(b"<"),
)

"""Google Merchant feeds: RSS, Atom and text; no entity expansion, bounded size, and the position of XML errors."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.retrieval.records import Availability, Product
from tests.unit.indexer.feeds.feed_outcome import FEEDS, read, read_bytes

RSS = '<rss xmlns:g="http://base.google.com/ns/1.0"><channel>\n{}</channel></rss>'
ITEM = (
    "<item><g:id>{}</g:id><g:title>{}</g:title><g:description>d</g:description><g:link>l</g:link>"
    "<g:image_link>i</g:image_link><g:availability>in_stock</g:availability><g:price>5 EUR</g:price>{}</item>\n"
)


def item(number: object, title: str = "a", more: str = "") -> str:
    return ITEM.format(number, title, more)


def feed(*items: str) -> bytes:
    return RSS.format("".join(items)).encode()


def test_rss_item_becomes_a_complete_product() -> None:
    outcome = read(FEEDS / "google-rss.xml")
    assert outcome.products["TV-1"] == Product(
        id="TV-1",
        title="Kettle & Cord",
        description="Boils <b>1.7 litres</b>.",
        brand="Boilwell",
        category=("Kitchen", "Kettles"),
        price=19.99,
        currency="EUR",
        availability=Availability.IN_STOCK,
        images=tuple(f"https://shop.example/kettle{n}.jpg" for n in ("", "-2", "-3")),
        identifiers={"gtin": ("4006381333931",), "mpn": ("BW-17",)},
        attributes={
            "link": "https://shop.example/kettle",
            "condition": "new",
            "color": "black",
            "item_group_id": "KETTLE",
            "product_highlight": ("Boils in two minutes", "Switches itself off"),
            "Volume": "1.7 l",
            "Cord": "75 cm",
            "google_category_number": "751",
            "custom_label_0": "summer",
            "regular_price": 25.0,
        },
        expires=datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC),
    )
    assert [(row.line, row.product.id) for row in outcome.rows] == [(7, "TV-1"), (46, "TV-2")]
    assert outcome.products["TV-2"].availability is Availability.OUT_OF_STOCK
    assert outcome.reasons == [(55, "broken price")]
    assert not outcome.noted


def test_atom_entry_becomes_a_product() -> None:
    (row,) = read(FEEDS / "google-atom.xml").rows
    assert (row.line, row.product.id, row.product.title) == (6, "A1", "Garden Hose")
    assert row.product.description == "Twenty metres long."
    assert row.product.category == ("Home & Garden", "Lawn & Garden")
    assert row.product.updated == datetime(2024, 4, 30, 8, tzinfo=UTC)
    assert row.product.attributes == {"link": "https://shop.example/hose"}


def test_markup_inside_a_text_is_part_of_it(tmp_path: Path) -> None:
    entry = item(1, "x").replace("<g:description>d</g:description>", "<description>One <b>two</b> three</description>")
    (row,) = read_bytes(tmp_path, feed(entry)).rows
    assert row.product.description == "One two three"


def test_text_row_becomes_a_product() -> None:
    lamp, floor = read(FEEDS / "google.tsv").products.values()
    assert (lamp.price, lamp.currency, lamp.category) == (49.9, "USD", ("Home", "Lamps"))
    assert lamp.description == 'Bright, with a "soft" mode'
    assert lamp.images == tuple(f"https://shop.example/{name}.jpg" for name in ("lamp", "2", "3"))
    assert (floor.price, floor.availability) == (1299.0, Availability.BACKORDER)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1", "windows-1252", "gb18030"])
def test_xml_encoding_declaration_is_used(tmp_path: Path, encoding: str) -> None:
    title = "电钻" if encoding == "gb18030" else "Säge"
    declared = encoding.removesuffix("-sig")
    content = f'<?xml version="1.0" encoding="{declared}"?>\n' + RSS.format(item(1, title))
    (row,) = read_bytes(tmp_path, content.encode(encoding)).rows
    assert row.product.title == title


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE rss [<!ENTITY % a SYSTEM "http://shop.example/x.dtd"> %a;]>',
    ],
)
def test_entities_are_never_expanded(tmp_path: Path, declaration: str) -> None:
    error = read_bytes(tmp_path, declaration.encode() + b"\n" + feed(item(1, "&a;"))).error
    assert "feed: line 1: declares an entity; entities are never expanded" in error


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (feed(item(1))[:-20], "cannot be read after line "),
        (feed(item(1), item(2, "a & b")), "cannot be read after line 2: not well-formed XML"),
        (feed(item(1), item(2, "a&nbsp;b")), "cannot be read after line 2: not well-formed XML: undefined entity"),
        (feed(item(1), item(2, "\x01")), "cannot be read after line 2"),
        (feed(item(1)).replace(b' xmlns:g="http://base.google.com/ns/1.0"', b""), "unbound prefix"),
        (b"<products><product/></products>", "line 1: the root element is <products>; RSS 2.0 and Atom"),
        (b"<html><body>", "line 1: the root element is <html>"),
        (b"<rss>" + b"<a>" * 40, "line 1: elements are more than 32 deep"),
        (b"<rss>" + b"".join(b"<a%d/>" % n for n in range(10_100)), "more than 10,000 different element names"),
        (b"<rss><!-- " + b"x" * 9_000_000, "line 1: a piece of markup has over "),
        (b"<rss a='" + b"x" * 9_000_000, "line 1: a piece of markup has over "),
    ],
)
def test_malformed_xml_error_has_the_line(tmp_path: Path, content: bytes, fault: str) -> None:
    outcome = read_bytes(tmp_path, content)
    assert fault in outcome.error


def test_items_before_a_truncation_are_read(tmp_path: Path) -> None:
    outcome = read_bytes(tmp_path, feed(*(item(n) for n in range(300)), "<item>", "&"))
    assert outcome.ids == [str(n) for n in range(300)]
    assert "cannot be read after line 301" in outcome.error


def test_item_over_1_mb_is_rejected_and_reading_continues(tmp_path: Path) -> None:
    long = f"<g:size>{'x' * 600_000}</g:size>"
    outcome = read_bytes(tmp_path, feed(item(1), item(2, "b", long * 9), item(3)))
    assert outcome.ids == ["1", "3"]
    assert outcome.reasons == [(3, "over 1 MB")]


@pytest.mark.parametrize("name", ["id", "title", "description", "link", "image_link", "availability", "price"])
def test_items_without_a_required_field_are_refused_by_its_name(tmp_path: Path, name: str) -> None:
    content = feed(*(item(n) for n in range(3))).replace(f"g:{name}>".encode(), b"g:other>")
    error = read_bytes(tmp_path, content).error
    assert f"looks like a Google Merchant feed but its items have no {name!r}; " in error


def test_partial_field_is_present_and_empty_feed_has_no_rows(tmp_path: Path) -> None:
    without = item(2).replace("<g:description>d</g:description>", "")
    assert read_bytes(tmp_path, feed(without, item(1))).ids == ["2", "1"]
    outcome = read_bytes(tmp_path, feed())
    assert (outcome.rows, outcome.error) == ([], "")


def test_row_length_is_limited_in_bytes_not_elements(tmp_path: Path) -> None:
    many = "".join(f"<g:product_highlight>{n}</g:product_highlight>" for n in range(1_000))
    (row,) = read_bytes(tmp_path, feed(item(1, "a", many))).rows
    assert len(row.product.attributes["product_highlight"]) == 1_000  # type: ignore[arg-type]

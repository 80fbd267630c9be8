"""Feeds of Google and Shopify."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.retrieval.records import Availability, Product, Variant
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
        (feed(item(1)).replace(b' xmlns:g="http://base.google.com/ns/1.0"', b""), "unbound prefix"),
        (b"<products><product/></products>", "line 1: the root element is <products>; RSS 2.0 and Atom"),
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


CDN = "https://cdn.example/"


def test_the_rows_of_a_handle_become_one_product_with_variants() -> None:
    sock = read(FEEDS / "shopify.csv").products["wool-sock"]
    variants = sock.variants
    assert sock == Product(
        id="wool-sock",
        title="Wool Sock",
        description="<p>Warm.\nSoft.</p>",
        brand="Sheepish",
        category=("Apparel & Accessories", "Clothing", "Socks"),
        price=11.0,
        availability=Availability.IN_STOCK,
        images=tuple(f"{CDN}{name}.jpg" for name in ("cover", "front", "detail", "grey", "red")),
        identifiers={"sku": ("WS-S-G", "WS-M-G", "WS-M-R"), "gtin": ("4006381333931",)},
        attributes={
            "Type": "Socks",
            "Tags": ("winter", "wool"),
            "Fabric": "Merino",
            "regular_price": 14.0,
            "Size": ("S", "M"),
            "Color": ("Grey", "Red"),
        },
        variants=variants,
    )
    assert variants[0] == Variant(
        id="WS-S-G",
        options={"Size": "S", "Color": "Grey"},
        price=12.0,
        availability=Availability.IN_STOCK,
        identifiers={"sku": ("WS-S-G",), "gtin": ("4006381333931",)},
        image=f"{CDN}grey.jpg",
    )
    assert [variant.price for variant in variants] == [12.0, 12.5, 11.0]
    assert [variant.availability for variant in variants] == ["in_stock", "out_of_stock", "backorder"]


def test_a_product_with_the_default_variant_has_none() -> None:
    mug = read(FEEDS / "shopify.csv").products["mug"]
    assert (mug.variants, mug.price, mug.attributes) == ((), 9.0, {})
    assert mug.availability is Availability.IN_STOCK, "nobody counts its stock"


def test_costs_unpublished_products_and_invalid_variants_are_left_out() -> None:
    outcome = read(FEEDS / "shopify.csv")
    assert "4.00" not in repr(outcome.products)
    assert outcome.ids == ["wool-sock", "mug"]
    assert [(noted.line, noted.field, noted.reason, noted.detail) for noted in outcome.noted] == [
        (8, "Status", "not for sale", "archived"),
        (9, "Published", "not for sale", "false"),
    ]
    (rejected,) = outcome.rejected
    assert (rejected.line, rejected.reason) == (10, "broken price")
    assert rejected.detail == "Variant Price is 'call'; a price must be a number from 0"


def test_headers_of_newer_exports_are_read() -> None:
    (mug,) = read(FEEDS / "shopify-new.csv").products.values()
    assert (mug.id, mug.price, mug.category) == ("mug", 9.0, ("Home & Garden", "Kitchen & Dining"))
    assert [(variant.id, variant.options, variant.availability) for variant in mug.variants] == [
        ("MUG-1", {"Size": "Small"}, Availability.IN_STOCK),
        ("MUG-2", {"Size": "Large"}, Availability.OUT_OF_STOCK),
    ]


def test_only_the_bad_row_of_a_product_is_rejected(tmp_path: Path) -> None:
    content = b"Handle,Title,Option1 Name,Option1 Value,Variant Price\na,A,Size,S,1\na,,,M\na,,,L,2\n"
    outcome = read_bytes(tmp_path, content)
    assert [variant.id for variant in outcome.products["a"].variants] == ["a-1", "a-2"]
    assert outcome.reasons == [(3, "wrong number of cells")]


def test_variant_rows_without_a_product_row_are_rejected(tmp_path: Path) -> None:
    content = b"Handle,Title,Option1 Name,Option1 Value,Variant Price\na,,,M,1\n,B,,,2\n"
    assert read_bytes(tmp_path, content).reasons == [(2, "no title"), (3, "no id")]


def test_too_many_rows_of_one_handle_are_rejected(tmp_path: Path) -> None:
    content = b"Handle,Title,Option1 Name,Option1 Value,Variant Price\n" + b"a,A,Size,S,1\n" * 12_000 + b"b,B,,,1\n"
    outcome = read_bytes(tmp_path, content)
    assert (outcome.ids, outcome.reasons) == (["b"], [(2, "too many variants")])


WOO = FEEDS / "woocommerce.csv"
HEADER = "ID,Type,SKU,Name,Parent,Regular price,Visibility in catalog,In stock?,Attribute 1 name,Attribute 1 value(s)\n"


def test_a_product_has_its_variations() -> None:
    hood = read(WOO).products["100"]
    assert hood == Product(
        id="100",
        title="Hoodie",
        description="Warm.\nA hoodie,\nwith a zip.",
        brand="Comfy",
        category=("Clothing", "Hoodies"),
        price=39.0,
        availability=Availability.IN_STOCK,
        images=tuple(f"https://w.example/{name}.jpg" for name in ("h1", "h2", "red")),
        identifiers={"sku": ("HOOD", "HOOD-R", "HOOD-B")},
        attributes={"Weight (kg)": "0.6", "regular_price": 45.0, "Tags": ("winter",), "Colour": ("Red", "Blue")},
        variants=(
            Variant(
                "102", {"Colour": "Red"}, 45.0, Availability.IN_STOCK, {"sku": ("HOOD-R",)}, "https://w.example/red.jpg"
            ),
            Variant("103", {"Colour": "Blue"}, 39.0, Availability.OUT_OF_STOCK, {"sku": ("HOOD-B",)}),
        ),
    )


def test_simple_product_has_list_cells() -> None:
    tee = read(WOO).products["101"]
    assert (tee.price, tee.attributes["regular_price"]) == (15.0, 18.0)
    assert (tee.attributes["Tags"], tee.attributes["Material"]) == (("cotton", "summer"), "Cotton, organic")
    assert tee.identifiers == {"sku": ("TEE",), "gtin": ("4006381333931",)}
    assert tee.availability is Availability.BACKORDER


def test_unpublished_product_is_skipped_and_orphan_variation_is_rejected() -> None:
    outcome = read(WOO)
    assert outcome.ids == ["101", "106", "100"]
    assert [(noted.line, noted.field, noted.reason) for noted in outcome.noted] == [
        (7, "Published", "not for sale"),
        (9, "Visibility in catalog", "not for sale"),
    ]
    assert outcome.reasons == [(6, "no parent")]
    assert outcome.rejected[0].detail == "no product is 'id:999'"


def test_product_with_too_much_text_is_rejected(tmp_path: Path) -> None:
    variations = "".join(f"{n},variation,,{'V' * 100_000},id:7,1,,1,Size,{n}\n" for n in range(1000, 1200))
    content = HEADER + "7,variable,SEVEN,Seven,,,visible,1,Size,\n" + variations
    assert read_bytes(tmp_path, content.encode()).reasons == [(2, "too many variants")]


def test_variations_anywhere_are_found_once(tmp_path: Path) -> None:
    variations = "".join(f"{1000 + n},variation,,V,{('SEVEN', 'id:7')[n % 2]},{n + 1},,1,Size,{n}\n" for n in range(9))
    others = "".join(f"{2000 + n},simple,,S{n},,1,visible,1,,\n" for n in range(500))
    parents = "7,variable,SEVEN,Seven,,,visible,1,Size,\n8,variable,,Eight,,3,visible,1,,\n"
    outcome = read_bytes(tmp_path, (HEADER + variations + others + parents).encode())
    assert [variant.id for variant in outcome.products["7"].variants] == [str(1000 + n) for n in range(9)]
    assert outcome.products["7"].price == 1.0
    assert (outcome.products["8"].price, outcome.products["8"].variants) == (3.0, ())
    assert (len(outcome.rows), outcome.rejected) == (502, [])

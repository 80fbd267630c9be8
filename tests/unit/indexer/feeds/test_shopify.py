"""Shopify's product CSV: rows of a handle become one product with variants; what is not for sale stays out."""

from __future__ import annotations

from pathlib import Path

from retrieval.records import Availability, Product, Variant
from tests.unit.indexer.feeds.feed_outcome import FEEDS, read, read_bytes

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
    assert [variant.availability for variant in variants] == [
        Availability.IN_STOCK,
        Availability.OUT_OF_STOCK,
        Availability.BACKORDER,
    ]


def test_a_product_with_the_default_variant_has_none() -> None:
    mug = read(FEEDS / "shopify.csv").products["mug"]
    assert (mug.variants, mug.price, mug.attributes) == ((), 9.0, {})
    assert mug.availability is Availability.IN_STOCK, "nobody counts its stock"


def test_costs_stay_out() -> None:
    assert "4.00" not in repr(read(FEEDS / "shopify.csv").products)


def test_what_is_not_for_sale_is_left_out_with_a_note() -> None:
    outcome = read(FEEDS / "shopify.csv")
    assert outcome.ids == ["wool-sock", "mug"]
    assert [(noted.line, noted.field, noted.reason, noted.detail) for noted in outcome.noted] == [
        (8, "Status", "not for sale", "archived"),
        (9, "Published", "not for sale", "false"),
    ]


def test_a_broken_price_of_a_variant_sets_the_product_aside() -> None:
    (rejected,) = read(FEEDS / "shopify.csv").rejected
    assert (rejected.line, rejected.reason) == (10, "broken price")
    assert rejected.detail == "Variant Price is 'call'; a price is a number from 0"


def test_headers_of_newer_exports_are_read_as_the_old_ones() -> None:
    (mug,) = read(FEEDS / "shopify-new.csv").products.values()
    assert (mug.id, mug.price, mug.category) == ("mug", 9.0, ("Home & Garden", "Kitchen & Dining"))
    assert [(variant.id, variant.options, variant.availability) for variant in mug.variants] == [
        ("MUG-1", {"Size": "Small"}, Availability.IN_STOCK),
        ("MUG-2", {"Size": "Large"}, Availability.OUT_OF_STOCK),
    ]


def test_a_mapping_goes_over_what_the_columns_mean() -> None:
    flags = ["brand=Type", 'currency={value = "EUR"}', "attributes.maker=Vendor"]
    mug = read(FEEDS / "shopify.csv", flags=flags).products["mug"]
    assert (mug.brand, mug.currency, mug.attributes) == ("Kitchen", "EUR", {"maker": "Potter"})


def test_a_bad_row_inside_a_product_is_set_aside_and_the_others_stay_together(tmp_path: Path) -> None:
    content = b"Handle,Title,Option1 Name,Option1 Value,Variant Price\na,A,Size,S,1\na,,,M\na,,,L,2\n"
    outcome = read_bytes(tmp_path, content)
    assert [variant.id for variant in outcome.products["a"].variants] == ["a-1", "a-2"]
    assert outcome.reasons == [(3, "wrong number of cells")]


def test_rows_without_their_products_own_row_are_set_aside(tmp_path: Path) -> None:
    content = b"Handle,Title,Option1 Name,Option1 Value,Variant Price\na,,,M,1\n,B,,,2\n"
    assert read_bytes(tmp_path, content).reasons == [(2, "no title"), (3, "no id")]


def test_thousands_of_rows_of_one_handle_are_no_product(tmp_path: Path) -> None:
    content = b"Handle,Title,Option1 Name,Option1 Value,Variant Price\n" + b"a,A,Size,S,1\n" * 12_000 + b"b,B,,,1\n"
    outcome = read_bytes(tmp_path, content)
    assert (outcome.ids, outcome.reasons) == (["b"], [(2, "too many variants")])

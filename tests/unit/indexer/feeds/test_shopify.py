"""Shopify's product CSV: rows of a handle become one product with variants; products not for sale are left out."""

from __future__ import annotations

from pathlib import Path

from shelfwise.retrieval.records import Availability, Product, Variant
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

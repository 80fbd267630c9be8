"""WooCommerce's product CSV: variations find their parent wherever they stand; what is not for sale stays out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from retrieval.records import Availability, Product, Variant
from tests.unit.indexer.feeds.feed_outcome import FEEDS, read, read_bytes

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
                "102",
                {"Colour": "Red"},
                45.0,
                Availability.IN_STOCK,
                {"sku": ("HOOD-R",)},
                "https://w.example/red.jpg",
            ),
            Variant("103", {"Colour": "Blue"}, 39.0, Availability.OUT_OF_STOCK, {"sku": ("HOOD-B",)}),
        ),
    )


def test_a_simple_product_has_lists_in_its_cells() -> None:
    tee = read(WOO).products["101"]
    assert (tee.price, tee.attributes["regular_price"]) == (15.0, 18.0)
    assert (tee.attributes["Tags"], tee.attributes["Material"]) == (("cotton", "summer"), "Cotton, organic")
    assert tee.identifiers == {"sku": ("TEE",), "gtin": ("4006381333931",)}
    assert tee.availability is Availability.BACKORDER


@pytest.mark.parametrize("now", [datetime(2024, 5, 31, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)])
def test_outside_its_dates_a_sale_price_is_none(now: datetime) -> None:
    tee = read(WOO, now=now).products["101"]
    assert (tee.price, "regular_price" in tee.attributes) == (18.0, False)


def test_what_is_not_for_sale_is_left_out_and_a_lost_variation_is_set_aside() -> None:
    outcome = read(WOO)
    assert outcome.ids == ["101", "106", "100"]
    assert [(noted.line, noted.field, noted.reason) for noted in outcome.noted] == [
        (7, "Published", "not for sale"),
        (9, "Visibility in catalog", "not for sale"),
    ]
    assert outcome.reasons == [(6, "no parent")]
    assert outcome.rejected[0].detail == "no product is 'id:999'"


def test_a_product_of_too_much_text_is_set_aside(tmp_path: Path) -> None:
    variations = "".join(f"{n},variation,,{'V' * 100_000},id:7,1,,1,Size,{n}\n" for n in range(1000, 1200))
    content = HEADER + "7,variable,SEVEN,Seven,,,visible,1,Size,\n" + variations
    assert read_bytes(tmp_path, content.encode()).reasons == [(2, "too many variants")]


def test_variations_are_found_anywhere_and_each_once(tmp_path: Path) -> None:
    variations = "".join(
        f"{1000 + n},variation,,V,{'id:7' if n % 2 else 'SEVEN'},{n + 1},,1,Size,{n}\n" for n in range(9)
    )
    others = "".join(f"{2000 + n},simple,,S{n},,1,visible,1,,\n" for n in range(500))
    content = (
        HEADER
        + variations
        + others
        + "7,variable,SEVEN,Seven,,,visible,1,Size,\n"
        + "8,variable,,Eight,,3,visible,1,,\n"
    )
    outcome = read_bytes(tmp_path, content.encode())
    assert [variant.id for variant in outcome.products["7"].variants] == [str(1000 + n) for n in range(9)]
    assert outcome.products["7"].price == 1.0
    assert (outcome.products["8"].price, outcome.products["8"].variants) == (3.0, ())
    assert (len(outcome.rows), outcome.rejected) == (502, [])

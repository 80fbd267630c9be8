"""The commands for live changes: what they do to an index, print, and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import ChangeError, FeedError, UnknownProductError
from retrieval.records import Availability, Product
from retrieval.updates.validation import apply_patch
from service.cli.index import parse_values
from service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.unit.service.cli.commands import document, run

KETTLE = Product("kettle-1", "enamel &amp; steel  kettle", brand="Torvald", price=49.0, attributes={"capacity": 2.5})


def held(index: Path, product_id: str) -> Product:
    with SearchEngine.open(index) as engine:
        return engine.product(product_id)


def some_product(index: Path) -> Product:
    with SearchEngine.open(index) as engine:
        return engine.snapshot.products[7]


def test_upsert_cleans_a_feed_as_a_rebuild_does_and_names_unusable_rows(index: Path, tmp_path: Path) -> None:
    feed = write_feed(tmp_path / "feed.jsonl", [KETTLE])
    with feed.open("ab") as file:
        file.write(b'{"id":"no-title"}\n')
    result = run("index", "upsert", index, feed, "--json")
    assert result.document() == {"sequence": 1, "products": 1, "rejected": {"no title": 1}}
    assert f"{feed} line 2: no title" in result.err
    assert (held(index, KETTLE.id).title, held(index, KETTLE.id).price) == ("enamel & steel kettle", KETTLE.price)


def test_upsert_of_a_feed_without_a_row_that_can_be_used_is_refused(index: Path, tmp_path: Path) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_bytes(b'{"id":"no-title"}\n')
    with pytest.raises(FeedError, match=f"^no row can be used, so nothing is changed; {feed} line 1: no title$"):
        run("index", "upsert", index, feed)


def test_patch_changes_the_named_fields(index: Path) -> None:
    before = some_product(index)
    values = ("price=12345.5", "availability=backorder", "attributes.colour=red", "brand=")
    assert document("index", "patch", index, before.id, *values) == {"sequence": 1, "products": 1}
    after = held(index, before.id)
    assert (after.price, after.availability, after.brand) == (12345.5, Availability.BACKORDER, "")
    assert after.attributes == {**before.attributes, "colour": "red"}


def test_patch_refuses_an_unknown_product_and_what_no_field_can_hold(index: Path) -> None:
    before = some_product(index)
    for product, value in (
        (before.id, "pric=1"),
        (before.id, "price=abc"),
        (before.id, "price"),
        ("no-such", "price=1"),
    ):
        with pytest.raises((ChangeError, UnknownProductError)):
            run("index", "patch", index, product, value)
    assert held(index, before.id) == before


def test_delete_counts_those_that_were_there(index: Path) -> None:
    product = some_product(index)
    result = run("index", "delete", index, product.id, "no-such-product")
    assert (result.code, result.out) == (0, "1 product deleted.\n")
    with pytest.raises(UnknownProductError):
        held(index, product.id)


DRILL = Product("a1", "Drill", price=99.5, attributes={"colour": "blue"})


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (["price=9.99"], {"price": 9.99}),
        (["price=9,99"], {"price": "9,99"}),
        (["expires="], {"expires": None}),
        (["title=a = b"], {"title": "a = b"}),
        (["title=18"], {"title": "18"}),
        (["category=Tools > Drills"], {"category": ["Tools", "Drills"]}),
        (["images=a.jpg"], {"images": ["a.jpg"]}),
        (["images=a.jpg", "images=b.jpg"], {"images": ["a.jpg", "b.jpg"]}),
        (["identifiers.ean=0012"], {"identifiers.ean": ["0012"]}),
        (["attributes.colour=red"], {"attributes.colour": "red"}),
        (["attributes.volts=18"], {"attributes.volts": 18}),
        (["attributes.new=true"], {"attributes.new": True}),
        (['attributes.size="5"'], {"attributes.size": "5"}),
        (["attributes.code=0012"], {"attributes.code": "0012"}),
        (["attributes.size=S", "attributes.size=M"], {"attributes.size": ["S", "M"]}),
        (['attributes={"size": "M"}'], {"attributes": {"size": "M"}}),
        (["price=5", " brand =B"], {"price": 5.0, "brand": "B"}),
    ],
)
def test_values_by_the_type_of_their_field(typed: list[str], values: dict[str, object]) -> None:
    assert parse_values("a1", typed) == values


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        *((text, r"is no FIELD=VALUE, such as price=9\.99") for text in ("price", "=5", "")),
        ("price=5 price=6", "price is given 2 values"),
        *((text, "it must be") for text in ("price=abc", "price=nan", "attributes=x", "variants=[1]")),
        ("availability=gone", "it must be"),
    ],
)
def test_what_cannot_be_taken_is_refused(typed: str, message: str) -> None:
    with pytest.raises(ChangeError, match=message):
        apply_patch(DRILL, parse_values("a1", typed.split() or [""]))


def test_what_is_typed_can_be_taken() -> None:
    typed = ["price=5", "availability=out_of_stock", "attributes.colour=", "attributes.volts=18", "rating_count=3"]
    assert apply_patch(DRILL, parse_values("a1", typed)) == Product(
        "a1", "Drill", price=5.0, availability=Availability.OUT_OF_STOCK, attributes={"volts": 18.0}, rating_count=3
    )

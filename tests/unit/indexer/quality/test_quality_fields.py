"""What is worked out of products for the rules to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.quality.derived import are_broken, identifier, make_batch, stock, variant_fault
from indexer.quality.norms import Norms
from indexer.quality.rules import FIELDS, QualityCheck, read_field
from retrieval.records import Product, Variant
from service.demo.catalog import ean13
from tests.quality_rows import NOW, detect_by_word, failing, rule


def is_broken(kind: str, number: str) -> bool:
    return are_broken([(0, kind, number)])[0]


def check_digit(body: str) -> str:
    """By the letter of the GS1 General Specifications: from the right, weights three and one in turn."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        total += int(digit) * (3 if place % 2 == 0 else 1)
    return str((10 - total % 10) % 10)


@given(st.sampled_from((7, 11, 12, 13)).flatmap(lambda size: st.text("0123456789", min_size=size, max_size=size)))
def test_a_number_is_right_with_one_check_digit_only(body: str) -> None:
    right = check_digit(body)
    assert [is_broken("gtin", body + digit) for digit in "0123456789"] == [digit != right for digit in "0123456789"]


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        ("ean", "4006381333931", False),
        ("ean", "4-006381 333931", False),
        ("ean", "4006381333932", True),
        ("upc", "036000291452", False),
        ("upc", "36000291452", True),
        ("ean", "12345", True),
        ("ean", "400638133393X", True),
        ("ean", "", True),
        ("ean", "٤٠٠٦٣٨١٣٣٣٩٣١", True),
        ("isbn", "0-306-40615-2", False),
        ("isbn", "0-306-40615-3", True),
        ("isbn", "080442957X", False),
        ("isbn", "X804429570", True),
        ("isbn", "9780306406157", False),
    ],
)
def test_trade_numbers_of_the_books(kind: str, number: str, expected: bool) -> None:
    assert is_broken(kind, number) is expected


def test_the_demo_stores_numbers_are_right() -> None:
    assert not any(are_broken([(0, "ean", ean13(index)) for index in range(0, 10**6, 997)]))


def test_the_first_broken_number_is_shown_with_its_kind() -> None:
    product = Product("a", "A", identifiers={"ean": ("4006381333931", "1"), "upc": ("2",), "sku": ("3",)})
    assert read("broken_gtin", product) == "ean 1"
    assert read("gtin", product) == "4006381333931"


def read(field: str, product: Product) -> object:
    batch = make_batch([product], [False], Norms({}), NOW, detect_by_word)
    return read_field(field, FIELDS[field].kind, batch)[0]


@pytest.mark.parametrize("name", ["stock", "Stock", "quantity", "Variant Inventory Qty", "stock_quantity"])
@pytest.mark.parametrize(
    ("value", "expected"), [(-3.0, -3.0), ("-3", -3.0), ("4.5 ", 4.5), ("many", None), (True, None)]
)
def test_stock_is_found_under_the_names_that_shops_use(name: str, value: float | str, expected: float | None) -> None:
    assert stock(Product("a", "A", attributes={"colour": "red", name: value})) == expected


def test_an_sku_identifies_nothing_outside_its_store() -> None:
    assert identifier(Product("a", "A", identifiers={"sku": ("1",)})) is None
    assert identifier(Product("a", "A", identifiers={"sku": ("1",), "mpn": ("M1",)})) == "M1"


def variants(*given_: tuple[str, dict[str, str], float | None]) -> tuple[Variant, ...]:
    return tuple(Variant(name, options, price) for name, options, price in given_)


@pytest.mark.parametrize(
    ("price", "given_", "expected"),
    [
        (None, (), None),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "M"}, 6.0)), None),
        (5.0, (("1", {"size": "S"}, 5.0), ("1", {"size": "M"}, 6.0)), "two variants have the id 1"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "S"}, 6.0)), "two variants have the same options: size S"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"hue": "M"}, 6.0)), "not every variant names the same options"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "M"}, None)), "some variants have a price, some have none"),
        (5.0, (("1", {"size": "S"}, 5.0), ("2", {"size": "M"}, 600.0)), "prices from 5.00 to 600.00"),
        (9.0, (("1", {"size": "S"}, 5.0),), "the product costs 9.00, its cheapest variant 5.00"),
    ],
)
def test_what_is_wrong_between_variants(
    price: float | None, given_: tuple[tuple[str, dict[str, str], float | None], ...], expected: str | None
) -> None:
    assert variant_fault(Product("a", "A", price=price, variants=variants(*given_))) == expected


def titled(title: str, language: str) -> Product:
    return Product("a", title, language=language)


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (titled("Pfanne mit Deckel mit Griff", "en"), "de, declared en"),
        (titled("Pan with lid with grip", "en"), None),
        (titled("Pan with lid mit", "en"), None),  # made-up words sound like anything: both halves must agree
        (titled("HP 3200", "en"), None),
        (titled("Pfanne mit Deckel mit Griff", ""), None),
    ],
)
def test_a_title_in_another_language_than_declared(product: Product, expected: str | None) -> None:
    assert read("other_language", product) == expected


def test_a_language_that_was_detected_is_not_held_against_itself() -> None:
    batch = make_batch([titled("Pfanne mit Deckel mit Griff", "en")], [True], Norms({}), NOW, detect_by_word)
    assert list(read_field("other_language", FIELDS["other_language"].kind, batch)) == [None]


def test_a_chinese_character_counts_as_three_letters() -> None:
    assert read("title_length", Product("a", "电钻")) == 6


def test_every_field_can_be_asked_for(tmp_path: Path) -> None:
    everything = Product("a", "A")
    for name in FIELDS:
        assert failing([everything], rule(name, QualityCheck.NOT_NULL), tmp_path / name) in ([], ["a"])

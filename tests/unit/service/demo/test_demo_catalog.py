"""The demo catalog: exact counts, two languages, valid identifiers, lifelike values."""

from __future__ import annotations

import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.records import Availability, Product
from service.demo.catalog import CATALOG_DAY, Catalog, Dice, ean13, ean13_check_digit, make_catalog, named_rng


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(7, 2000)


@pytest.fixture(scope="module")
def products(catalog: Catalog) -> list[Product]:
    return [item.product for item in catalog.products]


def test_the_count_is_exact_and_ids_are_unique_and_sorted(products: list[Product]) -> None:
    ids = [product.id for product in products]
    assert len(ids) == 2000
    assert ids == sorted(set(ids))


def test_the_same_seed_gives_the_same_catalog_and_another_gives_another() -> None:
    assert make_catalog(3, 400).products == make_catalog(3, 400).products
    assert make_catalog(3, 400).products != make_catalog(4, 400).products


def test_seven_in_ten_products_are_english(products: list[Product]) -> None:
    assert Counter(product.language for product in products) == {"en": 1400, "zh": 600}


def test_currency_follows_language(products: list[Product]) -> None:
    assert {(product.language, product.currency) for product in products} == {("en", "USD"), ("zh", "CNY")}


def test_titles_are_distinct(products: list[Product]) -> None:
    assert len({product.title for product in products}) == len(products)


def test_titles_are_tidy(products: list[Product]) -> None:
    for product in products:
        assert "  " not in product.title
        assert product.title == product.title.strip(" ,-")
        assert not any(mark in product.title for mark in ("{", "}", "()", " ,", "None"))


def test_every_type_has_products(catalog: Catalog) -> None:
    assert catalog.by_kind.keys() == catalog.kinds.keys()
    assert sum(len(found) for found in catalog.by_kind.values()) == len(catalog.products)


def test_an_id_does_not_tell_the_type(catalog: Catalog) -> None:
    neighbours = zip(catalog.products, catalog.products[1:], strict=False)
    same = sum(one.line.kind.key == other.line.kind.key for one, other in neighbours)
    assert same < 0.05 * len(catalog.products)


def test_lines_have_variants_that_differ_in_what_varies(catalog: Catalog) -> None:
    lines: dict[int, list[Product]] = {}
    for item in catalog.products:
        lines.setdefault(item.line.number, []).append(item.product)
    several = [variants for variants in lines.values() if len(variants) > 1]
    assert len(several) > 0.5 * len(lines)
    for variants in several:
        without_weight = [{**v.attributes, "package_weight_kg": 0} for v in variants]
        assert all(without_weight.count(attributes) == 1 for attributes in without_weight)
        assert len({v.brand for v in variants}) == 1


@pytest.mark.parametrize("kind", ["sku", "ean", "mpn"])
def test_identifiers_are_unique(products: list[Product], kind: str) -> None:
    values = [value for product in products for value in product.identifiers[kind]]
    assert len(set(values)) == len(products)


def test_eans_are_valid_and_in_the_in_store_range(products: list[Product]) -> None:
    for product in products:
        (ean,) = product.identifiers["ean"]
        assert len(ean) == 13
        assert 20 <= int(ean[:2]) <= 29
        assert sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(ean)) % 10 == 0


def test_check_digit_of_a_published_example() -> None:
    # The GS1 General Specifications' own example, GTIN-13 6291041500213.
    assert ean13_check_digit("629104150021") == "3"


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_different_places_have_different_eans(one: int, other: int) -> None:
    assert (ean13(one) == ean13(other)) == (one == other)


def test_prices_are_positive_and_spread_like_a_log_normal(catalog: Catalog) -> None:
    ratios = [(item.product.price or 0.0) / item.line.kind.median_price for item in catalog.products]
    assert min(ratios) > 0
    assert 0.7 < statistics.median(ratios) < 1.3
    assert statistics.mean(ratios) > statistics.median(ratios)


def test_most_products_are_in_stock(products: list[Product]) -> None:
    counts = Counter(product.availability for product in products)
    assert counts[Availability.IN_STOCK] > 0.85 * len(products)
    assert set(counts) == set(Availability)


def test_ratings_are_in_range_and_missing_without_a_count(products: list[Product]) -> None:
    for product in products:
        assert (product.rating is None) == (product.rating_count == 0)
        assert product.rating is None or 1 <= product.rating <= 5


def test_times_are_in_order_and_before_the_catalog_was_made(products: list[Product]) -> None:
    for product in products:
        assert product.created is not None
        assert product.updated is not None
        assert product.created <= product.updated <= CATALOG_DAY


def test_too_few_products_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"products is 50, but the demo store has \d+ types"):
        make_catalog(7, 50)


def test_streams_depend_on_their_names() -> None:
    assert named_rng(1, "a").random() == named_rng(1, "a").random()
    assert named_rng(1, "a").random() != named_rng(1, "b").random()
    assert named_rng(1, "a").random() != named_rng(2, "a").random()


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 12))
def test_some_gives_different_options_in_their_order(seed: int, options: int, count: int) -> None:
    chosen = Dice(seed, "some").some(range(options), count)
    assert len(chosen) == min(options, count)
    assert list(chosen) == sorted(set(chosen))

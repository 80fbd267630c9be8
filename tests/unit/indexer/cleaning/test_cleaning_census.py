"""Spelling normalisation over a catalog: the most frequent one wins, whatever the order and the split."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.cleaning.spelling import (
    SpellingCensus,
    SpellingCounter,
    SpellingNormalizer,
    brand_key,
    level_key,
)
from shelfwise.retrieval.records import Product

_BRAND_LIST = "Bosch|BOSCH|Bosch GmbH|bosch|Böhm|Bohm|Max Pro|MaxPro||3M|牧田|牧田有限公司"
BRANDS = _BRAND_LIST.split("|")
LEVELS = ("Tools", "tools", "TOOLS", "Power Tools", "power-tools", "Café", "Cafe")
made_products = st.lists(
    st.builds(
        Product,
        id=st.just("1"),
        title=st.just("x"),
        brand=st.sampled_from(BRANDS),
        category=st.lists(st.sampled_from(LEVELS), max_size=2).map(tuple),
    ),
    max_size=30,
)


def census_of(products: list[Product], most: int = 200_000) -> SpellingCensus:
    census = SpellingCensus(most)
    for product in products:
        census.add(product)
    return census


def branded(*brands: str) -> list[Product]:
    return [Product("1", "x", brand=brand) for brand in brands]


@pytest.mark.parametrize(
    "brands",
    [
        ("Bosch", "BOSCH", "Bosch GmbH", "bosch gmbh & co. kg"),
        ("Black & Decker", "BLACK+DECKER", "Black and Decker", "Black & Decker Inc."),
        ("Nestlé", "Nestle", "NESTLÉ S.A."),
        ("Coca-Cola", "Coca Cola", "CocaCola", "Coca-Cola Co."),
        ("Xiaomi", "Xiaomi Co., Ltd.", "XIAOMI CO.,LTD"),
        ("小米", "小米有限公司"),
        ("ソニー", "ソニー株式会社", "株式会社ソニー"),
        ("Grundfos", "Grundfos A/S"),
        ("Intel", "Intel®", "Intel Corporation"),
    ],
)
def test_spellings_of_one_brand_have_one_key(brands: tuple[str, ...]) -> None:
    assert len(set(map(brand_key, brands))) == 1


PAIRS = "Bosch Bosh|H&M HM|C# C|A+ A|Canon Cannon|AG SA|Co Ltd|- --|Costa Cos|Sega Seg|Metabo Meta"


@pytest.mark.parametrize("pair", PAIRS.split("|"))
def test_two_brands_have_two_keys(pair: str) -> None:
    assert len(set(map(brand_key, pair.split()))) == 2


def test_levels_keep_plurals_and_legal_forms_apart() -> None:
    assert level_key("Power Tools") == level_key("POWER-TOOLS") != level_key("Power Tool")
    assert level_key("Tools Inc") != level_key("Tools")


def test_the_commonest_spelling_wins_and_of_equal_ones_the_first() -> None:
    settler = census_of(branded("BOSCH", "Bosch", "Bosch", "bosch GmbH", "sony", "SONY")).normalizer()
    settled = [settler.normalize(each).brand for each in branded("BOSCH", "bosch GmbH", "Bosch", "sony")]
    assert settled == ["Bosch", "Bosch", "Bosch", "SONY"]


def test_a_brand_with_one_spelling_keeps_its_legal_form() -> None:
    settler = census_of(branded("Bosch GmbH", "Sony")).normalizer()
    assert settler.normalize_all(branded("Bosch GmbH")).counts == {}


@given(made=made_products, cut=st.integers(0, 30), random=st.randoms(use_true_random=False))
def test_order_and_batching_do_not_change_counts(made: list[Product], cut: int, random: Random) -> None:
    for most in (200_000, 3):
        whole = census_of(made, most).normalizer()
        shuffled = list(made)
        random.shuffle(shuffled)
        parts = census_of(shuffled[cut:], most)
        parts.merge(census_of(shuffled[:cut], most))
        assert parts.normalizer() == whole


@given(made=made_products)
def test_spelling_normalisation_is_idempotent(made: list[Product]) -> None:
    settler = census_of(made).normalizer()
    once = settler.normalize_all(made)
    twice = settler.normalize_all(once.products)
    assert twice.counts == {}
    assert all(after is before for before, after in zip(once.products, twice.products, strict=True))
    assert census_of(once.products).normalizer() == SpellingNormalizer({}, {})


def test_equal_category_levels_are_merged() -> None:
    product = Product("1", "x", category=("Power Tools", "power-tools", "Drills"))
    census = census_of([product, Product("2", "x", category=("Power Tools",))])
    assert census.normalizer().normalize(product).category == ("Power Tools", "Drills")


def test_memory_is_bounded_and_sampling_starts_above_it() -> None:
    counter = SpellingCounter(brand_key, most=100)
    for number in range(5_000):
        counter.add(f"Brand {number}")
        counter.add(f"BRAND {number}")
    assert len(counter.counts) <= 100
    assert counter.depth > 0
    kept = {brand_key(spelling) for spelling in counter.counts}
    assert len(counter.counts) == 2 * len(kept)


def test_counts_are_exact_after_sampling_starts() -> None:
    counter = SpellingCounter(brand_key, most=100)
    for number in 3 * list(range(1_000)):
        counter.add(f"Brand {number}")
    assert set(counter.counts.values()) == {3}

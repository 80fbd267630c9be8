"""Usual values of a category, and outliers."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.quality import norms as module
from shelfwise.indexer.quality.derived import InspectedProduct, odd_currency, odd_language, odd_price
from shelfwise.indexer.quality.norms import MIN_PRODUCTS, CategoryCensus, Norms
from shelfwise.retrieval.records import Product
from tests.quality_rows import NOW


def sold(price: float | None, *category: str, currency: str = "EUR", language: str = "en") -> Product:
    return Product("a", "A", category=category, price=price, currency=currency, language=language)


def counted(products: Iterable[Product]) -> CategoryCensus:
    census = CategoryCensus()
    for product in products:
        census.add(product)
    return census


DRILLS = [sold(40.0 + place, "Tools", "Drills") for place in range(40)]


def odd(values: str, product: Product, norms: Norms, *, guessed: bool = False) -> object:
    read = {"price": odd_price, "currency": odd_currency, "language": odd_language}[values]
    return read(InspectedProduct(product, norms.of(product.category), guessed, NOW))


@pytest.mark.parametrize(
    ("price", "is_odd"), [(60.0, False), (60 * 19, False), (60 * 22, True), (60 / 19, False), (60 / 22, True)]
)
def test_price_over_twenty_times_the_median_is_an_outlier(price: float, is_odd: bool) -> None:
    message = odd("price", sold(price, "Tools", "Drills"), counted(DRILLS).norms())
    assert (message is not None) is is_odd


def test_the_value_names_the_category_and_its_median() -> None:
    message = odd("price", sold(6_000.0, "TOOLS", " drills"), counted(DRILLS).norms())
    assert message == "6,000.00; the median of tools > drills is 58.85"  # 59, to five percent


def test_widely_spread_prices_are_not_outliers() -> None:
    spread = [sold(10 ** (place / 10), "Art") for place in range(60)]  # from 1 to 800,000
    assert odd("price", sold(900_000.0, "Art"), counted(spread).norms()) is None


def test_ten_percent_wrong_prices_do_not_move_the_bounds() -> None:
    wrong = [sold(1e6, "Tools", "Drills") for _ in range(4)]
    assert odd("price", sold(1e6, "Tools", "Drills"), counted([*DRILLS, *wrong]).norms()) is not None


def test_small_category_uses_the_parent_with_wider_bounds() -> None:
    norms = counted([*DRILLS, sold(2.0, "Tools", "Bits")]).norms()
    assert odd("price", sold(2.0, "Tools", "Bits"), norms) is None  # thirty times less than drills
    assert odd("price", sold(60 * 120.0, "Tools", "Bits"), norms) is not None


def test_too_few_products_give_no_norm() -> None:
    norms = counted(DRILLS[: MIN_PRODUCTS - 1]).norms()
    assert odd("price", sold(1e9, "Tools", "Drills"), norms) is None
    assert odd("currency", sold(5.0, "Tools", "Drills", currency="SEK"), norms) is None


def test_unusual_currency_and_language_of_a_category() -> None:
    norms = counted(DRILLS).norms()
    message = odd("currency", sold(5.0, "Tools", "Drills", currency="SEK"), norms)
    assert message == "SEK; in tools > drills EUR is usual"
    assert odd("language", sold(5.0, "Tools", "Drills", language="de"), norms) == "de; in tools > drills en is usual"
    assert odd("language", sold(5.0, "Tools", "Drills", language=""), norms) is None


def test_bilingual_store_has_no_unusual_language() -> None:
    half = [sold(50.0, "Tools", "Drills", language="zh", currency="CNY") for _ in range(40)]
    norms = counted([*DRILLS, *half]).norms()
    assert odd("language", sold(5.0, "Tools", "Drills", language="zh"), norms) is None
    assert odd("currency", sold(5.0, "Tools", "Drills", currency="CNY"), norms) is None


def test_detected_language_is_unusual_only_if_the_title_confirms_it() -> None:
    norms = counted(DRILLS).norms()
    vague = Product("a", "Cindrelle Quarrel", category=("Tools", "Drills"), language="de")
    clear = Product("a", "Pfanne mit Deckel mit Griff", category=("Tools", "Drills"), language="de")
    assert odd("language", vague, norms, guessed=True) is None
    assert odd("language", clear, norms, guessed=True) is not None


def products() -> st.SearchStrategy[list[Product]]:
    one = st.builds(
        sold,
        st.sampled_from((None, 0.0, 1.0, 10.0, 1_000.0)),
        st.sampled_from("AB"),
        st.sampled_from("xyz"),
        currency=st.sampled_from(("EUR", "USD", "")),
        language=st.sampled_from(("en", "")),
    )
    return st.lists(one, max_size=60)


@given(products(), st.integers(0, 60), st.randoms(use_true_random=False))
def test_order_and_batching_do_not_change_norms(rows: list[Product], cut: int, shuffle: random.Random) -> None:
    whole = counted(rows * 3)
    mixed = rows * 3
    shuffle.shuffle(mixed)
    parts = counted(mixed[:cut]), counted(mixed[cut:])
    parts[0].merge(pickle.loads(pickle.dumps(parts[1])))  # written by this process
    assert parts[0].norms() == whole.norms()


def test_too_many_categories_are_counted_by_parent_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CATEGORIES", 50)
    rows = [sold(10.0 + part, f"top {part % 5}", f"level {part % 25}", f"leaf {part}") for part in range(600)]
    whole, backwards = counted(rows), counted(reversed(rows))
    left, right = counted(rows[:200]), counted(rows[200:])
    left.merge(right)
    assert whole.norms() == backwards.norms() == left.norms()
    assert {len(path) for path in whole.norms().categories} == {1, 2}

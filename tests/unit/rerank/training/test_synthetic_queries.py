"""Synthetic queries as a whole: how many, how different, how long, and always the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.training.query_generation import MAX_WORDS, RECIPES, TYPO, SyntheticQuery, _sample, synthetic_queries
from retrieval.errors import TrainingError
from retrieval.records import Product
from retrieval.text.analysis import contains_chinese, fold
from tests.unit.rerank.training.tool_shop import CHINESE_PRODUCTS, PRODUCTS

# Lone surrogates too: a feed's JSON may hold them.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
TITLE_TEXT = st.text(st.sampled_from("ab e-x17/2.,()[]\"'&½× inft.pc(s)剃须刀的黑色"), max_size=60) | ANY_TEXT
ANY_PRODUCT = st.builds(
    Product,
    id=st.text(st.characters(exclude_categories=()), min_size=1, max_size=4),
    title=TITLE_TEXT,
    brand=TITLE_TEXT,
    category=st.lists(TITLE_TEXT, max_size=2).map(tuple),
    identifiers=st.dictionaries(st.sampled_from(["mpn", "ean", "sku"]), st.lists(ANY_TEXT, max_size=2).map(tuple)),
    attributes=st.dictionaries(
        st.sampled_from(["colour", "product_type", "类型"]),
        TITLE_TEXT | st.floats() | st.booleans() | st.lists(TITLE_TEXT, max_size=2).map(tuple),
    ),
)


def made(products: tuple[Product, ...], count: int, seed: int = 0) -> list[SyntheticQuery]:
    return synthetic_queries(products, count, seed)


@given(st.lists(ANY_PRODUCT, min_size=1, max_size=6), st.integers(1, 40), st.integers())
def test_any_product_text_gives_queries_or_is_refused_by_name(products: list[Product], count: int, seed: int) -> None:
    try:
        queries = synthetic_queries(products, count, seed)
    except TrainingError as error:
        assert "word" in str(error)
        return
    ids = {product.id for product in products}
    assert 1 <= len(queries) <= count
    assert len({fold(query.text) for query in queries}) == len(queries)
    for query in queries:
        assert query.text == query.text.strip()
        assert len(query.text) > 1 or contains_chinese(query.text)
        assert len(query.text.split()) <= MAX_WORDS
        assert query.product_id in ids
        assert query.recipe.removesuffix(TYPO) in RECIPES


@pytest.mark.parametrize("products", [PRODUCTS, CHINESE_PRODUCTS], ids=["english", "chinese"])
def test_gives_as_many_as_were_asked_for_where_the_catalog_has_them(products: tuple[Product, ...]) -> None:
    assert len(made(products, 150)) == 150


def test_every_product_is_asked_for_before_any_is_asked_for_twice() -> None:
    queries = made(PRODUCTS, len(PRODUCTS))
    assert {query.product_id for query in queries} == {product.id for product in PRODUCTS}


def test_the_order_of_products_changes_nothing() -> None:
    assert made(PRODUCTS, 100) == made(PRODUCTS[::-1], 100)


def test_a_smaller_count_gives_the_beginning_of_a_larger_one() -> None:
    assert made(PRODUCTS, 40) == made(PRODUCTS, 100)[:40]


def test_seeds_give_different_queries() -> None:
    assert {query.text for query in made(PRODUCTS, 50, seed=1)} != {query.text for query in made(PRODUCTS, 50, seed=2)}


def test_queries_are_made_from_no_description() -> None:
    described = tuple(replace(product, description="an ottoman for elephants") for product in PRODUCTS)
    assert made(described, 100) == made(PRODUCTS, 100)


def test_every_recipe_is_used() -> None:
    rich = tuple(
        replace(product, title=f"{product.title} for Kitchens", identifiers={"mpn": (f"KX{number}00",)})
        for number, product in enumerate(PRODUCTS)
    )
    recipes = Counter(query.recipe.removesuffix(TYPO) for query in made(rich, 600))
    assert set(recipes) == set(RECIPES)


def test_a_few_queries_are_mistyped_and_say_so() -> None:
    mistyped = [query for query in made(PRODUCTS, 400) if query.recipe.endswith(TYPO)]
    assert 0.01 < len(mistyped) / 400 < 0.12


@pytest.mark.parametrize("title", ["Hammer", "茶", "17", "Acme Claw Hammer, 16 oz."])
def test_one_product_gives_some_queries_and_comes_to_an_end(title: str) -> None:
    queries = made((Product("only", title),), 20_000)
    assert 1 <= len(queries) < 20_000


def test_a_longer_title_gives_many_queries_of_its_words() -> None:
    assert len(made((Product("only", "Acme Compact Cordless Drill Driver in Matte Black"),), 300)) == 300


def test_products_without_a_word_give_way_to_those_with_one() -> None:
    queries = made((Product("dashes", "---"), Product("hammer", "Claw Hammer")), 3)
    assert {query.product_id for query in queries} == {"hammer"}


def test_of_products_with_one_id_the_first_counts() -> None:
    doubled = (*PRODUCTS, *(replace(product, title="Zebra") for product in PRODUCTS))
    assert made(doubled, 100) == made(PRODUCTS, 100)


def test_an_empty_catalog_is_refused() -> None:
    with pytest.raises(TrainingError, match="no products"):
        made((), 10)


def test_a_catalog_without_words_is_refused() -> None:
    with pytest.raises(TrainingError, match="none of 2 products has a word"):
        made((Product("a", "---"), Product("b", "")), 10)


@pytest.mark.parametrize("count", [0, -1])
def test_no_queries_cannot_be_asked_for(count: int) -> None:
    with pytest.raises(TrainingError, match=f"{count} synthetic queries were asked for"):
        made(PRODUCTS, count)


@given(st.permutations(range(12)), st.integers(1, 15), st.integers(0, 3))
def test_a_sample_is_the_beginning_of_one_order_of_all(order: list[int], size: int, seed: int) -> None:
    everything = _sample(PRODUCTS[:12], 12, seed)
    assert _sample((PRODUCTS[place] for place in order), size, seed) == everything[:size]
    assert len(everything) == 12

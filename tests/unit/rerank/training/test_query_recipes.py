"""Each recipe: the words that it makes of a product whose parts are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from rerank.training.query_attributes import Words
from rerank.training.query_generation import RECIPES
from retrieval.records import Product
from tests.unit.rerank.training.tool_shop import CHINESE_PRODUCTS, PRODUCTS, shopper_for

RUG = Product(
    "rug",
    "Acme 12 in. x 20 in. Compact Wall Plate in Chrome for Kitchens",
    brand="Acme",
    identifiers={"mpn": ("KX-200",)},
)
TITLE = ("acme", "12 in. x 20 in", "compact", "wall", "plate", "chrome", "kitchens")
BARE = Product("bare", "")


def made(recipe: str, product: Product = RUG, beside: tuple[Product, ...] = PRODUCTS) -> set[Words]:
    """What a recipe makes with a hundred seeds."""
    shopper = shopper_for(product, beside)
    return {RECIPES[recipe].make(replace(shopper, random=Random(seed))) for seed in range(100)}


@pytest.mark.parametrize(
    ("recipe", "queries"),
    [
        ("kind", {("plate",), ("wall", "plate"), ("compact", "wall", "plate")}),
        ("brand", {("acme",)}),
        ("brand-kind", {("acme", "plate"), ("acme", "wall", "plate"), ("acme", "compact", "wall", "plate")}),
        (
            "trait-kind",
            {
                words
                for kind in (("plate",), ("wall", "plate"), ("compact", "wall", "plate"))
                for words in (("chrome", *kind), (*kind, "chrome"))
            },
        ),
        (
            "size-kind",
            {
                words
                for kind in (("plate",), ("wall", "plate"), ("compact", "wall", "plate"))
                for words in (("12 in. x 20 in", *kind), (*kind, "12 in. x 20 in"))
            },
        ),
        (
            "kind-complement",
            {(*kind, "for", "kitchens") for kind in (("plate",), ("wall", "plate"), ("compact", "wall", "plate"))},
        ),
        ("model", {("kx-200",), ("acme", "kx-200"), ("plate", "kx-200"), ("wall", "plate", "kx-200")}),
    ],
)
def test_recipes_made_of_known_parts(recipe: str, queries: set[Words]) -> None:
    assert made(recipe) == queries


def test_a_word_alone_is_usual_and_names_something() -> None:
    assert made("word") == {("acme",), ("compact",), ("wall",), ("plate",)}


def test_a_modified_kind_ends_with_the_kind_and_takes_no_brand() -> None:
    queries = made("modified-kind")
    assert all(words[-1] == "plate" and len(words) > 1 and "acme" not in words for words in queries)
    assert ("kitchens", "wall", "plate") in queries


@pytest.mark.parametrize(("recipe", "lengths"), [("words", (2, 4)), ("most-words", (4, 7)), ("opening", (2, 4))])
def test_words_of_the_title_stay_in_its_order(recipe: str, lengths: tuple[int, int]) -> None:
    for words in made(recipe):
        places = [TITLE.index(word) for word in words]
        assert places == sorted(set(places))
        assert lengths[0] <= len(words) <= lengths[1]


def test_shuffled_words_come_in_other_orders_too() -> None:
    orders = [[TITLE.index(word) for word in words] for words in made("shuffled-words")]
    assert any(places != sorted(places) for places in orders)


def test_a_span_is_neighbours() -> None:
    told = {" ".join(TITLE[1:]), " ".join(word for word in TITLE[1:] if "in." not in word)}
    assert all(any(" ".join(words) in text for text in told) for words in made("span"))


def test_drawn_words_have_two_characters_at_least() -> None:
    queries = made("words", Product("p", "X Cordless Q Drill Z Compact"))
    assert all(len(word) > 1 for words in queries for word in words)


def test_a_product_of_an_unusual_kind_is_asked_for_in_two_words() -> None:
    assert made("kind", Product("p", "Acme Left Handed Zither")) == {("handed", "zither"), ("left", "handed", "zither")}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_product_without_parts_gives_nothing(recipe: str) -> None:
    assert made(recipe, BARE) == {()}


def test_chinese_kinds_and_modifiers() -> None:
    razor = Product("r", "松下黑色家用剃须刀")
    assert ("剃须刀",) in made("kind", razor, CHINESE_PRODUCTS)
    assert all(words[-1] == "剃须刀" for words in made("modified-kind", razor, CHINESE_PRODUCTS) if words)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_documented_with_its_share(recipe: str) -> None:
    page = Path(__file__).parents[4] / "docs/synthetic-queries.md"
    assert f"| `{recipe}` | {RECIPES[recipe].share:.0%} |" in page.read_text("utf-8")


def test_shares_are_a_whole() -> None:
    assert sum(recipe.share for recipe in RECIPES.values()) == pytest.approx(1.0)

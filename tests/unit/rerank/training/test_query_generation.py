"""Synthetic queries: words, facts, spelling, recipes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product as pairs
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from shelfwise.rerank.training.query_generation import (
    MAX_WORDS,
    RECIPES,
    TYPO,
    CatalogWords,
    ProductFacts,
    QueryWriter,
    Words,
    read_brand,
    read_facts,
    respell,
    synthetic_queries,
)
from shelfwise.rerank.training.query_text import mistype, read_words
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import contains_chinese, fold

TOOLS = ("Cordless Drill", "Claw Hammer", "Wall Plate", "Ceiling Fan", "Garden Hose")
BRANDS = ("Acme", "Nordwerk", "Blue Heron")
TOOL_TITLES = tuple(
    f"{brand} {size} in. Compact {kind} in {finish}"
    for (brand, kind), (size, finish) in pairs(pairs(BRANDS, TOOLS), ((8, "Chrome"), (12, "Bronze")))
)
PRODUCTS = tuple(Product(f"p{number}", title) for number, title in enumerate(TOOL_TITLES))

CHINESE_KINDS = ("剃须刀", "充电宝", "羽毛球", "保温杯", "电饭煲")
CHINESE_TITLES = tuple(
    f"{brand}{colour}家用{kind}" for brand, colour, kind in pairs(("松下", "苏泊尔"), ("黑色", "白色"), CHINESE_KINDS)
)
CHINESE_PRODUCTS = tuple(Product(f"c{number}", title) for number, title in enumerate(CHINESE_TITLES))


def words_of(products: tuple[Product, ...]) -> CatalogWords:
    return CatalogWords([read_words(product.title) for product in products], list(map(read_brand, products)))


def facts_of(product: Product, beside: tuple[Product, ...] = PRODUCTS) -> ProductFacts:
    return read_facts(product, read_words(product.title), words_of((product, *beside)))


def shopper_for(product: Product, beside: tuple[Product, ...] = PRODUCTS) -> QueryWriter:
    return QueryWriter(facts_of(product, beside), words_of((product, *beside)), Random(0))


@pytest.mark.parametrize(
    ("title", "kind"),
    [("Ceiling Fan, Quiet Whisper", ("ceiling", "fan")), ("Cordless Drill A4", ("cordless", "drill"))],
    ids=["the run that names most products", "a code is no kind"],
)
def test_kind_is_found_in_a_title(title: str, kind: Words) -> None:
    assert facts_of(Product("p", title)).kinds == (kind,)


TITLES = ("Outside Corner", "Out of the Side Box", "Drills", "Drill", "Format", "Mat for Cats") * 3
CATALOG = CatalogWords([read_words(title) for title in TITLES], [()] * len(TITLES))


def respelled(*words: str) -> set[Words]:
    return {respell(words, CATALOG, Random(seed)) for seed in range(300)}


@pytest.mark.parametrize(
    ("quantity", "spellings"),
    [
        ("24 in.", {"24 in", "24 inch", "24in", '24"', "24"}),
        ("5-gal.", {"5 gal", "5 gallon", "5gal"}),
        ("250 gb", {"250 gb", "250gb"}),
        ("18-volt", {"18 volt", "18v", "18 v"}),
        ("12 x 12", {"12 x 12", "12x12"}),
    ],
)
def test_quantities_have_several_spellings(quantity: str, spellings: set[str]) -> None:
    assert respelled(quantity) == {(spelling,) for spelling in spellings}


@pytest.mark.parametrize(
    ("words", "spellings"),
    [
        (("500 g", "鸭舌"), {("500g", "鸭舌")}),
        (("gl-100",), {("gl-100",), ("gl100",)}),
        (("format",), {("format",)}),
        (("drill",), {("drill",), ("drills",)}),
        (("drills",), {("drills",), ("drill",)}),
    ],
    ids=["units beside Chinese", "signs of codes", "no compound with a joining word", "plural", "singular"],
)
def test_words_are_respelled(words: Words, spellings: set[Words]) -> None:
    assert respelled(*words) == spellings


TYPED = st.sampled_from(["hammer", "DEWALT", "LaserJet", "saw", "24 in.", "剃须刀", "x1"])


@given(st.lists(TYPED, max_size=4), st.integers())
def test_typo_changes_one_word_by_one_edit(words: list[str], seed: int) -> None:
    typed = mistype(tuple(words), Random(seed))
    changed = [(old, new) for old, new in zip(words, typed, strict=True) if old != new]
    assert len(changed) <= 1
    for old, new in changed:
        assert old in ("hammer", "DEWALT", "LaserJet")
        # A typing error may also be a swap of two letters.
        assert OSA.distance(old, new) == 1


RUG = Product(
    "rug",
    "Acme 12 in. x 20 in. Compact Wall Plate in Chrome for Kitchens",
    brand="Acme",
    identifiers={"mpn": ("KX-200",)},
)


KINDS = (("plate",), ("wall", "plate"), ("compact", "wall", "plate"))


def made(recipe: str, product: Product = RUG, beside: tuple[Product, ...] = PRODUCTS) -> set[Words]:
    shopper = shopper_for(product, beside)
    return {RECIPES[recipe].make(replace(shopper, random=Random(seed))) for seed in range(100)}


@pytest.mark.parametrize(
    ("recipe", "queries"),
    [
        ("kind", {*KINDS}),
        ("brand", {("acme",)}),
        ("brand-kind", {("acme", *kind) for kind in KINDS}),
        ("trait-kind", {words for kind in KINDS for words in (("chrome", *kind), (*kind, "chrome"))}),
        ("size-kind", {words for kind in KINDS for words in (("12 in. x 20 in", *kind), (*kind, "12 in. x 20 in"))}),
        ("kind-complement", {(*kind, "for", "kitchens") for kind in KINDS}),
        ("model", {("kx-200",), ("acme", "kx-200"), ("plate", "kx-200"), ("wall", "plate", "kx-200")}),
        ("word", {("acme",), ("compact",), ("wall",), ("plate",)}),
    ],
)
def test_recipes_combine_known_parts(recipe: str, queries: set[Words]) -> None:
    assert made(recipe) == queries


def test_recipe_shares_sum_to_1_and_give_nothing_of_a_bare_product() -> None:
    assert sum(recipe.share for recipe in RECIPES.values()) == pytest.approx(1.0)
    assert all(made(name, Product("bare", "")) == {()} for name in RECIPES)


# Including lone surrogates, which a feed's JSON may contain.
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


@given(st.lists(ANY_PRODUCT, min_size=1, max_size=6), st.integers(1, 40), st.integers())
def test_arbitrary_text_gives_queries_or_an_error(products: list[Product], count: int, seed: int) -> None:
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
def test_requested_number_of_queries_is_generated(products: tuple[Product, ...]) -> None:
    assert len(synthetic_queries(products, 150, 0)) == 150


def test_product_order_is_irrelevant_and_smaller_counts_are_prefixes() -> None:
    made = synthetic_queries(PRODUCTS, 100, 0)
    assert made == synthetic_queries(PRODUCTS[::-1], 100, 0)
    assert made[:40] == synthetic_queries(PRODUCTS, 40, 0)


@pytest.mark.parametrize(
    ("products", "count", "message"),
    [
        ((), 10, "no products"),
        ((Product("a", "---"), Product("b", "")), 10, "none of 2 products has a word"),
        (PRODUCTS, 0, "0 synthetic queries were requested"),
    ],
)
def test_catalog_without_queries_is_refused(products: tuple[Product, ...], count: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        synthetic_queries(products, count, 0)

"""Synthetic queries: words, facts, spelling, recipes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import product as pairs
from pathlib import Path
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
    _sample,
    mistype,
    read_brand,
    read_facts,
    respell,
    synthetic_queries,
)
from shelfwise.rerank.training.query_text import MAX_TEXT, WordKind, phrase, read_words
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
    ("text", "kind"),
    [
        ("Hammer", WordKind.WORD),
        ("t-shirt", WordKind.WORD),
        ("12 in.", WordKind.QUANTITY),
        ("2 in. x 4 in.", WordKind.QUANTITY),
        ("2-pack", WordKind.QUANTITY),
        ("6 pc(s)", WordKind.QUANTITY),
        ("17", WordKind.QUANTITY),
        ("DCD771C2", WordKind.MODEL),
        ("with", WordKind.JOINING),
        ("剃须刀", WordKind.WORD),
        ("的", WordKind.JOINING),
        ("正品", WordKind.JOINING),
    ],
)
def test_kinds_of_words(text: str, kind: WordKind) -> None:
    assert [word.kind for word in read_words(text)] == [kind]


def test_single_character_is_no_word_and_separates() -> None:
    toner, black = read_words("Toner 1 pc(s) Black")
    assert (toner.text, black.text) == ("toner", "black")
    assert black.after_break


def test_brackets_and_signs_are_marked() -> None:
    trim, valve, deep = read_words("Trim (valve), deep")
    assert (trim.in_brackets, valve.in_brackets, deep.in_brackets) == (False, True, False)
    assert (trim.after_break, valve.after_break, deep.after_break) == (False, True, True)


def test_unreadable_text_is_ignored() -> None:
    assert len(read_words("a " * MAX_TEXT)) == MAX_TEXT // 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("claw", "hammer"), "claw hammer"),
        (("松下", "剃须刀"), "松下剃须刀"),
        (("松下", "es9167", "剃须刀"), "松下 es9167 剃须刀"),
        (("", "hammer"), "hammer"),
        ((), ""),
    ],
)
def test_words_become_a_query(words: tuple[str, ...], text: str) -> None:
    assert phrase(words) == text


@pytest.mark.parametrize(
    ("brand", "words"),
    [
        ("Acme", ("acme",)),
        ("Acme Tools Inc.", ("acme", "tools")),
        ("", ()),
        ("A B C D", ("a", "b", "c")),
        ("松下", ("松下",)),
    ],
)
def test_brand_of_the_product_is_used(brand: str, words: tuple[str, ...]) -> None:
    assert read_brand(Product("p", "Drill", brand=brand)) == words


def test_brands_are_found_where_titles_begin_with_them() -> None:
    found = {facts_of(product, PRODUCTS).brand for product in PRODUCTS}
    assert found == {tuple(brand.lower().split()) for brand in BRANDS}


def test_kind_ends_before_with_or_in() -> None:
    facts = facts_of(Product("p", "Acme 12 in. Matte Wall Plate in Chrome with Screws"))
    assert facts.kinds == (("matte", "wall", "plate"),)
    assert facts.traits == (("chrome",),)
    assert facts.sizes == ("12 in",)
    assert facts.complements == (("with", "screws"),)


@pytest.mark.parametrize(
    ("title", "kind"),
    [("Ceiling Fan, Quiet Whisper", ("ceiling", "fan")), ("Cordless Drill A4", ("cordless", "drill"))],
    ids=["the run that names most products", "a code is no kind"],
)
def test_kind_is_found_in_a_title(title: str, kind: Words) -> None:
    assert facts_of(Product("p", title)).kinds == (kind,)


def test_categories_and_type_attributes_name_the_kind_first() -> None:
    attributes = {"Product_Type": "Ceiling Fan"}
    product = Product("p", "Acme Whisper", category=("Home", "Fans & Lights"), attributes=attributes)
    assert facts_of(product).kinds[:3] == (("fans",), ("lights",), ("ceiling", "fan"))


def test_attributes_used_in_titles_are_traits() -> None:
    product = Product("p", "Acme Drill", attributes={"finish": "Chrome, Zirconium", "weight": 2.5, "boxed": True})
    assert facts_of(product).traits == (("chrome",),)


def test_codes_come_from_the_title_and_from_identifiers() -> None:
    identifiers = {"mpn": ("GL-100", "dcd771c2"), "ean": ("4006381333931",)}
    product = Product("p", "Acme Drill DCD771C2", identifiers=identifiers)
    assert facts_of(product).models == ("dcd771c2", "gl-100")


def test_single_number_and_one_piece_are_not_sizes() -> None:
    assert facts_of(Product("p", "Toner 7,000 Black 8.3 Matte 1/2 Set 400 Cyan 1 pc(s)")).sizes == ()


def test_a_chinese_title_names_several_kinds() -> None:
    kinds = facts_of(Product("p", "剃须刀防水羽毛球"), CHINESE_PRODUCTS).kinds
    assert {words[-1] for words in kinds} >= {"剃须刀", "羽毛球"}


@pytest.mark.parametrize("word", ["chrome", "bronze", "in", "gallons", "x", "a4"])
def test_finishes_units_letters_and_codes_are_not_kinds(word: str) -> None:
    assert words_of(PRODUCTS).names_nothing(word) == (word != "in")


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


def test_both_sides_of_dimensions_have_the_same_spelling() -> None:
    for (text,) in respelled("24 in. x 80 in."):
        assert len(set(re.findall('[a-z"]+', text.replace("x", "")))) <= 1


def test_compounds_are_split_and_joined_as_in_titles() -> None:
    assert respelled("outside", "corner") == {("outside", "corner"), ("out", "side", "corner")}
    assert ("outside", "corner") in respelled("out", "side", "corner")


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
TITLE = ("acme", "12 in. x 20 in", "compact", "wall", "plate", "chrome", "kitchens")


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


def test_a_modified_kind_ends_with_the_kind_and_takes_no_brand() -> None:
    queries = made("modified-kind")
    assert all(words[-1] == "plate" and len(words) > 1 and "acme" not in words for words in queries)
    assert ("kitchens", "wall", "plate") in queries


@pytest.mark.parametrize(("recipe", "lengths"), [("words", (2, 4)), ("most-words", (4, 7)), ("opening", (2, 4))])
def test_title_words_keep_their_order(recipe: str, lengths: tuple[int, int]) -> None:
    for words in made(recipe):
        places = [TITLE.index(word) for word in words]
        assert places == sorted(set(places))
        assert lengths[0] <= len(words) <= lengths[1]


def test_span_has_adjacent_words() -> None:
    result = {" ".join(TITLE[1:]), " ".join(word for word in TITLE[1:] if "in." not in word)}
    assert all(any(" ".join(words) in text for text in result) for words in made("span"))


def test_sampled_words_have_at_least_two_characters() -> None:
    queries = made("words", Product("p", "X Cordless Q Drill Z Compact"))
    assert all(len(word) > 1 for words in queries for word in words)


def test_product_of_a_rare_kind_gets_two_word_queries() -> None:
    assert made("kind", Product("p", "Acme Left Handed Zither")) == {("handed", "zither"), ("left", "handed", "zither")}


def test_chinese_kinds_and_modifiers() -> None:
    razor = Product("r", "松下黑色家用剃须刀")
    assert ("剃须刀",) in made("kind", razor, CHINESE_PRODUCTS)
    assert all(words[-1] == "剃须刀" for words in made("modified-kind", razor, CHINESE_PRODUCTS) if words)


def test_recipe_shares_sum_to_1_and_are_documented() -> None:
    page = (Path(__file__).parents[4] / "docs/synthetic-queries.md").read_text("utf-8")
    assert sum(recipe.share for recipe in RECIPES.values()) == pytest.approx(1.0)
    for name, recipe in RECIPES.items():
        assert f"| `{name}` | {recipe.share:.0%} |" in page
        assert made(name, Product("bare", "")) == {()}


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


def test_every_product_gets_a_query_before_a_second() -> None:
    queries = synthetic_queries(PRODUCTS, len(PRODUCTS), 0)
    assert {query.product_id for query in queries} == {product.id for product in PRODUCTS}


def test_product_order_is_irrelevant_and_smaller_counts_are_prefixes() -> None:
    made = synthetic_queries(PRODUCTS, 100, 0)
    assert made == synthetic_queries(PRODUCTS[::-1], 100, 0)
    assert made[:40] == synthetic_queries(PRODUCTS, 40, 0)


def test_every_recipe_is_used() -> None:
    rich = tuple(
        replace(product, title=f"{product.title} for Kitchens", identifiers={"mpn": (f"KX{number}00",)})
        for number, product in enumerate(PRODUCTS)
    )
    recipes = Counter(query.recipe.removesuffix(TYPO) for query in synthetic_queries(rich, 600, 0))
    assert set(recipes) == set(RECIPES)


def test_some_queries_have_marked_typos() -> None:
    mistyped = [query for query in synthetic_queries(PRODUCTS, 400, 0) if query.recipe.endswith(TYPO)]
    assert 0.01 < len(mistyped) / 400 < 0.12


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


@pytest.mark.parametrize("title", ["Hammer", "茶", "17", "Acme Claw Hammer, 16 oz."])
def test_generation_for_one_product_terminates(title: str) -> None:
    queries = synthetic_queries((Product("only", title),), 20_000, 0)
    assert 1 <= len(queries) < 20_000


def test_products_without_words_are_replaced_and_first_duplicate_id_counts() -> None:
    queries = synthetic_queries((Product("dashes", "---"), Product("hammer", "Claw Hammer")), 3, 0)
    assert {query.product_id for query in queries} == {"hammer"}
    doubled = (*PRODUCTS, *(replace(product, title="Zebra") for product in PRODUCTS))
    assert synthetic_queries(doubled, 100, 0) == synthetic_queries(PRODUCTS, 100, 0)


@given(st.permutations(range(12)), st.integers(1, 15), st.integers(0, 3))
def test_sample_is_a_prefix_of_a_fixed_order(order: list[int], size: int, seed: int) -> None:
    everything = _sample(PRODUCTS[:12], 12, seed)
    assert _sample((PRODUCTS[place] for place in order), size, seed) == everything[:size]
    assert len(everything) == 12

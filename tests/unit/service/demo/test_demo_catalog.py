"""The demo store's grammar, catalog and queries."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.records import Availability, Product
from shelfwise.service.demo.catalog import CATALOG_DAY, Catalog, Dice, ean13, ean13_check_digit, make_catalog, named_rng
from shelfwise.service.demo.grammar import GRAMMARS, Axis, Grammar
from shelfwise.service.demo.queries import (
    Grader,
    Intent,
    JudgedQuery,
    QueryClass,
    Requirement,
    make_queries,
    misspell,
    title_words,
)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(7, 2000)


@pytest.fixture(scope="module")
def products(catalog: Catalog) -> list[Product]:
    return [item.product for item in catalog.products]


def test_ids_are_unique_sorted_and_independent_of_the_type(catalog: Catalog, products: list[Product]) -> None:
    ids = [product.id for product in products]
    assert len(ids) == 2000
    assert ids == sorted(set(ids))
    same = sum(one.line.kind.key == other.line.kind.key for one, other in pairwise(catalog.products))
    assert same < 0.05 * len(ids)


def test_seven_in_ten_products_are_english_and_currency_follows_language(products: list[Product]) -> None:
    counts = Counter((product.language, product.currency) for product in products)
    assert counts == {("en", "USD"): 1400, ("zh", "CNY"): 600}


def test_titles_are_distinct_and_normalised(products: list[Product]) -> None:
    titles = [product.title for product in products]
    assert len(set(titles)) == len(titles)
    for title in titles:
        assert title == title.strip(" ,-")
        assert not any(mark in title for mark in ("  ", "{", "}", "()", " ,", "None"))


def test_every_type_has_products(catalog: Catalog) -> None:
    assert catalog.by_kind.keys() == catalog.kinds.keys()
    assert sum(len(found) for found in catalog.by_kind.values()) == len(catalog.products)


def test_variants_differ_in_their_options(catalog: Catalog) -> None:
    lines: dict[int, list[Product]] = {}
    for item in catalog.products:
        lines.setdefault(item.line.number, []).append(item.product)
    several = [variants for variants in lines.values() if len(variants) > 1]
    assert len(several) > 0.5 * len(lines)
    for variants in several:
        without_weight = [{**v.attributes, "package_weight_kg": 0} for v in variants]
        assert all(without_weight.count(attributes) == 1 for attributes in without_weight)
        assert len({v.brand for v in variants}) == 1


def test_identifiers_are_unique_and_eans_are_in_store_codes(products: list[Product]) -> None:
    for kind in ("sku", "ean", "mpn"):
        assert len({product.identifiers[kind] for product in products}) == len(products), kind
    for (ean,) in (product.identifiers["ean"] for product in products):
        assert len(ean) == 13
        assert 20 <= int(ean[:2]) <= 29
        assert sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(ean)) % 10 == 0
    # The GS1 General Specifications' own example, GTIN-13 6291041500213.
    assert ean13_check_digit("629104150021") == "3"


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_different_rows_have_different_eans(one: int, other: int) -> None:
    assert (ean13(one) == ean13(other)) == (one == other)


def test_prices_are_positive_and_spread_like_a_log_normal(catalog: Catalog) -> None:
    ratios = [(item.product.price or 0.0) / item.line.kind.median_price for item in catalog.products]
    assert min(ratios) > 0
    assert 0.7 < statistics.median(ratios) < 1.3
    assert statistics.mean(ratios) > statistics.median(ratios)


def test_stock_ratings_and_times_are_plausible(products: list[Product]) -> None:
    counts = Counter(product.availability for product in products)
    assert counts[Availability.IN_STOCK] > 0.85 * len(products)
    assert set(counts) == set(Availability)
    for product in products:
        assert (product.rating is None) == (product.rating_count == 0)
        assert product.rating is None or 1 <= product.rating <= 5
        assert product.created is not None
        assert product.updated is not None
        assert product.created <= product.updated <= CATALOG_DAY


def test_too_few_products_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"products is 50, but the demo store has \d+ types"):
        make_catalog(7, 50)


def test_streams_depend_on_their_seeds_and_names() -> None:
    assert named_rng(1, "a").random() == named_rng(1, "a").random()
    assert len({named_rng(*key).random() for key in ((1, "a"), (1, "b"), (2, "a"))}) == 3


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 12))
def test_some_gives_different_options_in_their_order(seed: int, options: int, count: int) -> None:
    chosen = Dice(seed, "some").some(range(options), count)
    assert len(chosen) == min(options, count)
    assert list(chosen) == sorted(set(chosen))


KINDS = {kind.key: kind for grammar in GRAMMARS for kind in grammar.types}


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_types_and_queries_name_known_types_brands_and_departments(grammar: Grammar) -> None:
    own = {kind.key for kind in grammar.types}
    for kind in grammar.types:
        assert set(kind.related) <= own - {kind.key}, kind.key
        assert kind.brands in grammar.brands, kind.key
        assert kind.path[0] in grammar.closings, kind.key
        assert kind.related, kind.key
        assert kind.synonyms, kind.key
        assert len(kind.facts) >= 2, kind.key
        assert not kind.counterpart or kind.counterpart in KINDS, kind.key
        assert len({axis.name for axis in kind.axes}) == len(kind.axes), kind.key
    for query in grammar.broad + grammar.gifts + grammar.uses + grammar.mixed:
        assert query.targets, query.text
        assert {*query.targets, *query.near} <= KINDS.keys(), query.text
        assert not {*query.targets} & {*query.near}, query.text


def test_types_are_unique_and_brand_pools_disjoint() -> None:
    assert len(KINDS) == sum(len(grammar.types) for grammar in GRAMMARS)
    assert len({kind.path[0] for kind in KINDS.values()}) >= 20
    brands = [brand.name for grammar in GRAMMARS for pool in grammar.brands.values() for brand in pool]
    assert len(brands) == len(set(brands))


def test_attributes_are_read_by_their_keys() -> None:
    assert [axis.name for axis in KINDS["earbuds"].varies] == ["color"]
    (volts,) = (axis for axis in KINDS["cordless_drill"].axes if axis.name == "voltage_v")
    assert volts.values == (12, 18, 20)
    assert volts.phrases == ("{}v", "{} volt")
    assert volts.spell_in_title(12) == "12V"
    assert Axis("brushless", (True, False), title="Brushless").spell_in_title(False) == ""


_RUN = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]+")


@pytest.fixture(scope="module")
def queries(catalog: Catalog) -> tuple[JudgedQuery, ...]:
    return make_queries(catalog, 7)


def _words(text: str) -> set[str]:
    """Latin words, and pairs of Chinese characters, which approximate Chinese words."""
    found: set[str] = set()
    for run in _RUN.findall(text.lower()):
        found |= {run} if run.isascii() or len(run) == 1 else {run[at : at + 2] for at in range(len(run) - 1)}
    return found


def _of_grade(entry: JudgedQuery, grade: int) -> list[int]:
    return [int(at) for at in entry.judged.positions[entry.judged.grades == grade]]


def _of_class(queries: tuple[JudgedQuery, ...], label: QueryClass) -> list[JudgedQuery]:
    return [entry for entry in queries if entry.query.label is label]


def test_query_classes_and_languages_have_enough_queries(queries: tuple[JudgedQuery, ...]) -> None:
    assert len(queries) >= 300
    counts = Counter((entry.query.label, entry.query.language) for entry in queries)
    for label in set(QueryClass) - {QueryClass.MIXED}:
        assert counts[label, "en"] >= 20, label
        assert counts[label, "zh"] >= 10, label
    assert counts[QueryClass.MIXED, "mixed"] >= 20
    for split in ("train", "dev", "test"):
        assert {e.query.label for e in queries if e.query.split == split} == set(QueryClass)


def test_query_texts_are_distinct_printable_and_not_titles(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    texts = [entry.query.text for entry in queries]
    assert len(texts) == len(set(texts))
    assert not any("\t" in text or "\n" in text or text != text.strip() for text in texts)
    assert not {item.product.title.lower() for item in catalog.products} & {text.lower() for text in texts}


def test_split_depends_on_the_text_only() -> None:
    small, large = make_catalog(7, 400), make_catalog(8, 800)
    one = {entry.query.text: entry.query.split for entry in make_queries(small, 7)}
    other = {entry.query.text: entry.query.split for entry in make_queries(large, 8)}
    shared = one.keys() & other.keys()
    assert len(shared) > 300
    assert all(one[text] == other[text] for text in shared)


def test_each_query_has_relevant_and_irrelevant_products_once(queries: tuple[JudgedQuery, ...]) -> None:
    for entry in queries:
        assert {0, 3} <= set(entry.judged.grades.tolist()) <= {0, 1, 2, 3}, entry.query.text
        assert len(set(entry.judged.positions.tolist())) == len(entry.judged.positions), entry.query.text


def test_synonyms_share_no_word_with_the_titles_they_mean(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    for entry in _of_class(queries, QueryClass.SYNONYM):
        words = _words(entry.query.text)
        for at in _of_grade(entry, 3):
            title = catalog.products[at].product.title
            assert not words & _words(title), (entry.query.text, title)


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_titles_contain_no_synonyms_for_any_seed(grammar: Grammar) -> None:
    for kind in grammar.types:
        parts = [
            *kind.names,
            *kind.selling_points,
            *(axis.spell_in_title(value) for axis in kind.axes for value in axis.values),
            *(brand.name for brand in grammar.brands[kind.brands]),
            *grammar.series,
            *(shade for shades in grammar.shades.values() for shade in shades),
        ]
        possible = set().union(*map(_words, parts))
        for synonym in kind.synonyms:
            assert not _words(synonym) & possible, (kind.key, synonym)


def test_misspelt_words_are_in_no_title(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    everything = "\n".join(item.product.title.lower() for item in catalog.products)
    known = title_words(catalog)
    for entry in _of_class(queries, QueryClass.MISSPELLING):
        (word,) = entry.query.misspelt
        assert word in entry.query.text
        assert word not in known
        assert word.isascii() or word not in everything


def test_gift_and_use_queries_share_few_words_with_their_products(
    catalog: Catalog, queries: tuple[JudgedQuery, ...]
) -> None:
    for label in (QueryClass.GIFT, QueryClass.USE_CASE):
        for entry in _of_class(queries, label):
            words = _words(entry.query.text)
            answers = [_words(catalog.products[at].product.title) for at in _of_grade(entry, 3)]
            assert not any(words <= title for title in answers), entry.query.text


def test_constraints_determine_the_grade(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    for entry in _of_class(queries, QueryClass.ATTRIBUTE):
        intent = entry.query.intent
        for at, grade in zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True):
            item = catalog.products[at]
            if item.line.kind.key in intent.targets:
                missed = sum(not requirement.is_met(item) for requirement in intent.requirements)
                assert grade == max(1, 3 - missed)
            else:
                assert grade == (item.line.kind.key in intent.near)
    # A price is a ceiling.
    price = int(catalog.products[0].product.price or 0)
    assert [Requirement("price", most).is_met(catalog.products[0]) for most in (price - 1, price + 1)] == [False, True]


def test_an_exact_identifier_means_one_product(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    exact = 0
    for entry in _of_class(queries, QueryClass.IDENTIFIER):
        best = [catalog.products[at] for at in _of_grade(entry, 3)]
        identifiers = {value for kinds in best[0].product.identifiers.values() for value in kinds}
        if entry.query.text.upper() in identifiers:
            exact += 1
            assert len(best) == 1
        else:
            assert best[0].line.model.lower() in entry.query.text.lower()
            assert len({item.line.number for item in best}) == 1
    assert exact >= 20


def test_drill_query_grades_drills_above_accessories(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    (entry,) = (entry for entry in queries if entry.query.text == "cordless drill")
    by_grade = {grade: {catalog.products[at].line.kind.key for at in _of_grade(entry, grade)} for grade in (3, 1)}
    assert by_grade[3] == {"cordless_drill"}
    assert {"drill_bits", "drill_bit_case", "tool_battery", "zh_drill"} <= by_grade[1]


def test_grades_do_not_depend_on_other_queries(catalog: Catalog) -> None:
    intent = Intent(("sofa",), ("sofa_cover",))
    one = Grader(catalog, 7)
    one.judge("another query", Intent(("tent",), ()))
    first, second = one.judge("couch", intent), Grader(catalog, 7).judge("couch", intent)
    assert first.positions.tolist() == second.positions.tolist()


def test_typo_is_one_edit() -> None:
    dice = Dice(7, "slips")
    for _ in range(200):
        wrong = misspell("flashlight", dice)
        assert abs(len(wrong) - len("flashlight")) <= 1
        assert wrong[0] == "f"

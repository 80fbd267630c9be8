"""The demo queries: enough of each class, honest grades, and none that a look at the titles would answer."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from service.demo.catalog import Catalog, Dice, make_catalog
from service.demo.grammar import GRAMMARS, Grammar
from service.demo.queries import (
    Grader,
    Intent,
    JudgedQuery,
    QueryClass,
    Requirement,
    make_queries,
    misspell,
    title_words,
)

_RUN = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]+")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(7, 2000)


@pytest.fixture(scope="module")
def queries(catalog: Catalog) -> tuple[JudgedQuery, ...]:
    return make_queries(catalog, 7)


def _words(text: str) -> set[str]:
    """Latin words, and pairs of Chinese characters, which is about what a Chinese word is."""
    found: set[str] = set()
    for run in _RUN.findall(text.lower()):
        found |= {run} if run.isascii() or len(run) == 1 else {run[at : at + 2] for at in range(len(run) - 1)}
    return found


def _of_grade(entry: JudgedQuery, grade: int) -> list[int]:
    return [int(at) for at in entry.judged.positions[entry.judged.grades == grade]]


def _of_class(queries: tuple[JudgedQuery, ...], label: QueryClass) -> list[JudgedQuery]:
    return [entry for entry in queries if entry.query.label is label]


def test_there_are_enough_queries_of_each_class_and_language(queries: tuple[JudgedQuery, ...]) -> None:
    assert len(queries) >= 300
    counts = Counter((entry.query.label, entry.query.language) for entry in queries)
    for label in set(QueryClass) - {QueryClass.MIXED}:
        assert counts[label, "en"] >= 20, label
        assert counts[label, "zh"] >= 10, label
    assert counts[QueryClass.MIXED, "mixed"] >= 20


def test_texts_are_distinct_and_fit_a_table(queries: tuple[JudgedQuery, ...]) -> None:
    texts = [entry.query.text for entry in queries]
    assert len(texts) == len(set(texts))
    assert not any("\t" in text or "\n" in text or text != text.strip() for text in texts)


def test_every_split_has_every_class(queries: tuple[JudgedQuery, ...]) -> None:
    for split in ("train", "dev", "test"):
        assert {e.query.label for e in queries if e.query.split == split} == set(QueryClass)


def test_the_split_is_a_function_of_the_text_alone() -> None:
    small, large = make_catalog(7, 400), make_catalog(8, 800)
    one = {entry.query.text: entry.query.split for entry in make_queries(small, 7)}
    other = {entry.query.text: entry.query.split for entry in make_queries(large, 8)}
    shared = one.keys() & other.keys()
    assert len(shared) > 300
    assert all(one[text] == other[text] for text in shared)


def test_grades_are_0_to_3_and_each_query_has_an_answer_and_a_miss(queries: tuple[JudgedQuery, ...]) -> None:
    for entry in queries:
        grades = set(entry.judged.grades.tolist())
        assert {0, 3} <= grades <= {0, 1, 2, 3}, entry.query.text


def test_no_product_is_judged_twice(queries: tuple[JudgedQuery, ...]) -> None:
    for entry in queries:
        assert len(set(entry.judged.positions.tolist())) == len(entry.judged.positions)


def test_no_query_is_a_title(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    titles = {item.product.title.lower() for item in catalog.products}
    assert not titles & {entry.query.text.lower() for entry in queries}


def test_synonyms_share_no_word_with_the_titles_that_they_mean(
    catalog: Catalog, queries: tuple[JudgedQuery, ...]
) -> None:
    for entry in _of_class(queries, QueryClass.SYNONYM):
        words = _words(entry.query.text)
        for at in _of_grade(entry, 3):
            title = catalog.products[at].product.title
            assert not words & _words(title), (entry.query.text, title)


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_no_seed_can_put_a_synonym_into_a_title(grammar: Grammar) -> None:
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


def test_gifts_and_uses_do_not_name_most_of_what_they_mean(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    for label in (QueryClass.GIFT, QueryClass.USE_CASE):
        for entry in _of_class(queries, label):
            words = _words(entry.query.text)
            answers = [_words(catalog.products[at].product.title) for at in _of_grade(entry, 3)]
            assert not any(words <= title for title in answers), entry.query.text


def test_wishes_decide_the_grade(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    for entry in _of_class(queries, QueryClass.ATTRIBUTE):
        intent = entry.query.intent
        for at, grade in zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True):
            item = catalog.products[at]
            if item.line.kind.key in intent.targets:
                missed = sum(not requirement.is_met(item) for requirement in intent.requirements)
                assert grade == max(1, 3 - missed)
            else:
                assert grade == (item.line.kind.key in intent.near)


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


def test_a_drill_query_puts_drills_over_what_belongs_to_them(
    catalog: Catalog, queries: tuple[JudgedQuery, ...]
) -> None:
    (entry,) = (entry for entry in queries if entry.query.text == "cordless drill")
    by_grade = {grade: {catalog.products[at].line.kind.key for at in _of_grade(entry, grade)} for grade in (3, 1)}
    assert by_grade[3] == {"cordless_drill"}
    assert {"drill_bits", "drill_bit_case", "tool_battery", "zh_drill"} <= by_grade[1]


def test_a_price_wish_is_a_ceiling(catalog: Catalog) -> None:
    item = catalog.products[0]
    assert item.product.price is not None
    assert Requirement("price", int(item.product.price) + 1).is_met(item)
    assert not Requirement("price", int(item.product.price) - 1).is_met(item)


def test_grades_do_not_depend_on_other_queries(catalog: Catalog) -> None:
    intent = Intent(("sofa",), ("sofa_cover",))
    one = Grader(catalog, 7)
    one.judge("another query", Intent(("tent",), ()))
    first, second = one.judge("couch", intent), Grader(catalog, 7).judge("couch", intent)
    assert first.positions.tolist() == second.positions.tolist()


def test_a_slip_is_one_slip() -> None:
    dice = Dice(7, "slips")
    for _ in range(200):
        wrong = misspell("flashlight", dice)
        assert abs(len(wrong) - len("flashlight")) <= 1
        assert wrong[0] == "f"

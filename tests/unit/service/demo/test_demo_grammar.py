"""The grammar's data hangs together: every name that one part gives another exists there."""

from __future__ import annotations

import pytest

from service.demo.catalog import GRAMMARS
from service.demo.grammar import Grammar, Want, brand_pool, number, words

KINDS = {kind.key: kind for grammar in GRAMMARS for kind in grammar.types}


def _wants(grammar: Grammar) -> tuple[Want, ...]:
    return grammar.broad + grammar.gifts + grammar.uses + grammar.mixed


def test_type_keys_are_unique() -> None:
    assert len(KINDS) == sum(len(grammar.types) for grammar in GRAMMARS)


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_types_name_known_types_brands_and_departments(grammar: Grammar) -> None:
    own = {kind.key for kind in grammar.types}
    for kind in grammar.types:
        assert set(kind.related) <= own - {kind.key}, kind.key
        assert kind.related, kind.key
        assert kind.brands in grammar.brands, kind.key
        assert kind.path[0] in grammar.closings, kind.key
        assert kind.also, kind.key
        assert len(kind.facts) >= 2, kind.key
        assert not kind.twin or kind.twin in KINDS, kind.key


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_a_type_has_no_attribute_twice(grammar: Grammar) -> None:
    for kind in grammar.types:
        names = [axis.name for axis in kind.axes]
        assert len(names) == len(set(names)), kind.key


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_wants_name_known_types(grammar: Grammar) -> None:
    for want in _wants(grammar):
        assert want.targets, want.text
        assert {*want.targets, *want.near} <= KINDS.keys(), want.text
        assert not {*want.targets} & {*want.near}, want.text


def test_no_brand_bears_the_name_of_another_pool() -> None:
    brands = [brand.name for grammar in GRAMMARS for pool in grammar.brands.values() for brand in pool]
    assert len(brands) == len(set(brands))


def test_the_catalog_spans_departments() -> None:
    departments = {kind.path[0] for kind in KINDS.values()}
    assert len(departments) >= 20


def test_words_and_numbers_read_their_notation() -> None:
    assert words("size", "S,M", asks="{}|size {}").asks == ("{}", "size {}")
    assert number("length_m", "1.5,3").values == (1.5, 3)
    assert number("voltage_v", "12", "{}V").shown(12) == "12V"


def test_brands_read_their_notation() -> None:
    (brand,) = brand_pool("Marlowe & Finch MF 1.3")
    assert (brand.name, brand.code, brand.level) == ("Marlowe & Finch", "MF", 1.3)

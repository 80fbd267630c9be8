"""The grammar's data hangs together: every name that one part gives another exists there."""

from __future__ import annotations

import pytest

from service.demo.grammar import GRAMMARS, Axis, DescriptiveQuery, Grammar

KINDS = {kind.key: kind for grammar in GRAMMARS for kind in grammar.types}


def _descriptive_queries(grammar: Grammar) -> tuple[DescriptiveQuery, ...]:
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
        assert kind.synonyms, kind.key
        assert len(kind.facts) >= 2, kind.key
        assert not kind.counterpart or kind.counterpart in KINDS, kind.key


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_a_type_has_no_attribute_twice(grammar: Grammar) -> None:
    for kind in grammar.types:
        names = [axis.name for axis in kind.axes]
        assert len(names) == len(set(names)), kind.key


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.language)
def test_descriptive_queries_name_known_types(grammar: Grammar) -> None:
    for query in _descriptive_queries(grammar):
        assert query.targets, query.text
        assert {*query.targets, *query.near} <= KINDS.keys(), query.text
        assert not {*query.targets} & {*query.near}, query.text


def test_no_brand_bears_the_name_of_another_pool() -> None:
    brands = [brand.name for grammar in GRAMMARS for pool in grammar.brands.values() for brand in pool]
    assert len(brands) == len(set(brands))


def test_the_catalog_spans_departments() -> None:
    departments = {kind.path[0] for kind in KINDS.values()}
    assert len(departments) >= 20


def test_attributes_are_read_by_their_keys() -> None:
    (earbuds,) = (kind for kind in KINDS.values() if kind.key == "earbuds")
    assert [axis.name for axis in earbuds.varies] == ["color"]
    (volts,) = (axis for axis in KINDS["cordless_drill"].axes if axis.name == "voltage_v")
    assert volts.values == (12, 18, 20)
    assert volts.phrases == ("{}v", "{} volt")
    assert volts.spell_in_title(12) == "12V"
    assert Axis("brushless", (True, False), title="Brushless").spell_in_title(False) == ""

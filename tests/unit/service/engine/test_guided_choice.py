"""Guided choice: the fields that best divide a broad query, in their order, with counts of the resulting hits."""

from __future__ import annotations

import pytest

from shelfwise.retrieval.index.choices import MOST_VALUES, is_in_title
from shelfwise.retrieval.records import Choice
from shelfwise.service.curation.relevance import Relevance
from shelfwise.service.engine.engine import SearchEngine

QUERY = "cordless drill"


def choices(engine: SearchEngine, query: str = QUERY, **options: object) -> dict[str, Choice]:
    found = engine.search(query, **{"choices": 3, "size": 5, **options})  # type: ignore[arg-type]
    return {each.field: each for each in found.choices}


def test_a_broad_query_is_narrowed_by_attributes_in_titles(engine: SearchEngine) -> None:
    found = choices(engine)
    assert 1 <= len(found) <= 3
    for field, choice in found.items():
        assert field in ("brand", "price", "category") or field.startswith("attributes.")
        assert 2 <= len(choice.values) <= MOST_VALUES
    assert "attributes.package_weight_kg" not in found, "no title tells it"
    assert list(choices(engine, choices=1)) == list(found)[:1]


@pytest.mark.parametrize("group", ["", "variants"])
def test_a_value_has_as_many_hits_as_it_promises(engine: SearchEngine, group: str) -> None:
    for choice in choices(engine, group=group).values():
        for each in choice.values:
            assert engine.search(QUERY, filters=each.filter, group=group).total == each.count


def test_fields_that_are_chosen_or_named_are_not_proposed(engine: SearchEngine) -> None:
    first, *_ = choices(engine).values()
    after = choices(engine, filters=first.values[0].filter, size=1)
    assert first.field not in after
    named = engine.search("red cordless drill", choices=5, size=1)
    assert {each.field for each in named.preferred}.isdisjoint(each.field for each in named.choices)


def test_hidden_fields_are_not_proposed(engine: SearchEngine) -> None:
    (first,) = choices(engine, choices=1)
    hidden = Relevance(hidden=(first,))
    assert first not in choices(engine, choices=5, relevance=hidden)


def test_no_choice_without_need(engine: SearchEngine) -> None:
    assert not engine.search(QUERY, size=5).choices
    assert not choices(engine, size=1_000)
    assert not choices(engine, "asdfqwzx")


def test_titles_give_texts_and_integers() -> None:
    assert is_in_title("drill 18 v, forest green", "Forest  Green")
    assert is_in_title("drill 18 v", 18.0)
    assert is_in_title("kettle 1.7l", 1.7)
    assert not is_in_title("drill 118 v", 18.0)
    assert not is_in_title("kettle 1.75l", 1.7)
    assert not is_in_title("true blue", True)

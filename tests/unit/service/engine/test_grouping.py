"""Grouping of hits, and choices that narrow a broad query."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shelfwise.service.engine.candidates
from shelfwise.retrieval.errors import StoreDamagedError, UnknownFieldError
from shelfwise.retrieval.index.choices import MAX_VALUES, is_in_title
from shelfwise.retrieval.index.grouping import VARIANTS, StoredGroups, diversify
from shelfwise.retrieval.records import Choice, Page
from shelfwise.service.curation.relevance import Relevance
from shelfwise.service.curation.rules import Pin, Rule
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import ids

QUERIES = ("drill", "running shoes", "耳机", "red backpack", "")
GROUPS = (VARIANTS, "brand", "color", "category", "price")


def key_of(engine: SearchEngine, group: str, product_id: str) -> object:
    """The group of a product, computed from its fields."""
    product = engine.product(product_id)
    if group == VARIANTS:
        row = engine.snapshot.products.row_of(product_id)
        return engine.snapshot.groups.stored.variants(np.array([row]))[0]
    values = {"brand": product.brand, "category": product.category, "price": product.price}
    value = values[group] if group in values else product.attributes.get(group)
    return ("of its own", product_id) if value in (None, "", ()) else value


def everything(engine: SearchEngine, query: str, **options: object) -> Page:
    return engine.search(query, size=600, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("sort", ["", "-price"])
def test_the_first_of_each_group_is_shown(engine: SearchEngine, query: str, group: str, sort: str) -> None:
    products = ids(everything(engine, query, sort=sort))
    first: dict[object, list[str]] = {}
    for product in products:
        first.setdefault(key_of(engine, group, product), []).append(product)
    page = everything(engine, query, sort=sort, group=group)
    assert ids(page) == [members[0] for members in first.values()]
    assert page.total == len(first)
    for hit, members in zip(page.hits, first.values(), strict=True):
        assert hit.group_size == len(members)
        assert sorted((hit.product.id, *hit.siblings)) == sorted(members)[: 1 + len(hit.siblings)]


@pytest.mark.parametrize("query", ["drill", ""])
@pytest.mark.parametrize("group", [VARIANTS, "brand"])
@pytest.mark.parametrize(("sort", "depth"), [("", 1_000), ("", 5), ("-price", 1_000)])
def test_several_of_each_group_are_shown(
    engine: SearchEngine, query: str, group: str, sort: str, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelfwise.service.engine.candidates, "KEYWORD_DEPTH", depth)
    first: dict[object, list[str]] = {}
    for product in ids(everything(engine, query, sort=sort)):
        first.setdefault(key_of(engine, group, product), []).append(product)
    groups = list(first.values())
    for at, size in ((1, 7), (2, 7), (2, 300)):
        page = engine.search(query, size=size, page=at, sort=sort, group=group, per_group=3)
        shown = groups[(at - 1) * size : at * size]
        assert ids(page) == [product for members in shown for product in members[:3]]
        assert [hit.group_rank for hit in page.hits] == [
            rank for members in shown for rank, _ in enumerate(members[:3], 1)
        ]
        assert page.total == len(groups)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("filters", ["", "price < 40", "language = zh OR price 10 TO 20"])
@pytest.mark.parametrize("group", ["", VARIANTS, "brand"])
def test_facet_count_equals_groups_filtered_by_value(
    engine: SearchEngine, query: str, filters: str, group: str
) -> None:
    fields = ("brand", "category", "color", "price", "size")
    page = engine.search(query, size=1, filters=filters, facets=fields, group=group, facet_values=5)
    for field in fields:
        assert len(page.facets[field].counts) <= 5
        counts = [each.count for each in page.facets[field].counts]
        assert counts == sorted(counts, reverse=True)
        for each in page.facets[field].counts[:3]:
            value = each.value if isinstance(each.value, float) else f'"{each.value}"'
            chosen = everything(engine, query, filters=f"({filters or 'id EXISTS'}) AND {field} = {value}", group=group)
            assert chosen.total == len(chosen.hits) == each.count


def test_exact_identifier_represents_its_group(engine: SearchEngine) -> None:
    page = engine.search("backpack", group=VARIANTS)
    hit = next(hit for hit in page.hits if hit.siblings)
    sibling = engine.product(hit.siblings[-1])
    found = engine.search(sibling.identifiers["ean"][0], group=VARIANTS).hits[0]
    assert found.product.id == sibling.id
    assert found.identifier


def test_pinned_product_represents_its_group_at_its_position(engine: SearchEngine) -> None:
    plain = engine.search("backpack", group=VARIANTS)
    hit = next(hit for hit in plain.hits if len(hit.siblings) > 1)
    pins = [Rule("r", (Pin(tuple(hit.siblings), 3),))]
    page = everything(engine, "backpack", group=VARIANTS, rules=pins)
    assert page.hits[2].product.id == hit.siblings[0]
    assert page.total == plain.total == len(page.hits)
    assert not {hit.product.id, *hit.siblings[1:]} & set(ids(page))


def test_nearest_products_are_grouped(engine: SearchEngine) -> None:
    page = engine.search("hiking backpack", filters="price < 0 OR brand = Pellamo", group="brand")
    assert len({hit.product.brand for hit in page.nearest}) == len(page.nearest)


def test_added_product_is_its_own_group_and_changed_one_keeps_its_group(engine: SearchEngine) -> None:
    groups = engine.snapshot.groups
    assert groups.stored.variants(np.array([0, 600, 601])).tolist()[1:] == [600, 601]
    changed = groups.with_changes([3])
    product = replace(engine.snapshot.products[3], brand="A new one")
    before = changed.of(np.array([3]), "brand", lambda _: product)
    after = changed.of(np.array([3]), "brand", lambda _: replace(product, brand="Another"))
    assert before != after
    assert changed.of(np.array([3]), VARIANTS, lambda _: product) == groups.of(
        np.array([3]), VARIANTS, lambda _: product
    )


def test_damaged_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreDamagedError, match=r"cannot be read .*rebuild the index"):
        StoredGroups(tmp_path, 2).variants(np.array([0]))
    np.save(tmp_path / "groups.npy", np.zeros(3, np.int32))
    with pytest.raises(StoreDamagedError, match=r"has int32\(3,\), not int32\(2,\); rebuild the index"):
        StoredGroups(tmp_path, 2).variants(np.array([0]))


def test_group_by_must_be_a_field(engine: SearchEngine) -> None:
    with pytest.raises(
        UnknownFieldError, match="group is 'colr', it can be 'variants' or a field: no field 'colr'; did"
    ):
        engine.search("drill", group="colr")


def test_diversity_is_maximal_marginal_relevance() -> None:
    relevance = np.array([1.0, 0.9, 0.8, 0.0])
    similarity = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    # After the first: 0.5 * 0.9 - 0.5 * 1 for the second, 0.5 * 0.8 - 0 for the third.
    assert diversify(relevance, similarity, 0, 0.5).tolist() == [0, 2, 3, 1]
    assert diversify(relevance, similarity, 2, 0.5).tolist() == [0, 1, 2, 3]
    assert diversify(relevance, similarity, 0, 0.0).tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("untyped")
def test_diverse_hits_are_less_similar_and_consistent_across_pages(engine: SearchEngine) -> None:
    plain, diverse = (engine.search("backpack", size=20, diversity=each) for each in (0.0, 0.6))
    assert len({hit.product.brand for hit in diverse.hits}) > len({hit.product.brand for hit in plain.hits})
    assert plain.hits[0].product == diverse.hits[0].product
    pages = [ids(engine.search("backpack", size=5, page=at, diversity=0.6)) for at in range(1, 5)]
    assert [product for page in pages for product in page] == ids(diverse)
    assert sorted(ids(everything(engine, "backpack"))) == sorted(ids(everything(engine, "backpack", diversity=1)))


def test_diversity_keeps_identifiers_and_pins(engine: SearchEngine) -> None:
    pinned = ids(engine.search("backpack"))[7]
    pin = Rule("r", (Pin((pinned,), 2),))
    assert ids(engine.search("backpack", diversity=1, rules=[pin]))[1] == pinned
    mpn = engine.product(pinned).identifiers["ean"][0]
    assert ids(engine.search(mpn, diversity=1))[0] == pinned


QUERY = "cordless drill"


def choices(engine: SearchEngine, query: str = QUERY, **options: object) -> dict[str, Choice]:
    found = engine.search(query, **{"choices": 3, "size": 5, **options})  # type: ignore[arg-type]
    return {each.field: each for each in found.choices}


def test_a_broad_query_is_narrowed_by_attributes_in_titles(engine: SearchEngine) -> None:
    found = choices(engine)
    assert 1 <= len(found) <= 3
    for field, choice in found.items():
        assert field in ("brand", "price", "category") or field.startswith("attributes.")
        assert 2 <= len(choice.values) <= MAX_VALUES
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

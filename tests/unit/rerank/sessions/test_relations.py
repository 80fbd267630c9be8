"""Relations between products: by shoppers' choices, and by texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.rerank.sessions.relations import RelationCatalog, relation_maker
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.retrieval.index.vectors import Background
from shelfwise.retrieval.records import RelationEvidence, RelationKind
from shelfwise.retrieval.text.compatibility import NamedModel
from tests.unit.rerank.sessions.derived_log import NOW, MemoryEvents, flag_nothing, search

IDS = ("bits", "drill", "drill2", "lamp", "lamp2", "phone")
TYPES = ("drill bit", "drill", "drill", "desk lamp", "desk lamp", "phone")
FITS = NamedModel(RelationKind.FITS, RelationEvidence.ATTRIBUTES, "compatibility", "KH-1", ("kh1",))


def catalog(**named: object) -> RelationCatalog:
    """A catalog in which products of a type have the same vector, and types are orthogonal."""
    kinds = sorted(set(TYPES))
    vectors = np.array([np.eye(len(kinds))[kinds.index(name)] for name in TYPES], np.float32)
    prices = np.array([9.0, 99.0, 120.0, 30.0, 33.0, np.nan])
    none = ("",) * len(IDS)
    values: Mapping[str, object] = {"named": (), "accessories": {}} | named
    return RelationCatalog(IDS, TYPES, none, none, prices, vectors, Background(0.0, 0.2), **values)  # type: ignore[arg-type]


def tables(folder: Path, events: Sequence[StoredEvent], products: RelationCatalog | None = None) -> DerivedTables:
    steps = Steps(score_sessions=flag_nothing, tables=(relation_maker(products or catalog()),))
    refresh(MemoryEvents(events), folder, None, DeriveOptions(least_shoppers=3), now=NOW, steps=steps)
    return open_derived(folder)


def visits(count: int, *acts: tuple[str, str], prefix: str = "s") -> list[StoredEvent]:
    """Visits of `count` shoppers with the same acts."""
    shown = list(dict.fromkeys(product for _, product in acts))
    begin = NOW - timedelta(hours=5)
    found: list[StoredEvent] = []
    for number in range(count):
        found += search(f"{prefix}{number}", begin + timedelta(minutes=number), "x", shown, *acts)
    return found


def others(count: int = 8) -> list[StoredEvent]:
    """Shoppers who want another product, so that pairs exceed chance."""
    return visits(count, ("click", "phone"), ("cart", "phone"), prefix="o")


def pairs(table: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    return table.select("kind", *columns).rows()


BOTH = (("click", "drill"), ("cart", "drill"), ("click", "bits"), ("cart", "bits"))
INSTEAD = (("click", "lamp"), ("click", "lamp2"), ("cart", "lamp2"))


def test_products_bought_together_are_accessories_or_complements(tmp_path: Path) -> None:
    """The bits cost less than half of the drill and are chosen later; lamp and drill cost about the same."""
    lamps = visits(3, ("cart", "lamp2"), ("cart", "drill"), prefix="l")
    found = tables(tmp_path, [*visits(4, *BOTH), *lamps, *others()]).relations
    assert pairs(found, "product_id", "other_id", "shoppers") == [
        ("accessory", "bits", "drill", 4),
        ("complement", "drill", "lamp2", 3),
    ]
    # 4 of 15 shoppers want both, 7 the drill and 4 the bits: (4 - 7 * 4 / 15) / (4 + 10), nearly unlike.
    strength = found.filter(pl.col("kind") == "accessory")["strength"].item()
    assert strength == pytest.approx((4 - 7 * 4 / 15) / (4 + 10), rel=0.06)


def test_alike_products_of_which_one_is_chosen_are_substitutes(tmp_path: Path) -> None:
    found = tables(tmp_path, [*visits(3, *INSTEAD), *others()])
    rows = pairs(found.relations.filter(pl.col("shoppers") > 0), "product_id", "other_id", "shoppers")
    # Both were viewed by the same shoppers, so both rows exist; lamp2 was chosen, so its row is stronger.
    assert rows == [("substitute", "lamp", "lamp2", 3), ("substitute", "lamp2", "lamp", 3)]
    strengths = dict(found.relations.select("product_id", "strength").rows())
    assert strengths["lamp"] >= strengths["lamp2"]


def test_relations_of_too_few_shoppers_are_left_out(tmp_path: Path) -> None:
    found = tables(tmp_path, [*visits(2, *BOTH), *visits(2, *INSTEAD, prefix="i"), *others()])
    assert found.relations.is_empty()
    assert found.relation_types.is_empty()


def test_types_that_go_together_need_no_pair_of_products(tmp_path: Path) -> None:
    """Two shoppers of each pair are too few, but the two types have four."""
    second = (("click", "drill2"), ("cart", "drill2"), ("click", "bits"))
    found = tables(tmp_path, [*visits(2, *BOTH), *visits(2, *second, prefix="t"), *others(20)])
    assert found.relations.is_empty()
    assert pairs(found.relation_types, "type", "other", "evidence", "shoppers") == [
        ("accessory", "drill bit", "drill", "types", 4)
    ]


def test_products_in_two_languages_do_not_go_together(tmp_path: Path) -> None:
    """Regression: a speaker with a Chinese title was related to speakers with English ones."""
    two = replace(catalog(), languages=("zh", "en", "en", "en", "en", "en"))
    found = tables(tmp_path, [*visits(6, *BOTH), *others()], two)
    assert found.relations.is_empty() and found.relation_types.is_empty()


def test_texts_need_no_shoppers(tmp_path: Path) -> None:
    """Products of the same kind do not fit each other."""
    named = ((0, 1, FITS), (1, 2, FITS))
    found = tables(tmp_path, [], catalog(named=named, accessories={("drill bit", "drill"): 1}))
    assert found.relations.drop("strength").rows() == [
        ("fits", "bits", "drill", "attributes", "compatibility: KH-1", 0)
    ]
    assert pairs(found.relation_types, "type", "other", "evidence", "shoppers") == [
        ("accessory", "drill bit", "drill", "texts", 0)
    ]


def test_products_made_for_others_are_not_fitted(tmp_path: Path) -> None:
    """Regression: a toner cartridge had the printer's model in its title, so that staples of that model fitted it."""
    named = ((0, 3, FITS), (3, 1, FITS), (4, 1, FITS))
    found = tables(tmp_path, [], catalog(named=named)).relations
    assert found.select("product_id", "other_id").rows() == [("lamp", "drill"), ("lamp2", "drill")]


def test_removed_products_have_no_relations(tmp_path: Path) -> None:
    acts = (("click", "gone"), ("cart", "gone"), ("click", "bits"), ("cart", "bits"))
    assert tables(tmp_path, [*visits(4, *acts), *others()]).relations.is_empty()
    assert tables(tmp_path / "none", visits(4, *BOTH), RelationCatalog.empty()).relations.is_empty()


def test_root_categories_need_more_visits_than_by_chance(tmp_path: Path) -> None:
    products = replace(catalog(), categories=("Tools", "Tools", "Tools", "Home", "Home", "Phones"))
    both = ("cart", "drill"), ("cart", "lamp")
    alone = [*visits(20, ("cart", "drill2"), prefix="a"), *visits(20, ("cart", "lamp2"), prefix="b"), *others(40)]
    few, many = (tables(tmp_path / f"{n}", [*visits(n, *both), *alone], products) for n in (4, 40))
    goes_with = pl.col("kind").is_in(["complement", "accessory"])
    assert few.relations.filter(goes_with).is_empty()
    assert few.relation_types.is_empty()
    assert not many.relations.filter(goes_with).is_empty()

"""Tables of products and of their relations."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.sessions.decay import exact_sum
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.product_tables import NEIGHBOURS, POPULARITY, product_table
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.rerank.sessions.relations import RelationCatalog, relation_maker
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.retrieval.errors import StoreMissingError
from shelfwise.retrieval.events.stored import StoredEvent, milliseconds
from shelfwise.retrieval.index.vectors import Background
from shelfwise.retrieval.records import Product, RelationEvidence, RelationKind
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.compatibility import NamedModel
from tests.unit.rerank.sessions.derived_log import NOW, MemoryEvents, catalog, derived, flag_nothing, search, stored
from tests.versions import publish_products


def clicked(shopper: str, product: str, days_ago: int = 0) -> list[StoredEvent]:
    return search(shopper, NOW - timedelta(days=days_ago, hours=1), "lamp", ["a", "b"], ("click", product))


def test_acts_are_counted_with_shoppers_and_decayed_by_age(tmp_path: Path) -> None:
    acts = (("click", "a"), ("cart", "a"), ("purchase", "a"))
    bought = search("u3", NOW - timedelta(days=14, hours=1), "lamp", ["a", "b"], *acts)
    events = clicked("u1", "a") + clicked("u1", "a", 7) + clicked("u2", "a", 14) + bought
    table = derived(tmp_path, POPULARITY, events, DeriveOptions(least_shoppers=2))
    (row,) = table.to_dicts()
    assert (row["product_id"], row["category"], row["rank"]) == ("a", "", 1)
    assert (row["impressions"], row["clicks"], row["carts"], row["purchases"], row["shoppers"]) == (4, 4, 1, 1, 3)
    assert row["score"] == pytest.approx(1 + 0.5**0.5 + 0.5 * (1 + 1 + 3 + 5), abs=1e-5)


def test_rising_product_has_a_positive_trend_shrunk_by_the_prior(tmp_path: Path) -> None:
    events = [event for number in range(8) for event in clicked(f"u{number}", "a")]
    events += [event for number in range(8) for event in clicked(f"v{number}", "b", 9)]
    trend = {row["product_id"]: row["trend"] for row in derived(tmp_path, POPULARITY, events).to_dicts()}
    # At noon, half of today is over.
    usual, recent = (1 / 2 + sum(0.5 ** (age / life) for age in range(1, 10)) for life in (14, 3.5))
    assert trend["a"] == pytest.approx(math.log2((8 + 5) / (8 * recent / usual + 5)), abs=1e-5)
    fallen = 8 * 0.5 ** (9 / 14)
    assert trend["b"] == pytest.approx(math.log2((8 * 0.5 ** (9 / 3.5) + 5) / (fallen * recent / usual + 5)), abs=1e-5)
    assert trend["b"] < 0 < trend["a"]


@pytest.mark.parametrize("hour", [1, 12, 23])
def test_constant_rate_has_no_trend_at_any_hour(tmp_path: Path, hour: int) -> None:
    until = NOW.replace(hour=hour)
    events = [
        stored("click", until - timedelta(hours=age, minutes=30), product_id="a", shopper=f"u{age}")
        for age in range(30 * 24 + hour)
    ]
    options = DeriveOptions(until=until)
    (row,) = derived(tmp_path, POPULARITY, events, options).to_dicts()
    assert row["trend"] == pytest.approx(0, abs=0.01)


def test_ranks_are_within_a_category_and_ties_are_broken_by_id(tmp_path: Path) -> None:
    events = [event for product in "ab" for event in clicked("u1", product)]
    acts = (("click", "c"), ("click", "d"), ("cart", "d"))
    events += search("u2", NOW - timedelta(hours=2), "saw", ["c", "d", "e"], *acts)
    products = catalog({"a": "Light", "b": "Light", "c": "Tools > Saws", "d": "Tools > Saws", "e": "Tools > Saws"})
    table = derived(tmp_path, POPULARITY, events, DeriveOptions(least_shoppers=1), products)
    assert table.select("category", "rank", "product_id").rows() == [
        ("Light", 1, "a"),
        ("Light", 2, "b"),
        ("Tools > Saws", 1, "d"),
        ("Tools > Saws", 2, "c"),
    ]


def test_product_of_too_few_shoppers_is_left_out(tmp_path: Path) -> None:
    events = [event for day in range(9) for event in clicked("u1", "a", day)]
    events += [event for number in range(5) for event in clicked(f"v{number}", "b")]
    assert derived(tmp_path, POPULARITY, events)["product_id"].to_list() == ["b"]


def test_popularity_at_a_time_uses_earlier_events_only(tmp_path: Path) -> None:
    events = [event for number in range(6) for event in clicked(f"u{number}", "a", number)]
    events += [event for number in range(5) for event in clicked(f"v{number}", "b", number + 3)]
    table = derived(tmp_path, POPULARITY, events)
    opened = open_derived(tmp_path)
    now = opened.popularity_before(NOW)
    assert now.rows() == table.select("product_id", "score").sort("product_id").rows()
    assert now["product_id"].to_list() == ["a", "b"]
    # Three shoppers had chosen "a" by then.
    assert opened.popularity_before(NOW - timedelta(days=3))["product_id"].to_list() == ["b"]
    at = NOW - timedelta(days=1)
    earlier = [event for event in events if event.time < milliseconds(at)]
    options = DeriveOptions(until=at - timedelta(milliseconds=1))
    expected = derived(tmp_path / "earlier", POPULARITY, earlier, options).select("product_id", "score")
    assert opened.popularity_before(at).rows() == expected.sort("product_id").rows()


def test_acts_after_midnight_keep_their_time(tmp_path: Path) -> None:
    night = NOW.replace(hour=0)
    events = []
    for shopper in "uvwxy":
        events += search(shopper, night - timedelta(minutes=1), "lamp", ["a"], ("click", "a"))
        events.append(stored("cart", night + timedelta(minutes=9), product_id="a", shopper=shopper))
    derived(tmp_path, POPULARITY, events)
    (row,) = open_derived(tmp_path).popularity_before(night + timedelta(minutes=5)).rows()
    assert row == ("a", pytest.approx(5 * 0.5 ** (1 / 14), abs=1e-5))


def test_session_without_a_shopper_counts_as_a_shopper(tmp_path: Path) -> None:
    views = [
        stored("consultation", NOW - timedelta(hours=hour), product_id="a", session=session)
        for hour, session in ((1, "s1"), (5, "s1"), (9, "s2"))
    ]
    (row,) = derived(tmp_path, POPULARITY, views, DeriveOptions(least_shoppers=1)).to_dicts()
    assert (row["consultations"], row["shoppers"], row["score"]) == (3, 2, 3 * 0.5)


def test_acts_before_login_belong_to_the_shopper_of_the_session(tmp_path: Path) -> None:
    anonymous = stored("consultation", NOW - timedelta(minutes=9), product_id="a", session="s1")
    named = stored("cart", NOW - timedelta(minutes=8), product_id="a", session="s1", shopper="u1")
    (row,) = derived(tmp_path, POPULARITY, [anonymous, named], DeriveOptions(least_shoppers=1)).to_dicts()
    assert row["shoppers"] == 1


def view(shopper: str, product: str, days_ago: int = 0) -> StoredEvent:
    at = NOW - timedelta(days=days_ago, hours=1)
    return stored("consultation", at, product_id=product, shopper=shopper)


acts = st.tuples(st.sampled_from("stuvw"), st.sampled_from("abcd"), st.sampled_from([0, 7, 14]))
histories = st.lists(acts, max_size=25)


@given(histories, st.integers(1, 3))
def test_similarities_equal_a_plain_count(history: list[tuple[str, str, int]], least: int) -> None:
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for shopper, product, days_ago in history:
        value = 0.5 ** (days_ago / 14)
        values[product][shopper] = max(value, values[product].get(shopper, 0.0))
    expected = {}
    for (one, ones), (other, others) in itertools.permutations(values.items(), 2):
        common = ones.keys() & others.keys()
        if len(common) >= least:
            dot = sum(ones[shopper] * others[shopper] for shopper in common)
            norms = math.hypot(*ones.values()) * math.hypot(*others.values())
            expected[one, other] = dot / norms * len(common) / (len(common) + 10)
    with TemporaryDirectory() as folder:
        options = DeriveOptions(least_shoppers=least)
        table = derived(Path(folder), NEIGHBOURS, [view(*each) for each in history], options)
    found = {(row["product_id"], row["neighbour_id"]): row["similarity"] for row in table.to_dicts()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_pairs_of_too_few_shoppers_are_left_out_and_ranks_count_from_1(tmp_path: Path) -> None:
    events = [view(f"u{number}", product) for number in range(5) for product in "abc"]
    events += [view(f"v{number}", "b") for number in range(3)] + [view("u0", "d")]
    table = derived(tmp_path, NEIGHBOURS, events)
    assert set(table["shoppers"]) == {5}
    pairs = [f"{one}{other}{rank}" for one, other, rank in table.select("product_id", "neighbour_id", "rank").rows()]
    assert pairs == ["ac1", "ab2", "ba1", "bc2", "ca1", "cb2"]


def test_purchases_are_a_separate_kind(tmp_path: Path) -> None:
    events = [
        stored("purchase", NOW - timedelta(hours=1), product_id=product, shopper=f"u{number}", quantity=1)
        for number in range(5)
        for product in "ab"
    ]
    table = derived(tmp_path, NEIGHBOURS, events)
    assert table.select("kind", "product_id", "neighbour_id").rows() == [("purchase", "a", "b"), ("purchase", "b", "a")]
    assert table["similarity"].to_list() == pytest.approx([5 / (5 + 10)] * 2)


def test_tables_have_the_products_of_the_serving_version(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError):
        product_table(Store(tmp_path))
    created = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)
    publish_products(tmp_path, [Product("z", "old")])
    saw = Product("a", "saw", brand="Acme", category=("Tools", "Saws"), price=9.5, created=created)
    publish_products(tmp_path, [saw, Product("b", "nail")])
    rows = product_table(Store(tmp_path)).rows()
    assert rows == [("a", "Tools > Saws", created, "Acme", 9.5), ("b", "", None, "", None)]


@given(st.lists(st.floats(0, 1e6), max_size=50), st.randoms())
def test_sum_does_not_depend_on_order(amounts: list[float], random: object) -> None:
    shuffled = list(amounts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    frames = (pl.DataFrame({"amount": values}, schema={"amount": pl.Float64}) for values in (amounts, shuffled))
    one, other = (frame.select(exact_sum(pl.col("amount"))).item() for frame in frames)
    assert one == other
    assert one == pytest.approx(sum(amounts), abs=1e-6 * (1 + len(amounts)))


IDS = ("bits", "drill", "drill2", "lamp", "lamp2", "phone")
TYPES = ("drill bit", "drill", "drill", "desk lamp", "desk lamp", "phone")
FITS = NamedModel(RelationKind.FITS, RelationEvidence.ATTRIBUTES, "compatibility", "KH-1", ("kh1",))


def typed_catalog(**named: object) -> RelationCatalog:
    """A typed_catalog in which products of a type have the same vector, and types are orthogonal."""
    kinds = sorted(set(TYPES))
    vectors = np.array([np.eye(len(kinds))[kinds.index(name)] for name in TYPES], np.float32)
    prices = np.array([9.0, 99.0, 120.0, 30.0, 33.0, np.nan])
    none = ("",) * len(IDS)
    values: Mapping[str, object] = {"named": (), "accessories": {}} | named
    return RelationCatalog(IDS, TYPES, none, none, prices, vectors, Background(0.0, 0.2), **values)  # type: ignore[arg-type]


def tables(folder: Path, events: Sequence[StoredEvent], products: RelationCatalog | None = None) -> DerivedTables:
    steps = Steps(score_sessions=flag_nothing, tables=(relation_maker(products or typed_catalog()),))
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
    two = replace(typed_catalog(), languages=("zh", "en", "en", "en", "en", "en"))
    found = tables(tmp_path, [*visits(6, *BOTH), *others()], two)
    assert found.relations.is_empty() and found.relation_types.is_empty()


def test_texts_need_no_shoppers(tmp_path: Path) -> None:
    """Products of the same kind do not fit each other."""
    named = ((0, 1, FITS), (1, 2, FITS))
    found = tables(tmp_path, [], typed_catalog(named=named, accessories={("drill bit", "drill"): 1}))
    assert found.relations.drop("strength").rows() == [
        ("fits", "bits", "drill", "attributes", "compatibility: KH-1", 0)
    ]
    assert pairs(found.relation_types, "type", "other", "evidence", "shoppers") == [
        ("accessory", "drill bit", "drill", "texts", 0)
    ]


def test_products_made_for_others_are_not_fitted(tmp_path: Path) -> None:
    """Regression: a toner cartridge had the printer's model in its title, so that staples of that model fitted it."""
    named = ((0, 3, FITS), (3, 1, FITS), (4, 1, FITS))
    found = tables(tmp_path, [], typed_catalog(named=named)).relations
    assert found.select("product_id", "other_id").rows() == [("lamp", "drill"), ("lamp2", "drill")]


def test_removed_products_have_no_relations(tmp_path: Path) -> None:
    acts = (("click", "gone"), ("cart", "gone"), ("click", "bits"), ("cart", "bits"))
    assert tables(tmp_path, [*visits(4, *acts), *others()]).relations.is_empty()
    assert tables(tmp_path / "none", visits(4, *BOTH), RelationCatalog.empty()).relations.is_empty()


def test_root_categories_need_more_visits_than_by_chance(tmp_path: Path) -> None:
    products = replace(typed_catalog(), categories=("Tools", "Tools", "Tools", "Home", "Home", "Phones"))
    both = ("cart", "drill"), ("cart", "lamp")
    alone = [*visits(20, ("cart", "drill2"), prefix="a"), *visits(20, ("cart", "lamp2"), prefix="b"), *others(40)]
    few, many = (tables(tmp_path / f"{n}", [*visits(n, *both), *alone], products) for n in (4, 40))
    goes_with = pl.col("kind").is_in(["complement", "accessory"])
    assert few.relations.filter(goes_with).is_empty()
    assert few.relation_types.is_empty()
    assert not many.relations.filter(goes_with).is_empty()

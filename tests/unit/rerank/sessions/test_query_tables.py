"""Tables of queries, and the memory of their choices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from shelfwise.rerank.ranker.memory import Scope, memory_key, memory_words
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.query_memory import QUERY_MEMORY
from shelfwise.rerank.sessions.query_tables import LABELS, PAGE_QUESTIONS, QUERIES, QUERY_CATEGORIES, REFORMULATIONS
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.events.stored import StoredEvent
from tests.unit.rerank.sessions.derived_log import NOW, MemoryEvents, catalog, derived, flag_nothing, search, stored

START = NOW - timedelta(hours=3)
ANY = DeriveOptions(least_shoppers=1)


def later(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_query_statistics_combine_spellings(tmp_path: Path) -> None:
    events = search("u1", START, "Desk Lamp", ["a", "b"], ("click", "b"), ("click", "a"), ("cart", "a"))
    events += search("u2", START, "desk lamp", ["a", "b"])
    events += search("u3", START, "desk lamp", ["a", "b"], ("click", "a"), ("purchase", "a"))
    (row,) = derived(tmp_path, QUERIES, events, ANY).to_dicts()
    assert (row["query"], row["spelling"], row["searches"], row["shoppers"]) == ("desk lamp", "desk lamp", 3, 3)
    assert (row["impressions"], row["clicks"], row["carts"], row["purchases"]) == (6, 3, 1, 1)
    assert row["ctr"] == 3 / 6
    assert row["clicked_share"] == 2 / 3
    assert row["mean_first_click"] == (2 + 1) / 2
    assert (row["empty"], row["reformulated_share"]) == (0, 0)


@pytest.mark.parametrize(("results", "empty"), [(0, 1), (None, 1), (7, 0)])
def test_search_without_results_or_impressions_found_nothing(tmp_path: Path, results: int | None, empty: int) -> None:
    events = [stored("query", START, query="saw", query_id="q1", shopper="u1", results=results)]
    events += search("u2", START, "lamp", ["a"])
    row, _ = derived(tmp_path / "shown", QUERIES, events, ANY).sort("query", descending=True).to_dicts()
    assert (row["query"], row["empty"], row["mean_first_click"]) == ("saw", empty, None)
    # A log without impressions does not show empty answers.
    unshown = [stored("query", START, query="saw", query_id="q1", shopper="u1")]
    assert derived(tmp_path / "not shown", QUERIES, unshown, ANY)["empty"].to_list() == [0]


def test_purchase_without_query_id_belongs_to_the_last_clicked_answer(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a"], ("click", "a"))
    events += search("u1", later(2), "light", ["a"], ("click", "a"))
    events += search("u1", later(4), "saw", ["b"], ("click", "b"))
    events += [stored("purchase", later(6), product_id="a", shopper="u1", quantity=1)]
    table = derived(tmp_path, QUERIES, events, ANY)
    assert dict(table.select("query", "purchases").iter_rows()) == {"lamp": 0, "light": 1, "saw": 0}


@pytest.mark.parametrize("apart", [timedelta(hours=1), timedelta(minutes=-20)])
def test_later_purchase_belongs_to_the_answer_of_its_query_id(tmp_path: Path, apart: timedelta) -> None:
    events = search("u1", START, "lamp", ["a"], ("click", "a"), session="s1")
    query_id = events[0].query_id
    # The session of the purchase may also begin before the search.
    named = {"product_id": "a", "session": "pay", "query_id": query_id, "quantity": 1}
    purchase = stored("purchase", START + timedelta(minutes=5), **named)
    other = stored("consultation", START + apart, product_id="b", session="pay")
    (row,) = derived(tmp_path, QUERIES, [*events, purchase, other], ANY).to_dicts()
    assert (row["searches"], row["clicks"], row["purchases"]) == (1, 1, 1)
    products = derived(tmp_path / "c", QUERY_CATEGORIES, [*events, purchase, other], ANY, catalog({"a": "A", "b": "B"}))
    assert products.select("query", "category", "weight").rows() == [("lamp", "A", 1 + 5)]


def test_queries_of_too_few_shoppers_are_left_out(tmp_path: Path) -> None:
    rare = [event for minute in range(9) for event in search("u1", later(minute), "my own name", ["a"])]
    common = [event for number in range(5) for event in search(f"v{number}", START, "lamp", ["a"])]
    assert derived(tmp_path, QUERIES, rare + common)["query"].to_list() == ["lamp"]


def test_questions_on_a_page_are_counted_with_the_product(tmp_path: Path) -> None:
    def typed(shopper: str, product: str, text: str) -> StoredEvent:
        return stored("query", START, query=text, query_id=f"{shopper}{product}", shopper=shopper, product_id=product)

    events = [typed(f"u{number}", "a", text) for number, text in enumerate(["Vegan?", "vegan?", "vegan?"])]
    events += [typed("u1", "b", "vegan?"), stored("query", START, query="vegan?", query_id="q", shopper="u9")]
    table = derived(tmp_path, PAGE_QUESTIONS, events, DeriveOptions(least_shoppers=3))
    assert table.rows() == [("vegan?", "a", 3, 3)]


def chains() -> list[StoredEvent]:
    """Three shoppers go from one query to the other: one buys, one clicks only before, one only after."""
    events: list[StoredEvent] = []
    for shopper, before, after in (("u1", None, "purchase"), ("u2", "click", None), ("u3", None, "click")):
        events += search(shopper, START, "desk lamp", ["a", "b"], *([(before, "a")] if before else []))
        acts = [("click", "a"), (after, "a")] if after == "purchase" else [(after, "a")] if after else []
        events += search(shopper, later(1), "red desk lamp", ["a", "c"], *acts)
    return events


def test_reformulation_is_counted_with_its_outcome(tmp_path: Path) -> None:
    (row,) = derived(tmp_path, REFORMULATIONS, chains(), DeriveOptions(least_shoppers=3)).to_dicts()
    ended = {"purchased": 1, "carted": 0, "clicked": 1}
    assert row == {"query": "desk lamp", "to_query": "red desk lamp", "count": 3, "shoppers": 3, **ended}
    assert derived(tmp_path, REFORMULATIONS, chains(), DeriveOptions(least_shoppers=4)).is_empty()


def test_reformulation_rate_ignores_other_needs(tmp_path: Path) -> None:
    events = chains() + search("u4", START, "desk lamp", ["a"]) + search("u4", later(3), "garden hose", ["h"])
    table = derived(tmp_path, QUERIES, events, ANY)
    assert table.filter(query="desk lamp")["reformulated_share"].to_list() == [3 / 4]


def test_alternating_reformulations_count_once(tmp_path: Path) -> None:
    asked = ("desk lamp", "lamp", "desk lamp", "lamp")
    events = [event for minute, query in enumerate(asked) for event in search("u1", later(minute), query, ["a"])]
    table = derived(tmp_path, REFORMULATIONS, events, ANY)
    assert table.select("query", "to_query", "count").rows() == [("desk lamp", "lamp", 1), ("lamp", "desk lamp", 1)]


PRODUCTS = catalog({"a": "Light > Lamps", "b": "Light > Bulbs", "c": "Tools"})


def test_probabilities_are_shares_of_weight_smoothed_by_the_prior(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a", "b"], ("click", "a"), ("click", "b"), ("cart", "a"), ("purchase", "a"))
    events += search("u2", START, "hammer", ["c"], ("click", "c"))
    table = derived(tmp_path, QUERY_CATEGORIES, events, ANY, PRODUCTS)
    lamps, bulbs, tools = 1 + 3 + 5, 1, 1
    whole = lamps + bulbs + tools
    assert table.select("query", "category", "weight").rows() == [
        ("hammer", "Tools", tools),
        ("lamp", "Light > Lamps", lamps),
        ("lamp", "Light > Bulbs", bulbs),
    ]
    assert table["probability"].to_list() == pytest.approx(
        [
            (tools + 10 * tools / whole) / (tools + 10),
            (lamps + 10 * lamps / whole) / (lamps + bulbs + 10),
            (bulbs + 10 * bulbs / whole) / (lamps + bulbs + 10),
        ]
    )


def test_category_of_too_few_shoppers_is_left_out(tmp_path: Path) -> None:
    events = [event for number in range(5) for event in search(f"u{number}", START, "lamp", ["a"], ("click", "a"))]
    events += search("v", START, "lamp", ["c"], ("click", "c"))
    table = derived(tmp_path, QUERY_CATEGORIES, events, products=PRODUCTS)
    assert table.select("query", "category", "shoppers").rows() == [("lamp", "Light > Lamps", 5)]
    assert derived(tmp_path, QUERY_CATEGORIES, events, products=None).is_empty()


BEGUN = NOW - timedelta(days=3)


def test_repeated_query_ids_of_different_days_are_separate(tmp_path: Path) -> None:
    events: list[StoredEvent] = []
    for day, (query, product) in enumerate((("lamp", "a"), ("saw", "b"))):
        found = search("u1", BEGUN + timedelta(days=day), query, [product], ("click", product))
        events += [event._replace(query_id="1") for event in found]
    table = derived(tmp_path, LABELS, events)
    counted = table.select("query", "product_id", "impressions", "clicks").rows()
    assert counted == [("lamp", "a", 1, 1), ("saw", "b", 1, 1)]


MEMORY_BEGUN = NOW - timedelta(days=2)


def remembered(
    count: int, query: str = "red lamp", begun: datetime = MEMORY_BEGUN, name: str = "u"
) -> list[StoredEvent]:
    """Events of shoppers who see three products in rotated orders, and all click "good"; a third of them buy it."""
    events: list[StoredEvent] = []
    for number in range(count):
        shown = ["good", "bad", "other"]
        shown = shown[number % 3 :] + shown[: number % 3]
        acts = [("click", "good"), *([("cart", "good"), ("purchase", "good")] if number % 3 == 0 else [])]
        events += search(f"{name}{number}", begun + timedelta(minutes=5 * number), query, shown, *acts)
    return events


def ratios(table: pl.DataFrame, scope: Scope = Scope.QUERY, key: str = "lamp red") -> dict[str, float]:
    rows = table.filter((pl.col("scope") == scope.value) & (pl.col("key") == key))
    return dict(rows.select("member", "attraction").iter_rows())


def test_chosen_product_is_above_its_query_in_every_scope(tmp_path: Path) -> None:
    table = derived(tmp_path, QUERY_MEMORY, [*remembered(30), *remembered(30, "green lamps", name="v")], ANY)
    for scope, keys in ((Scope.QUERY, ["lamp red", "green lamps"]), (Scope.WORD, ["lamp"]), (Scope.ALL, [""])):
        for key in keys:
            found = ratios(table, scope, key)
            assert found["good"] > 1.5, (scope, key)
            assert found["bad"] < 0.5, (scope, key)
    assert table["evidence"].is_between(0, 1).all()
    assert table.filter(pl.col("key") == "lamp red")["shoppers"].to_list() == [30] * 3


def test_repeats_of_one_shopper_count_once(tmp_path: Path) -> None:
    honest = remembered(20)
    once = search("greedy", MEMORY_BEGUN, "red lamp", ["bad", "good", "other"], ("click", "bad"))
    repeats = [
        event
        for number in range(40)
        for event in search(
            "greedy",
            MEMORY_BEGUN + timedelta(minutes=40 * number),
            "red lamp",
            ["bad", "good", "other"],
            ("click", "bad"),
        )
    ]
    one = ratios(derived(tmp_path / "once", QUERY_MEMORY, [*honest, *once], ANY))
    many = ratios(derived(tmp_path / "often", QUERY_MEMORY, [*honest, *repeats], ANY))
    assert many["bad"] == pytest.approx(one["bad"], rel=0.25)
    assert many["bad"] < 0.6 * many["good"]


def test_one_shopper_does_not_move_a_product_that_is_chosen_as_often_as_expected(tmp_path: Path) -> None:
    def clicks(name: str, product: str, count: int) -> list[StoredEvent]:
        return [
            event
            for number in range(count)
            for event in search(
                f"{name}{number}", MEMORY_BEGUN, "red lamp", ["even", "odd"][:: 1 - number % 2 * 2], ("click", product)
            )
        ]

    honest = [*clicks("e", "even", 8), *clicks("o", "odd", 8)]
    before, one, six = (
        ratios(derived(tmp_path / str(count), QUERY_MEMORY, [*honest, *clicks("new", "even", count)], ANY))
        for count in (0, 1, 6)
    )
    assert before == pytest.approx({"even": 1, "odd": 1})
    assert one == pytest.approx(before)
    assert six["even"] > 1.002


def test_rows_of_too_few_shoppers_are_left_out(tmp_path: Path) -> None:
    events = [*remembered(5), *remembered(4, "saw", name="v")]
    table = derived(tmp_path, QUERY_MEMORY, events, DeriveOptions(least_shoppers=5))
    assert table.select("scope", "key").unique().sort("scope", "key").rows() == [
        ("all", ""),
        ("query", "lamp red"),
        ("word", "lamp"),
        ("word", "red"),
    ]


def test_older_lists_count_less(tmp_path: Path) -> None:
    new = derived(tmp_path / "new", QUERY_MEMORY, remembered(9, begun=NOW - timedelta(hours=1)), ANY)
    old = derived(tmp_path / "old", QUERY_MEMORY, remembered(9, begun=NOW - timedelta(days=30, hours=1)), ANY)
    looks = [table.filter(pl.col("scope") == "query")["looks"].sum() for table in (new, old)]
    assert looks[1] == pytest.approx(looks[0] / 2)


def refreshed_lists(folder: Path, events: Sequence[StoredEvent]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The query memory of the time before `MEMORY_BEGUN`, and the whole table."""
    refresh(MemoryEvents(events), folder, None, ANY, now=NOW, steps=Steps(score_sessions=flag_nothing))
    tables = open_derived(folder)
    return tables.memory_of(tables.lists(), MEMORY_BEGUN), tables.query_memory


def test_an_earlier_memory_knows_nothing_of_later_lists(tmp_path: Path) -> None:
    earlier = remembered(9, begun=MEMORY_BEGUN - timedelta(days=1))
    alone, _ = refreshed_lists(tmp_path / "alone", earlier)
    before, whole = refreshed_lists(tmp_path / "both", [*earlier, *remembered(30, begun=MEMORY_BEGUN, name="v")])
    assert before.equals(alone)
    assert whole["shoppers"].max() == 39


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("Red Lamp", " lamp  red", True), ("red lamp", "red lamps", False), ("无线 耳机", "耳机 无线", True)],
)
def test_queries_of_the_same_words_have_one_key(one: str, other: str, is_same: bool) -> None:
    assert (memory_key(one) == memory_key(other)) is is_same


def test_words_are_folded_and_in_the_singular() -> None:
    assert memory_words("Glass Lamps for the lamp") == ["glass", "lamp", "for", "the"]
    assert memory_words("无线耳机") == ["无线", "线耳", "耳机"]

"""The query memory table: debiased, shrunk, decayed, and each shopper counted once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from shelfwise.rerank.ranker.memory import Scope, memory_key, memory_words
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.query_memory import QUERY_MEMORY
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.events.stored import StoredEvent
from tests.unit.rerank.sessions.derived_log import NOW, MemoryEvents, derived, flag_nothing, search

BEGUN = NOW - timedelta(days=2)
ANY = DeriveOptions(least_shoppers=1)


def shopping(count: int, query: str = "red lamp", begun: datetime = BEGUN, name: str = "u") -> list[StoredEvent]:
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
    table = derived(tmp_path, QUERY_MEMORY, [*shopping(30), *shopping(30, "green lamps", name="v")], ANY)
    for scope, keys in ((Scope.QUERY, ["lamp red", "green lamps"]), (Scope.WORD, ["lamp"]), (Scope.ALL, [""])):
        for key in keys:
            found = ratios(table, scope, key)
            assert found["good"] > 1.5, (scope, key)
            assert found["bad"] < 0.5, (scope, key)
    assert table["evidence"].is_between(0, 1).all()
    assert table.filter(pl.col("key") == "lamp red")["shoppers"].to_list() == [30] * 3


def test_repeats_of_one_shopper_count_once(tmp_path: Path) -> None:
    honest = shopping(20)
    once = search("greedy", BEGUN, "red lamp", ["bad", "good", "other"], ("click", "bad"))
    repeats = [
        event
        for number in range(40)
        for event in search(
            "greedy", BEGUN + timedelta(minutes=40 * number), "red lamp", ["bad", "good", "other"], ("click", "bad")
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
                f"{name}{number}", BEGUN, "red lamp", ["even", "odd"][:: 1 - number % 2 * 2], ("click", product)
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
    events = [*shopping(5), *shopping(4, "saw", name="v")]
    table = derived(tmp_path, QUERY_MEMORY, events, DeriveOptions(least_shoppers=5))
    assert table.select("scope", "key").unique().sort("scope", "key").rows() == [
        ("all", ""),
        ("query", "lamp red"),
        ("word", "lamp"),
        ("word", "red"),
    ]


def test_older_lists_count_less(tmp_path: Path) -> None:
    new = derived(tmp_path / "new", QUERY_MEMORY, shopping(9, begun=NOW - timedelta(hours=1)), ANY)
    old = derived(tmp_path / "old", QUERY_MEMORY, shopping(9, begun=NOW - timedelta(days=30, hours=1)), ANY)
    looks = [table.filter(pl.col("scope") == "query")["looks"].sum() for table in (new, old)]
    assert looks[1] == pytest.approx(looks[0] / 2)


def refreshed_lists(folder: Path, events: Sequence[StoredEvent]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The query memory of the time before `BEGUN`, and the whole table."""
    refresh(MemoryEvents(events), folder, None, ANY, now=NOW, steps=Steps(score_sessions=flag_nothing))
    tables = open_derived(folder)
    return tables.memory_of(tables.lists(), BEGUN), tables.query_memory


def test_an_earlier_memory_knows_nothing_of_later_lists(tmp_path: Path) -> None:
    earlier = shopping(9, begun=BEGUN - timedelta(days=1))
    alone, _ = refreshed_lists(tmp_path / "alone", earlier)
    before, whole = refreshed_lists(tmp_path / "both", [*earlier, *shopping(30, begun=BEGUN, name="v")])
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

"""Labels and their weights as derived tables: of lists of searches, queries normalised, browsed pages left out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from rerank.click_models.labels import DEFAULT_WEIGHTS, LEAST_PURCHASES, SIGNALS
from rerank.sessions.query_tables import LABELS
from retrieval.events.stored import StoredEvent
from tests.unit.rerank.sessions.derived_log import NOW, derived, search, stored

START = NOW - timedelta(days=3)


def shopping(sessions: int) -> list[StoredEvent]:
    """Lists in two orders: whoever sees `good` clicks it, whoever sees `bad` first looks on; every third buys."""
    events: list[StoredEvent] = []
    for number in range(sessions):
        shown = ["good", "bad"] if number % 2 else ["bad", "good"]
        acts = [("click", "good"), *([("cart", "good"), ("purchase", "good")] if number % 3 == 0 else [])]
        at = START + timedelta(minutes=5 * number)
        events += search(f"u{number}", at, " Red  LAMP" if number % 2 else "red lamp", shown, *acts)
    return events


def test_what_is_clicked_wherever_it_stands_has_the_higher_label(tmp_path: Path) -> None:
    table = derived(tmp_path, LABELS, shopping(40))
    assert table.select("query", "product_id", "impressions", "clicks", "carts", "purchases").rows() == [
        ("red lamp", "bad", 40, 0, 0, 0),
        ("red lamp", "good", 40, 40, 14, 14),
    ]
    bad, good = table["label"]
    assert 0 <= bad < good == 1


def test_carts_and_purchases_without_an_answer_belong_to_the_last_click(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a", "b"], ("click", "b"))
    events.append(stored("purchase", START + timedelta(minutes=2), shopper="u1", product_id="b"))
    table = derived(tmp_path, LABELS, events)
    assert table.filter(pl.col("product_id") == "b")["purchases"].to_list() == [1]


def test_pages_that_were_browsed_teach_nothing_about_a_query(tmp_path: Path) -> None:
    assert derived(tmp_path, LABELS, search("u1", START, "", ["a", "b"], ("click", "b"))).is_empty()


def test_ids_that_start_anew_each_day_keep_queries_apart(tmp_path: Path) -> None:
    events: list[StoredEvent] = []
    for day, (query, product) in enumerate((("lamp", "a"), ("saw", "b"))):
        found = search("u1", START + timedelta(days=day), query, [product], ("click", product))
        events += [event._replace(query_id="1") for event in found]
    table = derived(tmp_path, LABELS, events)
    assert table.select("query", "product_id", "impressions", "clicks").rows() == [
        ("lamp", "a", 1, 1),
        ("saw", "b", 1, 1),
    ]


def test_what_is_done_a_day_later_belongs_to_the_answer_that_it_names(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a", "b"], ("click", "b"))
    bought = stored("purchase", START + timedelta(days=1), shopper="u1", product_id="b", query_id=events[0].query_id)
    table = derived(tmp_path, LABELS, [*events, bought])
    assert table.filter(pl.col("product_id") == "b")["purchases"].to_list() == [1]


def test_weights_say_what_no_list_led_to(tmp_path: Path) -> None:
    events = search("u1", START, "lamp", ["a"], ("click", "a"))
    bought = stored("purchase", START + timedelta(minutes=1), shopper="u1", product_id="z", query_id=events[0].query_id)
    weights = derived(tmp_path, LABELS, [*events, bought], table="label_weights")
    assert weights["unattributed"].to_list() == [1] * len(SIGNALS)
    assert weights["error"].to_list() == [None] * len(SIGNALS)


def test_weights_say_that_they_are_not_fitted_where_purchases_are_few(tmp_path: Path) -> None:
    weights = derived(tmp_path, LABELS, shopping(40), table="label_weights")
    assert weights["signal"].to_list() == list(SIGNALS)
    assert weights["weight"].to_list() == DEFAULT_WEIGHTS.tolist()
    assert not weights["fitted"].any()
    assert weights["log_likelihood"].null_count() == len(SIGNALS)


def test_weights_are_fitted_to_later_purchases_where_there_are_enough(tmp_path: Path) -> None:
    weights = derived(tmp_path, LABELS, shopping(12 * LEAST_PURCHASES), table="label_weights")
    assert weights["fitted"].all()
    # Every third session buys, and the last three tenths of the sessions are the later ones.
    assert weights["purchases"].to_list() == [12 * LEAST_PURCHASES * 3 // 10 // 3] * len(SIGNALS)
    assert (weights["weight"] >= 0).all()


def test_an_empty_log_has_no_labels(tmp_path: Path) -> None:
    assert derived(tmp_path, LABELS, []).is_empty()

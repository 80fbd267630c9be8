"""Who was shown what, and what each had done before, found among a store's events."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from rerank.ranker.features import ACT_KINDS, FEATURES
from rerank.training.datasets import CandidateLists
from rerank.training.history_training import ShopperDisplays
from service.training.ranker_from_clicks import KnownShoppers, ShownLists, find_displays

START = datetime(2026, 5, 1)
ROWS = {"a": 4, "b": 7, "c": 9}
LISTS = CandidateLists(
    ("mug", "pan"), np.array([0, 2, 4]), np.array([4, 7, 9, 4]), np.zeros((4, len(FEATURES)), np.float32)
)


def shown(*answers: tuple[str, str, int, str], clicked: str = "b") -> ShownLists:
    rows = [
        (kind, answer, query, product, position, START + timedelta(minutes=minute + later), shopper)
        for answer, query, minute, shopper in answers
        for position, product in enumerate("abc", 1)
        for kind, later in (("impression", 0), ("click", 1))
        if kind == "impression" or product == clicked
    ]
    names = ("kind", "query_id", "query", "product_id", "position", "time", "shopper")
    events = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("position").cast(pl.Int32))
    return ShownLists.of(events.sort("time", "query_id", "position"), 5)


def acts(*done: tuple[str, str, str, int]) -> pl.DataFrame:
    rows = [(shopper, product, kind, START + timedelta(minutes=minute)) for shopper, product, kind, minute in done]
    schema = pl.Schema(
        {"shopper": pl.String(), "product_id": pl.String(), "kind": pl.String(), "time": pl.Datetime("ms")}
    )
    return pl.DataFrame(rows, schema=schema, orient="row")


def found(lists: ShownLists, done: pl.DataFrame) -> tuple[ShopperDisplays, list[list[tuple[int, str]]]]:
    shoppers = KnownShoppers.of(done, ROWS.get)
    displays = find_displays(lists, shoppers, LISTS, ROWS.get).informative()
    past = shoppers.past
    told = [
        [(int(past.rows[at]), ACT_KINDS[past.kinds[at]]) for at in range(first, behind)]
        for first, behind in zip(displays.first.tolist(), displays.behind.tolist(), strict=True)
    ]
    return displays, told


def test_a_display_points_to_its_candidates_and_to_what_was_done_before() -> None:
    done = acts(("u", "a", "consultation", 1), ("u", "c", "cart", 2), ("v", "b", "click", 0), ("u", "b", "click", 6))
    displays, histories = found(shown(("q1", "pan", 5, "u"), clicked="a"), done)
    assert histories == [[(4, "consultation"), (9, "cart")]]
    # Of the pan's candidates c stands first, then a; b is none.
    assert displays.places.tolist() == [[3, -1, 2, -1, -1]]


def test_no_act_counts_that_is_not_before_the_list() -> None:
    lists = shown(("q1", "mug", 5, "u"), ("q2", "mug", 20, "u"))
    before = acts(("u", "a", "click", 4), ("u", "b", "click", 6))
    later = acts(("u", "c", "purchase", 5), ("u", "c", "cart", 20), ("u", "c", "cart", 30), ("w", "c", "click", 1))
    _, histories = found(lists, before)
    assert histories == [[(4, "click")], [(4, "click"), (7, "click")]]
    _, with_later = found(lists, pl.concat([later, before]))
    assert with_later[0] == histories[0]
    assert with_later[1] == [(4, "click"), (9, "purchase"), (7, "click")]


def test_lists_of_nobody_of_several_or_without_an_act_are_left_out() -> None:
    done = acts(("u", "a", "click", 0), ("v", "a", "click", 0), ("", "a", "click", 0))
    lists = shown(("q1", "mug", 5, ""), ("q2", "mug", 6, "u"), ("q2", "mug", 7, "v"), ("q3", "mug", 8, "stranger"))
    assert not len(found(lists, done)[0])
    assert not len(found(shown(("q1", "mug", 5, "u"), clicked="none"), done)[0])
    assert len(found(shown(("q1", "mug", 5, "u")), done)[0]) == 1


def test_queries_and_products_that_are_gone_are_left_out() -> None:
    done = acts(("u", "gone", "click", 0), ("u", "a", "rating", 1), ("u", "b", "click", 2))
    _, histories = found(shown(("q1", "mug", 5, "u"), ("q2", "kettle", 6, "u")), done)
    assert histories == [[(7, "click")]]


def test_without_acts_nobody_has_a_history() -> None:
    assert not len(found(shown(("q1", "mug", 5, "u")), acts())[0])

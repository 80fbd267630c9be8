import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.sessions.bots import TOGETHER, BotOptions, Signal, score_sessions
from rerank.sessions.cleaning import CLEAN_SCHEMA, clean
from retrieval.records import EventKind
from tests.unit.rerank.sessions.session_logs import event, log
from tests.unit.rerank.sessions.shopping import RESULTS, Shop

SCHEMA = {
    "session_number": pl.UInt32(),
    "shopper": pl.String(),
    "session": pl.String(),
    "first": pl.Datetime("ms", "UTC"),
    "events": pl.UInt32(),
    "clicks": pl.UInt32(),
    "score": pl.Float32(),
    "reasons": pl.List(pl.String()),
    "is_fraud": pl.Boolean(),
}


def flagged(shop: Shop, options: BotOptions | None = None) -> dict[str, list[bool]]:
    scores = score_sessions(shop.cleaned(), options)
    return dict(scores.group_by("shopper").agg("is_fraud").iter_rows())


def crawl(shop: Shop, shopper: str, pause: float = 0.5) -> None:
    session = shop.session(shopper)
    for query in range(6):
        session.search(query, pause)
        for place in range(1, RESULTS + 1):
            session.click(place, pause)


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    made.honest(60)
    return made


def test_shoppers_are_no_bots(shop: Shop) -> None:
    scores = score_sessions(shop.cleaned())
    assert not scores["is_fraud"].any()
    assert scores["reasons"].list.len().sum() == 0


def test_a_crawler_is_one_and_its_reasons_say_why(shop: Shop) -> None:
    crawl(shop, "crawler")
    scores = score_sessions(shop.cleaned())
    found = scores.filter("is_fraud")
    assert found["shopper"].to_list() == ["crawler"]
    assert set(found["reasons"][0]) >= {Signal.FAST.value, Signal.EVEN.value, Signal.MUCH.value, Signal.SWEEP.value}
    assert found["clicks"].to_list() == [6 * RESULTS]
    assert found["score"][0] > 0.99


def test_every_session_has_one_row_in_order(shop: Shop) -> None:
    events = shop.cleaned()
    scores = score_sessions(events)
    assert scores.schema == pl.Schema(SCHEMA)
    assert scores["session_number"].to_list() == sorted(set(events["session_number"]))
    assert scores["events"].sum() == len(events)
    assert (
        scores["first"].to_list()
        == events.unique("session_number", keep="first", maintain_order=True)["time"].to_list()
    )
    assert scores.equals(score_sessions(events))


def test_being_fast_alone_is_no_fraud(shop: Shop) -> None:
    for query in range(10):
        session = shop.session("hasty")
        session.search(query, 0.5)
        session.click(1 + query % 3, 0.8)
        session.search(query + 10, 0.5)
    assert not any(flagged(shop)["hasty"])


def test_clicking_everything_alone_is_no_fraud_and_less_so_for_who_buys(shop: Shop) -> None:
    for shopper, buys, queries in (("looker", False, range(3)), ("buyer", True, range(3, 6))):
        session = shop.session(shopper)
        for query in queries:
            session.search(query)
            for place in range(1, RESULTS + 1):
                session.click(place, shop.pause())
                if buys and place % 3 == 0:
                    session.buy(place)
    scores = {row["shopper"]: row["score"] for row in score_sessions(shop.cleaned()).to_dicts()}
    assert 0.5 > scores["looker"] > 10 * scores["buyer"]


def test_what_a_shopper_did_on_other_sessions_counts(shop: Shop) -> None:
    for query in range(8):
        session = shop.session("farm")
        session.search(query, 0.7)
        session.click(7, 0.9)
        session.click(9, 0.9)
        session.search(query, 0.7)
    shop.session("farm").search(3)
    scores = score_sessions(shop.cleaned()).filter(pl.col("shopper") == "farm")
    assert scores["is_fraud"].to_list() == [True] * 9
    quiet = scores.filter(pl.col("clicks") == 0)
    assert quiet["reasons"][0][-1] == TOGETHER


def test_accounts_that_click_alike_are_found_at_a_shoppers_pace() -> None:
    shop = Shop(queries=60)
    shop.honest(150)
    for account in ("f1", "f2", "f3"):
        for query in range(0, 24, 2):
            session = shop.session(account)
            session.search(query)
            for place in (5, 8, 9):
                session.click(place, shop.pause())
    found = flagged(shop)
    assert all(all(found.pop(account)) for account in ("f1", "f2", "f3"))
    assert not any(any(sessions) for sessions in found.values())


def test_more_odds_against_flag_less(shop: Shop) -> None:
    crawl(shop, "crawler")
    assert not any(flagged(shop, BotOptions(against=30.0))["crawler"])


def test_no_events_have_no_scores() -> None:
    empty = pl.DataFrame(schema=CLEAN_SCHEMA)
    assert score_sessions(empty).schema == pl.Schema(SCHEMA)
    assert score_sessions(empty).is_empty()


@pytest.mark.parametrize("kind", ["impression", "click", "purchase"])
def test_a_log_of_one_kind_of_event_flags_nobody(shop: Shop, kind: str) -> None:
    events = shop.cleaned().filter(pl.col("kind") == kind)
    scores = score_sessions(events)
    assert len(scores) == events["session_number"].n_unique()
    assert not scores["is_fraud"].any()


def test_positions_that_are_not_known_are_no_evidence(shop: Shop) -> None:
    scores = score_sessions(shop.cleaned().with_columns(position=pl.lit(None, pl.Int32)))
    assert not scores["is_fraud"].any()
    assert np.isfinite(scores["score"].to_numpy()).all()


def test_sessions_of_nobody_known_are_judged_alone(shop: Shop) -> None:
    crawl(shop, "")
    shop.session("").search(1)
    scores = score_sessions(shop.cleaned()).filter(pl.col("shopper") == "")
    assert scores["is_fraud"].to_list() == [True, False]


ids = st.sampled_from(["", "a", "b"])
kinds = st.sampled_from([kind.value for kind in EventKind])
positions = st.sampled_from([None, 1, 2, 70_000])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9_000), kinds, ids, ids, ids, ids, positions), max_size=40))
def test_any_log_is_scored(drawn: list[tuple[int, str, str, str, str, str, int | None]]) -> None:
    names = ("session", "shopper", "query_id", "product_id", "position")
    events = log(event(time, kind, **dict(zip(names, values, strict=True))) for time, kind, *values in drawn)
    cleaned = clean(events, None).events
    scores = score_sessions(cleaned)
    assert scores["session_number"].to_list() == sorted(set(cleaned["session_number"]))
    assert scores["score"].is_between(0, 1).all()

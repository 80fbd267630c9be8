"""The features, signals and scores of bots and click fraud."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.sessions.bots import (
    LAST_POSITION,
    TOGETHER,
    BotBaseline,
    SessionFeatures,
    Signal,
    fit_baseline,
    score_sessions,
    session_features,
    signals,
    sums_by,
)
from shelfwise.rerank.sessions.cleaning import clean
from shelfwise.retrieval.records import EventKind
from tests.attacks import CAMOUFLAGE, HONEST, SLOW, AttackPlan, attacked, demo_log, flagged_shares
from tests.bot_shop import PAGE, RESULTS, Shop, crawl
from tests.unit.rerank.sessions.session_logs import event, log

NOBODY = pl.Series("session_number", [], dtype=pl.UInt32)


def sources(acts: SessionFeatures) -> pl.DataFrame:
    return acts.sessions.select("source").unique().sort("source")


def source_of(acts: SessionFeatures, shopper: str) -> int:
    return int(acts.sessions.filter(pl.col("shopper") == shopper)["source"][0])


def test_baseline_is_fitted_to_shoppers() -> None:
    shop = Shop(seed=3)
    shop.honest(300)
    found = fit_baseline(session_features(shop.cleaned()), NOBODY)
    rates = [0.4 * place**-0.9 for place in PAGE]
    assert found.rates[1 : RESULTS + 1] == pytest.approx(rates, abs=0.05)
    assert len(found.rates) == LAST_POSITION + 1
    assert found.pace == pytest.approx(math.log(25_000), abs=0.25)
    assert found.pace_within == pytest.approx(0.7, abs=0.2)


NORMAL = BotBaseline(
    pace=math.log(20_000),
    pace_between=0.5,
    pace_within=1.0,
    rates=np.array([0.0, *(0.4 / place for place in range(1, LAST_POSITION + 1))]),
    spread=0.5,
    next_share=0.3,
    purchases=0.05,
)


def judged(places: tuple[int, ...], pause: float) -> dict[Signal, float]:
    shop = Shop()
    session = shop.session("ann")
    session.visit(0, places, pause)
    session.search(1)
    acts = session_features(shop.cleaned())
    found = signals(sums_by("session_number", acts.sessions, acts, NORMAL), NORMAL)
    return {signal: float(values[0]) for signal, values in found.items()}


def test_low_positions_give_a_likelihood_ratio_against_uniform_clicks() -> None:
    shares = np.array([1 / place for place in PAGE])
    shares /= shares.sum()
    ratio = math.log10(1 / RESULTS / shares[9]) + math.log10(1 / RESULTS / shares[6])
    assert judged((7, 10), 20.0)[Signal.DEEP] == pytest.approx(ratio)
    assert judged((1, 2), 20.0)[Signal.DEEP] == 0


def test_usual_purchases_reduce_the_bot_score() -> None:
    shop = Shop()
    for shopper in ("buyer", "bot"):
        session = shop.session(shopper)
        for query in range(30):
            session.visit(query, range(1, 6))
        if shopper == "buyer":
            for place in range(1, 10):
                session.buy(place)
    acts = session_features(shop.cleaned())
    found = signals(sums_by("source", sources(acts), acts, NORMAL), NORMAL)[Signal.NEVER_BUYS]
    assert found[source_of(acts, "buyer")] == pytest.approx(-4.0)
    tail = 1 / (1 + 0.05 * 150)  # no purchase, although 0.05 per click are expected, by a geometric distribution
    assert found[source_of(acts, "bot")] == pytest.approx(-math.log10(-math.e * tail * math.log(tail)))


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


def flagged(shop: Shop) -> dict[str, list[bool]]:
    scores = score_sessions(shop.cleaned())
    return dict(scores.group_by("shopper").agg("is_fraud").iter_rows())


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    made.honest(60)
    return made


@pytest.fixture
def busy() -> Shop:
    """A shop with more queries and shoppers."""
    made = Shop(queries=60)
    made.honest(150)
    return made


def split(shop: Shop, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The scores of the sessions of accounts whose names begin so, and of the others."""
    scores = score_sessions(shop.cleaned())
    is_named = pl.col("shopper").str.starts_with(name)
    return scores.filter(is_named), scores.filter(~is_named)


def reasons_of(scores: pl.DataFrame) -> set[str]:
    return {reason for each in scores["reasons"] for reason in each}


def test_every_session_has_one_row_in_order(shop: Shop) -> None:
    events = shop.cleaned()
    scores = score_sessions(events)
    assert scores.schema == pl.Schema(SCHEMA)
    assert scores["session_number"].to_list() == sorted(set(events["session_number"]))
    assert scores["events"].sum() == len(events)
    firsts = events.unique("session_number", keep="first", maintain_order=True)
    assert scores["first"].to_list() == firsts["time"].to_list()
    assert scores.equals(score_sessions(events))


def test_speed_alone_is_not_flagged(shop: Shop) -> None:
    for query in range(10):
        session = shop.session("hasty")
        session.visit(query, (1 + query % 3,), 0.8, 0.5)
        session.search(query + 10, 0.5)
    assert not any(flagged(shop)["hasty"])


def test_clicking_everything_alone_is_not_flagged(shop: Shop) -> None:
    for shopper, buys, queries in (("looker", False, range(3)), ("buyer", True, range(3, 6))):
        session = shop.session(shopper)
        for query in queries:
            session.search(query)
            for place in PAGE:
                session.click(place, shop.pause())
                if buys and place % 3 == 0:
                    session.buy(place)
    scores = {row["shopper"]: row["score"] for row in score_sessions(shop.cleaned()).to_dicts()}
    assert 0.5 > scores["looker"] > 10 * scores["buyer"]


def test_other_sessions_of_the_shopper_count(shop: Shop) -> None:
    for query in range(8):
        session = shop.session("farm")
        session.visit(query, (7, 9), 0.9, 0.7)
        session.search(query, 0.7)
    shop.session("farm").search(3)
    scores = score_sessions(shop.cleaned()).filter(pl.col("shopper") == "farm")
    assert scores["is_fraud"].to_list() == [True] * 9
    quiet = scores.filter(pl.col("clicks") == 0)
    assert quiet["reasons"][0][-1] == TOGETHER


def test_coordinated_accounts_are_found_at_a_human_pace(busy: Shop) -> None:
    for account in ("f1", "f2", "f3"):
        for query in range(0, 24, 2):
            session = busy.session(account)
            session.search(query)
            for place in (5, 8, 9):
                session.click(place, busy.pause())
    found = flagged(busy)
    assert all(all(found.pop(account)) for account in ("f1", "f2", "f3"))
    assert not any(any(sessions) for sessions in found.values())


def forge(shop: Shop, count: int, accounts: int, looks: Sequence[tuple[str, str]] = ()) -> None:
    """Adds purchases of a product that one client sends under invented names, each two seconds after the last of
    `looks`, which are kinds and products."""
    for number in range(count):
        who = {"shopper": f"forged {number % accounts}", "session": f"forged {number % accounts}"}
        for place, (kind, product) in enumerate((*looks, ("purchase", "0j"))):
            at = 40_000 + 20.0 * (number // accounts) + 2.0 * place
            shop.events.append(event(at, kind, product_id=product, **who))


VIEW, CLICK, OTHER = ("consultation", "0j"), ("click", "0j"), ("consultation", "1a")


@pytest.mark.parametrize(
    ("count", "accounts", "looks"),
    [
        (600, 600, []),
        (600, 20, []),
        (600, 600, [VIEW]),
        (600, 600, [CLICK, VIEW, ("cart", "0j")]),
        (600, 20, [VIEW]),
        (600, 600, [OTHER, VIEW]),
        pytest.param(60_000, 60_000, [VIEW], marks=pytest.mark.slow),
    ],
)
def test_forged_purchases_are_flagged(shop: Shop, count: int, accounts: int, looks: Sequence[tuple[str, str]]) -> None:
    """Regression: purchases cleared every bot, and many of them made honest shoppers seem to buy too little."""
    forge(shop, count, accounts, looks)
    forged, others = split(shop, "forged")
    assert len(forged) == accounts
    assert forged["is_fraud"].all()
    assert reasons_of(forged) >= {Signal.PROMOTED.value, Signal.DIRECT.value}
    assert not others["is_fraud"].any()


def test_campaign_for_one_product_is_not_flagged(shop: Shop) -> None:
    """Visitors come from an advertisement and look only at its product; one in ten buys it."""
    for number in range(60):
        who = {"shopper": f"led {number}", "session": f"led {number}"}
        for place, kind in enumerate(("consultation", "cart", "purchase") if number % 10 == 0 else ("consultation",)):
            shop.events.append(event(40_000 + 600.0 * number + 60.0 * place, kind, product_id="0a", **who))
    assert not score_sessions(shop.cleaned())["is_fraud"].any()


@pytest.mark.parametrize(("accounts", "is_crowd"), [(10, False), (120, True)])
def test_crowd_that_clicks_only_one_product_is_flagged(busy: Shop, accounts: int, is_crowd: bool) -> None:
    """Each account searches once, at a shopper's pace, and clicks a low result: only their number is suspicious."""
    for number in range(accounts):
        busy.session(f"hired {number}").visit(0, (8,), busy.pause())
    hired, others = split(busy, "hired")
    assert hired["is_fraud"].to_list() == [is_crowd] * accounts
    assert not is_crowd or reasons_of(hired) >= {Signal.CROWD.value, TOGETHER}
    assert not others["is_fraud"].any()


@pytest.mark.parametrize(("accounts", "is_crowd"), [(6, False), (60, True)])
def test_accounts_that_click_a_low_product_each_time_are_flagged(busy: Shop, accounts: int, is_crowd: bool) -> None:
    """Before the click each account acts like a shopper. Only the sessions with the click are flagged."""
    for number in range(accounts):
        session = busy.session(f"hired {number}")
        for _ in range(3):
            session.search(int(busy.random.integers(60)))
            for place in np.flatnonzero(busy.random.random(RESULTS) < 0.4 * np.arange(1, RESULTS + 1) ** -0.9) + 1:
                session.click(int(place), busy.pause())
        session.visit(0, (8,), busy.pause())
        busy.session(f"hired {number}").visit(1, (1,), busy.pause())
    hired, others = split(busy, "hired")
    assert hired["is_fraud"].to_list() == [is_crowd, False] * accounts
    assert not is_crowd or reasons_of(hired) >= {Signal.SURE.value}
    assert others["is_fraud"].sum() <= 2


def test_product_that_everybody_who_looks_clicks_is_not_flagged(busy: Shop) -> None:
    """Each shopper examines position p with probability p^-0.9, and clicks position 8 of one query if examined."""
    for number in range(300):
        session = busy.session(f"u{number % 150}")
        session.search(0)
        if busy.random.random() < 8**-0.9:
            session.click(8, busy.pause())
    assert not score_sessions(busy.cleaned())["is_fraud"].any()


@pytest.mark.parametrize(("buries", "reason"), [(0.5, Signal.PASSING), (0.2, Signal.BURIERS), (0.0, None)])
def test_crowd_with_only_one_query_is_flagged_if_it_chooses_otherwise(buries: float, reason: Signal | None) -> None:
    """Accounts sent to the query by an advertisement choose as shoppers do, and are not flagged."""
    shop = Shop(queries=12)
    shop.honest(150)
    for number in range(80):
        session = shop.session(f"sent {number}")
        session.search(0)
        chances = np.array([0.0, *[buries] * 9]) if buries else 0.4 * np.arange(1, RESULTS + 1) ** -0.9
        for place in np.flatnonzero(shop.random.random(RESULTS) < chances) + 1:
            session.click(int(place), shop.pause())
    scores = score_sessions(shop.cleaned()).filter(pl.col("clicks") > 0)
    sent = scores.filter(pl.col("shopper").str.starts_with("sent"))
    # As many accounts as there would be honest shoppers may remain unflagged.
    assert int(sent["is_fraud"].sum()) >= 0.9 * len(sent) if buries else not sent["is_fraud"].any()
    assert reason is None or reason.value in {each for reasons in sent["reasons"] for each in reasons}
    assert int(scores["is_fraud"].sum()) - int(sent["is_fraud"].sum()) <= 2


@pytest.mark.parametrize(("accounts", "is_crowd"), [(6, False), (80, True)])
def test_accounts_that_click_half_of_the_other_products_are_flagged(accounts: int, is_crowd: bool) -> None:
    """Before that each account acts like a shopper and uses several queries. Regression: slow accounts that did so,
    each like a shopper who clicks much, were missed."""
    shop = Shop(queries=60)
    shop.honest(300)
    for number in range(accounts):
        session = shop.session(f"hired {number}")
        session.search(1 + int(shop.random.integers(59)))
        session.click(1, shop.pause())
        session.search(0)
        for place in shop.random.permutation(np.arange(2, RESULTS + 1))[:5]:
            session.click(int(place), shop.pause())
    hired, others = split(shop, "hired")
    assert hired["is_fraud"].to_list() == [is_crowd] * accounts
    assert not is_crowd or reasons_of(hired) >= {Signal.PASSING.value}
    assert others["is_fraud"].sum() <= 2


@pytest.mark.parametrize("alone", [True, False])
def test_accounts_of_such_a_crowd_that_click_little_are_flagged(alone: bool) -> None:
    """The accounts use only this query, or click much in another session too; equally active shoppers stay."""
    shop = Shop(queries=60)
    shop.honest(300)
    for number in range(60):
        shop.session(f"u{number}").visit(0, (2, 4) if number % 3 == 0 else (3,), shop.pause())
    for number in range(90):
        for count in ((5, 5, 2)[number % 3],) if alone else (5, 2):
            session = shop.session(f"hired {number}")
            if not alone:
                session.search(1 + int(shop.random.integers(59)))
                session.click(1, shop.pause())
            session.search(0)
            for place in shop.random.permutation(np.arange(2, RESULTS + 1))[:count]:
                session.click(int(place), shop.pause())
    hired, others = split(shop, "hired")
    assert int(hired["is_fraud"].sum()) >= 0.95 * len(hired)
    assert others["is_fraud"].sum() <= 4


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_shoppers_who_click_once_are_not_a_crowd(share: float) -> None:
    """Some products are clicked far more often than others."""
    shop = Shop(queries=20)
    for number in range(600):
        session = shop.session(f"u{number}")
        session.search(int(shop.random.geometric(0.2)) % 20)
        for place in (1,) if shop.random.random() < share else (1, 2, 4):
            session.click(place, shop.pause())
    assert not score_sessions(shop.cleaned())["is_fraud"].any()


def test_only_forged_purchases_are_flagged() -> None:
    shop = Shop()
    forge(shop, 600, 600)
    assert score_sessions(shop.cleaned())["is_fraud"].all()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_purchases_that_a_server_sends_are_not_flagged(share: float) -> None:
    """The purchases have other shopper names than the clicks, and some products are bought more often than others."""
    shop = Shop()
    shop.honest(60)
    for number in range(400):
        product = f"{shop.random.geometric(0.2) % 30}{'abcdefghij'[number % 10]}"
        if shop.random.random() < share:
            who = {"shopper": f"server {number}", "session": f"server {number}"}
            shop.events.append(event(40_000 + 60.0 * number, "purchase", product_id=product, **who))
    assert not score_sessions(shop.cleaned())["is_fraud"].any()


def test_purchase_without_a_look_relieves_no_bot(shop: Shop) -> None:
    crawl(shop, "crawler")
    shop.events.append(event(50_000, "purchase", shopper="crawler", session="till", product_id="other"))
    assert all(flagged(shop)["crawler"])


@pytest.mark.parametrize("kind", ["impression", "click", "purchase"])
def test_log_with_one_kind_of_event_flags_nothing(shop: Shop, kind: str) -> None:
    events = shop.cleaned().filter(pl.col("kind") == kind)
    scores = score_sessions(events)
    assert len(scores) == events["session_number"].n_unique()
    assert not scores["is_fraud"].any()


def test_unknown_positions_are_no_evidence_and_anonymous_sessions_are_scored_alone(shop: Shop) -> None:
    scores = score_sessions(shop.cleaned().with_columns(position=pl.lit(None, pl.Int32)))
    assert not scores["is_fraud"].any()
    assert np.isfinite(scores["score"].to_numpy()).all()
    crawl(shop, "")
    shop.session("").search(1)
    scores = score_sessions(shop.cleaned()).filter(pl.col("shopper") == "")
    assert scores["is_fraud"].to_list() == [True, False]


ids = st.sampled_from(["", "a", "b"])
kinds = st.sampled_from([kind.value for kind in EventKind])
positions = st.sampled_from([None, 1, 2, 70_000])


@given(st.lists(st.tuples(st.integers(0, 9_000), kinds, ids, ids, ids, ids, positions), max_size=40))
def test_arbitrary_logs_are_scored(drawn: list[tuple[int, str, str, str, str, str, int | None]]) -> None:
    names = ("session", "shopper", "query_id", "product_id", "position")
    events = log(event(time, kind, **dict(zip(names, values, strict=True))) for time, kind, *values in drawn)
    cleaned = clean(events, None).events
    scores = score_sessions(cleaned)
    assert scores["session_number"].to_list() == sorted(set(cleaned["session_number"]))
    assert scores["score"].is_between(0, 1).all()
    assert scores.schema == pl.Schema(SCHEMA)


SCHEMES = {"burying", "click_farm", "crawler"}


@pytest.mark.slow
def test_planted_fraud_is_detected_and_shoppers_are_not_flagged(tmp_path: Path) -> None:
    shares = flagged_shares(demo_log(tmp_path, seed=7, products=2_000, sessions=3_000))
    assert shares.keys() == {HONEST, *SCHEMES}
    assert min(shares[scheme] for scheme in SCHEMES) >= 0.95
    assert shares[HONEST] < 0.01


@pytest.mark.parametrize(("attack", "seed", "sessions"), [(SLOW, 21, 300), (CAMOUFLAGE, 201, 1_500)])
def test_attack_of_a_tenth_of_all_clicks_is_detected(attack: str, seed: int, sessions: int, tmp_path: Path) -> None:
    """A store of few shoppers, most of whom use the attacked queries."""
    honest = demo_log(tmp_path, seed, 600, sessions).filter(pl.col("scheme") == HONEST)
    shares = flagged_shares(attacked(honest, attack, AttackPlan.of(honest), np.random.default_rng(seed)))
    assert shares["attack"] == 1.0
    assert shares[HONEST] < 0.02

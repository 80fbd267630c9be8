"""Campaigns and their auction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from shelfwise.retrieval.errors import CampaignError
from shelfwise.service.curation.document_store import plain_document
from shelfwise.service.sponsored.auction import (
    BUCKETS,
    EXAMINATION,
    NO_CLICKS,
    Bid,
    ClickRates,
    award_places,
    bucket_of,
)
from shelfwise.service.sponsored.campaign import MICROS, Campaign, CampaignStore, Pacing

NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)
"""A time at which a quarter of a day is over."""
DRILLS = Campaign("drills", "acme", ("p1", "p2"), 0.4)


def changed(**values: Any) -> Campaign:  # noqa: ANN401
    return msgspec.structs.replace(DRILLS, **values)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"id": "Drills"}, "id", "at most 32 of a-z"),
        ({"id": "drills\n"}, "id", "at most 32 of a-z"),
        ({"advertiser": ""}, "advertiser", "1 to 32 of a-z"),
        ({"products": []}, "products", "1 to 1,000 product ids"),
        ({"products": ["p1", "p1"]}, "products", "listed twice"),
        ({"bid": 0}, "bid", "above 0"),
        ({"bid": math.inf}, "bid", "at most 10,000"),
        ({"bid": 2, "budget": 1}, "bid", "smallest budget of 1"),
        ({"budget": 10, "daily_budget": 20}, "daily_budget", "more than the budget of 10"),
        ({"starts": "2026-11-30T00:00:00"}, "starts", "no zone"),
        ({"starts": "2026-11-30T00:00:00Z", "ends": "2026-11-30T00:00:00Z"}, "ends", "not after starts"),
        ({"pacing": "slow"}, "pacing", "even, fast"),
        ({"floor": 30}, "floor", "-10 to 20"),
        ({"product_floors": {"p9": 1}}, "product_floors", "'p9' is not one of products"),
        ({"daly_budget": 1}, "daly_budget", "did you mean daily_budget"),
        ({"queries": ["a\u0000"]}, "queries", "control character"),
    ],
)
def test_an_error_names_the_field_and_what_is_right(values: dict[str, object], field: str, message: str) -> None:
    with pytest.raises(CampaignError, match="campaign '") as raised:
        CampaignStore.kind.validate(CampaignStore.kind.accept({**plain_document(DRILLS), **values}, "it"))
    assert raised.value.field == field
    assert message in str(raised.value)


def test_the_key_of_offers_is_kept_private(tmp_path: Path) -> None:
    store = CampaignStore(tmp_path)
    key = store.ensure_key()
    assert len(key) == 32
    assert CampaignStore(tmp_path).ensure_key() == key
    assert store.path.stat().st_mode & 0o077 == 0


def test_a_campaign_without_an_id_never_continues_the_ledger_of_a_deleted_one(tmp_path: Path) -> None:
    store = CampaignStore(tmp_path)
    unnamed = changed(id="", name="", queries=("Drills & Größen",))
    for _ in range(2):
        store.put([unnamed])
        (stored,) = store.read().documents
        store.delete([stored.id])
    assert [change.id for change in store.history()] == ["drills-grossen-2"] * 2 + ["drills-grossen"] * 2


def test_a_product_has_one_advertiser(tmp_path: Path) -> None:
    store = CampaignStore(tmp_path)
    store.put([DRILLS, changed(id="own")])
    with pytest.raises(CampaignError, match=r"'p1' is advertised by acme .*; a product can have only one") as raised:
        store.put([changed(id="other", advertiser="rival", products=("p9", "p1"))])
    assert raised.value.field == "products"
    assert [each.id for each in store.read().documents] == ["drills", "own"]


def test_a_campaign_runs_from_its_start_to_before_its_end() -> None:
    campaign = changed(starts=NOW, ends=NOW + timedelta(hours=1))
    assert [campaign.runs(NOW + timedelta(minutes=each)) for each in (-1, 0, 59, 60)] == [False, True, True, False]
    assert not changed(enabled=False).runs(NOW)


def test_even_pacing_spends_the_day_in_proportion() -> None:
    campaign = changed(daily_budget=24.0)
    assert campaign.room(0, 0, NOW) == 6 * MICROS
    assert campaign.room(5 * MICROS, 5 * MICROS, NOW) == MICROS
    assert campaign.room(7 * MICROS, 7 * MICROS, NOW) < 0
    assert campaign.room(7 * MICROS, 7 * MICROS, NOW, paced=False) == 17 * MICROS
    assert changed(daily_budget=24.0, pacing=Pacing.FAST).room(0, 0, NOW) == 24 * MICROS
    # The day begins with one click's budget at midnight.
    assert campaign.room(0, 0, NOW.replace(hour=0)) == 0.4 * MICROS


def test_even_pacing_divides_the_budget_by_the_days_that_are_left() -> None:
    campaign = changed(budget=100.0, ends=NOW.replace(hour=0) + timedelta(days=4))
    assert campaign.room(20 * MICROS, 0, NOW) == 80 * MICROS // 4 // 4
    assert campaign.room(99_900_000, 0, NOW) == 25_000
    assert campaign.room(100 * MICROS, 0, NOW) == 0


def test_a_day_that_begins_with_the_campaign_is_shorter() -> None:
    campaign = changed(daily_budget=18.0, starts=NOW)
    assert campaign.room(0, 0, NOW + timedelta(hours=9)) == 9 * MICROS


def test_pacing_over_a_simulated_day_never_exceeds_its_share() -> None:
    """A click every minute: the budget lasts until the evening, and less than two clicks of it remain."""
    campaign = changed(daily_budget=24.0)
    spent, midnight = 0, NOW.replace(hour=0)
    for minute in range(1_440):
        now = midnight + timedelta(minutes=minute)
        if campaign.room(spent, spent, now) >= 0.4 * MICROS:
            spent += int(0.4 * MICROS)
        assert spent <= round(max(0.4, 24.0 * minute / 1_440) * MICROS)
    assert 23.2 * MICROS <= spent <= 24 * MICROS


def bid(name: str, amount: float, probability: float = 0.1, advertiser: str = "") -> Bid:
    return Bid(name, advertiser or name, amount, probability)


def test_one_place_goes_to_the_highest_expected_value_at_the_second_price() -> None:
    awards = award_places([bid("a", 1.0, 0.10), bid("b", 0.6, 0.20), bid("c", 0.3, 0.10)], 1, 0.05)
    assert [(each.bid, each.place) for each in awards] == [(1, 1)]
    # b keeps the place while its expected value is above a's 1.0 * 0.1.
    assert awards[0].price == 0.1 / 0.2 * MICROS


def test_a_lone_bid_pays_the_reserve_and_one_below_it_gets_nothing() -> None:
    assert [each.price for each in award_places([bid("a", 1.0)], 3, 0.05)] == [50_000]
    assert award_places([bid("a", 0.04)], 3, 0.05) == []
    assert award_places([], 3, 0.05) == []


def test_each_place_pays_for_the_loss_of_lower_places() -> None:
    bids = [bid("a", 1.0), bid("b", 0.8), bid("c", 0.5), bid("d", 0.2)]
    awards = award_places(bids, 3, 0.05)
    one, two, three = EXAMINATION[:3]
    assert [each.bid for each in awards] == [0, 1, 2]
    paid = [
        ((one - two) * 0.8 + (two - three) * 0.5 + three * 0.2) / one,
        ((two - three) * 0.5 + three * 0.2) / two,
        0.2,
    ]
    assert [each.price / MICROS for each in awards] == pytest.approx(paid, abs=1 / MICROS)


def test_an_advertiser_gets_one_place_and_does_not_bid_against_itself() -> None:
    bids = [bid("a", 1.0, advertiser="x"), bid("b", 0.9, advertiser="x"), bid("c", 0.3)]
    awards = award_places(bids, 3, 0.05)
    assert [each.bid for each in awards] == [0, 2]
    assert awards[0].price == math.floor(((EXAMINATION[0] - EXAMINATION[1]) * 0.3 + EXAMINATION[1] * 0.05) * MICROS)


def test_ties_are_ordered_the_same_each_time_and_not_always_by_name() -> None:
    bids = [bid("a", 1.0), bid("b", 1.0)]
    first = [award_places(bids, 1, 0.05, f"query {number}")[0].bid for number in range(40)]
    assert first == [award_places(bids, 1, 0.05, f"query {number}")[0].bid for number in range(40)]
    assert first == [1 - award_places(bids[::-1], 1, 0.05, f"query {number}")[0].bid for number in range(40)]
    assert set(first) == {0, 1}


def gain(bids: Sequence[Bid], own: int, worth: float, places: int, reserve: float) -> float:
    """The expected gain of one bidder, to whom a click is worth `worth`."""
    won = [each for each in award_places(bids, places, reserve, "seed") if each.bid == own]
    return sum(EXAMINATION[each.place - 1] * bids[own].probability * (worth - each.price / MICROS) for each in won)


@pytest.mark.parametrize("places", [1, 3])
def test_no_other_bid_than_the_true_value_gains(places: int) -> None:
    random = np.random.default_rng(places)
    for _ in range(200):
        pairs = [random.uniform((0.05, 0.01), (2.0, 0.3)).tolist() for _ in range(random.integers(1, 9))]
        bids = [bid(f"c{at}", *pair) for at, pair in enumerate(pairs)]
        reserve = float(random.choice([0.0, 0.05, 0.3]))
        for own, true in enumerate(bids):
            honest = gain(bids, own, true.amount, places, reserve)
            levels = [other.value / true.probability for other in bids]
            for amount in (0.5 * true.amount, 2 * true.amount, reserve, 1e4, *(1.001 * each for each in levels)):
                tried = [*bids[:own], replace(true, amount=amount), *bids[own + 1 :]]
                assert gain(tried, own, true.amount, places, reserve) <= honest + 1 / MICROS


def test_click_rates_rise_with_the_ratio_whatever_was_clicked() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        looks = random.integers(0, 5_000, BUCKETS).astype(float)
        rates = ClickRates(looks, np.floor(looks * random.uniform(0, 0.5, BUCKETS)))
        found = rates.probabilities(np.array([0.0, 0.1, 0.5, 0.9, 1.0, 1.5, 4.0, 100.0]))
        assert (np.diff(found) >= 0).all()
        assert ((found > 0) & (found < 1)).all()


def test_click_rates_converge_to_observed_rates() -> None:
    """The clicks of 40,000 looks in each bucket at 40% of the prior's rate."""
    random = np.random.default_rng(2)
    middles = 2.0 ** ((np.arange(BUCKETS) - BUCKETS // 2) / 2)
    true = np.minimum(0.02 * middles, 0.5)
    looks = np.full(BUCKETS, 40_000.0)
    rates = ClickRates(looks, random.binomial(40_000, true).astype(float))
    assert rates.probabilities(middles) == pytest.approx(true, rel=0.15)
    assert NO_CLICKS.probabilities(np.ones(1)) == pytest.approx([0.05])


def test_the_buckets_are_half_octaves() -> None:
    assert [bucket_of(ratio) for ratio in (0.0, 0.01, 1.0, 1.1, 1.5, 2.0, 100.0)] == [0, 0, 6, 6, 7, 8, 12]

"""The auction: awards, prices, and no gain from bids other than the value of a click."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shelfwise.service.sponsored.auction import (
    BUCKETS,
    EXAMINATION,
    NO_CLICKS,
    Bid,
    ClickRates,
    award_places,
    bucket_of,
)
from shelfwise.service.sponsored.campaign import MICROS


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

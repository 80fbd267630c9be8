"""Sponsored campaigns: validation by field, their store, budgets and pacing."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shelfwise.retrieval.errors import CampaignError
from shelfwise.service.sponsored.campaign import MICROS, Campaign, CampaignStore, Pacing, campaign_document

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
        ({"products": [" "]}, "products", "is empty"),
        ({"bid": 0}, "bid", "above 0"),
        ({"bid": math.nan}, "bid", "above 0"),
        ({"bid": math.inf}, "bid", "at most 10,000"),
        ({"bid": "1"}, "bid", "a number"),
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
        CampaignStore.kind.validate(CampaignStore.kind.accept({**campaign_document(DRILLS), **values}, "it"))
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

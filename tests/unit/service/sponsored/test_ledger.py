"""The ledger: unforgeable offers, clicks charged once, refunds, and a log that reveals changes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.retrieval.errors import CampaignError, StoreDamagedError
from shelfwise.retrieval.events.stored import SPONSORED_MARK, StoredEvent
from shelfwise.retrieval.updates.validation import MAX_ID_BYTES
from shelfwise.service.curation.sqlite_file import to_microseconds
from shelfwise.service.sponsored.auction import NO_CLICKS
from shelfwise.service.sponsored.campaign import Campaign
from shelfwise.service.sponsored.ledger import (
    ADDRESS_CLICKS,
    BURST_CLICKS,
    BURST_TIME,
    CLICK_TIME,
    MAX_CHARGED,
    REPEAT_TIME,
    ChargeReason,
    Ledger,
    Offer,
    open_offer,
    query_subject,
    seal_offer,
    text_hash,
)

KEY = bytes(range(32))
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DRILLS = Campaign("drills", "acme", ("p1", "p2"), 0.5, budget=1.0)
CAMPAIGNS = {"drills": DRILLS, "free": Campaign("free", "acme", ("p3",), 0.5)}


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(tmp_path, clock=clock)


def offer(
    campaign: str = "drills", product: str = "p1", shown: datetime = NOW, price: int = 300_000, query: int = 0
) -> Offer:
    return Offer(campaign, "acme", text_hash(product), 1, price, 6, to_microseconds(shown), query)


def click(
    made: Offer, answer: str = "q1", product: str = "p1", shopper: str = "k1~ann", session: str = "", key: str = ""
) -> StoredEvent:
    sealed = seal_offer(made, answer, KEY)
    stored = blake2b((key or f"{answer} {shopper} {session}").encode(), digest_size=16).digest()
    return StoredEvent(stored, "click", 0, 0, shopper, session, sealed, "", product, 1, None, None, None)


def charge(ledger: Ledger, *clicks: StoredEvent) -> list[ChargeReason | None]:
    return ledger.charge(clicks, CAMPAIGNS, KEY)


def test_an_offer_is_read_only_by_the_key_that_sealed_it() -> None:
    made = offer("c" * 32, "p" * 512)
    query_id = seal_offer(made, f"{'a' * 32}~merging.rrf~Zm9vYmFyYmF6", KEY)
    assert query_id.startswith(f"{'a' * 32}{SPONSORED_MARK}")
    assert len(query_id) < MAX_ID_BYTES
    assert open_offer(query_id, KEY) == ("a" * 32, made)
    assert "c" * 32 not in query_id
    answer, sealed = query_id.split(SPONSORED_MARK)
    flipped = f"{answer}{SPONSORED_MARK}{'A' if sealed[0] != 'A' else 'B'}{sealed[1:]}"
    for forged in (flipped, f"b{query_id[1:]}", query_id[:-4], f"q1{SPONSORED_MARK}", f"q1{SPONSORED_MARK}???", "q1"):
        assert open_offer(forged, KEY) is None
    assert open_offer(query_id, bytes(32)) is None
    with pytest.raises(CampaignError, match="not the query id"):
        seal_offer(made, "a" * 65, KEY)


def test_a_click_is_charged_once(ledger: Ledger) -> None:
    first = click(offer())
    assert charge(ledger, first) == [ChargeReason.CHARGED]
    # A repetition of the same event, as from a client that got no response.
    assert charge(ledger, first, first) == [None, None]
    assert charge(ledger, click(offer(), key="again")) == [ChargeReason.REPEATED]
    assert charge(ledger, click(offer(), shopper="k1~bob")) == [ChargeReason.REPEATED]
    assert charge(ledger, click(offer(), "q2", "p1")) == [ChargeReason.REPEATED]
    assert ledger.spending().total == {"drills": 300_000}
    assert [(each.id, each.amount, each.reason) for each in ledger.entries()] == [
        (1, 0.3, "charged"),
        (2, 0.0, "repeated"),
        (3, 0.0, "repeated"),
        (4, 0.0, "repeated"),
    ]


def test_a_shopper_is_charged_again_for_the_campaign_after_a_day(ledger: Ledger, clock: Clock) -> None:
    assert charge(ledger, click(offer())) == [ChargeReason.CHARGED]
    clock.now = NOW + REPEAT_TIME + timedelta(seconds=1)
    assert charge(ledger, click(offer(shown=clock.now), "q2")) == [ChargeReason.CHARGED]


def test_uncharged_clicks_have_a_reason(ledger: Ledger, clock: Clock) -> None:
    assert charge(ledger, click(offer(), product="p2")) == [ChargeReason.OTHER_PRODUCT]
    assert charge(ledger, click(offer("gone"), "q2")) == [ChargeReason.NO_CAMPAIGN]
    forged = click(offer(), "q3")._replace(query_id=f"q3{SPONSORED_MARK}Zm9v")
    assert charge(ledger, forged) == [None]
    clock.now = NOW + CLICK_TIME + timedelta(seconds=1)
    assert charge(ledger, click(offer(), "q4")) == [ChargeReason.EXPIRED]
    assert ledger.spending().total == {"drills": 0, "gone": 0}


def test_no_budget_is_exceeded(ledger: Ledger) -> None:
    found = charge(ledger, *(click(offer(), f"q{number}", shopper=f"k1~{number}") for number in range(5)))
    # Three clicks of 0.3 fit into the budget of 1.0.
    assert found == [ChargeReason.CHARGED] * 3 + [ChargeReason.BUDGET] * 2
    assert ledger.spending().total["drills"] == 900_000


def test_clicks_that_no_budget_pays_for_are_counted_once_for_each_hit(ledger: Ledger) -> None:
    """Click rates affect the next auctions, and uncharged clicks cost a shopper nothing."""
    charge(ledger, *(click(offer(), f"q{number}", shopper=f"k1~{number}") for number in range(3)))
    charge(ledger, click(offer(), "q4"))
    before = ledger.spending().rates.rates
    found = charge(ledger, *(click(offer(), "q4", key=f"again {number}") for number in range(50)))
    assert found == [ChargeReason.BUDGET] * 50
    np.testing.assert_array_equal(ledger.spending().rates.rates, before)


def test_one_shopper_is_charged_so_often_at_most(ledger: Ledger) -> None:
    campaigns = {f"c{at}": Campaign(f"c{at}", "acme", ("p1",), 0.5) for at in range(MAX_CHARGED + 1)}
    clicks = [click(offer(name), f"q-{name}") for name in campaigns]
    found = ledger.charge(clicks, campaigns, KEY)
    assert found == [ChargeReason.CHARGED] * MAX_CHARGED + [ChargeReason.TOO_MANY]


def of_address(address: str, number: int, query: int | None = None, campaign: str = "free") -> StoredEvent:
    """A click by a new session on its own answer."""
    made = offer(campaign, "p3", query=number if query is None else query)
    return click(made, f"{address} {number} {campaign}", "p3", "", f"k1~{address} {number}")._replace(address=address)


def test_a_campaign_is_charged_only_some_clicks_of_an_address_on_a_day(ledger: Ledger) -> None:
    found = charge(ledger, *(of_address("a", number) for number in range(300)))
    assert found == [ChargeReason.CHARGED] * ADDRESS_CLICKS + [ChargeReason.ADDRESS] * (300 - ADDRESS_CLICKS)
    assert charge(ledger, of_address("b", 1), of_address("a", 1, campaign="drills")) == [ChargeReason.CHARGED] * 2
    assert charge(ledger, *(of_address("", number, 7) for number in range(20))) == [ChargeReason.CHARGED] * 20
    spending = ledger.spending()
    assert spending.withheld == {"a": {"free"}}
    today = {each.campaign: each for each in ledger.days()}
    assert (today["free"].charged, today["free"].uncharged) == (ADDRESS_CLICKS + 21, {"address": 300 - ADDRESS_CLICKS})
    assert (today["drills"].charged, today["drills"].uncharged) == (1, {})
    # Neither the click rates nor a refund give the address more.
    before = spending.rates.rates
    ledger.refund([1, 2, 3])
    assert charge(ledger, of_address("a", 301)) == [ChargeReason.ADDRESS]
    assert ledger.spending().rates.rates.sum() < before.sum()
    ledger.check()


def test_a_burst_suspends_an_address_and_query_only(ledger: Ledger, clock: Clock) -> None:
    campaigns = {name: Campaign(name, name, ("p3",), 0.5) for name in ("one", "two", "free")}

    def charged(*clicks: StoredEvent) -> list[ChargeReason | None]:
        return ledger.charge(clicks, campaigns, KEY)

    paced = []
    for number in range(BURST_CLICKS):
        paced += charged(of_address("slow", number, 7))
        clock.now += BURST_TIME / 2
    assert paced == [ChargeReason.CHARGED] * BURST_CLICKS
    assert charged(*(of_address("a", number, 7) for number in range(BURST_CLICKS))) == paced
    clock.now += timedelta(minutes=20)
    assert charged(of_address("a", 50, 7), of_address("a", 51, 7, "one")) == [ChargeReason.BURST] * 2
    assert charged(of_address("a", 52, 8, "one"), of_address("b", 53, 7)) == [ChargeReason.CHARGED] * 2
    assert ledger.spending().withheld == {"a": {query_subject(7)}}


def test_unpaid_clicks_of_an_address_raise_no_click_rate(ledger: Ledger) -> None:
    """Otherwise an advertiser without a budget would click its own campaign up."""
    charge(ledger, *(of_address(f"{number}", number, campaign="drills") for number in range(3)))
    found = charge(ledger, *(of_address("a", number, campaign="drills") for number in range(50)))
    assert found == [ChargeReason.BUDGET] * ADDRESS_CLICKS + [ChargeReason.ADDRESS] * (50 - ADDRESS_CLICKS)
    before = ledger.spending().rates.rates
    charge(ledger, *(of_address("a", number, campaign="drills") for number in range(50, 100)))
    np.testing.assert_array_equal(ledger.spending().rates.rates, before)


def _charge_in_process(root: Path, process: int) -> list[str]:
    ledger = Ledger(root, clock=lambda: NOW)
    return [
        str(reason)
        for number in range(20)
        for reason in ledger.charge([of_address("a", 100 * process + number)], CAMPAIGNS, KEY)
    ]


def test_processes_share_the_limit_of_an_address(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as processes:
        found = Counter(chain.from_iterable(processes.map(_charge_in_process, [tmp_path] * 3, range(3))))
    assert found == {"charged": ADDRESS_CLICKS, "address": 60 - ADDRESS_CLICKS}
    Ledger(tmp_path).check()


def test_processes_that_charge_at_once_charge_once(tmp_path: Path) -> None:
    clicks = [click(offer("free", "p3"), product="p3", shopper=f"k1~{number}") for number in range(16)]

    def enter(each: StoredEvent) -> list[ChargeReason | None]:
        return Ledger(tmp_path, clock=lambda: NOW).charge([each], CAMPAIGNS, KEY)

    with ThreadPoolExecutor(8) as threads:
        found = [reason for (reason,) in threads.map(enter, clicks)]
    assert sorted(map(str, found)) == ["charged", *["repeated"] * 15]
    Ledger(tmp_path).check()


def test_fraud_is_refunded_once_and_gives_the_budget_back(ledger: Ledger, clock: Clock) -> None:
    charge(ledger, *(click(offer(), f"q{number}", shopper=f"k1~{number}") for number in range(3)))
    assert [each.id for each in ledger.charged(NOW)] == [1, 2, 3]
    clock.now = NOW + timedelta(days=1)
    assert ledger.refund([2, 99]) == 1
    assert ledger.refund([2]) == 0
    assert [each.id for each in ledger.charged(NOW)] == [1, 3]
    assert ledger.spending().total["drills"] == 600_000
    refund = ledger.entries()[-1]
    assert (refund.amount, refund.reason, refund.refunds) == (-0.3, "fraud", 2)
    # The refund reduces the day of the click.
    assert [(day.day, day.clicks, day.charged, day.amount, day.uncharged) for day in ledger.days()] == [
        ("2026-11-30", 3, 2, 0.6, {"fraud": 1})
    ]
    ledger.check()


def test_an_advertiser_sees_its_own_entries_without_shoppers(ledger: Ledger) -> None:
    charge(ledger, click(offer()), click(offer("free", "p3"), "q2", "p3", "k1~bob"))
    assert [each.campaign for each in ledger.entries("acme")] == ["drills", "free"]
    assert [each.campaign for each in ledger.entries("acme", campaign="free")] == ["free"]
    assert [each.id for each in ledger.entries("acme", after=1)] == [2]
    assert ledger.entries("rival") == []
    assert b"k1~" not in msgspec.json.encode(ledger.entries("acme"))
    with pytest.raises(CampaignError, match="limit is 0"):
        ledger.entries(limit=0)


def test_shown_hits_are_counted_by_day_and_bucket(ledger: Ledger) -> None:
    charge(ledger, click(offer()))
    ledger.add_shown({offer(): 10, offer("free"): 5})
    assert [(each.campaign, each.shown, each.clicks) for each in ledger.days()] == [("drills", 10, 1), ("free", 5, 0)]
    rates = ledger.spending().rates.rates
    assert rates[6] < NO_CLICKS.rates[6] + 0.01
    assert ledger.spending().by_day == {("drills", 20_787): 300_000, ("free", 20_787): 0}


def test_erasing_a_shopper_keeps_the_charge(ledger: Ledger) -> None:
    charge(ledger, click(offer()), click(offer(), "q2", shopper="k1~bob"))
    assert ledger.holds(["k1~ann"]) == 1
    assert ledger.forget(["k1~ann"]) == 1
    assert ledger.holds(["k1~ann"]) == 0
    assert b"k1~ann" not in ledger.path.read_bytes()
    assert ledger.spending().total["drills"] == 600_000
    ledger.check()
    assert ledger.forget(before=NOW + timedelta(seconds=1)) == 1
    assert ledger.charged(NOW) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET amount = 900000 WHERE id = 1",
        "UPDATE entries SET address = 'b' WHERE id = 1",
        "DELETE FROM entries WHERE id = 2",
    ],
)
def test_an_entry_that_was_changed_or_removed_is_found(ledger: Ledger, damage: str) -> None:
    charge(ledger, *(click(offer(), f"q{number}", shopper=f"k1~{number}") for number in range(3)))
    ledger.check()
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute(damage)
        connection.commit()
    with pytest.raises(StoreDamagedError, match="was changed or removed"):
        ledger.check()

"""The window of the derived tables after a pause without events, and refunds of fraud found in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.service.curation.sqlite_file import to_microseconds
from shelfwise.service.sponsored.campaign import Campaign
from shelfwise.service.sponsored.ledger import Ledger, Offer, seal_offer, text_hash
from shelfwise.service.training.derived_tables import last_full_day, refund_fraud

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        ([], (None, 0)),
        ([700], (700, 0)),
        (list(range(100, 142)), (141, 0)),
        ([*range(100, 142), 700], (141, 1)),
        ([*range(100, 142), *range(700, 715)], (141, 15)),
        ([*range(100, 142), *range(700, 721)], (720, 0)),
        ([*range(100, 142), 150, 200], (200, 0)),
    ],
    ids=["no events", "one day", "six weeks", "one event after a pause", "two weeks", "half a window", "a short pause"],
)
def test_a_few_days_after_a_long_pause_do_not_replace_a_full_window(
    active: list[int], expected: tuple[int | None, int]
) -> None:
    assert last_full_day(np.array(active, np.int64), 180) == expected


def test_clicks_in_sessions_of_bots_are_refunded(tmp_path: Path) -> None:
    """A click belongs to the latest session of its shopper, or of its session id, that began before it."""
    ledger, key = Ledger(tmp_path, clock=lambda: NOON), bytes(32)
    campaign = Campaign("drills", "acme", ("p1",), 0.5)
    offer = Offer("drills", "acme", text_hash("p1"), 1, 300_000, 6, to_microseconds(NOON))
    who = [("bot", "s1"), ("ann", "s2"), ("", "s3"), ("bob", "s4"), ("unknown", "s5")]
    clicks = [
        StoredEvent(
            name.encode(), "click", 0, 0, shopper, name, seal_offer(offer, name, key), "", "p1", None, None, None, None
        )
        for shopper, name in who
    ]
    assert [*map(str, ledger.charge(clicks, {"drills": campaign}, key))] == ["charged"] * 5
    hours = [("bot", "s0", -1, True), ("ann", "s2", -1, False), ("", "s3", 0, True), ("bob", "", -3, True)]
    hours += [("bob", "s4", -1, False), ("ann", "s9", 1, True)]
    naive = NOON.replace(tzinfo=None)
    table = [(shopper, session, naive + timedelta(hours=at), is_fraud) for shopper, session, at, is_fraud in hours]
    sessions = pl.DataFrame(table, schema=["shopper", "session", "first", "is_fraud"], orient="row")
    assert refund_fraud(ledger, sessions, NOON - timedelta(days=1)) == 2
    assert [each.refunds for each in ledger.entries() if each.reason == "fraud"] == [1, 3]
    assert refund_fraud(ledger, sessions, NOON - timedelta(days=1)) == 0

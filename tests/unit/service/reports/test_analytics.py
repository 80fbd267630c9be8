"""Analytics: sums of a range of days and of the days before it, from the daily partials."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.product_tables import POPULARITY
from shelfwise.rerank.sessions.query_tables import DAILY, QUERIES
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.retrieval.errors import InputError, StoreMissingError
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.reports.analytics import Analytics, analytics
from tests.unit.rerank.sessions.derived_log import MemoryEvents, search, stored

LAST = date(2026, 3, 10)
CATALOG = {
    "lamp": Product("lamp", "Desk lamp", price=20.0, currency="EUR"),
    "saw": Product("saw", "Hand saw", price=5.5, currency="EUR"),
    "odd": Product("odd", "Odd one", price=900.0, currency="CNY"),
}


def log() -> Iterator[StoredEvent]:
    def on(day: int, minutes: int) -> datetime:
        return datetime(2026, 3, day, 12, minutes, tzinfo=UTC)

    for number in range(6):
        yield from search(f"u{number}", on(9, number), "desk lamp", ["lamp", "saw"], ("click", "lamp"))
        yield stored("purchase", on(9, number + 3), product_id="lamp", shopper=f"u{number}", quantity=2)
        yield from search(f"v{number}", on(10, number), "desk lamp", ["lamp", "saw"])
        yield stored("query", on(10, number), query="snow tyre", query_id=f"e{number}", shopper=f"w{number}", results=0)
    yield from search("x1", on(10, 30), "secret wish", ["saw"], ("click", "saw"))
    yield stored("purchase", on(10, 40), product_id="odd", shopper="y1", quantity=1)
    yield stored("purchase", on(10, 41), product_id="saw", shopper="y2")
    yield from search("z1", on(8, 1), "desk lamp", ["lamp"], ("click", "lamp"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("analytics")
    folder = root / EVENTS_FOLDER / DERIVED_FOLDER
    now, options = datetime(2026, 3, 10, 23, tzinfo=UTC), DeriveOptions(days=30, least_shoppers=5)
    refresh(MemoryEvents(list(log())), folder, None, options, now=now, steps=Steps(tables=(POPULARITY, QUERIES, DAILY)))
    return root


def found(index: Path, days: int) -> Analytics:
    return analytics(index, CATALOG.get, LAST - timedelta(days=days - 1), LAST)


def test_range_is_summed_and_compared_with_the_days_before(index: Path) -> None:
    report = found(index, 2)
    assert (report.first, report.first_before, report.last_before) == (
        date(2026, 3, 9),
        date(2026, 3, 7),
        date(2026, 3, 8),
    )
    now = report.now
    assert (now.searches, now.empty, now.clicked, now.unclicked, now.bought) == (19, 6, 7, 6, 6)
    assert (now.purchases, report.currency) == (8, "EUR")
    assert now.search_revenue == 6 * 2 * 20.0
    assert now.revenue == 6 * 2 * 20.0 + 5.5  # the purchase in another currency is not counted
    assert (report.before.searches, report.before.clicked, report.before.revenue) == (1, 1, 0)
    assert [(day.day.day, day.searches, day.empty) for day in report.days] == [(9, 6, 0), (10, 13, 6)]


def test_queries_of_few_shoppers_are_not_named(index: Path) -> None:
    report = found(index, 2)
    (top, empty) = report.top
    assert (top.query, top.searches, top.before, top.shoppers, top.clicked, top.revenue) == (
        "desk lamp",
        12,
        1,
        12,
        6,
        240,
    )
    assert (empty.query, empty.empty) == ("snow tyre", 6)
    assert [each.query for each in report.empty] == ["snow tyre"]
    assert [each.query for each in report.unclicked] == ["desk lamp"]
    assert [each.query for each in report.rising] == ["desk lamp", "snow tyre"]
    assert [each.query for each in report.earning] == ["desk lamp"]
    assert "secret wish" not in repr(report)
    assert "u1" not in repr(report)


def test_products_are_ordered_by_revenue(index: Path) -> None:
    (lamp,) = found(index, 2).products  # the others have too few shoppers
    assert (lamp.product_id, lamp.title, lamp.impressions, lamp.clicks) == ("lamp", "Desk lamp", 12, 6)
    assert (lamp.purchases, lamp.units, lamp.revenue) == (6, 12, 240)


def test_days_without_events_are_there(index: Path) -> None:
    report = found(index, 5)
    assert [day.searches for day in report.days] == [0, 0, 1, 6, 13]
    assert len(analytics(index, CATALOG.get).days) == 30
    assert analytics(index, CATALOG.get).last == LAST
    assert found(index, 366).now.searches == 20


def test_by_default_both_halves_of_the_days_with_events_are_compared(tmp_path: Path) -> None:
    folder, now = tmp_path / EVENTS_FOLDER / DERIVED_FOLDER, datetime(2026, 3, 30, 23, tzinfo=UTC)
    first, options = datetime(2026, 3, 10, 12, tzinfo=UTC), DeriveOptions(days=90, least_shoppers=1)
    events = [each for day in range(20) for each in search(f"u{day}", first + timedelta(days=day), "lamp", ["lamp"])]
    refresh(MemoryEvents(events), folder, None, options, now=now, steps=Steps(tables=(POPULARITY, QUERIES, DAILY)))
    report = analytics(tmp_path, CATALOG.get)
    assert (report.first_before, report.first, report.last) == tuple(date(2026, 3, day) for day in (10, 20, 29))
    assert (report.tables_first, report.tables_last) == (date(2026, 3, 10), date(2026, 3, 29))
    assert (report.now.searches, report.before.searches) == (10, 10)


@pytest.mark.parametrize("days", [0, -3, 367])
def test_invalid_range_is_refused(index: Path, days: int) -> None:
    with pytest.raises(InputError, match="a range has 1 to 366 days"):
        found(index, days)


def test_there_are_no_figures_without_a_refresh(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="refresh"):
        analytics(tmp_path, CATALOG.get)

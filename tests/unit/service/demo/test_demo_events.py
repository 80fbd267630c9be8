"""The demo log: position bias, purchases after clicks, planted fraud, and the truth kept beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from retrieval.records import EventKind
from service.demo.catalog import Catalog, make_catalog
from service.demo.queries import make_queries
from service.demo.shoppers import (
    PAGE_SIZE,
    DemoEvent,
    Fraud,
    Shelf,
    Traffic,
    Truth,
    collect_truth,
    examination,
    plant_fraud,
    simulate,
    stock_shelf,
    to_events,
)

SESSIONS = 3000


@dataclass(frozen=True, slots=True)
class Played:
    catalog: Catalog
    shelf: Shelf
    traffic: Traffic
    fraud: tuple[Fraud, ...]
    events: tuple[DemoEvent, ...]
    truth: Truth

    @property
    def honest(self) -> list[DemoEvent]:
        planted = {session for plot in self.fraud for session in plot.sessions}
        return [event for event in self.events if event.session not in planted]


@pytest.fixture(scope="module")
def played() -> Played:
    catalog = make_catalog(7, 1000)
    shelf = stock_shelf(catalog, make_queries(catalog, 7), 7)
    traffic = simulate(catalog, shelf, 7, SESSIONS)
    fraud = plant_fraud(catalog, shelf, 7, SESSIONS)
    actions = traffic.actions + [action for plot in fraud for action in plot.actions]
    truth = collect_truth(7, catalog, shelf, traffic, fraud)
    return Played(catalog, shelf, traffic, fraud, tuple(to_events(actions, catalog)), truth)


def test_events_are_in_order_of_time_with_ids_of_their_own(played: Played) -> None:
    times = [event.time for event in played.events]
    assert times == sorted(times)
    assert len({event.event_id for event in played.events}) == len(played.events)
    assert all(len(time) == len("2025-01-06T00:00:00.000Z") and time.endswith("Z") for time in times)


def test_events_come_after_the_products_and_within_the_weeks(played: Played) -> None:
    assert "2025-01-06" <= played.events[0].time < played.events[-1].time < "2025-02-17"


def test_every_honest_session_is_there(played: Played) -> None:
    assert len({event.session for event in played.honest}) == SESSIONS


def test_click_through_falls_with_position(played: Played) -> None:
    shown = Counter(event.position for event in played.honest if event.kind is EventKind.IMPRESSION)
    clicked = Counter(event.position for event in played.honest if event.kind is EventKind.CLICK)
    rates = [clicked[position] / shown[position] for position in (1, 2, 4, 7, 10)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 3 * rates[-1]


def test_better_grades_are_clicked_more(played: Played) -> None:
    numbers = {entry.query.text: number for number, entry in enumerate(played.shelf.queries)}
    places = {item.product.id: at for at, item in enumerate(played.catalog.products)}
    shown: Counter[int] = Counter()
    clicked: Counter[int] = Counter()
    for event in played.honest:
        if event.query and event.kind in {EventKind.IMPRESSION, EventKind.CLICK}:
            grade = played.shelf.grades[numbers[event.query]][places[event.product_id]]
            (clicked if event.kind is EventKind.CLICK else shown)[grade] += 1
    rates = [clicked[grade] / shown[grade] for grade in range(4)]
    assert rates == sorted(rates)


def test_clicks_follow_impressions_carts_clicks_and_purchases_carts(played: Played) -> None:
    before = {
        EventKind.CLICK: EventKind.IMPRESSION,
        EventKind.CART: EventKind.CLICK,
        EventKind.PURCHASE: EventKind.CART,
    }
    seen: set[tuple[EventKind, str, str, int]] = set()
    for event in played.events:
        if event.kind is not EventKind.IMPRESSION:
            assert (before[event.kind], event.query_id, event.product_id, event.position) in seen
        seen.add((event.kind, event.query_id, event.product_id, event.position))


def test_people_buy_less_often_than_they_click(played: Played) -> None:
    counts = Counter(event.kind for event in played.honest)
    assert counts[EventKind.IMPRESSION] > counts[EventKind.CLICK] > counts[EventKind.CART] > counts[EventKind.PURCHASE]
    assert counts[EventKind.PURCHASE] > 0.05 * SESSIONS


def test_nobody_buys_what_is_out_of_stock(played: Played) -> None:
    stock = {item.product.id: item.product.availability for item in played.catalog.products}
    bought = {event.product_id for event in played.events if event.kind is EventKind.PURCHASE}
    assert not any(stock[product] == "out_of_stock" for product in bought)


def test_an_answer_belongs_to_one_query_one_session_and_one_order(played: Played) -> None:
    answers: dict[str, tuple[str, str, str]] = {}
    places: dict[tuple[str, int], str] = {}
    for event in played.events:
        owner = (event.query, event.session, event.shopper)
        assert answers.setdefault(event.query_id, owner) == owner
        assert places.setdefault((event.query_id, event.position), event.product_id) == event.product_id
        assert event.position >= 1


def test_a_page_has_ten_results(played: Played) -> None:
    first = Counter(e.query_id for e in played.events if e.kind is EventKind.IMPRESSION and e.position <= PAGE_SIZE)
    assert max(first.values()) == PAGE_SIZE


def test_some_shoppers_browse_without_a_query(played: Played) -> None:
    browsed = {event.session for event in played.honest if not event.query}
    assert 0.05 * SESSIONS < len(browsed) < 0.3 * SESSIONS


def test_planted_sessions_are_in_the_log_and_in_the_truth(played: Played) -> None:
    logged = {event.session for event in played.events}
    assert played.truth.fraud.keys() == {"click_farm", "crawler", "burying"}
    for plot in played.truth.fraud.values():
        assert set(plot.sessions) <= logged
        assert plot.clicks > 0


def test_planted_accounts_are_no_honest_shoppers(played: Played) -> None:
    planted = {shopper for plot in played.truth.fraud.values() for shopper in plot.shoppers}
    assert not planted & played.truth.shoppers.keys()


def test_the_click_farm_lifts_its_seller(played: Played) -> None:
    plot = played.truth.fraud["click_farm"]
    brands = {item.product.id: item.product.brand for item in played.catalog.products}
    clicked = Counter(
        brands[event.product_id]
        for event in played.events
        if event.session in plot.sessions and event.kind is EventKind.CLICK
    )
    assert clicked[plot.subject] > 0.6 * clicked.total()


def test_the_buried_line_is_shown_but_never_clicked_by_its_competitor(played: Played) -> None:
    plot = played.truth.fraud["burying"]
    models = {item.product.id: item.line.model for item in played.catalog.products}
    kinds = Counter(
        event.kind
        for event in played.events
        if event.session in plot.sessions and models[event.product_id] == plot.subject
    )
    assert kinds[EventKind.IMPRESSION] > 0
    assert kinds[EventKind.CLICK] == 0


def test_frauds_buy_nothing(played: Played) -> None:
    planted = {session for plot in played.fraud for session in plot.sessions}
    assert not any(event.kind is EventKind.PURCHASE for event in played.events if event.session in planted)


def test_the_truth_explains_the_clicks(played: Played) -> None:
    """Clicks at a position are about examination times attractiveness, summed over what was shown there."""
    truth = played.truth
    searched = [event for event in played.honest if event.query]
    for position in (1, 3):
        expected = sum(
            truth.examination[position - 1] * truth.attractiveness[event.query][event.product_id].attractiveness
            for event in searched
            if event.kind is EventKind.IMPRESSION and event.position == position
        )
        clicks = sum(event.kind is EventKind.CLICK and event.position == position for event in searched)
        assert clicks == pytest.approx(expected, rel=0.1)


def test_examination_is_certain_at_the_top_and_falls() -> None:
    assert examination(1) == 1.0
    assert examination(2) == pytest.approx(1 / 2**0.9)


def test_sessions_replay_the_same(played: Played) -> None:
    again = simulate(played.catalog, played.shelf, 7, 50)
    once = simulate(played.catalog, played.shelf, 7, 50)
    assert tuple(to_events(again.actions, played.catalog)) == tuple(to_events(once.actions, played.catalog))

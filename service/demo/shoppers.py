"""Simulated shoppers: they search and browse, examine by position, click what attracts them, and sometimes buy.

Clicks follow the position-based model (Chuklin, Markov, de Rijke: Click Models for Web Search, 2015, section 3.3):
a product at position r is examined with probability r ** -eta, and clicked when it is examined and attractive.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from retrieval.events.event import EventKind
from service.demo.catalog import Catalog
from service.demo.dice import Dice, named_rng
from service.demo.events import Action, Shown, impressions, opaque_id
from service.demo.queries import DemoQuery, QueryClass
from service.demo.shelf import PAGE_SIZE, PERIODS, Shelf
from service.demo.tastes import Attraction, Shopper, make_shoppers

ETA = 0.9
WEEKS = 6
DAY_MS = 86_400_000
PERIOD_MS = WEEKS * 7 * DAY_MS // PERIODS

_MOST_SEARCHES = 5
_NIGHT_AND_DAY = (2, 1, 1, 1, 1, 2, 3, 5, 7, 8, 9, 9, 10, 9, 8, 8, 8, 9, 11, 13, 14, 13, 9, 5)
_LABEL_WEIGHT = {
    QueryClass.HEAD: 6.0,
    QueryClass.SYNONYM: 1.5,
    QueryClass.MISSPELLING: 1.0,
    QueryClass.ATTRIBUTE: 1.2,
    QueryClass.GIFT: 1.0,
    QueryClass.USE_CASE: 1.0,
    QueryClass.IDENTIFIER: 0.4,
    QueryClass.MIXED: 0.8,
}


def examination(position: int) -> float:
    """The probability that a shopper looks at a position (from 1)."""
    return float(position**-ETA)


@dataclass(slots=True)
class Tally:
    """How often a (query, product) was shown to honest shoppers, and how attractive it was to them in sum."""

    impressions: int = 0
    attractiveness: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the honest shoppers did, and the truth behind it. `attractiveness` is by query number and product."""

    shoppers: tuple[Shopper, ...]
    actions: list[Action]
    attractiveness: dict[tuple[int, int], Tally]


class QueryChoice:
    """Draws queries by their popularity, over a language or about one type."""

    def __init__(self, queries: Iterable[DemoQuery], seed: int) -> None:
        dice = Dice(seed, "shoppers/queries")
        groups: dict[str, list[tuple[int, float]]] = {}
        for number, query in enumerate(queries):
            weighted = (number, _LABEL_WEIGHT[query.label] * dice.lognormal(1.0, 0.8))
            languages = ("en", "zh") if query.language == "mixed" else (query.language,)
            for group in (*languages, *query.intent.targets):
                groups.setdefault(group, []).append(weighted)
        self._numbers = {group: [number for number, _ in members] for group, members in groups.items()}
        self._bounds = {group: list(accumulate(weight for _, weight in members)) for group, members in groups.items()}

    def draw(self, group: str, dice: Dice) -> int:
        """The number of a query of this language, or that is after this type."""
        bounds = self._bounds[group]
        return self._numbers[group][bisect(bounds, dice.unit() * bounds[-1])]


def simulate(catalog: Catalog, shelf: Shelf, seed: int, sessions: int) -> Traffic:
    """The honest shoppers' sessions over some weeks."""
    shoppers = make_shoppers(seed, max(20, sessions // 3))
    activity = np.array([shopper.activity for shopper in shoppers])
    who = named_rng(seed, "shoppers/sessions").choice(len(shoppers), size=sessions, p=activity / activity.sum())
    traffic = Traffic(shoppers, [], {})
    visit = _Visits(catalog, shelf, seed, traffic)
    starts = session_starts(seed, "shoppers/starts", sessions)
    for number, (start, shopper) in enumerate(zip(starts, who.tolist(), strict=True)):
        visit.play(shoppers[shopper], opaque_id("s", seed, number), start)
    return traffic


def session_starts(seed: int, name: str, count: int) -> list[int]:
    """When sessions begin, in milliseconds of the log: any day, more in the evening than at night."""
    rng = named_rng(seed, name)
    hours = np.array(_NIGHT_AND_DAY, dtype=float)
    # The last hours stay free, so that no session runs past the log's last day.
    days = rng.integers(WEEKS * 7 - 1, size=count)
    hour = rng.choice(24, size=count, p=hours / hours.sum())
    return [int(ms) for ms in (days * 24 + hour) * 3_600_000 + rng.integers(3_600_000, size=count)]


class _Visits:
    """Plays sessions one after another into the traffic."""

    def __init__(self, catalog: Catalog, shelf: Shelf, seed: int, traffic: Traffic) -> None:
        self._catalog = catalog
        self._shelf = shelf
        self._traffic = traffic
        self._attraction = Attraction(catalog)
        self._choice = QueryChoice((entry.query for entry in shelf.queries), seed)
        self._dice = Dice(seed, "shoppers/play")
        self._shopper = traffic.shoppers[0]
        self._session = ""
        self._now = 0

    def play(self, shopper: Shopper, session: str, start: int) -> None:
        """One session: perhaps a category page, then searches until the shopper is done."""
        dice = self._dice
        self._shopper, self._session, self._now = shopper, session, start
        goal = dice.pick(shopper.kinds)
        if dice.chance(0.15):
            self._browse(goal)
            if dice.chance(0.4):
                return
        group = goal if dice.chance(0.7) else dice.pick(shopper.languages)
        for _ in range(_MOST_SEARCHES):
            number = self._choice.draw(group, dice)
            clicks, bought = self._search(number)
            if dice.chance(0.7 if bought else 0.6 if clicks else 0.4):
                return
            # Without a click they put the same wish in other words, after one they look for what goes with it.
            group = dice.pick(self._shelf.queries[number].query.intent.targets)
            if bought:
                group = dice.pick(self._catalog.kinds[group].related)

    def _search(self, number: int) -> tuple[int, bool]:
        """Clicks, and whether something was bought."""
        grades = self._shelf.grades[number]
        order = self._shelf.answers[number][min(PERIODS - 1, self._now // PERIOD_MS)]
        shown = Shown(self._shelf.queries[number].query.text, self._shopper.id, self._session, order)
        graded = [grades[product] for product in order]
        clicks, bought = self._page(shown, graded, 1, number)
        if clicks or len(order) <= PAGE_SIZE or not self._dice.chance(0.3):
            return clicks, bought
        return self._page(shown, graded, PAGE_SIZE + 1, number)

    def _browse(self, goal: str) -> None:
        kind = self._catalog.kinds[goal]
        order = self._shelf.categories[kind.path][min(PERIODS - 1, self._now // PERIOD_MS)]
        shown = Shown("", self._shopper.id, self._session, order)
        graded = [3 if self._catalog.products[product].line.kind.key == goal else 1 for product in order]
        self._page(shown, graded, 1, None)

    def _page(self, shown: Shown, graded: list[int], first: int, number: int | None) -> tuple[int, bool]:
        last = min(len(shown.products), first + PAGE_SIZE - 1)
        self._traffic.actions.extend(impressions(shown, first, last, self._now))
        clicks, bought = 0, False
        for position in range(first, last + 1):
            product, grade = shown.products[position - 1], graded[position - 1]
            attractive = self._attraction.click(self._shopper, product, grade)
            if number is not None:
                tally = self._traffic.attractiveness.setdefault((number, product), Tally())
                tally.impressions += 1
                tally.attractiveness += attractive
            if self._dice.chance(examination(position)) and self._dice.chance(attractive):
                clicks += 1
                bought |= self._click(shown, position, grade)
        self._pause(4.0)
        return clicks, bought

    def _click(self, shown: Shown, position: int, grade: int) -> bool:
        """A click and what comes of it; whether the product was bought."""
        product = shown.products[position - 1]
        self._pause(3.0)
        self._act(EventKind.CLICK, shown, position)
        self._pause(8.0 + 10.0 * grade)
        if not self._dice.chance(self._attraction.cart(self._shopper, product, grade)):
            return False
        self._act(EventKind.CART, shown, position)
        self._pause(40.0)
        if not self._dice.chance(self._attraction.purchase(product)):
            return False
        self._act(EventKind.PURCHASE, shown, position)
        self._pause(5.0)
        return True

    def _act(self, kind: EventKind, shown: Shown, position: int) -> None:
        self._traffic.actions.append(Action(self._now, kind, shown, position))

    def _pause(self, seconds: float) -> None:
        self._now += 300 + int(1000 * self._dice.lognormal(seconds, 0.7))

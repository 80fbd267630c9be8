"""Simulated shoppers of the demo store: tastes, sessions, planted fraud, and the ground truth.

Clicks follow the position-based model (Chuklin, Markov, de Rijke: Click Models for Web Search, 2015, section 3.3):
a product at position r is examined with probability r ** -eta, and clicked if it is examined and attractive.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.records import Availability, EventKind
from shelfwise.service.demo.catalog import CATALOG_DAY, GRAMMARS, Catalog, DemoProduct, Dice, named_rng
from shelfwise.service.demo.queries import JudgedQuery, QueryClass

_CLICK_BY_GRADE = (0.02, 0.09, 0.24, 0.52)
_CART_BY_GRADE = (0.005, 0.02, 0.08, 0.22)
_PURCHASE_AFTER_CART = 0.4


@dataclass(frozen=True, slots=True)
class DemoShopper:
    """A shopper's latent taste. `price_level` is in standard deviations of a type's log price from its median."""

    id: str
    languages: tuple[str, ...]
    kinds: tuple[str, ...]
    brands: frozenset[str]
    price_level: float
    activity: float


@dataclass(frozen=True, slots=True)
class _Traits:
    kind: str
    brand: str
    price_level: float
    appeal: float
    quality: float
    in_stock: bool


class Attraction:
    """Probabilities of clicks (by appeal and taste), carts (by quality and price) and purchases (by quality)."""

    def __init__(self, catalog: Catalog) -> None:
        self._traits = tuple(
            _Traits(
                kind=item.line.kind.key,
                brand=item.line.brand.name,
                price_level=math.log((item.product.price or 1.0) / item.line.kind.median_price)
                / item.line.kind.price_sigma,
                appeal=math.exp(0.25 * item.line.appeal),
                quality=math.exp(0.35 * item.line.quality),
                in_stock=item.product.availability is not Availability.OUT_OF_STOCK,
            )
            for item in catalog.products
        )

    def click(self, shopper: DemoShopper, product: int, grade: int) -> float:
        """Probability that the shopper clicks an examined product."""
        traits = self._traits[product]
        distance = (traits.price_level - shopper.price_level) / 0.9
        fit = 0.55 + 0.45 * math.exp(-0.5 * distance * distance)
        liked = 1.35 if traits.brand in shopper.brands else 1.0
        familiar = 1.15 if traits.kind in shopper.kinds else 1.0
        stock = 1.0 if traits.in_stock else 0.7
        return _bounded(_CLICK_BY_GRADE[grade] * traits.appeal * fit * liked * familiar * stock)

    def cart(self, shopper: DemoShopper, product: int, grade: int) -> float:
        """Probability of a cart after a click; 0 if the product is out of stock."""
        traits = self._traits[product]
        if not traits.in_stock:
            return 0.0
        too_dear = max(0.0, traits.price_level - shopper.price_level)
        return _bounded(_CART_BY_GRADE[grade] * traits.quality * math.exp(-0.5 * too_dear))

    def purchase(self, product: int) -> float:
        """Probability of a purchase after a cart."""
        return _bounded(_PURCHASE_AFTER_CART * math.sqrt(self._traits[product].quality))


def _bounded(probability: float) -> float:
    return min(0.95, max(0.002, probability))


def make_shoppers(seed: int, count: int) -> Iterator[DemoShopper]:
    """Generates shoppers with random tastes; most read one language, some both."""
    dice = Dice(seed, "shoppers")
    for number in range(count):
        roll = dice.unit()
        grammars = GRAMMARS[:1] if roll < 0.62 else GRAMMARS[1:] if roll < 0.9 else GRAMMARS
        yield DemoShopper(
            id=opaque_id("u", seed, number),
            languages=tuple(grammar.language for grammar in grammars),
            kinds=tuple(kind.key for grammar in grammars for kind in dice.some(grammar.types, 5)),
            brands=frozenset(dice.pick(pool).name for each in grammars for _, pool in sorted(each.brands.items())),
            price_level=0.6 * dice.normal(),
            activity=dice.lognormal(1.0, 0.9),
        )


PAGE_SIZE = 10
PERIODS = 3
_DEPTH = 3 * PAGE_SIZE
_GRADE_WEIGHT, _POPULARITY_WEIGHT, _NOISE = 0.35, 0.25, 0.7


Orders = Sequence[Sequence[int]]
"""Positions of products in the catalog, best first, for each period."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Rankings by a mediocre ranker, by query number or category path; with the grades of each query."""

    queries: tuple[JudgedQuery, ...]
    answers: Sequence[Orders]
    grades: Sequence[Mapping[int, int]]
    """Grade by query number, then product."""
    categories: Mapping[tuple[str, ...], Orders]


def stock_shelf(catalog: Catalog, queries: tuple[JudgedQuery, ...], seed: int) -> Shelf:
    """Ranks the products of every query and category by a noisy mix of grade and popularity."""
    popularity = np.log([item.line.popularity for item in catalog.products])
    rng = named_rng(seed, "shelf")

    def orders(positions: NDArray[np.int32], grades: NDArray[np.float64]) -> Orders:
        steady = _GRADE_WEIGHT * grades + _POPULARITY_WEIGHT * popularity[positions]
        scores = [steady + _NOISE * rng.standard_normal(len(positions)) for _ in range(PERIODS)]
        return [positions[np.argsort(-score, kind="stable")[:_DEPTH]].tolist() for score in scores]

    judged = [entry.judged for entry in queries]
    answers = [orders(each.positions, each.grades.astype(float)) for each in judged]
    grades = [dict(zip(each.positions.tolist(), each.grades.tolist(), strict=True)) for each in judged]
    members: dict[tuple[str, ...], list[int]] = {}
    for position, item in enumerate(catalog.products):
        members.setdefault(item.product.category, []).append(position)
    categories = {
        path: orders(np.array(positions, np.int32), np.zeros(len(positions)))
        for path, positions in sorted(members.items())
    }
    return Shelf(queries, answers, grades, categories)


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """A row of the event log, as `shelfwise events import` reads it without a mapping."""

    event_id: str
    kind: EventKind
    query_id: str
    query: str
    """Text of the query; empty on a category page."""
    shopper: str
    session: str
    product_id: str
    position: int
    """Position from 1, counted over all pages."""
    time: str
    """ISO 8601 time in UTC, with milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class ResultList:
    """Result list of one search or category page; `products` are positions in the catalog."""

    query: str
    shopper: str
    session: str
    products: Sequence[int]


@dataclass(frozen=True, slots=True)
class Action:
    """An event on the product at a position of a result list, `ms` milliseconds after the start of the log."""

    ms: int
    kind: EventKind
    results: ResultList
    position: int


def opaque_id(prefix: str, seed: int, number: int) -> str:
    """An id that reveals nothing about its owner."""
    return prefix + hashlib.sha256(f"{seed}/{prefix}/{number}".encode()).hexdigest()[:12]


def impressions(shown: ResultList, first: int, last: int, ms: int) -> Iterator[Action]:
    """Impressions of the products at positions `first` to `last`."""
    return (Action(ms, EventKind.IMPRESSION, shown, at) for at in range(first, min(last, len(shown.products)) + 1))


FIRST_DAY = (CATALOG_DAY + timedelta(days=1)).date()
"""The day on which the log begins."""


def to_events(actions: list[Action], catalog: Catalog, later: timedelta = timedelta()) -> Iterator[DemoEvent]:
    """Events in order of time, shifted by `later`; result lists are numbered by first appearance."""
    ids = [item.product.id for item in catalog.products]
    began = datetime.combine(FIRST_DAY, time()) + later
    queries: dict[ResultList, str] = {}
    for number, action in enumerate(sorted(actions, key=lambda action: action.ms), start=1):
        shown = action.results
        yield DemoEvent(
            event_id=f"e{number:09d}",
            kind=action.kind,
            query_id=queries.setdefault(shown, f"q{len(queries) + 1:08d}"),
            query=shown.query,
            shopper=shown.shopper,
            session=shown.session,
            product_id=ids[shown.products[action.position - 1]],
            position=action.position,
            time=(began + timedelta(milliseconds=action.ms)).isoformat(timespec="milliseconds") + "Z",
        )


ETA = 0.9
"""The exponent with which examination falls by position."""
WEEKS = 6
DAY_MS = 86_400_000
_PERIOD_MS = WEEKS * 7 * DAY_MS // PERIODS

_MAX_SEARCHES = 5
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


def simulate(catalog: Catalog, shelf: Shelf, seed: int, sessions: int) -> list[Action]:
    """The actions of honest shoppers over `WEEKS` weeks."""
    shoppers = list(make_shoppers(seed, max(20, sessions // 3)))
    activity = np.array([shopper.activity for shopper in shoppers])
    who = named_rng(seed, "shoppers/sessions").choice(len(shoppers), size=sessions, p=activity / activity.sum())
    player = _SessionPlayer(catalog, shelf, seed, shoppers[0])
    starts = session_starts(seed, "shoppers/starts", sessions)
    for number, (start, shopper) in enumerate(zip(starts, who.tolist(), strict=True)):
        player.play(shoppers[shopper], opaque_id("s", seed, number), start)
    return player.actions


def at_time(orders: Orders, ms: int) -> Sequence[int]:
    """The order at a time of the log."""
    return orders[min(PERIODS - 1, ms // _PERIOD_MS)]


def session_starts(seed: int, name: str, count: int) -> list[int]:
    """Start times of sessions, in milliseconds of the log: any day, more in the evening than at night."""
    rng = named_rng(seed, name)
    hours = np.array(_NIGHT_AND_DAY) / sum(_NIGHT_AND_DAY)
    # The last hours stay free, so that no session runs past the log's last day.
    days = rng.integers(WEEKS * 7 - 1, size=count)
    hour = rng.choice(24, size=count, p=hours)
    return [int(ms) for ms in (days * 24 + hour) * 3_600_000 + rng.integers(3_600_000, size=count)]


class _SessionPlayer:
    """Simulates sessions one after another."""

    def __init__(self, catalog: Catalog, shelf: Shelf, seed: int, shopper: DemoShopper) -> None:
        self.actions: list[Action] = []
        self._catalog = catalog
        self._shelf = shelf
        self._attraction = Attraction(catalog)
        self._dice = Dice(seed, "shoppers/play")
        self._shopper = shopper
        self._session = ""
        self._now = 0
        dice = Dice(seed, "shoppers/queries")
        self._choices: dict[str, list[tuple[int, float]]] = {}
        """Queries by language and by type of product, each with the sum of the popularity up to it."""
        for number, query in enumerate(entry.query for entry in shelf.queries):
            weight = _LABEL_WEIGHT[query.label] * dice.lognormal(1.0, 0.8)
            languages = ("en", "zh") if query.language == "mixed" else (query.language,)
            for group in (*languages, *query.intent.targets):
                choices = self._choices.setdefault(group, [])
                choices.append((number, weight + (choices[-1][1] if choices else 0.0)))

    def play(self, shopper: DemoShopper, session: str, start: int) -> None:
        """Simulates a session: with some probability a category page, then up to five searches."""
        dice = self._dice
        self._shopper, self._session, self._now = shopper, session, start
        goal = dice.pick(shopper.kinds)
        if dice.chance(0.15):
            order = at_time(self._shelf.categories[self._catalog.kinds[goal].path], self._now)
            shown = ResultList("", shopper.id, session, order)
            graded = [3 if self._catalog.products[product].line.kind.key == goal else 1 for product in order]
            self._page(shown, graded, 1)
            if dice.chance(0.4):
                return
        group = goal if dice.chance(0.7) else dice.pick(shopper.languages)
        for _ in range(_MAX_SEARCHES):
            choices = self._choices[group]
            number, _ = choices[bisect(choices, dice.unit() * choices[-1][1], key=itemgetter(1))]
            clicks, bought = self._search(number)
            if dice.chance(0.7 if bought else 0.6 if clicks else 0.4):
                return
            # The next query has the same target type, or a related one after a purchase.
            group = dice.pick(self._shelf.queries[number].query.intent.targets)
            if bought:
                group = dice.pick(self._catalog.kinds[group].related)

    def _search(self, number: int) -> tuple[int, bool]:
        """Simulates a search; returns the number of clicks and whether a product was bought."""
        grades = self._shelf.grades[number]
        order = at_time(self._shelf.answers[number], self._now)
        shown = ResultList(self._shelf.queries[number].query.text, self._shopper.id, self._session, order)
        graded = [grades[product] for product in order]
        clicks, bought = self._page(shown, graded, 1)
        if clicks or len(order) <= PAGE_SIZE or not self._dice.chance(0.3):
            return clicks, bought
        return self._page(shown, graded, PAGE_SIZE + 1)

    def _page(self, shown: ResultList, graded: list[int], first: int) -> tuple[int, bool]:
        last = min(len(shown.products), first + PAGE_SIZE - 1)
        self.actions.extend(impressions(shown, first, last, self._now))
        clicks, bought = 0, False
        for position in range(first, last + 1):
            product, grade = shown.products[position - 1], graded[position - 1]
            attractive = self._attraction.click(self._shopper, product, grade)
            if self._dice.chance(position**-ETA) and self._dice.chance(attractive):
                clicks += 1
                bought |= self._click(shown, position, grade)
        self._pause(4.0)
        return clicks, bought

    def _click(self, shown: ResultList, position: int, grade: int) -> bool:
        """Simulates a click and the actions that follow it; returns whether the product was bought."""
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

    def _act(self, kind: EventKind, shown: ResultList, position: int) -> None:
        self.actions.append(Action(self._now, kind, shown, position))

    def _pause(self, seconds: float) -> None:
        self._now += 300 + int(1000 * self._dice.lognormal(seconds, 0.7))


# Numbers of fraudulent accounts and sessions begin far above the honest ones, so that ids do not collide.
_FIRST_NUMBER = 10**9


@dataclass(slots=True, eq=False)
class Fraud:
    """A planted fraud scheme; `subject` is a brand, a line's model, or empty; `now` is its clock in milliseconds."""

    scheme: str
    subject: str
    shoppers: tuple[str, ...]
    sessions: tuple[str, ...]
    actions: list[Action] = field(default_factory=list)
    now: int = 0

    @property
    def truth(self) -> Mapping[str, object]:
        """The scheme in the truth file."""
        clicks = sum(action.kind is EventKind.CLICK for action in self.actions)
        return {"subject": self.subject, "shoppers": self.shoppers, "sessions": self.sessions, "clicks": clicks}

    def page(self, shown: ResultList, last: int) -> None:
        """Adds impressions of the results up to the position `last`."""
        self.actions.extend(impressions(shown, 1, last, self.now))
        self.now += 400

    def act(self, kind: EventKind, shown: ResultList, position: int, wait: int) -> None:
        """Adds an event after `wait` milliseconds."""
        self.now += wait
        self.actions.append(Action(self.now, kind, shown, position))


def plant_fraud(catalog: Catalog, shelf: Shelf, seed: int, sessions: int) -> tuple[Fraud, ...]:
    """Plants the three fraud schemes, sized in proportion to the number of honest sessions."""
    planter = _Planter(catalog, shelf, seed)
    return (
        planter.click_farm(max(6, sessions // 50)),
        planter.crawler(max(2, sessions // 500)),
        planter.burying(max(4, sessions // 100)),
    )


class _Planter:
    def __init__(self, catalog: Catalog, shelf: Shelf, seed: int) -> None:
        self._catalog = catalog
        self._shelf = shelf
        self._seed = seed
        self._next = _FIRST_NUMBER

    def click_farm(self, count: int) -> Fraud:
        """Paid accounts search where the seller ranks low, click the seller's products quickly, and never buy."""
        seller, numbers = self._most_frequent(lambda item: item.line.brand.name, slice(4, 2 * PAGE_SIZE))
        dice = Dice(self._seed, "fraud/click_farm")
        scheme = Fraud("click_farm", seller, self._ids("u", max(3, count // 6)), self._ids("s", count))
        for shown, position, item in self._views(scheme, numbers, dice, 2, 2 * PAGE_SIZE, (1500, 2500)):
            if item.line.brand.name == seller or dice.chance(0.02):
                scheme.act(EventKind.CLICK, shown, position, 900 + dice.below(1500))
                if dice.chance(0.05):
                    scheme.act(EventKind.CART, shown, position, 700)
        return scheme

    def crawler(self, count: int) -> Fraud:
        """One client clicks every result of consecutive queries at a constant rate, at night."""
        dice = Dice(self._seed, "fraud/crawler")
        scheme = Fraud("crawler", "", self._ids("u", 1), self._ids("s", count))
        for at in range(count):
            scheme.now = dice.below(WEEKS * 7 - 1) * DAY_MS + 2 * 3_600_000 + dice.below(3_600_000)
            first = dice.below(len(self._shelf.queries))
            for step in range(12):
                shown = self._answer((first + step) % len(self._shelf.queries), scheme, at)
                scheme.page(shown, PAGE_SIZE)
                for position in range(1, min(PAGE_SIZE, len(shown.products)) + 1):
                    scheme.act(EventKind.CLICK, shown, position, 480 + dice.below(60))
                scheme.now += 500
        return scheme

    def burying(self, count: int) -> Fraud:
        """A competitor's accounts search where the victim ranks high, and click the products around it only."""
        victim, numbers = self._most_frequent(lambda item: item.line.model, slice(0, 3))
        dice = Dice(self._seed, "fraud/burying")
        scheme = Fraud("burying", victim, self._ids("u", max(2, count // 8)), self._ids("s", count))
        for shown, position, item in self._views(scheme, numbers, dice, 3, PAGE_SIZE, (2000, 3000)):
            if item.line.model != victim and dice.chance(0.5):
                scheme.act(EventKind.CLICK, shown, position, 1100 + dice.below(1200))
        return scheme

    def _views(
        self, scheme: Fraud, numbers: Sequence[int], dice: Dice, searches: int, depth: int, pause: tuple[int, int]
    ) -> Iterator[tuple[ResultList, int, DemoProduct]]:
        """Results that a scheme's accounts see, with their positions: in each session `searches` to `searches + 2` of
        these queries, down to `depth`, each followed by a random `pause` (minimum, range) in milliseconds."""
        starts = session_starts(self._seed, f"fraud/{scheme.scheme}/starts", len(scheme.sessions))
        for at, start in enumerate(starts):
            scheme.now = start
            for _ in range(searches + dice.below(3)):
                shown = self._answer(dice.pick(numbers), scheme, at)
                scheme.page(shown, depth)
                for position, product in enumerate(shown.products[:depth], start=1):
                    yield shown, position, self._catalog.products[product]
                scheme.now += pause[0] + dice.below(pause[1])

    def _most_frequent(self, name: Callable[[DemoProduct], str], where: slice) -> tuple[str, tuple[int, ...]]:
        """Most frequent subject at these ranks of head and synonym queries, and the numbers of its queries."""
        frequency: Counter[str] = Counter()
        numbers: dict[str, list[int]] = {}
        for number, entry in enumerate(self._shelf.queries):
            if entry.query.label not in {QueryClass.HEAD, QueryClass.SYNONYM}:
                continue
            found = {name(self._catalog.products[at]) for at in self._shelf.answers[number][0][where]}
            frequency.update(found)
            for subject in found:
                numbers.setdefault(subject, []).append(number)
        subject = min(frequency, key=lambda one: (-frequency[one], one))
        return subject, tuple(numbers[subject])

    def _answer(self, number: int, scheme: Fraud, at: int) -> ResultList:
        order = at_time(self._shelf.answers[number], scheme.now)
        shopper = scheme.shoppers[at % len(scheme.shoppers)]
        return ResultList(self._shelf.queries[number].query.text, shopper, scheme.sessions[at], order)

    def _ids(self, prefix: str, count: int) -> tuple[str, ...]:
        self._next += count
        return tuple(opaque_id(prefix, self._seed, number) for number in range(self._next - count, self._next))

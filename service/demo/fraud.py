"""Planted fraud: a click farm lifting one seller, a crawler, a competitor burying a line. The truth file names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from retrieval.events.event import EventKind
from service.demo.catalog import Catalog, DemoProduct
from service.demo.dice import Dice
from service.demo.events import Action, Shown, impressions, opaque_id
from service.demo.queries import QueryClass
from service.demo.shelf import PAGE_SIZE, PERIODS, Shelf
from service.demo.shoppers import DAY_MS, PERIOD_MS, WEEKS, session_starts

# Numbers of accounts and sessions far above any honest one, so that ids never meet.
_FIRST_NUMBER = 10**9


@dataclass(frozen=True, slots=True)
class Fraud:
    """One scheme: its name, whom it is about (a brand, a line's model, or nobody), and all that it did."""

    scheme: str
    subject: str
    shoppers: tuple[str, ...]
    sessions: tuple[str, ...]
    actions: tuple[Action, ...]


def plant_fraud(catalog: Catalog, shelf: Shelf, seed: int, sessions: int) -> tuple[Fraud, ...]:
    """The three schemes, in proportion to the number of honest sessions."""
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
        """Paid accounts search where the seller stands low, click the seller's products at once, and never buy."""
        seller, numbers = self._most_seen(lambda item: item.line.brand.name, slice(4, 2 * PAGE_SIZE))
        dice = Dice(self._seed, "fraud/click_farm")
        scheme = _Scheme("click_farm", seller, self._ids("u", max(3, count // 6)), self._ids("s", count))
        for at, start in enumerate(session_starts(self._seed, "fraud/click_farm/starts", count)):
            now = start
            for _ in range(2 + dice.below(3)):
                shown = self._answer(dice.pick(numbers), scheme, at, now)
                now = scheme.page(shown, 2 * PAGE_SIZE, now)
                for position, product in enumerate(shown.products[: 2 * PAGE_SIZE], start=1):
                    if self._brand(product) == seller or dice.chance(0.02):
                        now = scheme.act(EventKind.CLICK, shown, position, now + 900 + dice.below(1500))
                        if dice.chance(0.05):
                            now = scheme.act(EventKind.CART, shown, position, now + 700)
                now += 1500 + dice.below(2500)
        return scheme.done()

    def crawler(self, count: int) -> Fraud:
        """One client walks the queries in order and opens every result, evenly, at night."""
        dice = Dice(self._seed, "fraud/crawler")
        scheme = _Scheme("crawler", "", self._ids("u", 1), self._ids("s", count))
        for at in range(count):
            now = dice.below(WEEKS * 7 - 1) * DAY_MS + 2 * 3_600_000 + dice.below(3_600_000)
            first = dice.below(len(self._shelf.queries))
            for step in range(12):
                shown = self._answer((first + step) % len(self._shelf.queries), scheme, at, now)
                now = scheme.page(shown, PAGE_SIZE, now)
                for position in range(1, min(PAGE_SIZE, len(shown.products)) + 1):
                    now = scheme.act(EventKind.CLICK, shown, position, now + 480 + dice.below(60))
                now += 500
        return scheme.done()

    def burying(self, count: int) -> Fraud:
        """A competitor's accounts search where the victim stands high, and click everything near it but the victim."""
        victim, numbers = self._most_seen(lambda item: item.line.model, slice(0, 3))
        dice = Dice(self._seed, "fraud/burying")
        scheme = _Scheme("burying", victim, self._ids("u", max(2, count // 8)), self._ids("s", count))
        for at, start in enumerate(session_starts(self._seed, "fraud/burying/starts", count)):
            now = start
            for _ in range(3 + dice.below(3)):
                shown = self._answer(dice.pick(numbers), scheme, at, now)
                now = scheme.page(shown, PAGE_SIZE, now)
                for position, product in enumerate(shown.products[:PAGE_SIZE], start=1):
                    if self._catalog.products[product].line.model != victim and dice.chance(0.5):
                        now = scheme.act(EventKind.CLICK, shown, position, now + 1100 + dice.below(1200))
                now += 2000 + dice.below(3000)
        return scheme.done()

    def _most_seen(self, name: Callable[[DemoProduct], str], where: slice) -> tuple[str, tuple[int, ...]]:
        """Whoever stands most often at these places of the head queries' answers, and those queries' numbers."""
        seen: Counter[str] = Counter()
        numbers: dict[str, list[int]] = {}
        for number, entry in enumerate(self._shelf.queries):
            if entry.query.label not in {QueryClass.HEAD, QueryClass.SYNONYM}:
                continue
            found = {name(self._catalog.products[at]) for at in self._shelf.answers[number][0][where]}
            seen.update(found)
            for subject in found:
                numbers.setdefault(subject, []).append(number)
        subject = min(seen, key=lambda one: (-seen[one], one))
        return subject, tuple(numbers[subject])

    def _brand(self, product: int) -> str:
        return self._catalog.products[product].line.brand.name

    def _answer(self, number: int, scheme: _Scheme, at: int, now: int) -> Shown:
        order = self._shelf.answers[number][min(PERIODS - 1, now // PERIOD_MS)]
        shopper = scheme.shoppers[at % len(scheme.shoppers)]
        return Shown(self._shelf.queries[number].query.text, shopper, scheme.sessions[at], order)

    def _ids(self, prefix: str, count: int) -> tuple[str, ...]:
        self._next += count
        return tuple(opaque_id(prefix, self._seed, number) for number in range(self._next - count, self._next))


class _Scheme:
    """Collects what one scheme does."""

    def __init__(self, name: str, subject: str, shoppers: tuple[str, ...], sessions: tuple[str, ...]) -> None:
        self.shoppers = shoppers
        self.sessions = sessions
        self._name = name
        self._subject = subject
        self._actions: list[Action] = []

    def page(self, shown: Shown, last: int, now: int) -> int:
        """The answer comes up to this position; returns the time a little later."""
        self._actions.extend(impressions(shown, 1, last, now))
        return now + 400

    def act(self, kind: EventKind, shown: Shown, position: int, now: int) -> int:
        """Something is done; returns the time it was done at."""
        self._actions.append(Action(now, kind, shown, position))
        return now

    def done(self) -> Fraud:
        """The scheme with all that was collected."""
        return Fraud(self._name, self._subject, self.shoppers, self.sessions, tuple(self._actions))

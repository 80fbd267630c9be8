"""A shop whose log has honest shoppers, and sessions that a test writes act by act."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from shelfwise.rerank.sessions.cleaning import clean
from tests.unit.rerank.sessions.session_logs import event, log, shown

RESULTS = 10
PAGE = range(1, RESULTS + 1)


@dataclass
class Shop:
    """Collects events; every session begins an hour after the previous one, so that none overlap."""

    seed: int = 0
    queries: int = 30
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self._sessions = self._answers = 0

    def session(self, shopper: str) -> Session:
        self._sessions += 1
        return Session(self, shopper, f"s{self._sessions}", 3_600.0 * self._sessions)

    def next_answer(self) -> str:
        self._answers += 1
        return f"q{self._answers}"

    def honest(self, shoppers: int, sessions: int = 3) -> None:
        """Adds shoppers who click high positions, with usual dwell times, and sometimes buy."""
        for number in range(shoppers * sessions):
            session = self.session(f"u{number % shoppers}")
            for _ in range(int(self.random.geometric(0.6))):
                session.search(int(self.random.integers(self.queries)))
                chances = 0.4 * np.arange(1, RESULTS + 1) ** -0.9
                for place in np.flatnonzero(self.random.random(RESULTS) < chances) + 1:
                    session.click(int(place), self.pause())
                    if self.random.random() < 0.06:
                        session.buy(int(place))

    def pause(self) -> float:
        return float(self.random.lognormal(np.log(25), 0.7))

    def cleaned(self) -> pl.DataFrame:
        return clean(log(self.events), None).events


@dataclass
class Session:
    shop: Shop
    shopper: str
    session: str
    now: float
    query: int = 0
    answer: str = ""

    def search(self, query: int, pause: float = 5.0) -> None:
        self.query, self.answer = query, self.shop.next_answer()
        who = {"shopper": self.shopper, "session": self.session}
        page = shown(self.now, "abcdefghij", query=f"query {query}", query_id=self.answer, **who)
        self.shop.events += [each | {"product_id": f"{query}{each['product_id']}"} for each in page]
        self.now += pause

    def click(self, place: int, pause: float) -> None:
        self._act("click", place)
        self.now += pause

    def visit(self, query: int, places: Iterable[int], pause: float = 20.0, reading: float = 5.0) -> None:
        self.search(query, reading)
        for place in places:
            self.click(place, pause)

    def buy(self, place: int) -> None:
        self.now += 60
        self._act("purchase", place)

    def _act(self, kind: str, place: int) -> None:
        product = f"{self.query}{'abcdefghij'[place - 1]}"
        who = {"shopper": self.shopper, "session": self.session, "query_id": self.answer}
        self.shop.events.append(event(self.now, kind, product_id=product, position=place, **who))


def crawl(shop: Shop, shopper: str, pause: float = 0.5) -> None:
    session = shop.session(shopper)
    for query in range(6):
        session.visit(query, PAGE, pause, pause)

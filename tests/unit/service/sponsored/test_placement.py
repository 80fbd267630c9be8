"""Sponsored hits of searches: relevance that no bid replaces, unchanged organic hits, and charged clicks."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from shelfwise.retrieval.records import Availability, Event, EventKind, Page
from shelfwise.service.curation.rules import Boost, Bury, Hide, Rule
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import Settings, SponsoredSettings
from shelfwise.service.sponsored.campaign import Campaign
from shelfwise.service.sponsored.ledger import ADDRESS_CLICKS
from shelfwise.service.sponsored.placement import SHOPPER_ADDRESS, campaign_states

QUERY = "cordless drill"
FACETS = ("brand", "category")
OPTIONS: list[dict[str, Any]] = [{"page": 1}, {"filters": "price < 60"}, {"group": "variants"}]
OPTIONS_WITHOUT_OFFERS: list[dict[str, Any]] = [{"page": 2}, {"sort": "price"}, {"size": 0}]


@contextmanager
def sponsoring(root: Path, *, follow: bool = False, **values: object) -> Iterator[SearchEngine]:
    """An engine whose sponsored hits are switched on, with the values of settings."""
    table = SponsoredSettings.model_validate({"places": 3, **values})
    settings = Settings(backend="embedded", sponsored=table)
    with SearchEngine.open(root, settings=settings, follow=follow) as opened:
        opened.switches.put(SwitchedPart.SPONSORED, on=True)
        yield opened


@pytest.fixture
def engine(root: Path) -> Iterator[SearchEngine]:
    with sponsoring(root) as opened:
        yield opened


def products_of(engine: SearchEngine, query: str = QUERY, size: int = 30) -> tuple[str, ...]:
    return tuple(hit.product.id for hit in engine.search(query, size=size).hits)


def campaign(name: str, *products: str, **values: object) -> Campaign:
    return msgspec.structs.replace(Campaign(name, name, products, 0.5), **values)


def shown(page: Page) -> list[str]:
    return [hit.product.id for hit in page.sponsored]


def test_every_product_at_any_bid_changes_no_organic_result(engine: SearchEngine) -> None:
    """All products of the catalog are advertised, half of them with bids of thousands."""
    ids = list(engine.ids().rest)
    bids = (0.1, 9_999.0, 1.0, 5_000.0)
    engine.campaigns.put([campaign(f"c{at}", *ids[at::20], bid=bids[at % 4]) for at in range(20)])
    titles = [engine.product(each).title for each in ids[::97]]
    queries = [QUERY, "hammer drill", "usb-c cable", "充电器", "dog bed", "zzqx qqv", "gift for dad", *titles, ""]
    sponsored = 0
    for query in queries:
        for options in (
            {"page": 1},
            {"page": 2},
            {"filters": "price < 60"},
            {"group": "variants"},
            {"sort": "price"},
            {"size": 0},
        ):
            plain = engine.search(query, facets=FACETS, ranges=("price",), **options)
            page = engine.search(query, facets=FACETS, ranges=("price",), sponsored=True, **options)
            assert replace(page, sponsored=(), timings={}) == replace(plain, timings={})
            assert not page.sponsored or options not in OPTIONS_WITHOUT_OFFERS
            sponsored += len(page.sponsored)
    assert sponsored > 20


def test_sponsored_hits_are_of_the_query_and_pass_its_filters(engine: SearchEngine) -> None:
    ids = list(engine.ids().rest)
    engine.campaigns.put([campaign(f"c{at}", *ids[at::20], bid=float(20 - at)) for at in range(20)])
    page = engine.search(QUERY, filters="price < 90", size=100, sponsored=True)
    assert len(page.sponsored) == 3
    assert set(shown(page)) <= {hit.product.id for hit in page.hits}
    for place, hit in enumerate(page.sponsored, 1):
        assert hit.place == place
        assert "drill" in hit.product.title.lower()
        assert (hit.product.price or 0) < 90
        assert hit.relevance >= 1
        assert hit.product.availability is not Availability.OUT_OF_STOCK
    assert len({hit.advertiser for hit in page.sponsored}) == 3


@pytest.mark.parametrize("query", ["garden hose", "zzqx qqv", "drll bt", ""])
def test_no_bid_places_a_product_on_other_queries(engine: SearchEngine, query: str) -> None:
    engine.campaigns.put([campaign("drills", *products_of(engine)[:5], bid=10_000.0)])
    assert shown(engine.search(QUERY, sponsored=True))
    assert not engine.search(query, sponsored=True).sponsored


def test_a_rule_that_buries_or_hides_a_product_stops_its_advertisement(engine: SearchEngine) -> None:
    product = products_of(engine)[0]
    engine.campaigns.put([campaign("drills", product, bid=10_000.0)])
    assert shown(engine.search(QUERY, sponsored=True)) == [product]
    named = f"id = '{product}'"
    for action in (Bury(named, 0.1), Hide((product,))):
        rules = [Rule("it", (action, Boost(named, 5)))]
        assert not engine.search(QUERY, sponsored=True, rules=rules).sponsored
    # Optional filters of a request are no rules of the store.
    assert engine.search(QUERY, sponsored=True, optional_filters=[f"-{named}"]).sponsored
    assert engine.search(QUERY, sponsored=True, rules=[Rule("it", (Boost(named),))]).sponsored


def test_similar_products_have_advertisements_of_their_type_and_stay_as_they_are(engine: SearchEngine) -> None:
    product = products_of(engine)[0]
    plain = engine.similar(product, size=5)
    near = [hit.product.id for hit in engine.similar(product, size=60).hits]
    other = [each for each in products_of(engine, "garden hose") if each not in near]
    engine.campaigns.put([campaign("c", *near, *other, product)])
    page = engine.similar(product, size=5, sponsored=True)
    assert replace(page, sponsored=()) == plain
    (hit,) = page.sponsored
    assert hit.product.id in near
    assert engine.rules.product_types(hit.product.id).by_title == engine.rules.product_types(product).by_title
    last = min(hit.stages["dense"].score for hit in plain.hits)
    assert engine.snapshot.manifest.background.standardise(np.array(last)) <= hit.relevance
    for values in ({"queries": ("drill",)}, {"types": ("garden hose",)}, {"floor": hit.relevance + 9}):
        engine.campaigns.put([campaign("c", *near, **values)])
        assert not engine.similar(product, size=5, sponsored=True).sponsored
    engine.campaigns.put([campaign("c", *near)])
    engine.rules.put([Rule("it", (Hide((hit.product.id,)),))])
    assert hit.product.id not in shown(engine.similar(product, size=5, sponsored=True))


def test_the_highest_of_the_three_floors_holds(root: Path) -> None:
    with sponsoring(root) as engine:
        product, other = products_of(engine)[:2]
        drills = campaign("drills", product, other)
        engine.campaigns.put([drills])
        found = {hit.product.id: hit.relevance for hit in engine.search(QUERY, sponsored=True).sponsored}
        (best, relevance), *_ = found.items()
        engine.campaigns.put([msgspec.structs.replace(drills, products=(best,), floor=relevance + 0.01)])
        assert not engine.search(QUERY, sponsored=True).sponsored
        engine.campaigns.put([msgspec.structs.replace(drills, products=(best,), floor=relevance - 0.01)])
        assert shown(engine.search(QUERY, sponsored=True)) == [best]
        # Another campaign of the advertiser or for the product cannot lower the floor.
        floors = {best: relevance + 0.01}
        first = msgspec.structs.replace(drills, products=(best,), product_floors=floors)
        engine.campaigns.put([first, msgspec.structs.replace(first, id="more", product_floors={})])
        assert not engine.search(QUERY, sponsored=True).sponsored
    with sponsoring(root, floor=relevance + 0.01) as engine:
        engine.campaigns.put([campaign("drills", best)], gone=["more"])
        assert not engine.search(QUERY, sponsored=True).sponsored


def test_campaigns_take_part_only_while_they_run_and_can_pay(engine: SearchEngine) -> None:
    product, now = products_of(engine)[0], datetime.now(UTC)
    states = {
        "off": campaign("a", product, enabled=False),
        "waiting": campaign("a", product, starts=now + timedelta(hours=1)),
        "ended": campaign("a", product, ends=now - timedelta(hours=1)),
    }
    for state, each in states.items():
        engine.campaigns.put([each])
        assert not engine.search(QUERY, sponsored=True).sponsored
        assert campaign_states([each], engine.campaigns.spending, now)["a"].state == state
    assert engine.campaigns.faults == {}
    engine.campaigns.put([campaign("a", "nosuch", product)])
    assert engine.campaigns.faults == {"a": "no product has the id nosuch"}


def test_unavailable_products_are_not_sponsored(root: Path) -> None:
    with sponsoring(root, follow=True) as engine:
        product = products_of(engine)[0]
        engine.campaigns.put([campaign("a", product)])
        assert shown(engine.search(QUERY, sponsored=True)) == [product]
        engine.patch(product, availability="out_of_stock")
        assert not engine.search(QUERY, sponsored=True).sponsored


@dataclass
class Visitors:
    """Shoppers of an engine; each has an address, and a session of its own for each search."""

    engine: SearchEngine
    count: int = 0

    def offers(self, address: str, query: str = QUERY) -> dict[str, Event]:
        """The click on each sponsored hit of a search, by campaign."""
        self.count += 1
        reset = SHOPPER_ADDRESS.set(address)
        page = self.engine.search(query, sponsored=True)
        SHOPPER_ADDRESS.reset(reset)
        ids = self.engine.campaigns.issue(f"answer{self.count}", page.sponsored)
        return {
            hit.campaign: Event(
                EventKind.CLICK, hit.product.id, query_id, session=f"s{self.count}", address=address, event_id=query_id
            )
            for hit, query_id in zip(page.sponsored, ids, strict=True)
        }

    def click(self, event: Event) -> str:
        """The reason of the ledger for a click."""
        self.engine.record(event)
        return self.engine.campaigns.ledger.entries(after=self.entries - 1)[0].reason

    @property
    def entries(self) -> int:
        return sum(day.clicks for day in self.engine.campaigns.ledger.days())


def test_an_advertiser_gets_no_free_showings_by_attacking_its_own_campaign(root: Path) -> None:
    """Only clicks from the attacked address are not charged, and that address does not see the campaign any more."""
    queries = (QUERY, "drill cordless", "cordless drills", "the cordless drill")
    outcomes = []
    for number, is_attacked in enumerate((False, True)):
        store = Path(shutil.copytree(root, root.parent / f"store{number}"))
        with sponsoring(store) as engine:
            own, other = products_of(engine)[:2]
            engine.campaigns.put([campaign("own", own, daily_budget=4.0, pacing="fast"), campaign("b", other, bid=0.3)])
            visitors = Visitors(engine)
            # The offers are collected before the first click, since the limit stops showings after it.
            offers = (visitors.offers("a", query) for query in queries for _ in range(20 * is_attacked))
            attack = [each["own"] for each in offers if "own" in each]
            assert len(attack) >= 20 * is_attacked * len(queries) / 2
            reasons = Counter(map(visitors.click, attack))
            assert reasons["charged"] <= ADDRESS_CLICKS
            for query in queries * is_attacked:
                assert "own" not in visitors.offers("a", query)
            honest = [visitors.offers(f"h{at}")["own"] for at in range(4)]
            assert {*map(visitors.click, honest)} == {"charged"}, "as before the attack"
            seen = 0
            while event := visitors.offers(f"more{seen}").get("own"):
                assert visitors.click(event) == "charged"
                seen += 1
            with closing(sqlite3.connect(engine.campaigns.ledger.path)) as connection:
                counted = connection.execute("SELECT sum(clicks) FROM rates").fetchone()[0]
            assert counted == sum(day.charged for day in engine.campaigns.ledger.days())
            outcomes.append((seen, engine.campaigns.spending.total["own"]))
    (plain_seen, plain_spent), (seen, spent) = outcomes
    assert seen <= plain_seen
    assert abs(spent - plain_spent) <= 500_000, (
        "the budget pays for the same number of clicks, some of them the attack's"
    )

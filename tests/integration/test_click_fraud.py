"""Forged events and clicks: one address moves no product and drains no budget."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shelfwise.indexer.events.importer import import_events
from shelfwise.rerank.sessions.cleaning import RejectReason
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.demo import write_demo_store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import DERIVED_FOLDER, EventLog, rejects_path
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.settings import RankerSettings, Settings
from shelfwise.service.sponsored.ledger import ADDRESS_CLICKS
from shelfwise.service.training.derived_tables import DerivedTablesManager
from tests.browsers import served
from tests.machine import within
from tests.services import TLS, Service, add_key, service

QUERY = "cordless drill"
_NUMBERS = count()


class Shop:
    """A service with the campaigns of two rivals on the first drills."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root, self._log = root, log
        keys = KeyFile(root / KEYS_FILE)
        self.admin = add_key(keys, Scope.ADMIN)
        self.public = add_key(keys, Scope.SEARCH, Scope.EVENTS)

    def serve(self, held: ExitStack) -> Service:
        limits = {"requests_per_minute_address": 1_000_000, "requests_per_minute_key": 1_000_000}
        self.running = held.enter_context(service(self.root, self._log, "--workers", "2", **limits))
        return self.running

    def client(self, address: str, key: str = "") -> httpx2.Client:
        transport = httpx2.HTTPTransport(local_address=address, verify=TLS)
        headers = {"X-API-Key": key or self.public}
        return httpx2.Client(base_url=self.running.address, headers=headers, transport=transport, timeout=60)

    def log(self) -> list[dict[str, Any]]:
        with self.client("127.0.0.1", self.admin) as admin:
            return list(admin.get("/v1/campaigns/log", params={"limit": 1_000}).json()["entries"])


def sponsored(client: httpx2.Client, query: str = QUERY) -> dict[str, dict[str, Any]]:
    found = client.post("/v1/search", json={"q": query, "fields": "title"}).json()["sponsored"]
    return {each["campaign"]: each for each in found}


def click(client: httpx2.Client, hit: dict[str, Any], **values: object) -> None:
    """A click by a new session."""
    name = f"s{next(_NUMBERS)}"
    event = {"kind": "click", "product_id": hit["product"]["id"], "query_id": hit["query_id"], "session": name}
    assert client.post("/v1/events", json={"events": [event | {"event_id": name} | values]}).status_code == 200


@pytest.fixture
def shop(demo_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("SHELFWISE_SPONSORED__PLACES", "2")
    made = Shop(Path(shutil.copytree(demo_index, tmp_path / "store")), tmp_path / "log")
    with ExitStack() as held:
        made.serve(held)
        with made.client("127.0.0.1", made.admin) as admin:
            assert admin.put("/v1/switches/sponsored", json={"on": True}).status_code == 200
            found = admin.post("/v1/search", json={"q": QUERY}).json()["hits"]
            campaigns = [
                {"id": name, "advertiser": name, "products": [hit["product"]["id"]], "bid": 0.5, "daily_budget": 3.0}
                | {"pacing": "fast"}
                for name, hit in zip(("rival", "other"), found, strict=False)
            ]
            assert admin.put("/v1/campaigns", json={"documents": campaigns}).status_code == 200
        with made.client("127.0.0.9") as shopper:
            assert within(20, lambda: all(len(sponsored(shopper)) == 2 for _ in range(8)))
        yield made


def test_new_sessions_of_an_address_do_not_empty_a_daily_budget(shop: Shop) -> None:
    with shop.client("127.0.0.2") as stranger, shop.client("127.0.0.3") as shopper:
        offers = [sponsored(stranger)["rival"] for _ in range(14)]
        for hit in offers:
            click(stranger, hit)
        charged = [each for each in shop.log() if each["reason"] == "charged"]
        assert len(charged) <= ADDRESS_CLICKS
        click(shopper, sponsored(shopper)["rival"])
        assert shop.log()[-1]["reason"] == "charged"
        # A program of the store sends the address of its shopper, or none.
        with shop.client("127.0.0.2", shop.admin) as server:
            click(server, offers[-1], address="192.0.2.7", session="a")
            click(server, offers[-2], session="b")
        # A stranger cannot.
        click(stranger, offers[-3], address="192.0.2.8")
        log = shop.log()
        assert [each["reason"] for each in log[-3:]] == ["charged", "charged", "burst"]
        assert all("address" not in each for each in log)


@pytest.mark.slow
def test_an_address_is_charged_five_clicks_of_300_also_after_a_kill(shop: Shop) -> None:
    queries = (QUERY, "drill", "cordless power drill")

    def attack(number: int) -> None:
        with shop.client("127.0.0.2") as stranger:
            if hit := sponsored(stranger, queries[number % 3]).get("rival"):
                offers.append(hit)

    offers: list[dict[str, Any]] = []
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(attack, range(300)))
        assert len(offers) == 300

        def spend(hit: dict[str, Any]) -> None:
            with shop.client("127.0.0.2") as stranger:
                click(stranger, hit)

        list(threads.map(spend, offers[:150]))
        shop.running.process.kill()
        shop.running.process.wait()
        with ExitStack() as held:
            shop.serve(held)
            list(threads.map(spend, offers[150:]))
            reasons = Counter(each["reason"] for each in shop.log())
            assert reasons["charged"] <= ADDRESS_CLICKS
            assert set(reasons) <= {"charged", "address", "burst"}
            assert reasons.total() == 300
            with shop.client("127.0.0.2") as stranger, shop.client("127.0.0.3") as shopper:
                assert within(10, lambda: all("rival" not in sponsored(stranger) for _ in range(8)))
                assert "rival" in sponsored(shopper)


SETTINGS = Settings(backend="embedded", ranker=RankerSettings(deadline=60.0))
FORGED_QUERY = "drill"
HOUSEHOLD = 1 + 0.5 + 3 + 5
"""The score by which a click, a view, a cart and a purchase raise a product's popularity."""


def counted(root: Path) -> RefreshResult:
    with EventLog.open(root, SETTINGS) as log:
        return DerivedTablesManager(root, log, SETTINGS.events).refresh()


def hits(root: Path) -> list[str]:
    with SearchEngine.open(root, settings=SETTINGS) as engine:
        return [hit.product.id for hit in engine.search(FORGED_QUERY, size=20).hits]


def popularity(root: Path, column: str = "score") -> dict[str, float]:
    table = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER).popularity
    return dict(table.select("product_id", column).iter_rows())


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    """An index with the events of six weeks of honest shoppers."""
    root = Path(shutil.copytree(demo_index, tmp_path / "store"))
    first = (datetime.now(UTC) - timedelta(days=43)).date()
    files = write_demo_store(tmp_path / "demo", products=600, sessions=1_000, day=first)
    with EventLog.open(root, SETTINGS) as log:
        rejects = rejects_path(log.folder, datetime.now(UTC))
        import_events([str(files.events)], log.store, log.intake, rejected=rejects)
    counted(root)
    return root


def test_night_of_forged_events_moves_a_product_by_one_place_at_most(root: Path) -> None:
    before, scores, shoppers = hits(root), popularity(root), popularity(root, "shoppers")
    target, number = next(each for each in before[3:] if each in scores), count()
    with (
        SearchEngine.open(root, settings=SETTINGS) as engine,
        served(engine) as url,
        httpx2.Client(base_url=url) as web,
    ):

        def forged(kind: str, **values: object) -> dict[str, object]:
            name = f"forger-{next(number)}"
            return {"kind": kind, "product_id": target, "shopper": name, "session": name, **values}

        def sent(events: list[dict[str, object]]) -> int:
            return web.post("/v1/events", json={"events": events}).status_code

        lie = {"query_id": "made-up", "query": FORGED_QUERY}
        assert sent([forged("impression", position=1, **lie), forged("click", position=1, **lie)]) == 403
        acts = [forged(kind, position=1, **lie) for kind in ("click", "cart", "purchase") * 100]
        acts += [forged(kind) for kind in ("click", "consultation", "cart", "purchase") * 25]
        assert all(sent(acts[at : at + 100]) == 200 for at in range(0, len(acts), 100))
        for session in range(20):
            answer = web.get("/v1/search", params={"q": FORGED_QUERY, "session": f"searching-{session}"}).json()
            click = {"kind": "click", "product_id": target, "query_id": answer["query_id"], "position": 1}
            assert sent([click | {"session": f"searching-{session}"}]) == 200
    refreshed = counted(root)
    assert refreshed.rejected[RejectReason.SURPLUS] > 300
    assert abs(before.index(target) - hits(root).index(target)) <= 1
    # Earlier events count a little less by now.
    assert popularity(root)[target] - scores[target] <= HOUSEHOLD
    assert popularity(root, "shoppers")[target] <= shoppers[target] + 1

"""A stranger drains a rival's budget, over HTTP at a service with two workers: made-up sessions, one address."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.sponsored.ledger import ADDRESS_CLICKS
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

"""Running services: under overload, as replicas that start and stop under load, and scraped by a real Prometheus."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.feeds.mapping import FeedMapping
from shelfwise.indexer.feeds.reader import read_products
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.demo import DemoFiles
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.deploy.documents import ALERTS, DEPLOY, Document, alerts, documents, expressions, filled_in
from tests.machine import within
from tests.servers.skips import program_or_skip
from tests.services import Service, Shoppers, add_key, service

SHOPPED = ("cordless drill", "red mug", "gift", "", "耳机")
_MORE = 10_000.0
"""Amount by which the second feed raises every price."""


class Readers(Shoppers):
    """Request page 1 and page 2 of a search repeatedly, from the replicas in turn, as behind a load balancer."""

    def __init__(self, replicas: list[Service]) -> None:
        super().__init__()
        self.replicas = replicas
        self.is_second_feed: dict[str, set[bool]] = defaultdict(set)
        """Whether prices on the pages of a version were those of the second feed, by version."""

    def visits(self, number: int) -> Iterator[None]:
        places = cycle(range(number, number + len(self.replicas)))
        with ExitStack() as opened:
            clients = {
                each.port: opened.enter_context(httpx2.Client(base_url=each.address, timeout=30))
                for each in self.replicas
            }
            for query in cycle(SHOPPED):
                for page in (1, 2):
                    self._ask(clients[self.replicas[next(places) % len(self.replicas)].port], query, page)
                yield

    def _ask(self, client: httpx2.Client, query: str, page: int) -> None:
        answer = self.get(client, "/v1/search", q=query, page=page, size=5, facets="brand")
        if answer is not None:
            found = answer.json()
            prices = [hit["product"].get("price") for hit in found["hits"]]
            self.is_second_feed[found["version"]] |= {price > _MORE for price in prices if price is not None}


@pytest.fixture
def replicas(demo_index: Path, tmp_path: Path) -> Iterator[list[Service]]:
    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
    options = {"requests_per_minute_address": 10_000_000}
    with (
        service(index, tmp_path / "one.log", "--notice", "4", **options) as one,
        service(index, tmp_path / "two.log", "--notice", "4", **options) as two,
    ):
        yield [one, two]


@pytest.mark.slow
def test_replicas_follow_versions_changes_and_shutdown_without_failed_requests(
    replicas: list[Service], demo: DemoFiles, cache: Path, tmp_path: Path
) -> None:
    index = tmp_path / "store"
    one, two = replicas
    before = one.get("/health/ready").json()["version"]
    product = one.get("/v1/search?size=1").json()["hits"][0]["product"]["id"]
    with Readers(replicas) as readers:
        # A rebuild publishes a version.
        products = [row.product for row in read_products([str(demo.products)], FeedMapping(), lambda _: None)]
        dearer = [replace(each, price=each.price + _MORE) for each in products if each.price is not None]
        feed = write_feed(tmp_path / "feed.jsonl", dearer)
        rebuild(index, RebuildOptions((str(feed),), cache, encoder=ENCODER, synonyms=demo.synonyms))
        published = Store(index).current()
        assert published != before
        assert within(60, lambda: {each.get("/health/ready").json()["version"] for each in replicas} == {published})

        # A change accepted by one replica is visible in the other within a second.
        price = _MORE + 4_321.25
        headers = {"X-API-Key": two.token}
        address = f"{one.address}/v1/products/{product}"
        changed = httpx2.patch(address, json={"price": price}, headers=headers, timeout=20)
        assert changed.status_code == 200
        asked = time.monotonic()
        assert within(60, lambda: two.get(f"/v1/products/{product}").json()["product"]["price"] == price)
        assert time.monotonic() - asked < 1

        # One replica is stopped: it reports that it is not ready, and still answers requests.
        ended = threading.Thread(target=one.end)
        ended.start()
        assert within(60, lambda: one.get("/health/ready").json().get("error", {}).get("code") == "draining")
        assert one.get("/v1/search?q=drill").status_code == 200
        readers.replicas = [two]
        ended.join()
        time.sleep(0.5)
    assert one.process.returncode == 0
    assert set(readers.outcomes) == {"200"}, readers.outcomes
    assert readers.outcomes.total() > 100
    # All of a page is of the version that it names.
    assert readers.is_second_feed == {before: {False}, published: {True}}
    assert not two.get("/health/ready").json()["notices"]


def test_accepted_requests_are_answered_during_shutdown(demo_index: Path, tmp_path: Path) -> None:
    outcomes: list[int] = []
    searches = [{"q": query, "size": 50, "facets": ["brand"]} for query in SHOPPED] * 4

    def ask(running: Service, number: int) -> None:
        # Batches of one address wait for each other.
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=f"127.0.0.{number + 2}"), timeout=99) as client:
            answer = client.post(f"{running.address}/v1/multi-search", json={"searches": searches})
        outcomes.append(answer.status_code)

    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
    with service(index, tmp_path / "log", threads=1, deadline=120) as running:
        asking = [threading.Thread(target=ask, args=(running, number)) for number in range(8)]
        for each in asking:
            each.start()
        assert within(60, lambda: _in_progress(running) > 4 * 6), "four searches of each at a time"
        assert running.end() == 0
        for each in asking:
            each.join()
    assert outcomes == [200] * 8


def _in_progress(running: Service) -> float:
    (line,) = [each for each in running.metrics().splitlines() if each.startswith("shelfwise_requests_in_progress ")]
    return float(line.split()[1])


_VARIABLES = {"$__rate_interval": "30s", "$job": ".*", "$instance": ".*"}
_ALWAYS_THERE = (
    "Requests a second by route A",
    "Searches C",
    "What serves A",
    "Ready A",
    "Requests in progress B",
    "Memory A",
)


class Prometheus:
    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Document:
        """The data of a response; raises HTTPError also during the start, when Prometheus responds in plain text."""
        answer = self._client.get(path, params=parameters).raise_for_status().json()
        assert answer["status"] == "success", answer
        data: Document = answer["data"]
        return data

    def is_scraping(self) -> bool:
        try:
            targets = self.get("targets")["activeTargets"]
        except httpx2.HTTPError:
            return False
        return [each["health"] for each in targets] == ["up"]

    def value(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("query", query=expression)["result"]
        return found


@contextmanager
def prometheus(folder: Path, running: Service, key: str) -> Iterator[Prometheus]:
    program = program_or_skip("prometheus", "prometheus")
    (configuration,) = documents(DEPLOY / "prometheus" / "prometheus.yaml")
    (folder / "key").write_text(key)
    (job,) = configuration["scrape_configs"]
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{running.port}"]
    job["authorization"]["credentials_file"] = str(folder / "key")
    configuration["rule_files"] = [str(ALERTS)]
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - a program of the system
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=10) as client:
            yield Prometheus(client)
    finally:
        process.kill()
        process.wait()


def test_prometheus_reads_a_service_with_its_key_and_answers_every_panel(demo_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
    keys = KeyFile(index / KEYS_FILE)
    searching, watching = add_key(keys, Scope.SEARCH), add_key(keys, Scope.METRICS)
    with service(index, tmp_path / "log") as running, prometheus(tmp_path, running, watching) as watcher:
        assert within(60, watcher.is_scraping), (tmp_path / "log").read_text("utf-8")
        for number in range(20):
            path = f"/v1/search?q=drill&size={number}"
            httpx2.get(f"{running.address}{path}", headers={"X-API-Key": searching}, timeout=10)
        asked = {name: filled_in(expression, _VARIABLES) for name, expression in expressions()}
        # A rate needs two looks at what a search made.
        assert within(60, lambda: all(watcher.value(asked[name]) for name in _ALWAYS_THERE))
        for expression in asked.values():
            watcher.value(expression)
        loaded = [rule for group in watcher.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == {alert["alert"] for alert in alerts()}
        assert {rule["health"] for rule in loaded} <= {"ok", "unknown"}
        assert not watcher.value('ALERTS{alertstate="firing"}')

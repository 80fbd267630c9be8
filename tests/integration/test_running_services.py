"""Running services: replicas that follow each other, and worker processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
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
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.demo import DemoFiles
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.supervisor import bind
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.deploy.documents import ALERTS, DEPLOY, Document, alerts, documents, expressions, filled_in
from tests.machine import within
from tests.servers.skips import program_or_skip
from tests.services import PROGRAM, TLS, Service, Shoppers, add_key, events_of_query, service

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
def index(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "store"))


@pytest.fixture
def replicas(index: Path, tmp_path: Path) -> Iterator[list[Service]]:
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


def test_accepted_requests_are_answered_during_shutdown(index: Path, tmp_path: Path) -> None:
    outcomes: list[int] = []
    searches = [{"q": query, "size": 50, "facets": ["brand"]} for query in SHOPPED] * 4

    def ask(running: Service, number: int) -> None:
        # Batches of one address wait for each other.
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=f"127.0.0.{number + 2}"), timeout=99) as client:
            answer = client.post(f"{running.address}/v1/multi-search", json={"searches": searches})
        outcomes.append(answer.status_code)

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


def test_prometheus_reads_a_service_with_its_key_and_answers_every_panel(index: Path, tmp_path: Path) -> None:
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


WORKERS = 2
_LIMIT = 60
"""Requests per minute of one key."""


def messages(running: Service, event: str) -> list[dict[str, Any]]:
    # The last line may be half written.
    lines = (line for line in running.log.read_text("utf-8").split("\n")[:-1] if line.startswith("{"))
    return [found for found in map(json.loads, lines) if found["event"] == event]


def pids(running: Service) -> list[int]:
    """Process ids of the workers that are ready, the newest of each number."""
    return list({each["worker"]: each["pid"] for each in messages(running, "worker ready")}.values())


def all_ready(running: Service, times: int = 1) -> bool:
    return within(60, lambda: len(messages(running, "worker ready")) >= WORKERS * times)


def value(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


class Clients:
    """One open connection to each worker."""

    def __init__(self, running: Service, path: str = "/v1/search", **headers: str) -> None:
        self._path = path
        self.by_worker: dict[int, httpx2.Client] = {}
        self._spare: list[httpx2.Client] = []
        while len(self.by_worker) < WORKERS:
            client = httpx2.Client(base_url=running.address, headers=headers, timeout=30, verify=TLS)
            worker = self._worker_of(running, client)
            if worker in self.by_worker:
                self._spare.append(client)  # stays open, so that the next one goes to another worker
            self.by_worker.setdefault(worker, client)

    def _worker_of(self, running: Service, client: httpx2.Client) -> int:
        request = client.get(self._path, params={"q": "drill", "size": 1}).headers["X-Request-ID"]
        found: list[dict[str, Any]] = []

        def is_logged() -> bool:
            found[:] = [each for each in messages(running, "answered") if each["request"] == request]
            return bool(found)

        assert within(10, is_logged)
        worker: int = found[0]["worker"]
        return worker

    def close(self) -> None:
        for client in (*self.by_worker.values(), *self._spare):
            client.close()


@pytest.fixture(scope="module")
def root(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("workers") / "store"))


@pytest.fixture(scope="module")
def keys(root: Path) -> dict[str, str]:
    file = KeyFile(root / KEYS_FILE)
    return {"admin": add_key(file, Scope.ADMIN), "limited": add_key(file, Scope.SEARCH, requests_per_minute=_LIMIT)}


@pytest.fixture(scope="module")
def running(root: Path, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("log") / "log"
    with service(root, log, "--workers", str(WORKERS), requests_per_minute_address=10_000_000) as started:
        assert all_ready(started)
        yield started


@pytest.fixture(scope="module")
def clients(running: Service, keys: dict[str, str]) -> Iterator[dict[int, httpx2.Client]]:
    opened = Clients(running, **{"X-API-Key": keys["admin"], "X-Algolia-API-Key": keys["admin"]})
    yield opened.by_worker
    opened.close()


def test_a_task_of_the_protocol_is_published_when_both_workers_show_it(clients: dict[int, httpx2.Client]) -> None:
    one, two = clients.values()
    written = one.put("/1/indexes/store/w1", json={"title": "enamel kettle of workers", "price": 7})
    assert written.status_code == 200, written.text
    task = written.json()["taskID"]
    for asked, other in ((one, two), (two, one)):
        assert within(20, lambda: asked.get(f"/1/indexes/store/task/{task}").json()["status"] == "published")  # noqa: B023
        found = other.post("/1/indexes/store/query", json={"query": "enamel kettle of workers"}).json()
        assert "w1" in [hit["objectID"] for hit in found["hits"]]


def test_increments_through_both_workers_are_all_counted(clients: dict[int, httpx2.Client]) -> None:
    one, two = clients.values()
    assert one.put("/1/indexes/store/counted", json={"title": "counted kettle", "sold": 0}).status_code == 200

    def increment(client: httpx2.Client) -> None:
        for _ in range(20):
            path, body = "/1/indexes/store/counted/partial", {"sold": {"_operation": "Increment", "value": 1}}
            assert client.post(path, json=body).status_code == 200

    threads = [threading.Thread(target=increment, args=(each,)) for each in (one, two)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert within(20, lambda: one.get("/1/indexes/store/counted").json()["sold"] == 40)


def test_a_rule_a_key_and_an_event_of_one_worker_are_those_of_the_other(
    clients: dict[int, httpx2.Client], root: Path
) -> None:
    one, two = clients.values()
    made_key = one.post("/v1/keys", json={"name": "fresh", "scopes": ["search"]})
    headers = {"X-API-Key": made_key.json()["key"], "X-Algolia-API-Key": ""}
    assert two.get("/v1/search", params={"q": "drill"}, headers=headers).status_code == 200
    when, redirect = {"query": "workers", "match": "exact"}, {"kind": "redirect", "url": "/workers"}
    rule = {"id": "w", "when": when, "actions": [redirect]}
    assert one.put("/v1/rules", json={"documents": [rule]}).status_code == 200
    assert within(10, lambda: two.get("/v1/search", params={"q": "workers"}).json().get("redirect") == "/workers")

    answer = one.post("/v1/search", json={"q": "drill", "shopper": "u1"}).json()
    hit = answer["hits"][0]["product"]["id"]
    asked = {"query_id": answer["query_id"], "query": "drill", "shopper": "u1"}
    click = {"event_id": "e1", "kind": "click", "product_id": hit, **asked}
    assert two.post("/v1/events", json={"events": [click]}).json() == {"stored": 1, "repeated": 0, "ignored": []}
    assert one.post("/v1/events", json={"events": [click]}).json() == {"stored": 0, "repeated": 1, "ignored": []}
    kinds = {row["kind"] for row in events_of_query(root, answer["query_id"], wanted=3, seconds=20)}
    assert kinds >= {"query", "impression", "click"}


def test_metrics_are_those_of_both_workers(clients: dict[int, httpx2.Client]) -> None:
    name = 'shelfwise_http_requests_total{method="GET",route="/v1/suggest"'
    before = [value(client.get("/metrics").text, name) for client in clients.values()]
    for client in clients.values():
        for _ in range(5):
            assert client.get("/v1/suggest", params={"q": "dri"}).status_code == 200
    for client in clients.values():
        assert within(10, lambda: value(client.get("/metrics").text, name) == max(before) + 5 * WORKERS)  # noqa: B023
        assert value(client.get("/metrics").text, "shelfwise_workers ") == WORKERS


def test_the_rate_of_a_key_is_that_of_both_workers(clients: dict[int, httpx2.Client], keys: dict[str, str]) -> None:
    headers = {"X-API-Key": keys["limited"]}
    statuses: Counter[int] = Counter()
    for _ in range(2 * _LIMIT):
        for client in clients.values():
            statuses[client.get("/v1/suggest", params={"q": "dri"}, headers=headers).status_code] += 1
    assert set(statuses) == {200, 429}
    # A new minute may begin in the meantime, in which the previous one counts by its remaining share.
    assert _LIMIT <= statuses[200] <= 2 * _LIMIT + WORKERS


class NewConnections(Shoppers):
    """Shoppers who open a new connection for each request."""

    def __init__(self, running: Service, key: str) -> None:
        super().__init__()
        self._address, self._headers = running.address, {"X-API-Key": key}

    def visits(self, number: int) -> Iterator[None]:
        while True:
            with httpx2.Client(base_url=self._address, headers=self._headers, timeout=30, verify=TLS) as client:
                self.get(client, "/v1/search", q="drill", size=2)
            yield


def test_a_killed_worker_is_restarted_and_all_end_after_their_requests(running: Service, keys: dict[str, str]) -> None:
    before = len(messages(running, "worker ready"))
    _, killed = pids(running)
    with NewConnections(running, keys["admin"]) as shopper:
        assert within(30, lambda: shopper.outcomes["200"] > 20)
        os.kill(killed, signal.SIGKILL)
        assert within(60, lambda: len(messages(running, "worker ready")) == before + 1)
        answered = shopper.outcomes["200"]
        assert within(30, lambda: shopper.outcomes["200"] > answered + 20)
    # Three clients: the killed worker had at most one request of each.
    assert sum(count for outcome, count in shopper.outcomes.items() if outcome != "200") <= 3, shopper.outcomes
    (ended,) = messages(running, "worker ended")
    assert (ended["pid"], ended["status"]) == (killed, -signal.SIGKILL)

    workers = pids(running)
    assert killed not in workers
    with NewConnections(running, keys["admin"]) as shopper:
        assert within(30, lambda: shopper.outcomes["200"] > 10)
        assert running.end() == 0
    # Accepted requests are answered; later attempts to connect fail.
    assert set(shopper.outcomes) <= {"200", "ConnectError", "ConnectTimeout"}, shopper.outcomes
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_workers_of_a_directory_share_new_indexes_and_end_with_their_parent(demo_index: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_index, tmp_path / "stores" / "shop")
    with service(tmp_path / "stores", tmp_path / "log", "--workers", "2") as running:
        assert all_ready(running)
        opened = Clients(running, path="/v1/indexes/shop/search", **{"X-Algolia-API-Key": running.token})
        one, two = opened.by_worker.values()
        bodies = [{"objectID": str(number), "name": f"lamp {number}"} for number in range(3)]
        requests = [{"action": "addObject", "body": each} for each in bodies]
        written = one.post("/1/indexes/lamps/batch", json={"requests": requests})
        task = f"/1/indexes/lamps/task/{written.json()['taskID']}"
        assert within(20, lambda: two.get(task).json().get("status") == "published")
        for each in (one, two):
            assert each.post("/1/indexes/lamps/query", json={"query": "lamp"}).json()["nbHits"] == 3
        opened.close()
        running.process.kill()
        assert within(60, lambda: not [pid for pid in pids(running) if Path(f"/proc/{pid}").exists()])


@pytest.mark.slow
def test_an_index_that_cannot_be_opened_ends_the_service_with_the_error(index: Path) -> None:
    (vectors,) = (index / "versions").glob("*/vectors/vectors.npy")
    vectors.write_bytes(b"damaged")
    command = [*PROGRAM, "serve", str(index), "--workers", "2", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    assert ended.returncode == 1, ended.stderr
    assert "vectors.npy" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"127.0.0.1:{port} cannot be listened to: Address already in use; "
        with pytest.raises(SettingError, match=message), bind("127.0.0.1", port):
            pass

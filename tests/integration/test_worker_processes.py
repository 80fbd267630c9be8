"""`shelfwise serve` with two worker processes: one service to its clients, whichever worker responds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shelfwise.retrieval.errors import SettingError
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.supervisor import listen
from tests.machine import within
from tests.services import PROGRAM, TLS, Service, Shoppers, add_key, events_of_query, service

WORKERS = 2
_LIMIT = 60
"""Requests per minute of one key."""


def messages(running: Service, event: str) -> list[dict[str, Any]]:
    lines = (line for line in running.log.read_text("utf-8").splitlines() if line.startswith("{"))
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
def test_an_index_that_cannot_be_opened_ends_the_service_with_the_error(demo_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
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
        with pytest.raises(SettingError, match=f"127.0.0.1:{port} cannot be listened to: Address already in use; "):
            listen("127.0.0.1", port)

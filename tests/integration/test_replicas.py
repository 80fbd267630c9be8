"""Two services over one index directory: versions and changes of each reach both, and one may end, under load, while no
request fails."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import httpx2
import pytest

from indexer.build import RebuildOptions, rebuild
from indexer.feeds.mapping import FeedMapping
from indexer.feeds.reader import read_products
from retrieval.store.versions import Store
from service.demo import DemoFiles
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.machine import within
from tests.services import Service, service

QUERIES = ("cordless drill", "red mug", "gift", "", "耳机")
_CLIENTS = 3
_MORE = 10_000.0
"""What every price of the second feed is raised by."""


class Shopper:
    """Asks for page 1 and page 2 of a search again and again; replicas take turns, as behind a load balancer."""

    def __init__(self, replicas: list[Service]) -> None:
        self.replicas = replicas
        self.outcomes: Counter[str] = Counter()
        self.dear: dict[str, set[bool]] = defaultdict(set)
        """By version, whether prices on its pages were those of the second feed."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(_CLIENTS)]

    def __enter__(self) -> Shopper:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, first: int) -> None:
        places = cycle(range(first, first + len(self.replicas)))
        with ExitStack() as opened:
            clients = {
                each.port: opened.enter_context(httpx2.Client(base_url=each.address, timeout=30))
                for each in self.replicas
            }
            for query in cycle(QUERIES):
                if self._stop.is_set():
                    return
                for page in (1, 2):
                    replica = self.replicas[next(places) % len(self.replicas)]
                    self._ask(clients[replica.port], query, page)

    def _ask(self, client: httpx2.Client, query: str, page: int) -> None:
        try:
            answer = client.get("/v1/search", params={"q": query, "page": page, "size": 5, "facets": "brand"})
        except httpx2.HTTPError as error:
            self.outcomes[repr(error)] += 1
            return
        self.outcomes[str(answer.status_code)] += 1
        found = answer.json()
        prices = [hit["product"].get("price") for hit in found["hits"]]
        self.dear[found["version"]] |= {price > _MORE for price in prices if price is not None}


@pytest.fixture
def replicas(demo_index: Path, tmp_path: Path) -> Iterator[list[Service]]:
    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
    options = {"requests_per_minute_address": 10_000_000, "queue": 200}
    with (
        service(index, tmp_path / "one.log", "--notice", "4", **options) as one,
        service(index, tmp_path / "two.log", "--notice", "4", **options) as two,
    ):
        yield [one, two]


def test_a_version_a_change_and_an_end_reach_replicas_without_a_failed_request(
    replicas: list[Service], demo: DemoFiles, cache: Path, tmp_path: Path
) -> None:
    index = tmp_path / "store"
    one, two = replicas
    before = one.get("/health/ready").json()["version"]
    product = one.get("/v1/search?size=1").json()["hits"][0]["product"]["id"]
    with Shopper(replicas) as shopper:
        # A rebuild publishes a version.
        products = [row.product for row in read_products([str(demo.products)], FeedMapping(), lambda _: None)]
        dearer = [replace(each, price=each.price + _MORE) for each in products if each.price is not None]
        feed = write_feed(tmp_path / "feed.jsonl", dearer)
        rebuild(index, RebuildOptions((str(feed),), cache, encoder=ENCODER, synonyms=demo.synonyms))
        published = Store(index).current()
        assert published != before
        assert within(5, lambda: {each.get("/health/ready").json()["version"] for each in replicas} == {published})

        # A change that one of them takes, the other sees within a second.
        price = _MORE + 4_321.25
        changed = httpx2.patch(f"{one.address}/v1/products/{product}", json={"price": price}, timeout=20)
        assert changed.status_code == 200
        asked = time.monotonic()
        assert within(5, lambda: two.get(f"/v1/products/{product}").json()["product"]["price"] == price)
        assert time.monotonic() - asked < 1

        # One is told to end. It says that it is not ready, and answers whoever still comes.
        ended = threading.Thread(target=one.end)
        ended.start()
        assert within(3, lambda: one.get("/health/ready").json().get("error", {}).get("code") == "draining")
        assert one.get("/v1/search?q=drill").status_code == 200
        shopper.replicas = [two]
        ended.join()
        time.sleep(0.5)
    assert one.process.returncode == 0
    assert set(shopper.outcomes) == {"200"}, shopper.outcomes
    assert shopper.outcomes.total() > 100
    # A page says of which version it is, and all of it is.
    assert shopper.dear == {before: {False}, published: {True}}
    assert not two.get("/health/ready").json()["notices"]


def test_what_a_service_has_accepted_it_answers_though_it_is_told_to_end(demo_index: Path, tmp_path: Path) -> None:
    outcomes: list[int] = []
    searches = [{"q": query, "size": 50, "facets": ["brand"]} for query in QUERIES] * 4

    def ask(running: Service) -> None:
        answer = httpx2.post(f"{running.address}/v1/multi-search", json={"searches": searches}, timeout=30)
        outcomes.append(answer.status_code)

    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
    with service(index, tmp_path / "log", threads=1) as running:
        asking = [threading.Thread(target=ask, args=(running,)) for _ in range(8)]
        for each in asking:
            each.start()
        assert within(10, lambda: _in_progress(running) >= 6)
        assert running.end() == 0
        for each in asking:
            each.join()
    assert outcomes == [200] * 8


def _in_progress(running: Service) -> float:
    (line,) = [
        each for each in running.get("/metrics").text.splitlines() if each.startswith("shelfwise_requests_in_progress ")
    ]
    return float(line.split()[1])

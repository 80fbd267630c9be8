"""Limits of requests, and events of strangers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.events.stored import EPOCH, SKEW
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.http import limits as workers_module
from shelfwise.service.http.auth import KeyFile, Scope, new_key
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.limits import CURRENT_CLIENT, Client, RateLimiter, WorkerThreads
from shelfwise.service.settings import ServiceSettings, Settings
from tests.services import add_key, local_client, narrowed


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """An event that blocks work until the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


def test_full_queue_refuses_at_once(held: threading.Event) -> None:
    workers = WorkerThreads(1, 1)

    async def three() -> list[BaseException | None]:
        params = [asyncio.create_task(workers.run(held.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        done, _ = await asyncio.wait(params, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.exception() for task in done]
        held.set()
        await asyncio.gather(*params, return_exceptions=True)
        return refused

    (refused,) = asyncio.run(three())
    assert isinstance(refused, RequestError)
    assert (refused.status, refused.retry_after) == (503, 1)
    assert (workers.refused, workers.in_progress) == (1, 0)
    workers.close()


def test_blocked_server_is_reported(monkeypatch: pytest.MonkeyPatch, held: threading.Event) -> None:
    monkeypatch.setattr(workers_module, "_PRESSED_SECONDS", 0.02)
    workers = WorkerThreads(1, 2)

    async def pressed() -> None:
        params = [asyncio.create_task(workers.run(held.wait)) for _ in range(3)]
        while not workers.is_pressed:
            await asyncio.sleep(0.01)
        held.set()
        await asyncio.gather(*params)
        while workers.in_progress:
            await asyncio.sleep(0.01)
        assert not workers.is_pressed

    asyncio.run(pressed())
    workers.close()


HEAVY, LIGHT = Client("heavy", "192.0.2.1"), Client("light", "192.0.2.2")
KEY = new_key("shop", (Scope.SEARCH,), now=datetime(2026, 12, 1, tzinfo=UTC))[0]
"""A key from which its owner can derive any number of narrowed keys offline."""


def begin(workers: WorkerThreads, client: Client, work: Callable[[], object]) -> asyncio.Task[object]:
    CURRENT_CLIENT.set(client)  # the task gets a copy of the context
    return asyncio.create_task(workers.run(work))


@pytest.mark.parametrize(
    ("flood", "other"),
    [
        ([HEAVY], LIGHT),
        ([HEAVY], replace(HEAVY, address="192.0.2.3")),
        ([replace(HEAVY, address=f"192.0.2.{last}") for last in range(4, 14)], LIGHT),
        ([Client.of(narrowed(KEY, filters=f"price < {most}"), "192.0.2.1") for most in range(20)], LIGHT),
        ([Client.of(KEY, f"2001:db8::{last:x}") for last in range(20)], Client.of(KEY, "192.0.2.2")),
    ],
)
def test_flood_of_one_client_takes_no_place_from_others(
    held: threading.Event, flood: list[Client], other: Client
) -> None:
    workers = WorkerThreads(1, 9)
    done: list[str] = []

    async def compete() -> list[object]:
        first = begin(workers, flood[0], held.wait)
        await asyncio.sleep(0)
        many = [begin(workers, flood[at % len(flood)], partial(done.append, f"flood {at}")) for at in range(20)]
        await asyncio.sleep(0)
        single = begin(workers, other, partial(done.append, "other"))
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(first, single)
        return await asyncio.gather(*many, return_exceptions=True)

    refused = [each for each in asyncio.run(compete()) if isinstance(each, RequestError)]
    assert len(refused) == workers.refused == 20 - 8
    assert "other" in done[:2]
    workers.close()


@pytest.mark.parametrize("key", ["", ".", "e30.e30.x", "é.é.é", "[." * 5_000, "k1"])
def test_an_invalid_key_is_not_counted_for_another(key: str) -> None:
    assert Client.of(key, "").key in ("", "k1")


def test_batches_of_a_client_follow_one_another() -> None:
    workers = WorkerThreads(2, 6)
    done: list[int] = []

    async def two() -> None:
        await asyncio.gather(*(workers.run_all([partial(done.append, batch)] * 20) for batch in range(3)))

    asyncio.run(two())
    assert workers.refused == 0
    assert all(abs(done.index(batch) - 20 * batch) < 4 for batch in range(3))
    workers.close()


def test_failed_batch_begins_no_more_work() -> None:
    workers = WorkerThreads(1, 6)
    done: list[int] = []
    works: list[Callable[[], object]] = [lambda: 1 // 0, *(partial(done.append, at) for at in range(50))]

    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            await workers.run_all(works)
        await workers.run(lambda: None)

    asyncio.run(fail())
    assert len(done) < 10
    workers.close()


def test_cancelled_work_waits_no_longer(held: threading.Event) -> None:
    workers = WorkerThreads(1, 1)

    async def cancel() -> str:
        running = begin(workers, HEAVY, held.wait)
        waiting = begin(workers, HEAVY, held.wait)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.01)
        assert workers.in_progress == 1
        last = begin(workers, HEAVY, lambda: "done")
        await asyncio.sleep(0)
        held.set()
        await running
        return str(await last)

    assert asyncio.run(cancel()) == "done"
    workers.close()


def test_rate_slides_from_minute_to_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600.0
    monkeypatch.setattr("shelfwise.service.http.limits.time.time", lambda: now)
    rates = RateLimiter(10, 10)
    for _ in range(10):
        rates.count_address("a")
    with pytest.raises(RequestError) as refused:
        rates.count_address("a")
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    rates.count_address("b")
    now = 660.0 + 30  # half of the ten requests are in the last 60 seconds
    for _ in range(5):
        rates.count_address("a")
    with pytest.raises(RequestError):
        rates.count_address("a")
    now = 660.0 + 180
    rates.count_address("a", cost=10)


LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def service(store: SearchEngine, keys: KeyFile) -> Iterator[TestClient]:
    with local_client(create_app(store, ServiceSettings(keys=keys.path))) as calling:
        yield calling


@pytest.fixture
def public(keys: KeyFile) -> dict[str, str]:
    return {"X-API-Key": add_key(keys, Scope.SEARCH, Scope.EVENTS)}


@pytest.fixture
def private(keys: KeyFile) -> dict[str, str]:
    return {"X-API-Key": add_key(keys, Scope.EVENTS, Scope.SERVER)}


def stored(store: SearchEngine, name: str, kind: str = "session") -> pl.DataFrame:
    """The events of a session or a shopper, by position."""
    with EventLog.open(store.root, Settings(backend="embedded")) as log:
        pseudonym = getattr(log.intake.pseudonyms, kind)(name)
        return pl.concat(log.store.read(0, 1 << 20)).filter(pl.col(kind) == pseudonym).sort("position", "kind")


def sent(service: TestClient, key: dict[str, str], *events: dict[str, Any]) -> Any:  # noqa: ANN401
    return service.post("/v1/events", json={"events": list(events)}, headers=key)


def answer_events(answer: dict[str, Any], session: str) -> list[dict[str, Any]]:
    """The query and the impressions of an answer, as the store page sends them."""
    common = {"query_id": answer["query_id"], "query": answer["query"], "session": session}
    first = (answer["page"] - 1) * answer["size"] + 1
    shown = [
        {"kind": "impression", "product_id": hit["product"]["id"], "position": place, **common}
        for place, hit in enumerate(answer["hits"], first)
    ]
    return [{"kind": "query", "results": answer["total"], **common}, *shown]


def test_public_act_has_no_list_of_its_own_and_the_time_of_arrival(
    service: TestClient, store: SearchEngine, public: dict[str, str]
) -> None:
    click = {"kind": "click", "product_id": "p1", "query_id": "q1", "query": "drill", "session": "lie", "position": 1}
    first = sent(service, public, click | {"time": LONG_AGO})
    assert first.json() == {"stored": 1, "repeated": 0, "ignored": ["query", "position", "time"]}
    assert sent(service, public, click | {"time": LONG_AGO}).json()["repeated"] == 1
    (row,) = stored(store, "lie").iter_rows(named=True)
    assert (row["query"], row["position"], row["query_id"]) == ("", None, "q1")
    assert datetime.now(UTC) - row["time"] < SKEW
    assert len(row["address"]) == 22


def test_time_within_the_tolerance_of_clocks_is_kept(
    service: TestClient, store: SearchEngine, public: dict[str, str]
) -> None:
    moment = (datetime.now(UTC) - SKEW + timedelta(minutes=1)).replace(microsecond=0)
    click = {"kind": "click", "product_id": "p1", "session": "slow clock", "time": moment.isoformat()}
    assert sent(service, public, click).json()["ignored"] == []
    assert stored(store, "slow clock")["time"].to_list() == [moment]


@pytest.mark.parametrize("kind", ["query", "impression"])
def test_public_key_cannot_make_up_a_list(service: TestClient, public: dict[str, str], kind: str) -> None:
    made_up = {"kind": kind, "product_id": "p1", "query_id": "q1", "query": "drill", "session": "s", "position": 1}
    answer = sent(service, public, {"kind": "click", "product_id": "p1", "session": "s"}, made_up)
    assert (answer.status_code, answer.json()["error"]["field"]) == (403, "events.kind")
    assert "scope server" in answer.json()["error"]["message"]


def test_public_key_records_an_answer_only_as_it_was(
    service: TestClient, store: SearchEngine, public: dict[str, str]
) -> None:
    answer = service.get("/v1/search", params={"q": "drill", "page": 2, "size": 3}, headers=public).json()
    true = answer_events(answer, "looked")
    lies = [
        [true[0], {**true[1], "position": 6}, true[2], {**true[3], "position": 4}],
        [true[0], {**true[1], "product_id": "p1"}, *true[2:]],
        [{**each, "query": "saw"} for each in true],
        [{**true[0], "results": 1}, *true[1:]],
        [{**true[0], "product_id": "p1"}, *true[1:]],
        [{**each, "query_id": f"{each['query_id'][:-1]}!"} for each in true],
        true[:-1],
        [*true, {**true[1], "position": 7}],
        true[1:],
    ]
    for lie in lies:
        assert sent(service, public, *lie).status_code == 403
    assert sent(service, public, *true).json() == {"stored": 4, "repeated": 0, "ignored": []}
    again = [{**each, "session": "other", "event_id": str(number)} for number, each in enumerate(true)]
    again[1:] = [{**each, "query": ""} for each in again[1:]]
    assert sent(service, public, *again).json()["repeated"] == 4
    assert stored(store, "looked")["position"].to_list() == [None, 4, 5, 6]


def test_recorded_search_counts_for_the_address_of_its_request(
    service: TestClient, store: SearchEngine, public: dict[str, str], private: dict[str, str], keys: KeyFile
) -> None:
    both = {"X-API-Key": add_key(keys, Scope.SEARCH, Scope.SERVER)}
    for session, key in (("shopper's", public), ("server's", both)):
        service.get("/v1/search", params={"q": "drill", "session": session, "size": 2}, headers=key)
        while stored(store, session).height < 3:
            time.sleep(0.05)
    assert stored(store, "server's")["address"].unique().to_list() == [""]
    (address,) = stored(store, "shopper's")["address"].unique()
    click = {"kind": "click", "product_id": "p1", "session": "clicking"}
    assert sent(service, public, click).status_code == 200
    assert stored(store, "clicking")["address"].to_list() == [address]
    assert sent(service, private, click | {"session": "told", "address": "192.0.2.7"}).status_code == 200
    assert stored(store, "told")["address"].to_list() not in ([""], [address])
    assert sent(service, public, click | {"session": "hidden", "address": "192.0.2.7"}).status_code == 200
    assert stored(store, "hidden")["address"].to_list() == [address]


def test_server_scope_may_send_lists_and_past_times(
    service: TestClient, store: SearchEngine, private: dict[str, str]
) -> None:
    shown = {"kind": "impression", "product_id": "p1", "query_id": "q9", "query": "drill", "session": "logged"}
    assert sent(service, private, shown | {"position": 3, "time": LONG_AGO}).json()["ignored"] == []
    (row,) = stored(store, "logged").iter_rows(named=True)
    assert (row["position"], row["time"], row["address"]) == (3, datetime(2026, 1, 1, tzinfo=UTC), "")
    assert row["received"] > EPOCH
    refused = sent(service, private, shown | {"address": "home"})
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "events.address")


def test_protocol_ignores_positions_times_and_views_of_lists(
    service: TestClient, store: SearchEngine, public: dict[str, str]
) -> None:
    old = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000)
    common = {"index": "store", "userToken": "visitor", "queryID": "q1", "objectIDs": ["p1"], "timestamp": old}
    click = common | {"eventType": "click", "eventName": "c", "positions": [1]}
    view = common | {"eventType": "view", "eventName": "v"}
    answer = service.post(
        "/1/events", json={"events": [click, view]}, headers={"x-algolia-api-key": public["X-API-Key"]}
    )
    assert answer.status_code == 200
    rows = stored(store, "visitor", "shopper").rows(named=True)
    assert [(row["kind"], row["position"], row["time"] == row["received"]) for row in rows] == [("click", None, True)]

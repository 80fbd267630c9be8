"""Metrics and health of an application: current, its own, and of bounded size whatever clients send."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from shelfwise.service.app import QUEUE, create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.health import readiness_error
from shelfwise.service.settings import ServiceSettings
from shelfwise.service.worker_group import READY, WorkerGroup
from tests.machine import within
from tests.services import local_client


def value(client: TestClient, name: str) -> float:
    (line,) = [each for each in client.get("/metrics").text.splitlines() if each.startswith(f"{name} ")]
    return float(line.split()[1])


def test_a_server_that_drains_is_alive_and_not_ready(client: TestClient) -> None:
    assert client.get("/health/ready").json()["products"] > 0
    assert value(client, "shelfwise_ready") == 1
    client.app.state.draining.set()  # type: ignore[attr-defined]  # TestClient's app is any ASGI application
    try:
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        assert client.get("/health/live").status_code == 200
        assert value(client, "shelfwise_ready") == 0
    finally:
        client.app.state.draining.clear()  # type: ignore[attr-defined]


def test_unknown_paths_and_methods_create_no_series(client: TestClient) -> None:
    for number in range(5):
        client.request(f"MADEUP{number}", f"/made/up/{number}")
    message = client.get("/metrics").text
    assert "made" not in message.lower()
    assert 'method="other",route="none",status="404"' in message


@pytest.mark.parametrize(
    ("file", "failure"),
    [
        ("popularity.json", "product popularity is not used"),
        ("events/derived/derived.json", "products bought together are not known"),
    ],
)
def test_damaged_table_of_events_gives_a_notice(
    client: TestClient, store: SearchEngine, file: str, failure: str
) -> None:
    damaged = store.root / file
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"damaged")
    try:
        store.reload_if_changed()
        (notice,) = client.get("/health/ready").json()["notices"]
        assert notice.startswith(failure)
        assert value(client, "shelfwise_notices") == 1
    finally:
        damaged.unlink()
    store.reload_if_changed()
    assert client.get("/health/ready").json()["notices"] == []


def test_notices_are_logged_when_they_appear_and_when_they_end(
    store: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger keeps the configuration of its first use, possibly by another test.
    monkeypatch.setattr("shelfwise.service.http.health._log", structlog.get_logger())
    damaged, about = store.root / "relations.bin", "similar products are found by their texts alone"
    store.reload_if_changed()
    assert not [each for each in store.notices if each.startswith(about)]
    # A new application: another test's one may not have seen the end of the same notice.
    with capture_logs() as logs, local_client(create_app(store, ServiceSettings())):

        def count(event: str, level: str) -> int:
            found = [each for each in logs if each.get("notice", "").startswith(about)]
            return sum((each["event"], each["log_level"]) == (event, level) for each in found)

        damaged.write_bytes(b"damaged")
        assert within(60, lambda: count("notice", "warning") > 0)
        ended = count("notice ended", "info")
        damaged.unlink()
        assert within(60, lambda: count("notice ended", "info") > ended)


def test_ages_of_tables_and_live_changes_are_shown_once_they_exist(client: TestClient, store: SearchEngine) -> None:
    tables, changes = "shelfwise_tables_age_seconds", "shelfwise_live_changes_timestamp_seconds"
    before = client.get("/metrics").text
    assert tables not in before and changes not in before
    file = store.root / "popularity.json"
    file.touch()
    product = store.search("drill").hits[0].product
    started = time.time()
    store.patch(product.id, price=1.5)
    try:
        assert 0 <= value(client, tables) < 60
        changed = value(client, changes)
        assert started <= changed <= time.time()
    finally:
        file.unlink()
    store.patch(product.id, price=1.5)
    assert value(client, changes) == changed


def test_metrics_of_workers_are_summed_and_those_of_an_ended_one_stay(store: SearchEngine, tmp_path: Path) -> None:
    groups = [WorkerGroup(number, 2, tmp_path) for number in range(2)]
    apps = [create_app(store, ServiceSettings(threads=2), group=each) for each in groups]
    for each in groups:
        each.publish(READY, b"")
    name = "shelfwise_requests_refused_total"
    with local_client(apps[0]) as one, local_client(apps[1]) as two:
        for number, app in enumerate(apps):
            app.state.shared.threads.refused = 10 + number
        assert within(60, lambda: value(one, name) == value(two, name) == 21)
        assert value(one, "shelfwise_requests_places") == 2 * (2 + QUEUE)
        assert value(one, "shelfwise_workers") == 2
        groups[0].withdraw(READY, 1)
        assert value(one, "shelfwise_workers") == 1
        assert value(one, name) == 21
        assert value(one, "shelfwise_index_products") == store.manifest.products
    again = create_app(store, ServiceSettings(threads=2), group=WorkerGroup(1, 2, tmp_path))
    with local_client(again) as two:
        assert value(two, name) == 21
        again.state.shared.threads.refused = 4
        assert value(two, name) == 25


def test_a_service_is_busy_when_all_workers_are(store: SearchEngine, tmp_path: Path) -> None:
    one, two = (create_app(store, ServiceSettings(), group=WorkerGroup(each, 2, tmp_path)) for each in range(2))
    for app in (one, two):
        assert readiness_error(one) is None
        app.state.shared.threads._pressed_since = 0.0
        app.state.shared.share_pressure()
    error = readiness_error(one)
    assert error is not None
    assert error.code == "busy"

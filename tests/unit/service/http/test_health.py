"""Health, and tasks of a service."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from shelfwise.retrieval.errors import InputError, TaskFailedError, UnknownTaskError
from shelfwise.service.app import QUEUE, create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.health import readiness_error
from shelfwise.service.http.tasks import (
    UPLOADS,
    RunningTask,
    Task,
    TaskQueue,
    TaskRunner,
    TaskState,
    feed_paths,
    run_command,
    task_command,
)
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


def over(book: TaskQueue, identity: str) -> Task:
    assert within(60, lambda: book.get(identity).state not in (TaskState.WAITING, TaskState.RUNNING))
    return book.get(identity)


def test_waiting_task_is_not_added_twice(tmp_path: Path) -> None:
    book = TaskQueue(tmp_path)
    first = book.add("refresh", {})
    assert TaskQueue(tmp_path).add("refresh", {}) == TaskQueue(tmp_path).get(first.id) == first
    assert book.add("refresh", {"days": 3}).id != first.id
    assert book.claim() is not None
    assert book.add("refresh", {}).id != first.id


def test_tasks_run_in_order_and_report_results(tmp_path: Path) -> None:
    book, done = TaskQueue(tmp_path), []

    def job(kind: str, arguments: Mapping[str, Any], _task: RunningTask) -> object:
        done.append(kind)
        if kind == "b":
            raise TaskFailedError("no room")
        if kind == "c":
            raise ZeroDivisionError
        return {"rows": len(arguments)}

    identities = [book.add(kind, {"who": "anna"}).id for kind in ("a", "b", "c", "forget")]
    runner = TaskRunner(tmp_path, job)
    first, second, third, fourth = (over(book, identity) for identity in identities)
    runner.close()
    assert done == ["a", "b", "c", "forget"]
    assert (first.state, first.result, first.arguments) == (TaskState.DONE, {"rows": 1}, {"who": "anna"})
    assert (second.state, second.error) == (TaskState.FAILED, "no room")
    assert third.state is TaskState.FAILED
    assert (fourth.state, fourth.arguments) == (TaskState.DONE, {})
    assert first.started is not None
    assert first.ended is not None
    assert first.created <= first.started <= first.ended


def test_task_stopped_with_the_service_resumes_with_the_next(tmp_path: Path) -> None:
    book, begun = TaskQueue(tmp_path), threading.Event()

    def job(_kind: str, _arguments: Mapping[str, Any], task: RunningTask) -> None:
        begun.set()
        assert within(60, task.is_stopped)

    identity = book.add("learn", {}).id
    runner = TaskRunner(tmp_path, job)
    assert begun.wait(10)
    runner.close()
    assert book.get(identity).state is TaskState.RUNNING
    again = TaskRunner(tmp_path, lambda *_: 1)
    assert over(book, identity).state is TaskState.DONE
    again.close()


def test_one_process_runs_tasks_and_another_takes_over(tmp_path: Path) -> None:
    book, done = TaskQueue(tmp_path), []
    first = TaskRunner(tmp_path, lambda *_: done.append("first"))
    assert over(book, book.add("a", {}).id).state is TaskState.DONE
    second = TaskRunner(tmp_path, lambda *_: done.append("second"))
    assert over(book, book.add("b", {}).id).state is TaskState.DONE
    first.close()
    assert over(book, book.add("c", {}).id).state is TaskState.DONE
    second.close()
    assert done == ["first", "first", "second"]


def test_feeds_must_be_in_the_feed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    (folder / "products.csv").write_text("id,title\n")
    (tmp_path / "secret.csv").write_text("id,title\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    assert feed_paths(["products.csv"], folder) == [folder / "products.csv"]
    for name in ("../secret.csv", str(tmp_path / "secret.csv"), "link.csv", "nosuch.csv", ".", "a\0b"):
        with pytest.raises(InputError, match="folder of feeds"):
            feed_paths([name], folder)
    with pytest.raises(InputError, match=r"feeds over HTTP are off"):
        feed_paths(["products.csv"], None)


def running(folder: Path) -> RunningTask:
    folder.mkdir()
    queue = TaskQueue(folder)
    return RunningTask(queue, queue.add("check", {}).id, threading.Event())


def test_task_result_is_the_json_or_the_error(tmp_path: Path) -> None:
    (index := tmp_path / "index").mkdir()
    with pytest.raises(TaskFailedError, match=r"^\S+ is empty; run: shelfwise rebuild"):
        run_command(task_command("learn", {}, index, None), running(tmp_path / "queue"))
    with pytest.raises(InputError, match="no task of the kind"):
        task_command("drop", {}, tmp_path, None)


def test_error_of_a_task_names_a_feed_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / UPLOADS).mkdir()
    (tmp_path / UPLOADS / "lamps.csv").write_text("name,cost\nLamp,3\n")
    command = task_command("check", {"upload": "lamps.csv"}, tmp_path, tmp_path)
    with pytest.raises(TaskFailedError, match=r"^lamps\.csv") as caught:
        run_command(command, running(tmp_path / "queue"), tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_waiting_and_running_tasks_are_cancelled(tmp_path: Path) -> None:
    book, begun = TaskQueue(tmp_path), threading.Event()

    def job(_kind: str, _arguments: Mapping[str, Any], task: RunningTask) -> str:
        task.report("half")
        begun.set()
        assert within(60, task.is_stopped)
        return "whole"

    running, waiting, last = (book.add(kind, {}).id for kind in ("learn", "refresh", "rebuild"))
    runner = TaskRunner(tmp_path, job)
    assert begun.wait(10)
    assert TaskQueue(tmp_path).cancel(waiting)  # like another process
    begun.clear()
    assert book.cancel(running)
    assert begun.wait(10)  # the last one begins
    assert book.cancel(last)
    runner.close()
    assert [book.get(each).state for each in (running, waiting, last)] == [TaskState.CANCELLED] * 3
    assert (book.get(running).progress, book.get(running).result) == ("half", None)
    assert not book.cancel(running)
    with pytest.raises(UnknownTaskError):
        book.cancel("nosuch")

"""Tasks: stored before they are acknowledged, run in order, and restarted if their process ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shelfwise.retrieval.errors import InputError, TaskFailedError, UnknownTaskError
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
from tests.machine import within


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


def test_interrupted_task_is_restarted(tmp_path: Path) -> None:
    book = TaskQueue(tmp_path)
    identity = book.add("learn", {}).id
    assert book.claim() is not None  # then the process is killed
    runner = TaskRunner(tmp_path, lambda *_: "done")
    assert over(book, identity).result == "done"
    runner.close()


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


@dataclass
class Running:
    """A task that has or has not been stopped."""

    is_over: bool = False
    progress: str = ""

    def is_stopped(self) -> bool:
        return self.is_over

    def report(self, progress: str) -> None:
        self.progress = progress


def test_task_result_is_the_json_or_the_error(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError, match=r"^\S+ is empty; run: shelfwise rebuild"):
        run_command(task_command("learn", {}, tmp_path, None), Running())
    with pytest.raises(InputError, match="no task of the kind"):
        task_command("drop", {}, tmp_path, None)


def test_error_of_a_task_names_a_feed_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / UPLOADS).mkdir()
    (tmp_path / UPLOADS / "lamps.csv").write_text("name,cost\nLamp,3\n")
    command = task_command("check", {"upload": "lamps.csv"}, tmp_path, tmp_path)
    with pytest.raises(TaskFailedError, match=r"^lamps\.csv") as caught:
        run_command(command, Running(), tmp_path)
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

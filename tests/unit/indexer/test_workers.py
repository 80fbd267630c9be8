"""Batches in worker processes: the same results in the same order, reported errors, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.errors import RowError, WorkerError


def doubled(batch: Sequence[int]) -> list[int]:
    sys.stdout.write("what the work prints is no result")
    sys.stdout.flush()
    return [2 * each for each in batch]


def process_id(batch: Sequence[int]) -> int:
    return os.getpid()


def refuse_seven(batch: Sequence[int]) -> int:
    if 7 in batch:
        raise RowError("seven", "is refused")
    return len(batch)


def exit_at_seven(batch: Sequence[int]) -> int:
    if 7 in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(batch)


class NoCopyError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_unpicklable(batch: Sequence[int]) -> None:
    raise NoCopyError(1, 2)


BATCHES = [[number, number + 1] for number in range(40)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_are_in_batch_order_for_any_worker_count(count: int) -> None:
    with Workers(count) as workers:
        assert list(workers.map(doubled, BATCHES)) == [doubled(batch) for batch in BATCHES]
        assert list(workers.map(len, BATCHES)) == [2] * 40


def test_few_batches_run_in_process_and_many_in_workers() -> None:
    with Workers(2) as workers:
        assert set(workers.map(process_id, BATCHES[:3])) == {os.getpid()}
        others = set(workers.map(process_id, BATCHES))
        assert os.getpid() not in others and len(others) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_error_of_a_worker_keeps_its_type(count: int) -> None:
    with Workers(count) as workers, pytest.raises(RowError, match="seven: is refused"):
        list(workers.map(refuse_seven, BATCHES))


def test_unpicklable_error_is_reported_with_its_traceback() -> None:
    with Workers(2) as workers, pytest.raises(RuntimeError, match=r"(?s)raise_unpicklable.*1 and 2"):
        list(workers.map(raise_unpicklable, BATCHES))


def test_killed_worker_is_reported() -> None:
    with Workers(2) as workers, pytest.raises(WorkerError, match="--workers 1"):
        list(workers.map(exit_at_seven, BATCHES))


def test_no_worker_is_left_after_early_exit() -> None:
    with Workers(2) as workers:
        children = next(workers.map(process_id, BATCHES))
    with pytest.raises(ProcessLookupError):
        os.kill(children, 0)


PROGRAM = """
import sys, time
from shelfwise.indexer.workers import Workers
from tests.unit.indexer.test_workers import process_id
with Workers(2) as workers:
    print(*set(workers.map(process_id, [[n] for n in range(40)])), flush=True)
    time.sleep(60)
"""


def test_workers_exit_when_the_parent_is_killed() -> None:
    # The script has no __main__ guard: workers must not run a user's script again.
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    children = [int(each) for each in program.stdout.readline().split()]
    assert len(children) == 2
    program.kill()
    program.communicate()
    until = time.monotonic() + 10
    while any(map(is_alive, children)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_alive, children))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

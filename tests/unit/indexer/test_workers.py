"""Workers of a rebuild: processes of this machine and of a Ray cluster."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from shelfwise.indexer.ray_workers import Actor, RayWorkers, Shard
from shelfwise.indexer.workers import Workers
from shelfwise.retrieval.errors import RowError, SettingError, StoreDamagedError, StoreError, WorkerError
from shelfwise.retrieval.index.token_states import TokenRuns
from shelfwise.retrieval.index.vectors import Vectors


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


@pytest.mark.parametrize("count", [1, 2])
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


BATCH = list(range(100))


def test_shard_of_vectors_and_tokens_keeps_every_bit(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((3, 4), np.float32)
    lengths = np.array([2, 0, 1], np.int32)
    states = np.full((3, 2), -5, np.int8)
    tokens = TokenRuns(np.array([0, 1, 0], np.int32), states, np.array([0, 2, 2]), lengths)
    read_vectors, read_tokens = cast(
        tuple[Vectors, TokenRuns], Shard.write(tmp_path / "shard", (vectors, tokens)).read()
    )
    assert np.array_equal(read_vectors, vectors) and read_vectors.dtype == np.float32
    assert read_tokens.ids.tolist() == [0, 1, 0] and read_tokens.ids.dtype == np.int32
    assert np.array_equal(read_tokens.states, states) and read_tokens.states.dtype == np.int8
    assert (read_tokens.starts.tolist(), read_tokens.lengths.tolist()) == ([0, 2, 2], [2, 0, 1])


@pytest.mark.parametrize("place", [0, 60, -3, "missing"])
def test_damaged_or_missing_shard_is_refused_by_name(tmp_path: Path, place: int | str) -> None:
    path = tmp_path / "shard"
    shard = Shard.write(path, BATCH)
    content = bytearray(path.read_bytes())
    path.unlink()
    if isinstance(place, int):
        content[place] ^= 1
        path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"shard .*shard cannot be read .* run the command again"):
        shard.read()


def test_actor_answers_with_a_shard_or_the_error(tmp_path: Path) -> None:
    actor = Actor(refuse_seven, tmp_path)
    batches = [pickle.dumps((True, each)) for each in ([8, 9], BATCH)]
    answers = actor({"batch": np.array(batches, object), "number": np.array(["4", "5"])})["batch"]
    (is_fine, shard), (is_wrong, error) = map(pickle.loads, answers)
    assert (is_fine, shard.path.name, shard.read()) == (True, "result-4", 2)
    assert (is_wrong, str(error)) == (False, "seven: is refused")


def test_machine_without_the_index_directory_is_named(tmp_path: Path) -> None:
    batch = np.array([pickle.dumps((True, BATCH))], object)
    (answer,) = Actor(refuse_seven, tmp_path / "shards")({"batch": batch, "number": np.array(["0"])})["batch"]
    with pytest.raises(
        StoreError, match=f"{socket.gethostname()}, a machine of the Ray cluster, has no folder .*shards"
    ):
        raise pickle.loads(answer)[1]


@pytest.mark.parametrize(
    "address", ["products.jsonl", "host", "host:", ":6379", "host:0", "host:65536", "ray://host:1"]
)
def test_invalid_addresses_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises((SettingError, WorkerError), match=f"--ray {address}: (this is not|no Ray cluster)"):
        RayWorkers(address, None, tmp_path)


def test_address_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(WorkerError, match=f"--ray {address}: no Ray cluster responds .*refused"):
            RayWorkers(address, None, tmp_path)

"""Shards, refusals, and work without a cluster; `tests/capabilities/test_ray.py` uses a cluster."""

from __future__ import annotations

import pickle
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfwise.indexer.embedding import EncodedChunk
from shelfwise.indexer.pipeline import SortedBatch
from shelfwise.indexer.ray_workers import Actor, RayWorkers, Shard
from shelfwise.retrieval.errors import RowError, SettingError, StoreDamagedError, StoreError, WorkerError

BATCH = SortedBatch([7, 8], [b"a", b"b"], [b"{}", b"[]"], ["f", "g"], [1, 2], [True, False], [-1, 3], [b"", b"x"])


def test_shard_holds_the_lists_of_a_batch_and_their_order(tmp_path: Path) -> None:
    shard = Shard.write(tmp_path / "shard.parquet", BATCH)
    assert shard.others == SortedBatch()
    assert shard.read() == BATCH


def test_shard_of_vectors_keeps_every_bit(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((3, 4), np.float32)
    ids = [np.arange(count, dtype=np.int32) for count in (2, 0, 1)]
    states = [np.full(2 * len(each), -5, np.int8) for each in ids]
    read = Shard.write(tmp_path / "shard.parquet", EncodedChunk(list(vectors), ids, states)).read()
    assert isinstance(read, EncodedChunk)
    made, tokens = read.arrays(2)
    assert np.array_equal(made, vectors) and made.dtype == np.float32
    assert tokens is not None
    assert (tokens.ids.tolist(), tokens.lengths.tolist(), tokens.starts.tolist()) == ([0, 1, 0], [2, 0, 1], [0, 2, 2])
    assert tokens.states.tolist() == [[-5, -5]] * 3
    assert read.token_ids[1].dtype == np.int32


@pytest.mark.parametrize("place", [0, 60, -3, "missing"])
def test_damaged_or_missing_shard_is_refused_by_name(tmp_path: Path, place: int | str) -> None:
    path = tmp_path / "shard.parquet"
    shard = Shard.write(path, BATCH)
    content = bytearray(path.read_bytes())
    path.unlink()
    if isinstance(place, int):
        content[place] ^= 1
        path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"shard .*shard\.parquet cannot be read .* run the command again"):
        shard.read()


def refuse_seven(batch: SortedBatch) -> SortedBatch:
    if batch.numbers[0] == 7:
        raise RowError("seven", "is refused")
    return batch


def test_actor_answers_with_a_shard_or_the_error(tmp_path: Path) -> None:
    actor = Actor(refuse_seven, tmp_path)
    batches = [pickle.dumps((True, each)) for each in (replace(BATCH, numbers=[8, 9]), BATCH)]
    answers = actor({"batch": np.array(batches, object), "number": np.array(["4", "5"])})["batch"]
    (is_fine, shard), (is_wrong, error) = map(pickle.loads, answers)
    assert (is_fine, shard.path.name) == (True, "result-4.parquet")
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

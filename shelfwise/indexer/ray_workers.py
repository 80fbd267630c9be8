"""Workers of a Ray cluster: Ray Data reads the feeds, and runs both passes and the encoder on all of its machines.

Batches of products are exchanged as shards: files in the staging folder of the index, which all machines of the cluster
see under the same path. A shard is renamed to its final name once it is complete, and the name has the number of its
batch. So work that a lost worker began is repeated elsewhere with the same result. Ray Data schedules the work,
restarts workers, and returns the results in the order of the batches.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from shelfwise.indexer.workers import Workers, attempt
from shelfwise.retrieval.errors import SettingError, StoreDamagedError, StoreError, WorkerError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.store.files import atomic_file

B = TypeVar("B")
R = TypeVar("R")
Message = Mapping[str, NDArray[Any]]
"""Rows of a dataset: the number of a batch, and the batch or its result."""

LOCAL = "local"
"""The address value for a cluster on this machine for this run only."""
LOST_AFTER = 900.0
"""Seconds without any result after which a build stops: no machine of the cluster is left that can work."""
TRIES = 4
"""The number of attempts at a batch: if workers end at it each time, they probably lack memory."""
_ANSWER_WITHIN = 10.0
"""Seconds to wait for a response of the cluster."""
_BLOCK_BYTES = 1 << 16
"""Smaller than a batch, so that Ray Data passes each batch on at once."""
_DATA_THREADS = ("StreamingExecutor", "iter_threaded")
"""The names of the threads in which Ray Data runs a dataset and reads its results; after an error they end late."""
_END = attempt(lambda: None)


@dataclass(frozen=True, slots=True)
class Shard:
    """A batch or its result in a file. The digest travels with the shard, so only what was written is unpickled."""

    path: Path
    digest: bytes

    @classmethod
    def write(cls, path: Path, batch: object) -> Shard:
        """Writes a shard; raises OSError."""
        content = pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)
        with atomic_file(path, durable=False) as file:
            file.write(content)
        return cls(path, sha256(content).digest())

    def read(self) -> object:
        """The batch; raises StoreDamagedError for a file that is missing or damaged."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._error(error) from error
        if sha256(content).digest() != self.digest:
            raise self._error("its content is not what was written")
        return cast(object, pickle.loads(content))

    def _error(self, why: object) -> StoreDamagedError:
        advice = "all machines of the cluster must have the index directory at this path; run the command again"
        return StoreDamagedError(f"shard {self.path} cannot be read ({why}); nothing was published: {advice}")


class RayWorkers(Workers):
    """Workers of a cluster. `address` is LOCAL, "auto" for the cluster that this machine belongs to, or HOST:PORT."""

    reads_sources = True

    def __init__(self, address: str, count: int | None, folder: Path) -> None:
        """`count` limits the number of workers; shards are written to `folder`.

        Raises MissingExtraError if Ray is not installed, WorkerError if no cluster responds.
        """
        super().__init__(count)
        self._folder = folder
        self._stage = 0
        _check_address(address)
        self._ray = _import_ray()
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _connect(self._ray, address, self._count)
        processors = int(self._ray.cluster_resources().get("CPU", 0))
        self._count = max(1, min(processors, count or processors))

    def map(self, work: Callable[[B], R], batches: Iterable[B]) -> Iterator[R]:
        """Like the base class's `map`; all batches are written, or in memory, before work on the first one begins."""
        folder = self._next_folder()
        shards = [Shard.write(folder / f"batch-{number:08}", batch) for number, batch in enumerate(batches)]
        if not shards:
            return
        results = self._results(self._dataset(shards), work, folder, len(shards))
        for shard, result in zip(shards, results, strict=True):
            shard.path.unlink(missing_ok=True)
            yield cast(R, result)

    def map_sources(self, work: Callable[[B], R], sources: Sequence[Iterable[B]]) -> Iterator[R]:
        """Like the base class's `map_sources`; each source is read by one of the workers."""
        # Reading waits for the disk and for busy workers, so no processor is reserved for it.
        read = self._dataset(sources).map_batches(_read, batch_size=1, num_cpus=0, fn_args=(Path.cwd(),))
        yield from cast(Iterator[R], self._results(read, work, self._next_folder(), self._count))

    def close(self) -> None:
        if self._is_ours:
            # Ray ends this process, without an error, if one of them uses the cluster after the disconnect.
            for thread in threading.enumerate():
                if thread.name.startswith(_DATA_THREADS):
                    thread.join(_ANSWER_WITHIN)
            self._ray.shutdown()

    def _next_folder(self) -> Path:
        self._stage += 1
        folder = self._folder / f"stage-{self._stage}"
        folder.mkdir(parents=True)
        return folder

    def _dataset(self, batches: Sequence[object]) -> Any:  # noqa: ANN401 - Ray is imported where it is used
        import ray.data

        rows = [{"batch": pickle.dumps((True, each)), "number": f"{number:08}"} for number, each in enumerate(batches)]
        return ray.data.from_items(rows, override_num_blocks=len(rows))

    def _results(self, dataset: Any, work: Callable[[B], R], folder: Path, most: int) -> Iterator[object]:  # noqa: ANN401
        from ray.data import ActorPoolStrategy
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import RayError

        count = min(self._count, most)
        actors = ActorPoolStrategy(min_size=1, max_size=count, initial_size=count)
        worked = dataset.map_batches(
            Actor, batch_size=1, num_cpus=1, compute=actors, fn_constructor_args=(work, folder)
        )
        try:
            for row in worked.iter_rows():
                is_fine, result = pickle.loads(row["batch"])
                if not is_fine:
                    raise result
                content = result.read()
                result.path.unlink()
                yield content
        except (RayError, ExecutionTimeoutError) as error:
            reason = str(error).strip().split("\n")[0]
            raise WorkerError(
                f"the workers of the Ray cluster are lost ({reason}); nothing was published: check the memory and the "
                "machines of the cluster (`ray status`), and run the command again: it reuses what was encoded"
            ) from error


class Actor:
    """A worker process of the cluster: it holds what its work has loaded, such as the encoder."""

    def __init__(self, work: Callable[[Any], object], folder: Path) -> None:
        self._work = work
        self._folder = folder

    def __call__(self, rows: Message) -> dict[str, list[bytes]]:
        return {"batch": [self._run(*each) for each in zip(rows["batch"], rows["number"], strict=True)]}

    def _run(self, packed: bytes, number: str) -> bytes:
        is_fine, batch = pickle.loads(packed)
        return attempt(self._result, batch, number) if is_fine else packed

    def _result(self, batch: object, number: str) -> Shard:
        if not self._folder.is_dir():
            raise StoreError(
                f"{socket.gethostname()}, a machine of the Ray cluster, has no folder {self._folder}: the index "
                "directory must be on a file system that all of its machines mount at the same path"
            )
        with (self._folder / f"begun-{number}").open("ab") as begun:
            begun.write(b".")
            if begun.tell() > TRIES:
                raise WorkerError(
                    f"workers of the Ray cluster ended {TRIES} times at one batch of {type(self._work).__name__}; "
                    "nothing was published: give them more memory, or use fewer --workers, and run the command again"
                )
        result = self._work(batch.read() if isinstance(batch, Shard) else batch)
        return Shard.write(self._folder / f"result-{number}", result)


def _read(rows: Message, folder: Path) -> Iterator[dict[str, list[Any]]]:
    """The batches of sources, and the error of a source that breaks off; file names are relative to `folder`."""
    os.chdir(folder)
    for packed, source in zip(rows["batch"], rows["number"], strict=True):
        batches = iter(pickle.loads(packed)[1])
        for number, batch in enumerate(iter(partial(attempt, next, batches, None), _END)):
            yield {"batch": [batch], "number": [f"{source}-{number}"]}


def _check_address(address: str) -> None:
    """Raises SettingError for an invalid address, WorkerError if nothing responds: Ray itself would wait for long."""
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise SettingError(
            f"--ray {address}: this is not the address of a Ray cluster; write HOST:PORT as `ray start --head` prints "
            "it, auto, or local for a cluster on this machine"
        )
    try:
        socket.create_connection((host, int(port)), _ANSWER_WITHIN).close()
    except OSError as error:
        raise WorkerError(
            f"--ray {address}: no Ray cluster responds ({error}); nothing was changed: start one with "
            "`ray start --head`, or use the address that it printed"
        ) from error


def _import_ray() -> Any:  # noqa: ANN401
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # otherwise Ray's processes report usage to its makers
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    with optional_imports():
        import ray
        import ray.data
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it writes into the terminal of the command
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_no_progress_timeout_s = LOST_AFTER
    return ray


def _connect(ray: Any, address: str, count: int) -> None:  # noqa: ANN401
    options = {"include_dashboard": False, "num_cpus": count} if address == LOCAL else {}
    # Ray's processes print in the terminal that they do not log there.
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("w") as silence:
            os.dup2(silence.fileno(), 2)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WorkerError(f"--ray {address}: cannot join the cluster ({reason}); see `ray status` on it") from error
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)

"""Worker processes: Python code over batches on all available cores.

Each worker is a new interpreter that gets its work over a pipe. It shares nothing with the program that started it,
needs no guard in that program's main module, and ends when the program ends, however that happens.
"""

from __future__ import annotations

import fcntl
import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from shelfwise.retrieval.errors import WorkerError
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import ProductStore

B = TypeVar("B")
R = TypeVar("R")

INLINE_BATCHES = 4
"""Starting processes pays off only for more batches than this."""
_PRODUCTS = 8_192
"""The number of stored products in a batch."""
_AHEAD = 2
"""The number of batches per worker: one in progress, one to follow."""
_WORKER_BYTES = 220_000_000
_PIPE_BYTES = 1 << 20
"""Each read of a pipe may wait for Python's lock; a pipe that holds a whole batch avoids most of the waiting."""
_START = "import sys; sys.path[:] = {path!r}; from shelfwise.indexer.workers import serve; serve({source}, {sink})"


class Workers:
    """A pool for one run. The same batches give the same results in the same order, for any `count`."""

    reads_sources = False
    """Whether the workers, not this process, read the sources."""

    def __init__(self, count: int | None = None) -> None:
        self._count = len(os.sched_getaffinity(0)) if count is None else count
        self._local = threading.local()
        self._threads: ThreadPoolExecutor | None = None
        self._processes: list[WorkerProcess] = []

    def map(self, work: Callable[[B], R], batches: Iterable[B]) -> Iterator[R]:
        """The results of `work`, which must be picklable, for each batch in order; few batches are in memory at once.

        An error in `work` is raised here.
        """
        remaining = iter(batches)
        first = list(itertools.islice(remaining, INLINE_BATCHES))
        if len(first) < INLINE_BATCHES or self._count < 2:
            yield from map(work, itertools.chain(first, remaining))
        else:
            yield from self._map_in_processes(work, itertools.chain(first, remaining))

    def map_sources(self, work: Callable[[B], R], sources: Sequence[Iterable[B]]) -> Iterator[R]:
        """The results of `work` for each batch of each source, in order; both must be picklable."""
        yield from self.map(work, itertools.chain.from_iterable(sources))

    def close(self) -> None:
        for process in self._processes:
            process.end()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _map_in_processes(self, work: Callable[[B], R], batches: Iterator[B]) -> Iterator[R]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._count, "shelfwise-worker")
        packed = pickle.dumps(work)
        waiting: deque[Future[object]] = deque()
        for batch in batches:
            waiting.append(self._threads.submit(self._run_in_process, packed, batch))
            if len(waiting) > self._count * _AHEAD:
                yield cast(R, waiting.popleft().result())
        while waiting:
            yield cast(R, waiting.popleft().result())

    def _run_in_process(self, packed: bytes, batch: object) -> object:
        """Runs in one of this process's threads, each of which has its own worker process."""
        process: WorkerProcess | None = getattr(self._local, "process", None)
        if process is None:
            count = len(self._processes) + 1
            what = "one worker process takes" if count == 1 else f"{count} worker processes take"
            require_memory(count * _WORKER_BYTES, what, "fewer --workers")
            process = self._local.process = WorkerProcess()
            self._processes.append(process)
        return process.run(packed, batch)


def map_products(
    folder: Path, workers: Workers, rows: Sequence[int], work: Callable[[Sequence[Product]], R]
) -> Iterator[R]:
    """The results of `work` for each part of some products of the version in `folder`, in the order of `rows`."""
    parts = (rows[start : start + _PRODUCTS] for start in range(0, len(rows), _PRODUCTS))
    return workers.map(_StoredProducts(folder, work), parts)


class _StoredProducts(Generic[R]):
    """Work over the products at some rows of a version; runs in a worker."""

    def __init__(self, folder: Path, work: Callable[[Sequence[Product]], R]) -> None:
        self._folder = folder
        self._work = work

    def __call__(self, rows: Sequence[int]) -> R:
        return self._work([self._products[row] for row in rows])

    @cached_property
    def _products(self) -> ProductStore:
        return ProductStore(self._folder)


class WorkerProcess:
    """One worker process and its work."""

    def __init__(self) -> None:
        source, self._into = Pipe(duplex=False)
        self._out_of, sink = Pipe(duplex=False)
        for pipe in (source, sink):
            with suppress(OSError):  # the user may have reached a limit of the system
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        start = _START.format(path=sys.path, source=source.fileno(), sink=sink.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            env={**os.environ, "POLARS_MAX_THREADS": "1"},  # there is already one process per core
            stdin=subprocess.DEVNULL,
            pass_fds=(source.fileno(), sink.fileno()),
        )
        source.close()
        sink.close()
        self._work = b""

    def run(self, packed: bytes, batch: object) -> object:
        """The result of the work for a batch; raises its error, or WorkerError if the process ended."""
        try:
            if packed != self._work:
                self._into.send_bytes(b"w" + packed)
                self._work = packed
            self._into.send_bytes(b"b" + pickle.dumps(batch, pickle.HIGHEST_PROTOCOL))
            answer = self._out_of.recv_bytes()
        except (OSError, EOFError) as error:
            raise WorkerError("a worker process ended during its work; use --workers 1, or more memory") from error
        is_fine, result = pickle.loads(answer)
        if not is_fine:
            raise result
        return cast(object, result)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(source: int, sink: int) -> None:
    """Main loop of a worker process: reads batches from one pipe and writes results to another until the first one
    closes."""
    # Ctrl-C reaches every process of a terminal; this one ends with the process that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints is no output of the command.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    batches = Connection(source, writable=False)
    results = Connection(sink, readable=False)
    work: Callable[[object], object] | None = None
    # A batch creates many objects that live until its end, and no cycles, so garbage collection would be wasted.
    gc.disable()
    while True:
        gc.collect(1)
        try:
            message = batches.recv_bytes()
        except (OSError, EOFError):
            return
        if message[:1] == b"w":
            work = pickle.loads(message[1:])
        elif work is not None:
            results.send_bytes(attempt(_run_packed, work, message[1:]))


def _run_packed(work: Callable[[object], object], batch: bytes) -> object:
    return work(pickle.loads(batch))


def attempt(work: Callable[..., object], *arguments: object) -> bytes:
    """Runs some work; returns, pickled, True and its result, or False and the error that it raised."""
    try:
        return pickle.dumps((True, work(*arguments)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return pickle.dumps((False, _portable(error)), pickle.HIGHEST_PROTOCOL)


def _portable(error: Exception) -> Exception:
    """The error itself if it can be pickled; otherwise one with the same message."""
    with suppress(Exception):
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    return RuntimeError("in a worker process:\n" + "".join(traceback.format_exception(error)))

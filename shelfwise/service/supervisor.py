"""Supervisor of the worker processes behind one port: starts, restarts and stops them."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import structlog
from threadpoolctl import threadpool_limits

from shelfwise.retrieval.errors import SettingError, ShelfwiseError, StoreError
from shelfwise.retrieval.memory import process_memory, usable_memory
from shelfwise.retrieval.value_texts import size_text
from shelfwise.service.app import DRAIN_SECONDS, configure_logs, serve
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.connections import refuse_new_connections
from shelfwise.service.settings import SourcedSettings
from shelfwise.service.worker_group import READY, WorkerGroup, group_folder

_log = structlog.get_logger("shelfwise.workers")
_LOOK_SECONDS = 0.1
_SHORT_SECONDS = 10.0
"""A worker that ends sooner is restarted with a delay, which doubles each time."""
_MAX_DELAY_SECONDS = 30.0
_CLOSING_SECONDS = 60.0
"""Seconds for a worker to write its events and close its engine after its last request."""
_CHUNK_BYTES = 1_024
_ERROR = "error"
"""Name under which a worker publishes the error that prevents it from serving."""
_START = "import sys; sys.path[:] = {path!r}; from shelfwise.service.cli.serve import run_worker; run_worker()"


class ServedIndex(msgspec.Struct, frozen=True):
    """Description of the served index, for the startup messages of the service."""

    products: int = 0
    version: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """Arguments of a worker process."""

    index: Path
    is_directory: bool
    """Whether `index` is a directory of several indexes."""
    sourced: SourcedSettings
    notice: float
    """Seconds after the signal to stop during which the server still answers, but reports that it is not ready."""
    folder: Path
    """Folder of the worker group."""
    listeners: Sequence[int]
    """File descriptors of the listening sockets."""
    number: int = 0


@dataclass(slots=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    is_ready: bool = False
    due: float = 0.0
    """Time of the next start, by the monotonic clock."""
    short_lives: int = 0
    """Number of consecutive short runs."""


@dataclass(slots=True)
class _Supervisor:
    start: WorkerStart
    group: WorkerGroup
    """The worker group, without being one of its workers."""
    listeners: Sequence[socket.socket]
    on_ready: Callable[[ServedIndex], None]
    workers: list[_Worker] = field(default_factory=list)
    signals: int = 0
    """Number of received signals to stop."""

    def run(self) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._stop)
        try:
            self._start_first()
            while not self.signals:
                self._look()
                time.sleep(_LOOK_SECONDS)
            self._await_end()
        finally:
            for worker, process in self._running():
                _log.error("worker killed", worker=worker.number, pid=process.pid)
                process.kill()
                process.wait()

    def _start_first(self) -> None:
        """Starts one worker, whose errors all would have, and then the others."""
        first = _Worker(0)
        self.workers.append(first)
        self._start(first)
        while not self.signals and not first.is_ready:
            self._look()
            time.sleep(_LOOK_SECONDS)
        if not self.signals:
            self.on_ready(msgspec.json.decode(self.group.published(READY)[0], type=ServedIndex))
            self._check_memory(first)
            self.workers += map(_Worker, range(1, self.group.count))

    def _check_memory(self, first: _Worker) -> None:
        assert first.process is not None  # noqa: S101 - it is ready
        own = process_memory(process=first.process.pid)
        if self.group.count * own > usable_memory():
            raise StoreError(
                f"{self.group.count} worker processes need {size_text(self.group.count * own)} of memory "
                f"({size_text(own)} each), and the machine or its container has {size_text(usable_memory())}; give it "
                "more, or set fewer workers (service.workers)"
            )

    def _look(self) -> None:
        """Starts workers that are due, and detects workers that are ready or have ended."""
        for worker in self.workers:
            if worker.process is None:
                if time.monotonic() >= worker.due:
                    self._start(worker)
            elif worker.process.poll() is not None:
                self._on_end(worker, worker.process)
            elif not worker.is_ready and worker.number in self.group.published(READY):
                worker.is_ready = True
                _log.info("worker ready", worker=worker.number, pid=worker.process.pid)

    def _start(self, worker: _Worker) -> None:
        worker.process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            pass_fds=self.start.listeners,
            # Ctrl-C reaches only this process, which signals the workers.
            start_new_session=True,
        )
        worker.started, worker.is_ready = time.monotonic(), False
        assert worker.process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # it has ended, which `_look` detects next
            # The pipe stays open: it closes when this process ends, which ends the worker, too.
            worker.process.stdin.write(pickle.dumps(replace(self.start, number=worker.number)))
            worker.process.stdin.flush()

    def _on_end(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        """Schedules the restart of a worker. Raises StoreError if it did not become ready and no other worker is."""
        found = self.group.published(_ERROR).get(worker.number, b"").decode()
        reason = found or f"it ended with the status {process.returncode}; see the messages above"
        for name in (READY, _ERROR, "sequences"):
            self.group.withdraw(name, worker.number)
        if not worker.is_ready and not any(each.is_ready for each in self.workers if each is not worker):
            raise StoreError(found or f"a worker process did not start: {reason}")
        is_short = time.monotonic() - worker.started < _SHORT_SECONDS
        worker.short_lives = worker.short_lives + 1 if is_short else 0
        delay = min(_MAX_DELAY_SECONDS, 2.0 ** (worker.short_lives - 1)) if worker.short_lives else 0.0
        worker.process, worker.is_ready, worker.due = None, False, time.monotonic() + delay
        _log.error("worker ended", worker=worker.number, pid=process.pid, status=process.returncode, restart_in=delay)

    def _await_end(self) -> None:
        """Waits until the workers have ended; meanwhile the sockets refuse connections once the notice is over."""
        stops = time.monotonic() + self.start.notice
        most = stops + DRAIN_SECONDS + _CLOSING_SECONDS
        is_open = True
        while self._running() and time.monotonic() < most:
            if is_open and (self.signals > 1 or time.monotonic() >= stops):
                is_open = False
                for listener in self.listeners:
                    refuse_new_connections(listener)
            time.sleep(_LOOK_SECONDS)

    def _running(self) -> list[tuple[_Worker, subprocess.Popen[bytes]]]:
        pairs = ((each, each.process) for each in self.workers)
        return [(each, process) for each, process in pairs if process is not None and process.poll() is None]

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.signals += 1
        for worker, process in self._running():
            # A worker that is not ready has no requests to complete.
            process.send_signal(number if worker.is_ready else signal.SIGTERM)


def serve_workers(
    index: Path, sourced: SourcedSettings, *, is_directory: bool, notice: float, on_ready: Callable[[ServedIndex], None]
) -> None:
    """Serves an index, or those of a directory, with `service.workers` processes until SIGTERM or SIGINT, like
    `shelfwise.service.app.serve` with one. `on_ready` is called once, when the first worker serves.

    A worker that ends is restarted. Raises SettingError if the service cannot listen on its address, and StoreError if
    a worker does not start and no other one serves, or if there is too little memory for all.
    """
    settings = sourced.settings.service
    configure_logs()
    with group_folder(settings.workers) as folder, bind(settings.host, settings.port) as listeners:
        numbers = [each.fileno() for each in listeners]
        start = WorkerStart(index, is_directory, sourced, notice, folder, numbers)
        _Supervisor(start, WorkerGroup(-1, settings.workers, folder), listeners, on_ready).run()


@contextmanager
def bind(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Opens sockets on all addresses of a host, which refuse connections until a server listens; raises SettingError if
    it cannot listen on one."""
    with ExitStack() as opened:
        listeners: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, address in {(family, address[:2]) for family, _, _, _, address in found}:
                listeners.append(opened.enter_context(socket.socket(family)))
                listeners[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listeners[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listeners[-1].bind(address)
        except OSError as error:
            advice = "; choose another port, such as --port 8081" if error.errno == errno.EADDRINUSE else ""
            reason = f"{error.strerror or error}{advice}"
            message = f"service.host and service.port: {host}:{port} cannot be listened to: {reason}"
            raise SettingError(message) from error
        yield listeners


def serve_as_worker() -> None:
    """Serves as the worker process that standard input describes, until SIGTERM or until its parent has ended."""
    start: WorkerStart = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the parent process
    has_parent_ended = threading.Event()
    threading.Thread(target=_end_with_parent, args=(has_parent_ended,), name="parent", daemon=True).start()
    settings = start.sourced.settings
    group = WorkerGroup(start.number, settings.service.workers, start.folder)
    listeners = [socket.socket(fileno=each) for each in start.listeners]
    try:
        with ExitStack() as opened:
            source: SearchEngine | Path = start.index
            served = ServedIndex()
            if not start.is_directory:
                source = opened.enter_context(SearchEngine.open(start.index, settings=settings))
                served = ServedIndex(source.manifest.products, source.manifest.version, source.notices)
            # Threads of numerical libraries: the workers share the cores.
            opened.enter_context(threadpool_limits(settings.service.cores_per_worker))
            on_start = partial(group.publish, READY, msgspec.json.encode(served))
            serve(source, start.sourced, listeners, notice=start.notice, group=group, on_start=on_start)
    except ShelfwiseError as error:
        group.publish(_ERROR, str(error).encode())
        sys.exit(1)
    finally:
        if has_parent_ended.is_set():  # it removes the folder otherwise
            shutil.rmtree(start.folder, ignore_errors=True)


def _end_with_parent(ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), _CHUNK_BYTES):
        pass
    ended.set()
    os.kill(os.getpid(), signal.SIGTERM)

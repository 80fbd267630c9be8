"""A peer's environment and its process, which is called by the protocol and measured by the kernel's counters.

Each peer has a virtual environment with pinned packages, made once in the cache folder. Its own packages take
precedence; missing ones come from the environment of Shelfwise, so that the encoder and the cross-encoder have the same
code and version in every peer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash
from filelock import FileLock

from shelfwise.benchmarks.peers.protocol import BuildReport, Catalog, OpenReport, PriceRange, Request, Response
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.memory import process_memory

REQUIREMENTS = Path(__file__).parent / "requirements"
_STAMP = "complete"
_MAKING_SECONDS = 900
_CLOSING_SECONDS = 40
_LOG_LINES = 5
_TICKS = os.sysconf("SC_CLK_TCK")


def environment_python(name: str, cache: Path) -> Path:
    """The interpreter of the environment of `requirements/NAME.txt`, which the first call makes in `cache`; without
    such a file, that of Shelfwise, which has the library.

    Raises StoreError if a package cannot be installed.
    """
    pinned = REQUIREMENTS / f"{name}.txt"
    if not pinned.exists():
        return Path(sys.executable)
    made_of = xxhash.xxh3_64_hexdigest(pinned.read_bytes() + sys.version.encode())
    folder = cache / "peers" / f"{name}-{made_of}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / _STAMP).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(name, folder, pinned)
            (folder / _STAMP).touch()
    return folder / "bin" / "python"


def _make(name: str, folder: Path, pinned: Path) -> None:
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    python = str(folder / "bin" / "python")
    if uv:
        _run(name, [uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run(name, [uv, "pip", "install", "--quiet", "--python", python, "-r", str(pinned)])
    else:
        _run(name, [sys.executable, "-m", "venv", str(folder)])
        _run(name, [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)])


def _run(name: str, command: Sequence[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_MAKING_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"the environment of {name} took over {_MAKING_SECONDS} s; is there a network?") from error
    except (OSError, subprocess.CalledProcessError) as error:
        output = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise StoreError(
            f"the environment of {name} cannot be made: {output[-1] if output else error}; "
            f"is there a network that reaches the package index?"
        ) from error


def program(statement: str) -> list[str]:
    """Arguments of a peer's interpreter that run a statement, with our packages after the peer's own."""
    ours = str(Path(np.__file__).parents[1])
    root = str(Path(__file__).parents[2])
    return ["-c", f"import site, sys; site.addsitedir({ours!r}); sys.path.append({root!r}); {statement}"]


def start_elasticsearch(**options: object) -> Any:  # noqa: ANN401 - of the tests, which are not installed
    """The node that the tests start, with these options; raises StoreError if there is no checkout."""
    root = Path(__file__).parents[2]
    if not (root / "tests" / "servers").is_dir():
        raise StoreError("only a checkout can start Elasticsearch; give a running one with --elasticsearch")
    sys.path.append(str(root))
    chosen = import_module("tests.servers.configuration").Options(**options)
    return import_module("tests.servers.server").start(chosen)


def thread_settings(cores: int) -> Mapping[str, str]:
    """The environment of a process whose libraries use this number of threads, without the model hub."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(cores)), "TOKENIZERS_PARALLELISM": "false"}


class NotOfferedError(StoreError):
    """The peer has no such operation."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Specification of a peer's process: the module and class of its adapter, and the name of its environment."""

    module: str
    adapter: str
    environment: str = ""
    """The name in `requirements/NAME.txt`; empty for that of Shelfwise."""


class PeerProcess:
    """A running peer. Its searches may be called from many threads."""

    def __init__(self, spec: Spec, cache: Path, cores: int, log: Path) -> None:
        """Starts it; raises StoreError if its environment cannot be made."""
        self._name, self._log = spec.adapter, log
        statement = (
            f"from shelfwise.benchmarks.peers.protocol import serve; serve({spec.module!r}, {spec.adapter!r}, {cores})"
        )
        self._stderr = log.open("wb")
        self._process = subprocess.Popen(  # noqa: S603
            [str(environment_python(spec.environment, cache)), *program(statement)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=dict(thread_settings(cores)),
        )
        self._numbers = count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._others: list[int] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, **arguments: object) -> Future[Any]:
        """A future of the result of an adapter's method."""
        made: Future[Any] = Future()
        number = next(self._numbers)
        line = msgspec.json.encode(Request(number, method, arguments)) + b"\n"
        with self._lock:
            if self._process.poll() is not None:
                raise StoreError(self._ended())
            self._waiting[number] = made
            assert self._process.stdin  # noqa: S101 - it is a pipe
            self._process.stdin.write(line)
            self._process.stdin.flush()
        return made

    def build(self, catalog: Catalog) -> BuildReport:
        """Builds the peer; raises StoreError with its output if that fails."""
        report = self.call("build", **msgspec.to_builtins(catalog, enc_hook=str)).result()
        return msgspec.convert(report, BuildReport)

    def open(self, catalog: Catalog) -> OpenReport:
        """Opens what was built; raises StoreError with its output if that fails."""
        report = self.call("open", **msgspec.to_builtins(catalog, enc_hook=str)).result()
        opened = msgspec.convert(report, OpenReport)
        self._others = opened.processes
        return opened

    def search(self, mode: str, query: str, k: int, prices: PriceRange | None = None) -> Future[list[str]]:
        """The ids of the k best products, best first."""
        return self.call("search", mode=mode, query=query, k=k, prices=prices)

    def _read(self) -> None:
        decoder = msgspec.json.Decoder(Response)
        assert self._process.stdout  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            response = decoder.decode(line)
            with self._lock:
                waiting = self._waiting.pop(response.id)
            if response.error == "not offered":
                waiting.set_exception(NotOfferedError(f"{self._name} has no such operation"))
            elif response.error:
                waiting.set_exception(StoreError(f"{self._name}: {response.error}; see {self._log}"))
            else:
                waiting.set_result(response.result)
        with self._lock:
            left = list(self._waiting.values())
            self._waiting.clear()
        for waiting in left:
            waiting.set_exception(StoreError(self._ended()))

    def _ended(self) -> str:
        printed = self._log.read_text("utf-8", "replace").strip().splitlines()[-_LOG_LINES:]
        return f"{self._name} ended with status {self._process.wait()}: {' | '.join(printed)}"

    def processor_seconds(self) -> float:
        """The processor time of all its processes so far."""
        return sum(map(_processor_seconds, self._processes()))

    def resident(self) -> int:
        """The memory of all its processes in bytes, including the pages of mapped files that they read."""
        return sum(process_memory("VmRSS", process) for process in self._processes())

    def _processes(self) -> list[int]:
        found = [self._process.pid, *self._others]
        for process in found:
            for listed in Path(f"/proc/{process}/task").glob("*/children"):
                with suppress(OSError):
                    found += [int(child) for child in listed.read_text("ascii").split() if int(child) not in found]
        return found

    def close(self) -> None:
        """Ends it, and the processes that it started."""
        with suppress(OSError):
            assert self._process.stdin  # noqa: S101 - it is a pipe
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._reader.join()
            self._stderr.close()


def _processor_seconds(process: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / _TICKS
    return 0.0


@contextmanager
def opened(spec: Spec, catalog: Catalog, log: Path) -> Iterator[tuple[PeerProcess, BuildReport, OpenReport]]:
    """A peer, built in one process and, if possible, opened in another; it ends with the context."""
    peer = PeerProcess(spec, catalog.cache, catalog.cores, log)
    try:
        built = peer.build(catalog)
        if built.is_reopened:
            peer.close()
            peer = PeerProcess(spec, catalog.cache, catalog.cores, log)
        yield peer, built, peer.open(catalog)
    finally:
        peer.close()

"""The protocol between the benchmark and a peer in a separate process: JSON lines on standard input and output.

A search has the query's text: each peer encodes it in its own process with the same stored encoder, so that the time of
a search includes the encoding. A few threads answer requests, in any order.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from shelfwise.retrieval.encoders.base import Encoder

Vectors = NDArray[np.float32]
CANDIDATES = 100
"""The number of candidates that a cross-encoder scores."""
KEPT = 1_000
"""The number of cached encodings of queries, with caches: Shelfwise's default."""
THREADS = 4
"""The number of threads that answer searches in a peer."""


class Item(msgspec.Struct, frozen=True):
    """A product as passed to peers."""

    id: str
    title: str
    brand: str
    category: str
    description: str
    price: float
    text: str
    """All of the above that our encoder reads: for peers that search one field, and for cross-encoders."""


class PriceRange(msgspec.Struct, frozen=True):
    """A filter; both ends are included."""

    low: float
    high: float


class Catalog(msgspec.Struct, frozen=True):
    """All inputs of a peer."""

    items: Path
    """JSON lines of `Item`."""
    vectors: Path
    """(n, dimension) float32 of unit length, in the order of the items."""
    feed: Path
    """The same products as a feed for Shelfwise."""
    folder: Path
    """The folder to which the peer may write."""
    encoder: Path
    """The folder of the stored encoder."""
    encoder_name: str
    cross_encoder: str
    """A name or folder of sentence-transformers."""
    cache: Path
    elasticsearch: str
    """The address of a cluster; empty to start one."""
    cores: int
    is_chinese: bool = False
    """Whether most queries are Chinese; a peer then splits texts as documented for Chinese, else as for English."""
    caches: bool = False
    """Whether a peer caches the encodings of queries."""


class Request(msgspec.Struct, frozen=True):
    """A call of a method of the adapter."""

    id: int
    method: str
    arguments: dict[str, Any] = {}


class Response(msgspec.Struct, frozen=True):
    """The result of a request, or its error."""

    id: int
    result: Any = None
    error: str = ""


class BuildReport(msgspec.Struct, frozen=True):
    """The outcome of a build."""

    seconds: float
    """The time without encoding."""
    bytes: int
    processes: list[int]
    """Processes other than the adapter's own."""
    versions: dict[str, str]
    is_reopened: bool
    """Whether another process opens what was built; otherwise the process that built it also searches."""
    encode_seconds: float
    """The time of encoding, if the peer encodes the products itself."""


class OpenReport(msgspec.Struct, frozen=True):
    """The outcome of opening what was built."""

    seconds: float
    processes: list[int]


class Adapter(ABC):
    """A peer. The constructor starts what it needs; `build` and `open` are timed, each in a separate process."""

    packages: Sequence[str] = ()
    """The packages whose versions are reported."""
    is_reopened = True
    """Whether another process can open what was built."""
    encode_seconds = 0.0
    """The encoding time of the build."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.processes: list[int] = []

    @cached_property
    def items(self) -> list[Item]:
        """All products."""
        decoder = msgspec.json.Decoder(Item)
        return [decoder.decode(line) for line in self.catalog.items.read_bytes().splitlines()]

    @cached_property
    def vectors(self) -> Vectors:
        """(n, dimension), of unit length."""
        return np.load(self.catalog.vectors)  # type: ignore[no-any-return]

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the products' vectors."""
        from shelfwise.retrieval.encoders.registry import load_encoder

        return load_encoder(self.catalog.encoder)

    @cached_property
    def encode(self) -> Callable[[str], Vectors]:
        """The vector (dimension,) of a query, of unit length."""

        def encoded(query: str) -> Vectors:
            vector: Vectors = self.encoder.encode_queries([query])[0]
            return vector

        return lru_cache(KEPT)(encoded) if self.catalog.caches else encoded

    def read_inputs(self) -> None:
        """Reads the inputs of `build`, outside its measured time."""
        _ = self.items, self.vectors

    @abstractmethod
    def build(self) -> None:
        """Makes everything that searches need, in the folder."""

    @abstractmethod
    def open(self) -> None:
        """Opens what was built, for searches and changes."""

    @abstractmethod
    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        """The ids of the k best products, best first."""

    def change_price(self, product: str, price: float) -> None:
        """Changes a price, so that filters use it. Raises NotImplementedError if the peer cannot."""
        raise NotImplementedError

    def bytes(self) -> int:
        """The size on disk, in the blocks that files occupy."""
        return bytes_on_disk(self.catalog.folder)

    def versions(self) -> dict[str, str]:
        """The versions of the measured software."""
        from importlib.metadata import version

        return {name: version(name) for name in self.packages}

    def close(self) -> None:  # noqa: B027 - most have nothing to stop
        """Stops what the constructor started."""


class Reranker:
    """A cross-encoder with its default length and batch size, loaded by the first search that needs it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._model: CrossEncoder | None = None
        self._loading = threading.Lock()

    def best(self, query: str, items: Sequence[Item], k: int) -> list[str]:
        """The ids of the k best of the items."""
        with self._loading:
            if self._model is None:
                from sentence_transformers import CrossEncoder

                self._model = CrossEncoder(self._name, device="cpu")
        if not items:
            return []
        scores = self._model.predict([(query, each.text) for each in items], show_progress_bar=False)
        return [items[place].id for place in np.argsort(-np.asarray(scores), kind="stable")[:k].tolist()]


def chinese_words(text: str) -> list[str]:
    """The words of a text in lower case, long ones also in parts, by jieba's search mode."""
    import rjieba

    return [word for word in rjieba.cut_for_search(text.lower()) if any(map(str.isalnum, word))]


def bytes_on_disk(path: Path) -> int:
    """The bytes of the blocks that a file, or all files below a folder, occupy."""
    files = [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file())
    return sum(512 * each.stat().st_blocks for each in files)


class Server:
    """Answers requests with an adapter, which `build` or `open` creates."""

    def __init__(self, module: str, name: str) -> None:
        self._kind: type[Adapter] = getattr(importlib.import_module(module), name)
        self._adapter: Adapter | None = None
        # Standard output is used only by the protocol: output of libraries goes to standard error.
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._writing = threading.Lock()

    def run(self) -> None:
        """Runs until standard input ends."""
        decoder = msgspec.json.Decoder(Request)
        threads = ThreadPoolExecutor(THREADS)
        for line in sys.stdin.buffer:
            threads.submit(self._answer, decoder.decode(line))
        threads.shutdown(cancel_futures=True)
        if self._adapter:
            self._adapter.close()

    def _answer(self, request: Request) -> None:
        try:
            response = Response(request.id, self._call(request.method, request.arguments))
        except NotImplementedError:
            response = Response(request.id, error="not offered")
        except BaseException as error:
            traceback.print_exc()
            response = Response(request.id, error=f"{type(error).__name__}: {error}")
        with self._writing:
            self._out.write(msgspec.json.encode(response) + b"\n")
            self._out.flush()

    def _call(self, method: str, arguments: dict[str, Any]) -> object:
        if method in ("build", "open"):
            catalog = msgspec.convert(arguments, Catalog, dec_hook=lambda kind, value: kind(value))
            return self._build(catalog) if method == "build" else self._open(catalog)
        if self._adapter is None:
            raise RuntimeError("build or open must be called first")
        if method == "search":
            arguments = {**arguments, "prices": msgspec.convert(arguments["prices"], PriceRange | None)}
        return getattr(self._adapter, method)(**arguments)

    def _build(self, catalog: Catalog) -> BuildReport:
        self._adapter = adapter = self._kind(catalog)
        adapter.read_inputs()
        started = time.perf_counter()
        adapter.build()
        seconds = time.perf_counter() - started - adapter.encode_seconds
        versions = adapter.versions()
        about = (versions, adapter.is_reopened, adapter.encode_seconds)
        return BuildReport(seconds, adapter.bytes(), adapter.processes, *about)

    def _open(self, catalog: Catalog) -> OpenReport:
        started = time.perf_counter()
        self._adapter = self._adapter or self._kind(catalog)
        self._adapter.open()
        return OpenReport(time.perf_counter() - started, self._adapter.processes)


def serve(module: str, name: str, cores: int) -> None:
    """Runs a peer's process on `cores` cores; it ignores interrupts of the terminal, since the benchmark ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    Server(module, name).run()

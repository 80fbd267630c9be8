"""Engines under the complaint suite that run in a separate environment, with the protocol of the peers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from shelfwise.benchmarks.peers.complaints.engine import Answer, Listing, Search
from shelfwise.benchmarks.peers.process import PeerProcess, Spec
from shelfwise.benchmarks.peers.protocol import Adapter, Catalog, PriceRange
from shelfwise.retrieval.errors import StoreError

_FOLDER = __name__.rpartition(".")[0]
SPECS = {
    "LanceDB": Spec(f"{_FOLDER}.lancedb_engine", "LanceComplaints", "lancedb"),
    "Qdrant": Spec(f"{_FOLDER}.qdrant_engine", "QdrantComplaints", "qdrant"),
}
_LOG_HINT = "; see "


class PeerEngine:
    """A peer's process, which `close` ends."""

    def __init__(self, name: str, cache: Path) -> None:
        """Starts it; `cache` stores its environment. Raises StoreError if that cannot be made."""
        self.name = name
        self._folder = TemporaryDirectory(prefix="complaints-")
        folder = Path(self._folder.name)
        self._process = PeerProcess(SPECS[name], cache, 1, folder / "log")
        data = folder / "data"
        data.mkdir()
        catalog = Catalog(data, data, data, data, data, "", "", cache, "", 1)
        self.version = ", ".join(self._process.build(catalog).versions.values())
        self.lacks: Mapping[str, str] = self._call("missing_features")

    def index(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Makes an index of only these."""
        self._call("index", listings=[asdict(each) for each in listings], vectors=vectors)

    def search(self, search: Search) -> Answer:
        """Answers one request."""
        return msgspec.convert(self._call("find", search=asdict(search)), Answer)

    def upsert(self, listing: Listing, vector: Sequence[float]) -> None:
        """Adds or replaces a product."""
        self._call("upsert", listing=asdict(listing), vector=vector)

    def delete(self, ids: Sequence[str]) -> None:
        """Removes products."""
        self._call("remove", ids=list(ids))

    def pin(self, text: str, product: str) -> None:
        """Never called: no peer has rules."""
        raise NotImplementedError(f"{self.name} cannot pin {product} for {text!r}")

    def break_encoder(self, broken: bool) -> None:
        """Never called: vectors come from the caller."""
        raise NotImplementedError(f"{self.name} has no encoder; broken: {broken}")

    def close(self) -> None:
        """Ends the process and removes what it wrote."""
        self._process.close()
        self._folder.cleanup()

    def _call(self, method: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        try:
            return self._process.call(method, **arguments).result()
        except StoreError as error:
            raise StoreError(str(error).partition(_LOG_HINT)[0]) from error


class ComplaintAdapter(Adapter):
    """A peer in its process, called by a `PeerEngine`."""

    lacks: Mapping[str, str]
    """See `shelfwise.benchmarks.peers.complaints.engine.Engine`."""

    def read_inputs(self) -> None:
        """Does nothing: listings come later, by `index`."""

    def build(self) -> None:
        """Does nothing: listings come later, by `index`."""

    def open(self) -> None:
        """Does nothing: listings come later, by `index`."""

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        """Belongs to the other benchmark; here, searches are whole requests."""
        raise NotImplementedError

    def missing_features(self) -> dict[str, str]:
        """The reason for each feature that the peer lacks."""
        return dict(self.lacks)

    def index(self, listings: list[dict[str, Any]], vectors: list[list[float]]) -> None:
        """Makes an index of only these."""
        self.fill(msgspec.convert(listings, list[Listing]), vectors)

    def find(self, search: dict[str, Any]) -> Answer:
        """Answers one request."""
        return self.answer(msgspec.convert(search, Search))

    def upsert(self, listing: dict[str, Any], vector: list[float]) -> None:
        """Adds or replaces a product."""
        self.put(msgspec.convert(listing, Listing), vector)

    @abstractmethod
    def fill(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Makes an index of only these."""

    @abstractmethod
    def answer(self, search: Search) -> Answer:
        """Answers one request."""

    @abstractmethod
    def put(self, listing: Listing, vector: Sequence[float]) -> None:
        """Adds or replaces a product."""

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Removes products."""

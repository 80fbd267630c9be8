"""Shelfwise with its defaults, built from the same products as a feed and called in Python."""

from __future__ import annotations

from contextlib import ExitStack

from shelfwise.benchmarks.peers.protocol import Adapter, Catalog, PriceRange, bytes_on_disk
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.errors import EncoderMismatchError
from shelfwise.retrieval.index.keyword import Selection
from shelfwise.service.engine.candidates import Encodings
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchRequest
from shelfwise.service.engine.search import condition_of


class Shelfwise(Adapter):
    """Modes: served, and vectors only, without the cutoff."""

    packages = ("shelfwise", "faiss-cpu", "tantivy", "onnxruntime")

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._open = ExitStack()

    def build(self) -> None:
        options = RebuildOptions(
            (str(self.catalog.feed),),
            self.catalog.cache,
            encoder=self.catalog.encoder_name,
            workers=self.catalog.cores,
            keep=1,
            force=True,
        )
        self.encode_seconds = rebuild(self.catalog.folder / "index", options).seconds.get("encode", 0.0)

    def open(self) -> None:
        self._engine = self._open.enter_context(SearchEngine.open(self.catalog.folder / "index"))
        built = self._engine.manifest.encoder
        if built != self.catalog.encoder.name:
            raise EncoderMismatchError(
                f"the index was made with the encoder {self.catalog.encoder.name}, a new one takes {built}; rebuild it"
            )

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        condition = f"price {prices.low!r} TO {prices.high!r}" if prices else ""
        if mode == "vectors":
            return self._nearest(query, condition, k)
        request = SearchRequest(query, size=k, filters=condition)
        encodings = None if self.catalog.caches else Encodings()
        return [hit.product.id for hit in self._engine.search(request, encodings=encodings).hits]

    def _nearest(self, query: str, condition: str, k: int) -> list[str]:
        """The nearest products of the vector index; the engine's own stage leaves out those too far from the query."""
        snapshot = self._engine.snapshot
        allowed = None
        if condition:
            allowed = snapshot.keyword.select(Selection(everything=True, where=condition_of(snapshot, condition)))
        rows = snapshot.vectors.search(self.encode(query), k, allowed).rows
        return [snapshot.products.id_of(row) for row in rows.tolist()]

    def change_price(self, product: str, price: float) -> None:
        self._engine.patch(product, price=price)

    def bytes(self) -> int:
        """The size without the copy of the encoder, which no peer stores."""
        folders = (self.catalog.folder / "index").iterdir()
        return sum(bytes_on_disk(folder) for folder in folders if folder.name != "encoders")

    def close(self) -> None:
        self._open.close()

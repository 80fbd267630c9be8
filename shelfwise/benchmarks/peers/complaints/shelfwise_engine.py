"""Shelfwise under the complaint suite: an index in a folder, with the default settings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from shelfwise.benchmarks.peers.complaints.engine import Answer, Condition, Listing, Search
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL
from shelfwise.retrieval.errors import EncoderError
from shelfwise.retrieval.records import Hit, Page, Product
from shelfwise.retrieval.store.products import product_to_json
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.highlight import HighlightedFields, Matcher
from shelfwise.service.curation.rules import Match, Pin, Rule, When
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Connection, open_snapshot
from shelfwise.service.settings import Settings

_FIELDS = {"kind": "category", "colour": "attributes.colour", "size": "attributes.size"}
"""Fields of listings that have other names in products."""
_PIN = "complaint"


class ShelfwiseEngine:
    """Shelfwise, embedded, with the encoder with which its index is built."""

    name = "Shelfwise"
    version = version("shelfwise")
    lacks: Mapping[str, str] = MappingProxyType({})

    def __init__(self, cache: Path) -> None:
        """`cache` has exported models."""
        self._cache = cache
        self._folder = Path(mkdtemp(prefix="complaints-"))
        self._open: ExitStack = ExitStack()
        self._engine: SearchEngine | None = None
        self._broken: SearchEngine | None = None

    @property
    def _serving(self) -> SearchEngine:
        if (engine := self._broken or self._engine) is None:
            raise RuntimeError("index() comes first")
        return engine

    def index(self, listings: Sequence[Listing], vectors: Sequence[Sequence[float]]) -> None:
        """Builds and opens an index."""
        del vectors
        self.open(build_index(self._folder, listings, self._cache))

    def open(self, index: Path) -> None:
        """Opens an index of `build_index` for searches and changes."""
        self._engine = self._open.enter_context(SearchEngine.open(index, settings=_SETTINGS))

    def search(self, search: Search) -> Answer:
        """A page of the ranked stage."""
        page = self._serving.search(
            search.text,
            filters=" AND ".join(map(_expression, search.conditions)),
            facets=[_FIELDS.get(each, each) for each in search.facets],
            sort=search.sort,
            page=search.page,
            size=search.size,
            group="variants" if search.grouped else "",
        )
        counts = {name: page.facets[_FIELDS.get(name, name)].counts for name in search.facets}
        return Answer(
            ids=tuple(hit.product.id for hit in page.hits),
            total=page.total,
            facets={name: {str(each.value): each.count for each in found} for name, found in counts.items()},
            sides={hit.product.id: _sides(hit) for hit in page.hits},
            highlights=self._highlights(page, search.text) if search.highlight else {},
            degraded=bool(page.degraded),
        )

    def _highlights(self, page: Page, text: str) -> Mapping[str, str]:
        """The titles with the words that matched, as returned by the HTTP API."""
        snapshot = self._serving.snapshot
        fields = HighlightedFields.of(["title"], snapshot.catalog)
        matcher = Matcher(snapshot.analyzer, page.suggestion if page.corrected else text)
        marked = {hit.product.id: fields.marked_of(hit.product, matcher)["title"] for hit in page.hits}
        return {each: text.replace("mark>", "em>") for each, text in marked.items()}

    def upsert(self, listing: Listing, vector: Sequence[float]) -> None:
        """Makes a live change."""
        del vector
        self._serving.upsert([_product(listing)])

    def delete(self, ids: Sequence[str]) -> None:
        """Makes a live change."""
        self._serving.delete(ids)

    def pin(self, text: str, product: str) -> None:
        """Adds a merchandising rule."""
        rules = [Rule(_PIN, (Pin((product,)),), When(text, Match.EXACT))] if product else []
        self._serving.rules.put(rules, gone=[] if product else [_PIN])

    def break_encoder(self, broken: bool) -> None:
        """Opens the index again with an encoder that fails at every query."""
        if not broken:
            self._broken = None
            return
        store = Store(self._serving.root)
        connection = Connection(store, _SETTINGS)
        encoder = _FailingEncoder(self._serving.snapshot.encoder)
        engine = SearchEngine(store, open_snapshot(store, connection, encoder=encoder), connection)
        self._broken = self._open.enter_context(engine)

    def close(self) -> None:
        """Closes the engines and removes the index."""
        self._open.close()
        shutil.rmtree(self._folder)


def build_index(folder: Path, listings: Sequence[Listing], cache: Path) -> Path:
    """Builds the index of some listings, encoding them, and returns its directory."""
    feed, index = folder / "products.jsonl", folder / "index"
    feed.write_bytes(b"".join(product_to_json(_product(each)) + b"\n" for each in listings))
    rebuild(index, RebuildOptions((str(feed),), cache, encoder=DEFAULT_MODEL, workers=1))
    return index


_SETTINGS = Settings(backend="embedded")


class _FailingEncoder:
    """An encoder whose device is lost."""

    def __init__(self, real: Encoder) -> None:
        self.identity, self.dimension = real.identity, real.dimension

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise EncoderError(f"the device is gone; {len(texts)} texts were not encoded")

    def encode_products(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        del progress
        return self.encode_queries(texts)


def _product(listing: Listing) -> Product:
    attributes = {"colour": listing.colour, "size": listing.size, "item_group_id": listing.group}
    return Product(
        listing.id,
        listing.title,
        description=listing.description,
        brand=listing.brand,
        category=(listing.kind,),
        price=listing.price,
        identifiers={"sku": (listing.sku,)},
        attributes={name: value for name, value in attributes.items() if value},
    )


def _expression(condition: Condition) -> str:
    value = f'"{condition.value}"' if isinstance(condition.value, str) else condition.value
    return f"{_FIELDS.get(condition.field, condition.field)} {condition.operator} {value}"


def _sides(hit: Hit) -> Sequence[str]:
    """Retrievers that found a hit, by its stages: words if it has a BM25 score, meaning if it has a dense rank."""
    words, meaning = hit.stages.get("bm25"), hit.stages.get("dense")
    return [
        *(["words"] if words and words.score > 0 else []),
        *(["meaning"] if meaning and meaning.rank is not None else []),
    ]

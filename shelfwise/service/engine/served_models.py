"""The models of an engine: the serving ones, replaced when others are published, and rankers that searches name. Each
uses the settings at the time when it is opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.expansions import expansion_store, serving_expansions
from shelfwise.rerank.model_store import OFF, Encoding, ModelStore
from shelfwise.rerank.ranker.memory import QueryMemory, product_hashes
from shelfwise.rerank.ranker.spec import StoredRanker, misfit, ranker_store
from shelfwise.rerank.user_tower.files import (
    USER_TOWERS,
    FallbackMethod,
    ProductTable,
    UserTowerSpec,
    fallback_method,
    read_table,
    user_tower_store,
)
from shelfwise.rerank.user_tower.histories import Histories, certainty
from shelfwise.retrieval.errors import ModelError, ModelMismatchError, ShelfwiseError
from shelfwise.retrieval.records import PastAct
from shelfwise.retrieval.store.files import Watch, file_stamp
from shelfwise.service.engine.reranking import Reranker, Reranking
from shelfwise.service.engine.snapshot import Snapshot, id_at
from shelfwise.service.events.hot_reload import ReloadedFile, follow_memory, follow_popularity
from shelfwise.service.events.signals import Popularity

if TYPE_CHECKING:
    from shelfwise.rerank.user_tower.tower import OnnxEncoder
    from shelfwise.service.settings import Settings


MAX_OPEN = 8
"""Maximum number of named rankers that stay open; beyond it, the one opened first is closed."""
_AGAIN_SECONDS = 5.0
"""Seconds until a model that could not be opened is tried again, since verification reads all of it."""
_MAX_FAILED = 100


_COMPARED, _MIN_KNOWN = 500, 0.5


def _unknown_products(memory: QueryMemory, snapshot: Snapshot) -> tuple[str, ...]:
    """A notice if the memory refers to other product ids than a snapshot has."""
    rows = np.unique(np.linspace(0, len(snapshot.products) - 1, min(len(snapshot.products), _COMPARED)).astype(int))
    ids = [product_id for row in rows.tolist() if (product_id := id_at(snapshot, row))]
    known = memory.share_known(product_hashes(ids))
    if known < _MIN_KNOWN:
        return (f"the query memory has {known:.0%} of the products; run shelfwise events refresh",)
    if (known := memory.share_in_catalog()) < _MIN_KNOWN:
        shown = f"the catalog has {known:.0%} of the products shown to shoppers: their ids have changed"
        return (f"{shown}, so choices count by category, brand and price only",)
    return ()


class ServedRanker:
    """The serving ranker of an index directory, and others that searches name, each opened on first use and kept open.
    Without `settings`, they are read from the file and the environment.

    Thread-safe: a search only waits for a ranker that is being opened.
    """

    def __init__(
        self, root: Path, settings: Settings | None = None, popularity: ReloadedFile[Popularity] | None = None
    ) -> None:
        """`popularity` is that of the index directory, if it is already followed elsewhere."""
        self._registry = ranker_store(root)
        self._settings = settings
        self._watch = Watch()
        self._is_closed = False
        self._serving: Reranker | None = None
        self._opening = threading.Lock()
        """Held while a named ranker is opened."""
        self._named: dict[tuple[str, Encoding], Reranker] = {}
        self._failed: dict[tuple[str, Encoding], tuple[ModelError, float]] = {}
        """Errors of named rankers, and when to try again, by the monotonic clock."""
        self._popularity = popularity or follow_popularity(root)
        self._memory = follow_memory(root)
        self._compared: object = None
        self._of_catalog: tuple[str, ...] = ()
        self._notices: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why another ranker serves than the published one, or why it has no memory."""
        return (*self._notices, *self._memory.notices, *self._of_catalog)

    @property
    def memory(self) -> QueryMemory:
        """Shoppers' earlier choices for queries."""
        return self._memory.current()

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads for this snapshot what was published, rolled back or switched off since the last check."""
        memory = self._memory.current()
        if self._compared != (compared := (memory, snapshot.manifest.version)):
            self._compared, self._of_catalog = compared, _unknown_products(memory, snapshot)
        encoding = encoding_of(snapshot)
        self._watch.update((self._registry.stamp(), encoding), partial(self._open, encoding))

    def stage(self, snapshot: Snapshot, past: tuple[PastAct, ...] = (), name: str = "") -> Reranking | None:
        """The last stage of a search of this snapshot by a shopper with this history.

        By default that of the serving ranker; None if there is none, or if it is for another encoder. With a name, that
        of the named ranker, which is opened on first use; None for OFF. Raises ModelError, or a subclass, if the named
        ranker cannot serve.
        """
        if name == OFF:
            return None
        encoding = encoding_of(snapshot)
        opened = self._opened(name, encoding) if name else self._serving
        if opened is None or misfit(opened.ranker.spec, encoding):
            return None
        popularity, memory = self._popularity.current(), self._memory.current()
        return Reranking(snapshot, opened, past, popularity, memory)

    def problem(self, snapshot: Snapshot, name: str = "") -> str:
        """The reason why searches of this snapshot cannot use a ranker, by default the serving one; empty if they
        can."""
        try:
            stage = self.stage(snapshot, name=name)
        except ModelError as error:
            return str(error)
        return "" if stage or name == OFF else "no ranker serves"

    def close(self) -> None:
        self._watch.update("closed", self._shut)
        self._forget_named(drop=True)

    def _shut(self) -> None:
        self._is_closed = True
        self._swap(None)

    def _opened(self, name: str, encoding: Encoding) -> Reranker:
        serving = self._serving
        if serving is None or serving.ranker.name != name:
            if named := self._named.get((name, encoding)):
                return named
            with self._opening:
                return self._named.get((name, encoding)) or self._open_named(name, encoding)
        if why := misfit(serving.ranker.spec, encoding):
            raise ModelMismatchError(f"{name} cannot serve: {why}")
        return serving

    def _open(self, encoding: Encoding) -> None:
        if self._is_closed:
            return
        opened: Reranker | None = None
        try:
            # Switching rankers off applies to all of them.
            self._forget_named(drop=self._registry.is_off())
            found = self._registry.serving(encoding)
            self._notices = found.notices
            if found.model:
                opened = self._at_work(found.model)
        except (ShelfwiseError, OSError) as error:
            self._notices = (f"results keep the merged order: {error}",)
        self._swap(opened)

    def _forget_named(self, *, drop: bool) -> None:
        """Lets failed named rankers be tried again; with `drop` closes the others, to be reopened on request."""
        with self._opening:
            self._failed.clear()
            while drop and self._named:
                self._named.popitem()[1].close()

    def _open_named(self, name: str, encoding: Encoding) -> Reranker:
        known, again = self._failed.get((name, encoding), (None, 0.0))
        if known and time.monotonic() < again:
            raise type(known)(str(known))
        if self._is_closed:
            raise ModelError(f"{name} cannot be opened: the engine is closed")
        try:
            made = self._at_work(self._registry.servable(name, encoding))
        except (ShelfwiseError, OSError) as error:
            failure = error if isinstance(error, ModelError) else ModelError(f"{name} cannot be opened: {error}")
            if len(self._failed) >= _MAX_FAILED:
                self._failed.clear()
            self._failed[name, encoding] = failure, time.monotonic() + _AGAIN_SECONDS
            raise failure from error
        while len(self._named) >= MAX_OPEN:
            # Searches that already use it continue in their own threads.
            self._named.pop(next(iter(self._named))).close()
        self._named[name, encoding] = made
        return made

    def _at_work(self, ranker: StoredRanker) -> Reranker:
        # The runtime of graphs, which an engine without a ranker does not need.
        from shelfwise.rerank.ranker.onnx import OnnxRanker
        from shelfwise.service.settings import load_settings

        deadline = (self._settings or load_settings()).ranker.deadline
        return Reranker(OnnxRanker(ranker), deadline)

    def _swap(self, made: Reranker | None) -> None:
        before, self._serving = self._serving, made
        if before is not None:
            before.close()


def encoding_of(snapshot: Snapshot) -> Encoding:
    """The data of a snapshot that a ranker reads."""
    states, manifest = snapshot.states, snapshot.manifest
    dimension = None if states is None else states.dimension
    return Encoding(manifest.encoder, manifest.dimension, dimension, manifest.encoder_origin)


class ServedExpansions:
    """The serving learned expansions of an index directory. Threads may share them."""

    def __init__(self, root: Path) -> None:
        self._root, self._store = root, expansion_store(root)
        self._watch = Watch()
        self.over: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
        """Returns a snapshot with these expansions; the same object until something changes."""
        self.notices: tuple[str, ...] = ()
        """The reason why no published expansions serve, if so."""

    def reload_if_changed(self) -> None:
        """Loads what was published, rolled back or switched off since the last call."""
        self._watch.update(self._store.stamp(), self._load)

    def _load(self) -> None:
        expansions, self.notices = serving_expansions(self._root)
        expanded = lru_cache(maxsize=1)(partial(Snapshot.expanded_by, expansions=expansions))
        self.over = expanded if expansions else lambda snapshot: snapshot


MODEL_STORES: tuple[Callable[[Path], ModelStore[Any]], ...] = (ranker_store, user_tower_store, expansion_store)


def model_store_of(root: Path, name: str) -> ModelStore[Any]:
    """The store of an index directory for a model of this name; that of rankers for any other name."""
    stores = [open_store(root) for open_store in MODEL_STORES]
    return next((store for store in stores if store.family.is_name(name)), stores[0])


Floats = NDArray[np.float32]


class OpenedUserTower:
    """An opened user tower. Thread-safe."""

    def __init__(self, name: str, spec: UserTowerSpec, table: ProductTable, encoder: OnnxEncoder) -> None:
        self.name = name
        self.spec = spec
        self.table = table
        self._encoder = encoder
        self._places = {product_id: place for place, product_id in enumerate(table.ids)}

    def place_of(self, product_id: str) -> int | None:
        """Position of a product in the table; None if only its text is known."""
        return self._places.get(product_id)

    def values_of(self, places: list[int | None], values: Floats) -> Floats:
        """The rows of `values` (m, ...) for the products at positions (n,); 0 for a product without a position."""
        known = _numbers(places)
        made = np.zeros((len(known), *values.shape[1:]), np.float32)
        made[known >= 0] = values[known[known >= 0]]
        return made

    def biases_of(self, places: list[int | None], categories: list[str]) -> Floats:
        """Biases of products, equal for all shoppers (n,); for products without a position, that of their category."""
        usual, by_category = self.spec.usual_bias, self.spec.category_bias
        return np.array(
            [
                by_category.get(category, usual) if place is None else self.table.bias[place]
                for place, category in zip(places, categories, strict=True)
            ],
            np.float32,
        )

    def certainty_of(self, places: list[int | None]) -> Floats:
        """Share of their own scores that products keep (n,); 0 for those without a position."""
        return certainty(self.values_of(places, self.table.chosen), self.spec.text_prior)

    def neighbour_scores(self, places: list[int | None]) -> Floats:
        """Contribution of a history of choices (w,), oldest first, to the scores of the table's products (m,)."""
        neighbours = self.table.neighbours
        if not neighbours.weight:
            return np.zeros(len(self.table.ids), np.float32)
        return np.float32(neighbours.weight) * neighbours.neighbours.scores(_numbers(places), neighbours.decay)

    def encode(self, history: Histories, now: float, vectors: Floats, own: Floats) -> tuple[Floats, Floats]:
        """The shopper's factors of products' vectors (d,) and own vectors (e,). `vectors` and `own` belong to the acts
        of the history, at least one. Raises ModelError if the network fails."""
        windows = history.newest(np.array([now]))
        # The act at each position of the window; the last row is empty.
        count = min(windows.products.shape[1], len(vectors))
        padded = [np.zeros((1, windows.products.shape[1], each.shape[1]), np.float32) for each in (vectors, own)]
        for made, given in zip(padded, (vectors, own), strict=True):
            made[0, -count:] = given[-count:]
        near, mine = self._encoder(padded[0], padded[1], windows.kinds, windows.gaps)
        return near[0], mine[0]


def _numbers(places: list[int | None]) -> NDArray[np.int64]:
    """Positions (n,); -1 for none."""
    return np.array([-1 if place is None else place for place in places], np.int64)


class ServedUserTower:
    """The serving user tower of an index directory. Threads may share it."""

    def __init__(self, root: Path) -> None:
        self._store = user_tower_store(root)
        self._watch = Watch()
        self._serving: OpenedUserTower | None = None
        self.notices: tuple[str, ...] = ()
        """The reason why no published tower serves, if so."""
        self.fallback: FallbackMethod = "near"
        """The recommendation method if no tower serves."""

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Opens for this snapshot the tower that was published since the last call."""
        encoding = encoding_of(snapshot)
        # The folder changes with every added tower; the newest one's spec names the fallback.
        stamp = self._store.stamp(), file_stamp(self._store.folder), encoding
        self._watch.update(stamp, partial(self._open, encoding))

    def of(self, snapshot: Snapshot) -> OpenedUserTower | None:
        """The tower for recommendations from this snapshot; None if none fits it."""
        opened = self._serving
        if opened is None or USER_TOWERS.misfit(opened.spec, encoding_of(snapshot)):
            return None
        return opened

    def _open(self, encoding: Encoding) -> None:
        opened: OpenedUserTower | None = None
        try:
            found = self._store.serving(encoding)
            self.notices = found.notices
            if tower := found.model:
                # The runtime of graphs, which an engine without a tower does not need.
                from shelfwise.rerank.model_store import MODEL_FILE
                from shelfwise.rerank.user_tower.tower import OnnxEncoder

                encoder = OnnxEncoder(tower.folder / MODEL_FILE)
                opened = OpenedUserTower(tower.name, tower.spec, read_table(tower), encoder)
        except (ShelfwiseError, OSError) as error:
            self.notices = (f"recommendations are made without a user tower: {error}",)
        self._serving = opened
        try:
            self.fallback = fallback_method(self._store)
        except ModelError as error:
            self.fallback = "near"
            self.notices = (*self.notices, f"recommendations are the nearest products, without a user tower: {error}")

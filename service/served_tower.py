"""An engine's way to the shopper tower: the one that was published last, swapped when another is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rerank.shoppers.files import ProductTable, TowerSpec, Without, misfit, read_table
from rerank.shoppers.histories import Histories
from rerank.shoppers.registry import TowerRegistry
from retrieval.errors import ShelfwiseError, ShopperTowerDamagedError
from service.snapshot import Snapshot

if TYPE_CHECKING:
    from rerank.shoppers.onnx_encoder import OnnxEncoder

Floats = NDArray[np.float32]


class OpenedTower:
    """A tower at work. Thread-safe."""

    def __init__(self, name: str, spec: TowerSpec, table: ProductTable, encoder: OnnxEncoder) -> None:
        self.name = name
        self.spec = spec
        self.table = table
        self._encoder = encoder
        self._places = {product_id: place for place, product_id in enumerate(table.ids)}

    def place_of(self, product_id: str) -> int | None:
        """Where the table has a product; None where nothing is known of it but its text."""
        return self._places.get(product_id)

    def own_of(self, places: list[int | None]) -> Floats:
        """The own vectors (n, e) of products at these places; 0 for one that has none."""
        return self.told_of(places, self.table.own)

    def told_of(self, places: list[int | None], told: Floats) -> Floats:
        """What is told (m, ...) of the table's products, of those at places (n,); 0 for one that has none."""
        known = _numbers(places)
        made = np.zeros((len(known), *told.shape[1:]), np.float32)
        made[known >= 0] = told[known[known >= 0]]
        return made

    def biases_of(self, places: list[int | None], categories: list[str]) -> Floats:
        """How likely products are whoever asks (n,): those without a place by their category."""
        usual, by_category = self.spec.usual_bias, self.spec.category_bias
        return np.array(
            [
                by_category.get(category, usual) if place is None else self.table.bias[place]
                for place, category in zip(places, categories, strict=True)
            ],
            np.float32,
        )

    def beside(self, places: list[int | None]) -> Floats:
        """What having chosen a history (w,), oldest first, adds to the scores of the table's products (m,)."""
        beside = self.table.beside
        if not beside.weight:
            return np.zeros(len(self.table.ids), np.float32)
        return np.float32(beside.weight) * beside.neighbours.beside(_numbers(places), beside.fading)

    def encode(self, history: Histories, now: float, vectors: Floats, own: Floats) -> tuple[Floats, Floats]:
        """Of one shopper what products' vectors (d,) and own vectors (e,) are multiplied with; `vectors` and `own` are
        of the acts of the history, of which there is one or more. Raises ShopperTowerError where the network fails."""
        windows = history.newest(np.array([now]))
        # The act that each place of the window holds; the last row is of none.
        count = min(windows.products.shape[1], len(vectors))
        padded = [np.zeros((1, windows.products.shape[1], each.shape[1]), np.float32) for each in (vectors, own)]
        for made, given in zip(padded, (vectors, own), strict=True):
            made[0, -count:] = given[-count:]
        near, mine = self._encoder(padded[0], padded[1], windows.kinds, windows.gaps)
        return near[0], mine[0]


def _numbers(places: list[int | None]) -> NDArray[np.int64]:
    """Places (n,), -1 for none."""
    return np.array([-1 if place is None else place for place in places], np.int64)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was looked at last."""

    stamp: tuple[tuple[int, int], ...]
    encoder: str
    dimension: int


class ServedTower:
    """The shopper tower of an index directory that serves now. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self._registry = TowerRegistry(root)
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._serving: OpenedTower | None = None
        self.notices: tuple[str, ...] = ()
        """Why none serves although one was published, or none."""
        self.without: Without = "near"
        """What recommends where none serves."""

    def look(self, snapshot: Snapshot) -> None:
        """Takes up what was published since the last look, for this snapshot."""
        manifest = snapshot.manifest
        seen = _Seen(self._registry.stamp(), manifest.encoder, manifest.dimension)
        if seen == self._seen:
            return
        with self._lock:
            if seen != self._seen:
                self._open(seen)
                self._find_without()
                self._seen = seen

    def of(self, snapshot: Snapshot) -> OpenedTower | None:
        """The tower to recommend from this snapshot with; None where none serves it."""
        opened, manifest = self._serving, snapshot.manifest
        if opened is None or misfit(opened.spec, manifest.encoder, manifest.dimension):
            return None
        return opened

    def _find_without(self) -> None:
        try:
            self.without = self._registry.without()
        except ShopperTowerDamagedError as error:
            self.without = "near"
            self.notices = (*self.notices, f"without a shopper tower, what is near is recommended: {error}")

    def _open(self, seen: _Seen) -> None:
        try:
            found = self._registry.serving(seen.encoder, seen.dimension)
            self.notices = found.notices
            if found.tower is None:
                self._serving = None
                return
            # A graph's runtime, which an engine without a tower does without.
            from rerank.shoppers.files import MODEL_FILE
            from rerank.shoppers.onnx_encoder import OnnxEncoder

            tower = found.tower
            encoder = OnnxEncoder(tower.folder / MODEL_FILE)
            self._serving = OpenedTower(tower.name, tower.spec, read_table(tower), encoder)
        except (ShelfwiseError, OSError) as error:
            self._serving = None
            self.notices = (f"recommendations do without a shopper tower: {error}",)
